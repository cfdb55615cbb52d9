"""From scored completions to what is said about one prompt, and about the average prompt."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakbound import bounds
from leakbound.auditing.drawing import Statement
from leakbound.auditing.stopping import StoppingRule, Watch
from leakbound.bounds import Bound, product_average_bound, seen
from leakbound.bounds.certificates import exact_limits, without_replacement_bound
from leakbound.bounds.engines.evidence import Evidence
from leakbound.bounds.engines.order import in_order
from leakbound.bounds.gate import reaches
from leakbound.bounds.result import event
from leakbound.errors import IncompleteRunError, InputError
from leakbound.records import Draw, Prompt
from leakbound.results.audit import PromptAudit, ScoredCompletion
from leakbound.runs.layout import Part
from leakbound.scoring import get_scorer, is_binary
from leakbound.workers import Crew, Do
from leakbound.workers.crew import collected

SURVIVAL_GRID = tuple(i / 100 for i in range(100))
"""Where the survival band is reported; the band holds for all x at once, so the choice costs nothing."""
METHODS = {
    "default": {"mean": "betting", "std": "betting", "ed": "betting", "survival": "hybrid"},
    "paper": {"mean": "paper", "std": "paper", "ed": "betting", "survival": "paper"},
}
"""The bounds behind ``method``: this library's choice, or those of arXiv 2410.03523."""
BINARY = {"mean": "binary", "std": "binary", "ed": "binary"}
"""The choice for scorers that declare that they give 0 and 1 only."""
Moments = tuple[Bound, Bound, Bound]
"""Bounds on E[h], sd(h) and E[h] + 2 sd(h)."""
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
        self.completions: dict[tuple[str, str, float], ScoredCompletion] = {}
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
            key = draw.text, draw.finish_reason, value  # a judge may have changed its mind between two sessions
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
    def asked_once(self) -> dict[str, Any]:
        """What a record keeps of the greedy answer, where there is one."""
        one = self.greedy
        found = (None, None, None) if one is None else (one.text, one.score, one.finish_reason)
        return dict(zip(("greedy_text", "greedy_score", "greedy_finish"), found, strict=True))

    @property
    def masses(self) -> NDArray[np.float64]:
        """The probabilities of the distinct ones, in the order drawn."""
        return np.array([c.probability for c in self.distinct], dtype=np.float64)

    def evidence(self, h: NDArray[np.float64]) -> Evidence:
        """What these numbers, one for each of ``values``, say of their mean."""
        return Evidence.without_replacement(self.masses, h) if self.distinct else Evidence.independent(h, self.counts)


