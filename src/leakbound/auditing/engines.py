"""How a prompt's completions are drawn: independently, or without replacement with their exact probabilities.

Which of the two is decided before the first judged draw, from pilot draws that are never judged; so the choice is
independent of what it judges, and costs no alpha (proof: docs/certificates.md).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from leakbound.errors import InputError
from leakbound.models.base import Counting, Sampler, WhiteBox, in_pieces
from leakbound.records import Draw, SamplingParams, check_choice
from leakbound.runs.layout import Part
from leakbound.runs.store import Run

ENGINES = ("auto", "without-replacement", "iid", "counted")
AUTO_DISTINCT = 256
"""Completions of a prompt that ``auto`` draws without replacement; more cost more than the plain draws they replace."""
SEARCHED = 2**16
"""Tokens of completions without replacement that are searched for together: what is found is kept after each search."""
MOST_COUNTED = 2**53
"""Above it floats do not tell numbers of draws apart."""
MOST_DRAWN = 10**9
"""More of one prompt are made by nobody: their list of shards alone would take minutes, or all memory."""
MOST_DISTINCT = 4096
"""More cannot be searched at once: their prefixes are alive together."""


def choose_engine(probabilities: Sequence[float], most: int, alpha: float, *, against: int | None = None) -> str:
    """The engine that should prove the smaller bound if nothing leaks, from pilot draws with these probabilities.

    n generations without replacement count like n_eff = sum_t 1 / (1 - M_{t-1}) draws and pay ln 2 for the mixture of
    bets. M_t is estimated by the mean over the pilot of 1 - (1 - P(y))^t, the mass that t i.i.d. draws would see.
    ``most``: the n without replacement; ``against``: the i.i.d. draws instead of them, by default as many.
    """
    p = np.asarray(probabilities)
    seen = (1 - np.power(1 - p[:, None], np.arange(most))).mean(axis=0)
    effective = float(np.sum(1 / np.maximum(1 - seen, 1e-9)))
    price = 1 + math.log(2) / -math.log(alpha)
    return "without-replacement" if effective > (against or most) * price else "iid"


def plan_engine(engine: str, sampler: Sampler, num_samples: int, rule: object | None) -> dict[str, Any] | None:
    """What run.json says of the engine; None where every prompt has independent draws because that was asked for.

    ``auto`` falls back to independent draws, and says why, where the sampler does not show its probabilities.
    """
    check_choice("engine", engine, ENGINES)
    if engine in ("iid", "auto") and num_samples > MOST_DRAWN:
        raise InputError(f"num_samples is {num_samples}: give at most {MOST_DRAWN}, or engine='counted'")
    if engine == "iid":
        return None
    if rule is not None:
        raise InputError(
            f"engine is {engine!r}: until and width stop on independent draws; give engine='iid', or leave them out"
        )
    if engine == "counted":
        if not isinstance(sampler, Counting):
            raise InputError(
                f"engine is 'counted': {type(sampler).__name__} cannot count draws without making each; give "
                "engine='iid', or a folder or a model of transformers"
            )
        if num_samples > MOST_COUNTED:
            raise InputError(f"num_samples is {num_samples}: give at most {MOST_COUNTED}")
        return {"name": engine}
    if not isinstance(sampler, WhiteBox):
        said = f"{type(sampler).__name__} does not show the probabilities of its completions"
        if engine == "auto":
            return {"name": "iid", "asked": "auto", "because": said}
        raise InputError(f"engine is {engine!r}: {said}; give engine='iid', or a folder or a model of transformers")
    if engine == "auto":
        return {"name": engine, "most_distinct": min(num_samples, AUTO_DISTINCT)}
    if num_samples > MOST_DISTINCT:
        raise InputError(
            f"num_samples is {num_samples} with engine {engine!r}: give at most {MOST_DISTINCT}, or engine='iid'"
        )
    return {"name": engine, "most_distinct": num_samples}


def draw_part(
    run: Run, engines: dict[str, str], sampler: Sampler, part: Part, known: Sequence[Draw]
) -> Iterator[tuple[list[Draw], bool]]:
    """The draws of one part that are not ``known``, piece by piece, and whether a piece is the last one.

    ``engines``: that of each prompt by id, of those that do not have the run's own.
    """
    prompts = run.prompts[part.start : part.stop]
    if part.kind == "greedy":
        greedy = SamplingParams(temperature=0, max_tokens=run.params.max_tokens, stop=run.params.stop)
        yield from in_pieces(sampler, run.shard(part), greedy, known)
        return
    if part.kind == "distinct":
        mine = [p for p in prompts if engines.get(p.id, run.engine["name"]) == "without-replacement"]
        assert isinstance(sampler, WhiteBox)  # plan_engine asked for one
        there = {draw.prompt_id for draw in known}
        left = [p for p in mine if p.id not in there]
        together = max(1, SEARCHED // (part.num_samples * run.params.max_tokens))
        for start in range(0, max(1, len(left)), together):
            some = left[start : start + together]
            found = sampler.distinct(some, part.num_samples, run.params, run.info["seed"]) if some else []
            yield (
                [
                    Draw(prompt.id, g.text, 1, t, g.finish_reason, g.num_tokens, g.logprob, (t,))
                    for prompt, order in zip(some, found, strict=True)
                    for t, g in enumerate(order)
                ],
                start + together >= len(left),
            )
        return
    if part.kind == "sample":
        prompts = tuple(p for p in prompts if engines.get(p.id, "iid") == "iid")
    if prompts:
        yield from in_pieces(sampler, run.shard(part, prompts), run.params, known)
    else:
        yield [], True


def chosen_engines(run: Run) -> dict[str, str]:
    """The engine of each prompt that the pilot draws of the run choose; empty where there are none."""
    alpha, n = run.info["statement"]["alpha"], run.info["num_samples"]
    pilots: dict[str, list[float]] = {}
    for part in (p for p in run.parts if p.kind == "pilot"):
        for draw in run.read_draws(part):
            assert draw.logprob is not None  # a WhiteBox tells it
            pilots.setdefault(draw.prompt_id, []).extend([math.exp(draw.logprob)] * draw.count)
    most = run.engine.get("most_distinct", 0)
    return {prompt_id: choose_engine(p, most, alpha, against=n) for prompt_id, p in pilots.items()}
