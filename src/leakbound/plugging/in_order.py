"""Scores that come in any order, looked at in the order of their numbers.

Where draws are made beside each other, the first that come back are the short ones, or the refusals: a look at whatever
is there would see a law of its own. So the n-th look at a prompt sees the scores numbered 0 to sizes[n] - 1, all of
them, and waits until they are there. Numbers are given before a draw begins, so that these scores are independent draws
of one law, whatever came back when; the evidence of a :class:`~leakbound.auditing.stopping.Watch` holds at any of its
looks. A score that never comes, of a draw that failed, leaves its prompt open; and so do draws that were all cut before
they leaked, as in an audit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leakbound.auditing.stopping import StoppingRule, Watch
from leakbound.bounds.claims import Verdict
from leakbound.bounds.gate import reaches
from leakbound.errors import InputError
from leakbound.results.verdicts import every_verdict


@dataclass
class InOrder(Watch):
    """One prompt under a rule, whose scores come in any order, each with its number from 0."""

    early: dict[int, tuple[float, bool]] = field(default_factory=dict)
    """Scores that no look has seen yet, each with whether its draw was cut."""
    cut: int = 0
    """Draws, of those that were looked at, that were cut before they leaked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes = self.rule.sizes()

    @property
    def stands(self) -> Verdict:
        """The verdict; open where that is proven and every draw was cut before it leaked."""
        return "open" if self.verdict == "proven" and self.cut == self.n else self.verdict

    def put(self, number: int, score: float, *, cut: bool = False) -> None:
        """One more score; looks at all that are complete by now. InputError for a number that was there before."""
        if number < self.n or number in self.early:
            raise InputError(f"number is {number}, whose score was given before: give each draw its own")
        self.early[number] = score, cut
        while not self.ended:
            size = next(size for size in self._sizes if size > self.n)
            if len(self.early) < size - self.n or not all(i in self.early for i in range(self.n, size)):
                return
            scores, cuts = (np.array(some) for some in zip(*map(self.early.pop, range(self.n, size)), strict=True))
            self.cut += int((cuts & ~reaches(scores, self.rule.threshold)).sum())
            self.add(scores, np.ones(scores.size, dtype=np.int64))


MANAGER = "leakbound"
"""What inspect_ai's logs call who stopped them, where it was this rule."""


def summary(rule: StoppingRule, scorer: str, watches: Mapping[str, InOrder]) -> dict[str, Any]:
    """What the looks say, on JSON: of every prompt at once, and of each alone, each wrong with P <= ``rule.alpha``.

    ``upper``: the bound on P(leak) of that prompt alone, valid wherever it stopped; None before its first look.
    """
    prompts = {
        name: {
            "verdict": watch.stands,
            "draws": watch.n,
            "leaks": watch.leaks,
            "upper": rule.leak_bound(watch.leaks, watch.n, alpha=rule.alpha).upper if watch.n else None,
        }
        for name, watch in watches.items()
    }
    return {
        "statement": {"scorer": scorer, "threshold": rule.threshold, "alpha": rule.alpha},
        "rule": rule.to_json(),
        "every": every_verdict(list(watches.values()), rule.alpha),
        "prompts": prompts,
    }