@dataclass(frozen=True)
class Levels:
    """At which level, and by which means, each bound is made, so that its statement holds at ``statement.alpha``.

    ``rule`` is None where n was fixed before the first draw. Otherwise a prompt may have stopped at any of the rule's
    rounds, and every bound is one that holds at whatever round that was. ``watched``: whether the statement is the one
    that the rule watched; only then the rule's own limits on P(leak) apply.
    """

    statement: Statement
    num_prompts: int
    rule: StoppingRule | None = None
    watched: bool = True

    @cached_property
    def binary(self) -> bool:
        """Whether the scorer declares that it gives 0 and 1 only: then E[h] = P(leak), and counts say all."""
        return is_binary(get_scorer(self.statement.scorer))

    @cached_property
    def shares(self) -> dict[int, float]:
        """The share of alpha of a bound that is made for n draws, by n, where one of the rule's looks will count."""
        sizes = () if self.rule is None else self.rule.sizes()
        return dict(zip(sizes, bounds.look_shares(len(sizes)), strict=True)) if sizes else {}

    def level(self, n: int) -> float:
        """At which level a bound for fixed n is made."""
        if self.rule is None:
            return self.statement.alpha
        if n not in self.shares:
            raise IncompleteRunError(
                f"a prompt has {n} draws, and the rule looks at {', '.join(map(str, self.shares))} only: no statement "
                "can be made from them; sample again"
            )
        return self.statement.alpha * self.shares[n]

    @property
    def jointly(self) -> float:
        """The level of each prompt's statement for all prompts' to hold together."""
        return bounds.simultaneous_alpha(self.statement.alpha, self.num_prompts)

    @property
    def estimand(self) -> str:
        """What is called P(leak)."""
        return event(self.statement.threshold)

    def counted(self, collected: Collected) -> tuple[int, int]:
        """A prompt's leaks and draws."""
        counts = collected.counts
        return int(counts[reaches(collected.values, self.statement.threshold)].sum()), int(counts.sum())

    @cached_property
    def settled(self) -> float:
        """The score from which on nothing that may follow matters: the threshold; of a claim about E[h] 1."""
        claim = self.rule.claim if self.rule is not None and self.watched else None
        return 1.0 if claim is not None and claim.quantity == "mean" else self.statement.threshold

    def open(self, completion: ScoredCompletion) -> bool:
        """Whether a completion was cut before it leaked; where the claim is about E[h], before it had score 1."""
        return completion.finish_reason == "length" and not reaches(completion.score, self.settled)

    def leak(self, leaks: int, n: int, *, jointly: bool = False) -> Bound:
        """P(h >= threshold)."""
        alpha = self.jointly if jointly else self.statement.alpha
        if self.rule is None:
            result = bounds.proportion_bound(leaks, n, alpha=alpha, estimand=self.estimand)
        elif self.watched:
            result = self.rule.leak_bound(leaks, n, alpha=alpha, estimand=self.estimand)
        else:
            result = bounds.leak_sequence_bound(leaks, n, alpha=alpha, estimand=self.estimand)
        return self.as_joint(result) if jointly else result

    def as_joint(self, bound: Bound) -> Bound:
        """A prompt's bound at the level ``jointly``, as a part of the statement about all prompts."""
        method = f"{bound.method}, at level {bound.alpha:.3g} each"
        return dataclasses.replace(bound, alpha=self.statement.alpha, scope=JOINTLY, method=method)

    def moments(self, drawn: Sequence[Collected], method: str) -> list[Moments]:
        """E[h], sd(h) and E[h] + 2 sd(h) of each prompt with independent draws."""
        names, alpha = METHODS[method], self.statement.alpha
        if self.binary and method == "default":
            names = BINARY
        if self.rule is not None:
            return [self.at_its_look(c, names) for c in drawn]
        draws = [c.draws for c in drawn]
        values, counts = [x for x, _ in draws], [c for _, c in draws]
        means = bounds.mean_bounds(values, alpha=alpha, counts=counts, method=names["mean"])
        stds = bounds.std_bounds(values, alpha=alpha, counts=counts, method=names["std"])
        eds = bounds.ed_bounds(values, alpha=alpha, counts=counts, method=names["ed"])
        return list(zip(means, stds, eds, strict=True))

    def at_its_look(self, collected: Collected, names: dict[str, str]) -> Moments:
        """The same where the prompt stopped at one of the rule's looks.

        Of a binary score all three follow from the limit on P(leak). Of a graded one from constant bets, which hold at
        any stopping time; where they need an order that is not known, or another method was asked for, from a bound
        for fixed n at the look's share of alpha. Which of the two no score decides: two methods, each wrong with
        probability alpha, would be wrong with twice that where the draws choose.
        """
        alpha, (values, counts) = self.statement.alpha, collected.draws
        if names is BINARY:
            return bounds.bounds_of_binary(self.leak(*self.counted(collected)))
        betting = names["mean"] == "betting"
        if betting and counts is None:
            mean = bounds.mean_sequence_bound(values, alpha=alpha)
            return mean, bounds.std_sequence_bound(values, alpha=alpha), bounds.ed_sequence_bound(values, alpha=alpha)
        values, counts = collected.values, collected.counts
        level = self.level(int(counts.sum()))
        mean = bounds.mean_bound(values, counts=counts, alpha=level, method=names["mean"])
        std = bounds.std_bound(values, counts=counts, alpha=level, method=names["std"])
        ed = bounds.ed_bound(values, counts=counts, alpha=level, method=names["ed"])
        mean, std, ed = self.of_look(mean), self.of_look(std), self.of_look(ed)
        return (bounds.mean_sequence_bound(values, counts=counts, alpha=alpha) if betting else mean), std, ed

    def of_look(self, bound: Bound) -> Bound:
        """A bound for fixed n at a look's share of alpha, as a statement that holds at each look."""
        return dataclasses.replace(bound, alpha=self.statement.alpha, method=self.name(bound.method))

    def name(self, method: str) -> str:
        """The method's name, with what was done for the looks."""
        return f"{method}, valid at each of {len(self.shares)} looks" if self.shares else method


JOINTLY = "this prompt, jointly with all others"


