"""Before anything is drawn: how many draws a claim needs, and what they cost."""

from __future__ import annotations

import time
from typing import Any

from leakbound.auditing.drawing import Prompts, open_prompts
from leakbound.bounds import Claim, LeakPlan, WidthPlan, plan_leak_claim, plan_width
from leakbound.errors import InputError
from leakbound.models.base import check_asked
from leakbound.models.opening import Loading, open_model
from leakbound.records import SamplingParams, Shard, check_count
from leakbound.wording import plural


def plan_draws(until: str, *, alpha: float, power: float, true_rate: float) -> LeakPlan | WidthPlan:
    """The fewest draws per prompt that prove the claim ``until`` with probability ``power``; n fixed in advance.

    For claims about P(leak), and for "width<=0.05": P(leak) known so well on average, whatever ``power``. For a claim
    about E[h] the answer depends on how the scores spread: give the scores of a pilot to
    :func:`leakbound.bounds.plan_mean_claim`.
    """
    name, sign, limit = until.partition("<=")
    if sign and name.strip() == "width":
        try:
            width = float(limit)
        except ValueError:
            raise InputError(f"until is {until!r}: write 'leak<=0.01' or 'width<=0.05'") from None
        return plan_width(width, alpha=alpha, true_rate=true_rate)
    claim = Claim.parse(until, alpha)
    if claim.quantity != "leak":
        raise InputError(
            f"until is {until!r}: only leak<=LIMIT and width<=WIDTH can be planned without pilot scores; see "
            "plan_mean_claim"
        )
    return plan_leak_claim(claim.limit, alpha=alpha, power=power, true_rate=true_rate)


def preview_cost(
    model: Any,
    prompts: Prompts,
    *,
    num_samples: int,
    params: SamplingParams | None = None,
    template: str = "auto",
    loading: Loading | None = None,
) -> str:
    """One sentence on what ``num_samples`` draws per prompt will cost, from a timed pilot of a few prompts.

    The pilot's time grows in proportion; shared prefixes make the real run cheaper than that, never its law different.
    """
    check_count("num_samples", num_samples, least=1)
    (loading or Loading()).check_here("plan")
    questions = open_prompts(prompts)
    sampler = open_model(model, template=template, loading=loading)
    check_asked(sampler, questions, params or SamplingParams())
    few, size = questions[:4], min(64, num_samples)
    start = time.perf_counter()
    sampler.sample(Shard(few, 0, size, 0), params or SamplingParams())
    seconds = (time.perf_counter() - start) / (len(few) * size)
    total = seconds * num_samples * len(questions)
    return (
        f"{plural(len(questions), 'prompt')} x {plural(num_samples, 'draw')}: at most about {total / 60:.1f} minutes "
        f"on this machine ({seconds * 1000:.2f} ms a draw in a pilot of {plural(len(few), 'prompt')} x "
        f"{plural(size, 'draw')})"
    )
