import pytest
import torch
from tiny_models import tiny_model, word_tokenizer

from leakbound.errors import InputError, ModelError
from leakbound.models.fake import FakeModel
from leakbound.models.hf import HFModel
from leakbound.models.opening import load_model, load_tokenizer, weights_checksum
from leakbound.models.template import encode_answer, encode_prompt
from leakbound.records import Prompt, SamplingParams, Shard

CHAT = "{% for m in messages %}a {{ m['content'] }} b{% endfor %}{% if add_generation_prompt %} c{% endif %}"


@pytest.fixture
def folder(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_draws_as_it_did_in_memory(folder, tokenizer):
    shard, params = Shard((Prompt("p", "a b", "c"),), 0, 100, 0), SamplingParams(max_tokens=4)
    loaded = HFModel.load(str(folder))
    again = HFModel.load(str(folder))
    assert loaded.sample(shard, params) == again.sample(shard, params)
    counts = [(d.text, d.count, d.first) for d in loaded.sample(shard, params)]
    assert counts == [(d.text, d.count, d.first) for d in HFModel(tiny_model(), tokenizer).sample(shard, params)]
    assert loaded.describe()["checksum"] == weights_checksum(tiny_model())
    assert loaded.describe()["model"] == str(folder)


def test_models_that_cannot_or_must_not_be_loaded(folder, tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="that is a file"):
        load_model(str(folder / "config.json"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_tokenizer(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="no-such-user/no-such-model"):
        load_model("no-such-user/no-such-model")
    with pytest.raises(ModelError, match="dtype is 'int3'"):
        load_model(str(folder), dtype="int3")
    with pytest.raises(ModelError, match="device is 'toaster'"):
        load_model(str(folder), device="toaster")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder))


def test_a_folder_may_hold_a_tokenizer_alone(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "words")
    assert load_tokenizer(str(tmp_path / "words")).get_vocab() == tokenizer.get_vocab()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(str(tmp_path / "words"))


def test_pickle_weights_are_never_opened(folder):
    (folder / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("a pickle was opened",)

    torch.save({"weight": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickle files .*convert them to safetensors"):
        load_model(str(folder))


def test_templates(tokenizer):
    assert encode_prompt(tokenizer, "a b") == [2, 3]
    assert encode_prompt(tokenizer, "a", "b {text} c") == [3, 2, 4]
    assert encode_answer(tokenizer, "a b") == [2, 3, 1]
    chatty = word_tokenizer()
    chatty.chat_template = CHAT
    assert encode_prompt(chatty, "d") == [2, 5, 3, 4]
    assert encode_prompt(chatty, "d", "raw") == [5]
    with pytest.raises(InputError, match="no chat template"):
        encode_prompt(tokenizer, "a", "chat")
    with pytest.raises(InputError, match="template is 'nonsense'"):
        encode_prompt(tokenizer, "a", "nonsense")


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