def judge(everyone: Sequence[Collected], levels: Levels, method: str, watches: dict[str, Watch]) -> list[PromptAudit]:
    """What is said about each prompt."""
    drawn = [c for c in everyone if not c.distinct]
    if method == "paper" and len(drawn) < len(everyone):
        raise InputError(
            f"method is 'paper': it needs independent draws, and {len(everyone) - len(drawn)} prompts were drawn "
            "without replacement; draw them with engine='iid', or use the default method"
        )
    moments = iter(levels.moments(drawn, method))
    return [
        _judge_distinct(c, levels) if c.distinct
        else _judge_independent(c, levels, next(moments), METHODS[method]["survival"], watches.get(c.prompt.id))
        for c in everyone
    ]  # fmt: skip


TOGETHER = 64
"""Prompts that a worker judges at once."""


def spread_judge(
    everyone: Sequence[Collected], levels: Levels, method: str, watches: dict[str, Watch], crew: Crew | None
) -> list[PromptAudit]:
    """:func:`judge`, by workers where there are any: what is said about a prompt does not depend on the others."""
    if crew is None:
        return judge(everyone, levels, method, watches)
    groups = [everyone[start : start + TOGETHER] for start in range(0, len(everyone), TOGETHER)]

    def of_group(do: Do, group: Sequence[Collected]) -> list[PromptAudit]:
        mine = {c.prompt.id: watches[c.prompt.id] for c in group if c.prompt.id in watches}
        found: list[PromptAudit] = do(judge, group, levels, method, mine)
        return found

    name = "bounds of {0[0].prompt.id!r} and those after it".format
    return [one for some in collected(crew, groups, of_group, name) for one in some]


def _judge_independent(
    collected: Collected, levels: Levels, moments: Moments, survival: str, watched: Watch | None
) -> PromptAudit:
    values, counts, alpha = collected.values, collected.counts, levels.statement.alpha
    leaks, n = levels.counted(collected)
    order = sorted(collected.completions.values(), key=lambda c: (-c.score, -c.count, c.text))
    level = levels.level(n)
    band = bounds.survival_bound(values, alpha=level, counts=counts, thresholds=SURVIVAL_GRID, method=survival)
    mean, std, ed = moments
    return PromptAudit(
        prompt=collected.prompt,
        **collected.asked_once,
        num_samples=n,
        num_distinct=len({c.text for c in order}),
        num_truncated=sum(c.count for c in order if c.finish_reason == "length"),
        num_leaks=leaks,
        max_score=float(values.max()),
        leak=levels.leak(leaks, n),
        leak_jointly=levels.leak(leaks, n, jointly=True),
        mean=mean,
        std=std,
        survival=dataclasses.replace(band, alpha=alpha, method=levels.name(band.method)),
        ed=bounds.ed_score(values, counts=counts),
        ed_bound=ed,
        worst=tuple(order[:NUM_WORST]),
        verdict=watched.verdict if watched and levels.watched else "",
        looks=tuple(watched.looks) if watched and levels.watched else (),
        cut_clean=sum(c.count for c in order if levels.open(c)) / n,
    )


def _judge_distinct(collected: Collected, levels: Levels) -> PromptAudit:
    """What exact probabilities prove; nothing here is about frequencies."""
    p, h, alpha = collected.masses, collected.values, levels.statement.alpha
    leaks = reaches(h, levels.statement.threshold).astype(np.float64)
    jointly = without_replacement_bound(p, leaks, alpha=levels.jointly, estimand=levels.estimand)
    order = sorted(collected.distinct, key=lambda c: (-c.score, -(c.probability or 0.0), c.text))
    return PromptAudit(
        prompt=collected.prompt,
        **collected.asked_once,
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
        cut_clean=min(1.0, math.fsum(c.probability or 0.0 for c in order if levels.open(c))),
    )


def average_leak(everyone: Sequence[Collected], levels: Levels) -> Bound:
    """The average over the prompts of P(leak)."""
    if levels.rule is None and not any(c.distinct for c in everyone):
        leaks, sizes = zip(*map(levels.counted, everyone), strict=True)
        return bounds.average_proportion_bound(leaks, sizes, alpha=levels.statement.alpha, estimand=levels.estimand)

    evidence = [c.evidence(reaches(c.values, levels.statement.threshold).astype(np.float64)) for c in everyone]
    return product_average_bound(evidence, alpha=levels.statement.alpha, estimand=levels.estimand)


def average_score(everyone: Sequence[Collected], levels: Levels) -> Bound:
    """The average over the prompts of E[h]."""
    alpha = levels.statement.alpha
    if levels.rule is None and not any(c.distinct for c in everyone):
        return bounds.average_mean_bound([c.values for c in everyone], alpha=alpha, counts=[c.counts for c in everyone])
    return product_average_bound([c.evidence(c.values) for c in everyone], alpha=alpha)
