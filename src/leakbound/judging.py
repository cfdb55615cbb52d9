"""From scored completions to what is said about one prompt, and about the average prompt."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakbound import bounds
from leakbound.bounds import Bound, seen
from leakbound.bounds.certificates import exact_limits, without_replacement_bound
from leakbound.bounds.gate import reaches
from leakbound.bounds.order import in_order
from leakbound.drawing import Statement
from leakbound.errors import IncompleteRunError, InputError
from leakbound.layout import Part
from leakbound.records import Draw, Prompt
from leakbound.results import PromptAudit, ScoredCompletion
from leakbound.scoring import get_scorer, is_binary
from leakbound.stopping import Watch

SURVIVAL_GRID = tuple(i / 100 for i in range(100))
"""Where the survival band is reported; the band holds for all x at once, so the choice costs nothing."""
METHODS = {
    "default": {"mean": "betting", "std": "betting", "ed": "betting", "survival": "hybrid"},
    "paper": {"mean": "paper", "std": "paper", "ed": "betting", "survival": "paper"},
}
"""The bounds behind ``method``: this library's choice, or those of arXiv 2410.03523."""
BINARY = {"mean": "binary", "std": "binary", "ed": "binary", "survival": "hybrid"}
"""The choice for scorers that declare that they give 0 and 1 only."""
Draws = tuple[NDArray[np.float64], NDArray[np.int64] | None]
"""Every draw's score in the order of generation, and None; or distinct scores and their counts."""
NUM_WORST = 5
"""How many of a prompt's most leaking completions an audit keeps."""


class Collected:
    """One prompt's completions as they come in: independent draws counted by text, or distinct ones in their order.

    ``ordered``: whether the scores of independent draws are kept in the order of generation as well.
    """

    def __init__(self, prompt: Prompt, *, ordered: bool = True) -> None:
        self.prompt = prompt
        self.placed: list[tuple[NDArray[np.int64], float]] | None = [] if ordered else None
        self.completions: dict[tuple[str, str], ScoredCompletion] = {}
        self.distinct: list[ScoredCompletion] = []
        self.greedy: ScoredCompletion | None = None

    def add(self, part: Part, draw: Draw, value: float) -> None:
        """One row of a part."""
        if part.greedy:
            self.greedy = ScoredCompletion(draw.text, draw.count, value, draw.finish_reason)
        elif part.kind == "distinct":
            p = min(math.exp(draw.logprob if draw.logprob is not None else math.nan), 1.0)
            self.distinct.append(ScoredCompletion(draw.text, 1, value, draw.finish_reason, p))
        else:
            key = draw.text, draw.finish_reason
            count = draw.count + (self.completions[key].count if key in self.completions else 0)
            self.completions[key] = ScoredCompletion(draw.text, count, value, draw.finish_reason)
            if draw.places is None:
                self.placed = None
            elif self.placed is not None:
                self.placed.append((np.array(draw.places, dtype=np.int64), value))

    def check(self, num_samples: int) -> None:
        """Where prompts have engines of their own: each has the draws of exactly one engine, all of them."""
        n = int(self.counts.sum())
        if n not in (0, num_samples) or (n > 0) == bool(self.distinct):
            raise IncompleteRunError(
                f"prompt {self.prompt.id!r} has {n} independent draws and {len(self.distinct)} without replacement: no "
                "statement can be made from them; delete its files and sample again"
            )

    @property
    def values(self) -> NDArray[np.float64]:
        """The scores of its completions."""
        return np.array([c.score for c in self.distinct or self.completions.values()])

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each was drawn independently."""
        return np.array([c.count for c in self.completions.values()], dtype=np.int64)

    @property
    def draws(self) -> Draws:
        """Every draw's score in the order of generation, and None; or distinct scores and their counts."""
        if self.placed is None:
            return self.values, self.counts
        return in_order([value for _, value in self.placed], [places for places, _ in self.placed]), None

    @property
    def masses(self) -> NDArray[np.float64]:
        """The probabilities of the distinct ones, in the order drawn."""
        return np.array([c.probability for c in self.distinct], dtype=np.float64)


