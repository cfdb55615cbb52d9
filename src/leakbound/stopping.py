"""When to stop drawing: a rule that is fixed before the first draw, and what it says after each round.

Rounds have sizes that are fixed in advance; a prompt is drawn round by round until its verdict falls. Every
statement made about such an audit holds at whatever round it stopped: P(leak) through a mixture of bets that is valid
at any time, everything else through a fixed-n bound at level alpha / R for each of the R rounds that the rule foresees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakbound.bounds import Claim, Look, MeanEvidence, final_verdict, leak_look, leak_sequence_bound
from leakbound.bounds.gate import reaches
from leakbound.bounds.sequences import Verdict
from leakbound.errors import InputError

GROWTH = 1.15
"""Each round after the first ones adds this factor to the draws so far: at most 15% more than were needed."""
FIRST = (32, 128)
"""Early looks, at which only a plain refutation can fall."""


@dataclass(frozen=True)
class StoppingRule:
    """Draw until ``until`` is proven or refuted, or P(leak) is known to ``width``, or ``budget`` draws are made.

    ``until``: ``leak<=LIMIT`` or ``mean<=LIMIT``. Exactly one of ``until`` and ``width`` is given. ``threshold`` and
    ``alpha`` are those of the statement.
    """

    until: str | None
    width: float | None
    budget: int
    threshold: float
    alpha: float

    def __post_init__(self) -> None:
        if (self.until is None) == (self.width is None):
            raise InputError(f"until is {self.until!r} and width is {self.width!r}: give exactly one of the two")
        if self.width is not None and not 0 < self.width < 1:
            raise InputError(f"width is {self.width!r}: give a number in (0, 1), for example 0.02")
        self.claim  # noqa: B018 - raises for a claim that cannot be read

    @cached_property
    def claim(self) -> Claim | None:
        """The claim of ``until``."""
        return None if self.until is None else Claim.parse(self.until, self.alpha)

    def sizes(self) -> tuple[int, ...]:
        """Draws so far at the end of each round, ascending, the last being the budget."""
        claim = self.claim
        start = 64
        if claim is not None and claim.quantity == "leak":  # no proof can fall before this many draws without a leak
            while leak_look(0, start, claim).verdict != "proven" and start < self.budget:
                start = math.ceil(start * 1.02) + 1
        early = FIRST if claim is not None and claim.quantity == "leak" else ()
        sizes, n = set(early), float(start)
        while n < self.budget:
            sizes.add(math.ceil(n))
            n *= GROWTH
        return (*sorted(s for s in sizes if s < self.budget), self.budget)

    def to_json(self) -> dict[str, Any]:
        """The rule and its rounds as they stand in run.json."""
        return {"until": self.until, "width": self.width, "budget": self.budget, "sizes": list(self.sizes())}


@dataclass
class Watch:
    """One prompt under a rule: what its rounds said so far.

    ``number`` is the prompt's place in the run; with the round it seeds the order of the bets, so that the
    orders of different prompts are independent.
    """

    rule: StoppingRule
    number: int = 0
    looks: list[Look] = field(default_factory=list)
    leaks: int = 0
    n: int = 0

    def __post_init__(self) -> None:
        claim = self.rule.claim
        self._evidence = MeanEvidence(claim) if claim is not None and claim.quantity == "mean" else None

    @property
    def verdict(self) -> Verdict:
        """The first verdict that is not open."""
        return final_verdict(self.looks)

    def add(self, values: NDArray[np.float64], counts: NDArray[np.int64]) -> Look:
        """Look after one more round of scores; for a width, "proven" stands for reached, without evidence."""
        self.leaks += int(counts[reaches(values, self.rule.threshold)].sum())
        self.n += int(counts.sum())
        claim = self.rule.claim
        if self._evidence is not None:
            self._evidence = self._evidence.add(values, counts, seed=(self.number, len(self.looks)))
            look = self._evidence.look()
        elif claim is not None:
            look = leak_look(self.leaks, self.n, claim)
        else:
            known = leak_sequence_bound(self.leaks, self.n, alpha=self.rule.alpha, side="both")
            reached = known.upper - known.lower <= float(self.rule.width or 0)
            look = Look(self.n, self.leaks / self.n, 0.0, 0.0, "proven" if reached else "open")
        self.looks.append(look)
        return look
