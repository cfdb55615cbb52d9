"""When to stop drawing: a rule that is fixed before the first draw, and what it says after each round.

Rounds have sizes that are fixed in advance; a prompt is drawn round by round until its verdict falls. Every
statement made about such an audit holds at whatever round it stopped: P(leak) through a mixture of bets that is valid
at any time, or exactly for the looks of a width; E[h], sd and mean + 2 sd through that limit or through constant bets,
which hold at any time as well; a survival band at its look's share of alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from leakbound import bounds
from leakbound.bounds import Bound, Claim, GroupPlan, Look, MeanEvidence
from leakbound.bounds.claims import Verdict
from leakbound.bounds.gate import Side, reaches
from leakbound.errors import InputError
from leakbound.scoring import get_scorer, is_binary

GROWTH = 1.15
"""Each round after the first ones adds this factor to the draws so far: at most 15% more than were needed."""
FIRST = (32, 128)
"""Early looks at a claim about P(leak), at which only a plain refutation can fall."""
SMALLEST = 64
"""The first look at a claim about E[h]; no proof is looked for with fewer draws."""


def clean_look(n: int, claim: Claim) -> Look:
    """What ``n`` draws with score 0 say of the claim: no proof falls before they prove it."""
    return bounds.leak_look(0, n, claim) if claim.quantity == "leak" else MeanEvidence(claim).add([0.0], [n]).look()


def grown(start: int, end: int) -> list[int]:
    """``start`` and what GROWTH makes of it again and again, below ``end``."""
    sizes, n = [], float(start)
    while n < end:
        sizes.append(math.ceil(n))
        n *= GROWTH
    return sizes


def same_question(until: str | None, scorer: str) -> str | None:
    """``until`` as it is decided: of a scorer that gives 0 and 1 only, E[h] is P(leak), and mean<=L is leak<=L.

    By bets on the mean such a claim would have a verdict that the bound printed beside it may contradict.
    """
    if until is not None and is_binary(get_scorer(scorer)) and Claim.parse(until, 0.5).quantity == "mean":
        return until.replace("mean", "leak")
    return until


@dataclass(frozen=True)
class StoppingRule:
    """Draw until ``until`` is proven or refuted, or P(leak) is known to ``width``, or ``budget`` draws are made.

    ``until``: ``leak<=LIMIT`` or ``mean<=LIMIT``. Exactly one of ``until`` and ``width`` is given. ``threshold`` and
    ``alpha`` are those of the statement. ``plan`` holds the looks of a width; it is made where it is not given.
    """

    until: str | None
    width: float | None
    budget: int
    threshold: float
    alpha: float
    plan: GroupPlan | None = None

    def __post_init__(self) -> None:
        if (self.until is None) == (self.width is None):
            raise InputError(f"until is {self.until!r} and width is {self.width!r}: give exactly one of the two")
        if self.width is not None and not 0 < self.width < 1:
            raise InputError(f"width is {self.width!r}: give a number in (0, 1), for example 0.02")
        if self.width is not None and self.plan is None:
            object.__setattr__(self, "plan", bounds.plan_groups(self.width, alpha=self.alpha, budget=self.budget))
        self.claim  # noqa: B018 - raises for a claim that cannot be read

    @cached_property
    def claim(self) -> Claim | None:
        """The claim of ``until``."""
        return None if self.until is None else Claim.parse(self.until, self.alpha)

    def sizes(self) -> tuple[int, ...]:
        """Draws so far at the end of each round, ascending; the last is the budget, or where any width is reached."""
        if self.plan is not None:
            return self.plan.sizes
        claim, start = cast(Claim, self.claim), SMALLEST
        while clean_look(start, claim).verdict != "proven" and start < self.budget:
            start = math.ceil(start * 1.02) + 1
        early = FIRST if claim.quantity == "leak" else grown(SMALLEST, start)
        sizes = {*early, *grown(start, self.budget)}
        return (*sorted(s for s in sizes if s < self.budget), self.budget)

    def reached(self, k: int, n: int) -> bool:
        """Whether ``k`` leaks in ``n`` draws end the drawing with P(leak) known to the width."""
        return self.plan is not None and self.plan.ends(k, n) and self.plan.reached(k, n)

    def leak_bound(self, k: int, n: int, *, alpha: float, side: Side = "upper", estimand: str = "P(leak)") -> Bound:
        """Bound P(leak) where the rule ended the drawing, after ``k`` leaks in ``n`` draws.

        For the rule's own scorer and threshold only: of another event the rule's plan does not know where it would have
        ended, and :func:`~leakbound.bounds.leak_sequence_bound` holds wherever that was.
        """
        if self.plan is not None:
            return bounds.group_bound(self.plan, k, n, alpha=alpha, side=side, estimand=estimand)
        return bounds.leak_sequence_bound(k, n, alpha=alpha, side=side, estimand=estimand)

    def to_json(self) -> dict[str, Any]:
        """The rule and its rounds as they stand in run.json; ``low`` are the counts that end the rounds of a width."""
        low = {} if self.plan is None else {"low": list(self.plan.low)}
        return {"until": self.until, "width": self.width, "budget": self.budget, "sizes": list(self.sizes()), **low}

    @classmethod
    def from_json(cls, data: dict[str, Any], *, threshold: float, alpha: float) -> StoppingRule:
        """The rule that :meth:`to_json` wrote, for the statement that was fixed with it."""
        plan, width = None, data["width"]
        if width is not None:
            if "low" not in data:
                raise InputError(f"rule is {data!r}: its rounds were planned in an earlier way; sample again")
            plan = GroupPlan(width, alpha, tuple(data["sizes"]), tuple(data["low"]))
        return cls(data["until"], width, data["budget"], threshold, alpha, plan)


@dataclass
class Watch:
    """One prompt under a rule: what its rounds said so far."""

    rule: StoppingRule
    looks: list[Look] = field(default_factory=list)
    leaks: int = 0
    n: int = 0

    def __post_init__(self) -> None:
        claim = self.rule.claim
        self._evidence = MeanEvidence(claim) if claim is not None and claim.quantity == "mean" else None

    @property
    def verdict(self) -> Verdict:
        """The first verdict that is not open."""
        return bounds.final_verdict(self.looks)

    @property
    def ended(self) -> bool:
        """Whether the rule ends the drawing here."""
        plan = self.rule.plan
        if plan is not None:
            return self.n > 0 and plan.ends(self.leaks, self.n)
        return self.verdict != "open" or self.n >= self.rule.budget

    def add(self, values: NDArray[np.float64], counts: NDArray[np.int64]) -> Look:
        """Look after one more round of scores; for a width, "proven" stands for reached, without evidence."""
        self.leaks += int(counts[reaches(values, self.rule.threshold)].sum())
        self.n += int(counts.sum())
        claim = self.rule.claim
        if self._evidence is not None:
            self._evidence = self._evidence.add(values, counts)
            look = self._evidence.look()
        elif claim is not None:
            look = bounds.leak_look(self.leaks, self.n, claim)
        else:
            reached = self.rule.reached(self.leaks, self.n)
            look = Look(self.n, self.leaks / self.n, 0.0, 0.0, "proven" if reached else "open")
        self.looks.append(look)
        return look