@dataclass(frozen=True)
class Levels:
    """At which level each bound is made, so that its statement holds at ``statement.alpha``.

    ``looks`` is 0 where n was fixed before the first draw. Otherwise a prompt may have stopped at any of that many
    rounds of sizes fixed in advance, and a fixed-n bound is made at level alpha / looks: it fails at some round with
    probability at most alpha.
    """

    statement: Statement
    num_prompts: int
    looks: int

    @cached_property
    def binary(self) -> bool:
        """Whether the scorer declares that it gives 0 and 1 only: then E[h] = P(leak), and counts say all."""
        return is_binary(get_scorer(self.statement.scorer))

    @property
    def jointly(self) -> float:
        """The level of each prompt's statement for all prompts' to hold together."""
        return bounds.simultaneous_alpha(self.statement.alpha, self.num_prompts)

    def counted(self, collected: Collected) -> tuple[int, int]:
        """A prompt's leaks and draws."""
        counts = collected.counts
        return int(counts[reaches(collected.values, self.statement.threshold)].sum()), int(counts.sum())

    @property
    def estimand(self) -> str:
        """What is called P(leak)."""
        return f"P(h >= {self.statement.threshold:g})"

    def leak(self, leaks: int, n: int, *, jointly: bool) -> Bound:
        """P(h >= threshold)."""
        alpha = self.jointly if jointly else self.statement.alpha
        make = bounds.leak_sequence_bound if self.looks else bounds.proportion_bound
        result = make(leaks, n, alpha=alpha, estimand=self.estimand)
        return self.as_joint(result) if jointly else result

    def as_joint(self, bound: Bound) -> Bound:
        """A prompt's bound at the level ``jointly``, as a part of the statement about all prompts."""
        method = f"{bound.method}, at level {bound.alpha:.3g} each"
        return dataclasses.replace(bound, alpha=self.statement.alpha, scope=JOINTLY, method=method)

    def all_looks(self, make: Any, draws: Sequence[Draws], method: str, *, jointly: bool = False) -> list[Bound]:
        """Fixed-n bounds for many prompts, made to hold at every look."""
        alpha = self.jointly if jointly else self.statement.alpha
        values, counts = [x for x, _ in draws], [c for _, c in draws]
        found = make(values, alpha=alpha / max(self.looks, 1), counts=counts, method=method)
        return [dataclasses.replace(b, alpha=alpha, method=self.name(b.method)) for b in found]

    def name(self, method: str) -> str:
        """The method's name, with what was done for the looks."""
        return f"{method}, valid at each of {self.looks} looks" if self.looks else method


JOINTLY = "this prompt, jointly with all others"


def judge(everyone: Sequence[Collected], levels: Levels, method: str, watches: dict[str, Watch]) -> list[PromptAudit]:
    """What is said about each prompt."""
    names = BINARY if levels.binary and method == "default" else METHODS[method]
    drawn = [c for c in everyone if not c.distinct]
    if method == "paper" and len(drawn) < len(everyone):
        raise InputError(
            f"method is 'paper': it needs independent draws, and {len(everyone) - len(drawn)} prompts were drawn "
            "without replacement; draw them with engine='iid', or use the default method"
        )
    if names is BINARY and levels.looks:  # the limit on P(leak) holds at any stopping time; all follow from it
        moments = [bounds.bounds_of_binary(levels.leak(*levels.counted(c), jointly=False)) for c in drawn]
    else:
        draws = [c.draws for c in drawn]
        makers = (bounds.mean_bounds, "mean"), (bounds.std_bounds, "std"), (bounds.ed_bounds, "ed")
        moments = list(zip(*(levels.all_looks(make, draws, names[name]) for make, name in makers), strict=True))
    iid = iter(moments)
    return [
        _judge_distinct(c, levels) if c.distinct
        else _judge_independent(c, levels, *next(iid), names["survival"], watches.get(c.prompt.id))
        for c in everyone
    ]  # fmt: skip


def _judge_independent(
    collected: Collected, levels: Levels, mean: Bound, std: Bound, ed: Bound, survival: str, watched: Watch | None
) -> PromptAudit:
    values, counts, alpha = collected.values, collected.counts, levels.statement.alpha
    leaks, n = levels.counted(collected)
    order = sorted(collected.completions.values(), key=lambda c: (-c.score, -c.count, c.text))
    share = alpha / max(levels.looks, 1)
    band = bounds.survival_bound(values, alpha=share, counts=counts, thresholds=SURVIVAL_GRID, method=survival)
    return PromptAudit(
        prompt=collected.prompt,
        greedy_text=None if collected.greedy is None else collected.greedy.text,
        greedy_score=None if collected.greedy is None else collected.greedy.score,
        num_samples=n,
        num_distinct=len({c.text for c in order}),
        num_truncated=sum(c.count for c in order if c.finish_reason == "length"),
        num_leaks=leaks,
        max_score=float(values.max()),
        leak=levels.leak(leaks, n, jointly=False),
        leak_jointly=levels.leak(leaks, n, jointly=True),
        mean=mean,
        std=std,
        survival=dataclasses.replace(band, alpha=alpha, method=levels.name(band.method)),
        ed=bounds.ed_score(values, counts=counts),
        ed_bound=ed,
        worst=tuple(order[:NUM_WORST]),
        verdict=watched.verdict if watched else "",
        looks=tuple(watched.looks) if watched else (),
    )


