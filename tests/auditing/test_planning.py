"""How many draws a claim needs, and what they cost."""

import time

import pytest
from noting import PROMPTS, Noting

from leakbound.auditing.planning import plan_draws, preview_cost
from leakbound.bounds import plan_leak_claim, plan_width
from leakbound.errors import InputError, PromptsError
from leakbound.records import Prompt, SamplingParams


def test_planned_draws_are_those_of_the_claim():
    plan = plan_draws("leak<=0.02", alpha=0.05, power=0.8, true_rate=0.001)
    assert plan == plan_leak_claim(0.02, alpha=0.05, power=0.8, true_rate=0.001)
    assert plan.limit == 0.02
    with pytest.raises(InputError, match=r"until is 'mean<=0.05': only leak<=LIMIT and width<=WIDTH can be planned"):
        plan_draws("mean<=0.05", alpha=0.05, power=0.8, true_rate=0.0)


def test_a_width_is_planned():
    assert plan_draws("width <= 0.05", alpha=0.05, power=0.8, true_rate=0.1) == plan_width(
        0.05, alpha=0.05, true_rate=0.1
    )
    with pytest.raises(InputError, match=r"write 'leak<=0\.01' or 'width<=0\.05'"):
        plan_draws("width<=wide", alpha=0.05, power=0.8, true_rate=0.1)
    with pytest.raises(InputError, match=r"width is 0\.0"):
        plan_draws("width<=0", alpha=0.05, power=0.8, true_rate=0.1)


@pytest.mark.parametrize(
    ("count", "num_samples", "pilot", "wanted"),
    [
        # 2.5 s for 4 x 64 draws are 9.765625 ms each; times 7 x 4,096 = 28,672 draws are 280 s
        (7, 4096, (("p0", "p1", "p2", "p3"), 0, 64, False),
         "7 prompts x 4,096 draws: at most about 4.7 minutes on this machine "
         "(9.77 ms a draw in a pilot of 4 prompts x 64 draws)"),
        # 2.5 s for 3 x 20 draws are 41.67 ms each; the pilot is all there is
        (3, 20, (("p0", "p1", "p2"), 0, 20, False),
         "3 prompts x 20 draws: at most about 0.0 minutes on this machine "
         "(41.67 ms a draw in a pilot of 3 prompts x 20 draws)"),
        # 2.5 s for 1 x 64 draws are 39.0625 ms each; times 5,000,000 are 195,312.5 s
        (1, 5000000, (("p0",), 0, 64, False),
         "1 prompt x 5,000,000 draws: at most about 3255.2 minutes on this machine "
         "(39.06 ms a draw in a pilot of 1 prompt x 64 draws)"),
    ],
)  # fmt: skip
def test_the_cost_follows_from_a_timed_pilot(monkeypatch, count, num_samples, pilot, wanted):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Slow(Noting):
        def sample(self, shard, params):
            now[0] += 2.5
            return super().sample(shard, params)

    model = Slow()
    prompts = [Prompt(f"p{i}", "Who?", "me") for i in range(count)]
    assert preview_cost(model, prompts, num_samples=num_samples) == wanted
    assert model.asked == [pilot]
    assert model.seeds == {0}
    assert model.params == [SamplingParams()]
    params = SamplingParams(temperature=0.3)
    assert preview_cost(model, prompts, num_samples=num_samples, params=params) == wanted
    assert model.params[1:] == [params]


def test_a_cost_needs_draws_and_prompts():
    for num_samples in (0, -3, 2.5, True):
        with pytest.raises(InputError, match=r"num_samples is .*: give a whole number >= 1"):
            preview_cost(Noting(), PROMPTS, num_samples=num_samples)
    with pytest.raises(PromptsError, match="there are no prompts in it"):
        preview_cost(Noting(), [], num_samples=10)
