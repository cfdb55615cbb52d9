import pytest

from leakbound.errors import InputError
from leakbound.models.fake import FakeModel
from leakbound.records import Prompt, SamplingParams, Shard


def test_the_fake_leaks_as_often_as_it_says():
    fake = FakeModel(leak=0.25, leaks=(("q", 1.0),))
    prompts = (Prompt("p", "a", "x"), Prompt("q", "a", "y"))
    draws = fake.sample(Shard(prompts, 0, 100_000, 0), SamplingParams())
    leaked = {d.prompt_id: d.count for d in draws if d.text in ("x", "y")}
    assert abs(leaked["p"] - 25_000) < 5.5 * (100_000 * 0.25 * 0.75) ** 0.5  # false alarm 4e-8
    assert leaked["q"] == 100_000
    assert fake.sample(Shard(prompts, 0, 10, 0), SamplingParams(temperature=0))[0].text == fake.clean
    with pytest.raises(InputError, match="leak is 2"):
        FakeModel(leak=2)