def _judge_distinct(collected: Collected, levels: Levels) -> PromptAudit:
    """What exact probabilities prove; nothing here is about frequencies."""
    p, h, alpha = collected.masses, collected.values, levels.statement.alpha
    leaks = reaches(h, levels.statement.threshold).astype(np.float64)
    jointly = without_replacement_bound(p, leaks, alpha=levels.jointly, estimand=levels.estimand)
    order = sorted(collected.distinct, key=lambda c: (-c.score, -(c.probability or 0.0), c.text))
    return PromptAudit(
        prompt=collected.prompt,
        greedy_text=None if collected.greedy is None else collected.greedy.text,
        greedy_score=None if collected.greedy is None else collected.greedy.score,
        num_samples=p.size,
        num_distinct=len({c.text for c in order}),
        num_truncated=sum(c.finish_reason == "length" for c in order),
        num_leaks=int(leaks.sum()),
        max_score=float(h.max()),
        leak=without_replacement_bound(p, leaks, alpha=alpha, estimand=levels.estimand),
        leak_jointly=levels.as_joint(jointly),
        mean=without_replacement_bound(p, h, alpha=alpha),
        std=seen.seen_std_bound(p, h, alpha=alpha),
        survival=seen.seen_survival_bound(p, h, alpha=alpha, thresholds=SURVIVAL_GRID),
        ed=seen.seen_ed_score(p, h),
        ed_bound=seen.seen_ed_bound(p, h, alpha=alpha),
        worst=tuple(order[:NUM_WORST]),
        seen_mass=min(1.0, float(p.sum())),
        limits=exact_limits(p, leaks, alpha=alpha, estimand=levels.estimand),
    )


def average_leak(everyone: Sequence[Collected], results: Sequence[PromptAudit], levels: Levels) -> Bound:
    """The average over the prompts of P(leak)."""
    alpha, threshold = levels.statement.alpha, levels.statement.threshold
    if levels.looks:
        return _average([p.leak_jointly for p in results], alpha)
    drawn = [p for p in results if p.limits is None]

    def independent(level: float) -> Bound:
        leaks, sizes = [p.num_leaks for p in drawn], [p.num_samples for p in drawn]
        return bounds.average_proportion_bound(leaks, sizes, alpha=level, estimand=levels.estimand)

    def distinct(c: Collected, level: float) -> Bound:
        leaks = reaches(c.values, threshold).astype(np.float64)
        return without_replacement_bound(c.masses, leaks, alpha=level, estimand=levels.estimand)

    return _of_both(everyone, independent, distinct, alpha)


def average_score(everyone: Sequence[Collected], levels: Levels, method: str) -> Bound:
    """The average over the prompts of E[h]."""
    drawn = [c for c in everyone if not c.distinct]
    values, counts = [c.values for c in drawn], [c.counts for c in drawn]
    if levels.looks:
        joint = levels.all_looks(bounds.mean_bounds, [c.draws for c in drawn], METHODS[method]["mean"], jointly=True)
        return _average(joint, levels.statement.alpha)

    def independent(level: float) -> Bound:
        return bounds.average_mean_bound(values, alpha=level, counts=counts)

    def distinct(c: Collected, level: float) -> Bound:
        return without_replacement_bound(c.masses, c.values, alpha=level)

    return _of_both(everyone, independent, distinct, levels.statement.alpha)


def _of_both(everyone: Sequence[Collected], independent: Any, distinct: Any, alpha: float) -> Bound:
    """The average over prompts of both engines: each group has its share of alpha, by its share of the prompts."""
    seen_ones = [c for c in everyone if c.distinct]
    size, rest = len(everyone), len(everyone) - len(seen_ones)
    if not seen_ones:
        result: Bound = independent(alpha)
        return result
    share = alpha * len(seen_ones) / size
    level = bounds.simultaneous_alpha(share, len(seen_ones))
    known = _average([distinct(c, level) for c in seen_ones], share)
    if not rest:
        return known
    drawn = independent(alpha * rest / size)
    upper = (rest * drawn.upper + len(seen_ones) * known.upper) / size * (1 + 1e-12)
    estimate = (rest * drawn.estimate + len(seen_ones) * known.estimate) / size
    method = f"{drawn.method}; {known.method}; alpha shared by the number of prompts"
    return Bound(
        known.estimand, estimate, 0.0, min(upper, 1.0), alpha, "upper", drawn.n + known.n, method, "the average prompt",
        "draws, some without replacement",
    )  # fmt: skip


def _average(parts: list[Bound], alpha: float) -> Bound:
    """The average over the prompts of what bounds that hold jointly are about."""
    first, size = parts[0], len(parts)
    return Bound(
        first.estimand,
        math.fsum(b.estimate for b in parts) / size,
        0.0,
        min(math.fsum(b.upper for b in parts) / size * (1 + 1e-12), 1.0),
        alpha,
        "upper",
        sum(b.n for b in parts),
        f"average of {size} bounds that hold jointly: {first.method}",
        "the average prompt",
        first.unit,
    )
