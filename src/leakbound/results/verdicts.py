"""What an audit says of a claim about all of its prompts: proven, refuted, or open."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from leakbound.bounds import Look, average_proportion_bound, look_shares
from leakbound.bounds.claims import Verdict
from leakbound.bounds.engines.betting import CUSHION
from leakbound.results.audit import Audit

STAGES = 4
"""How often the average prompt is looked at: after a 64th, a 16th, a quarter and all of the draws."""
Counts = Sequence[tuple[int, int]]
"""Leaks and draws of each prompt."""


class Looked(Protocol):
    """One prompt that was looked at until its verdict fell."""

    @property
    def stands(self) -> str:
        """The first verdict that is not open; open where it is proven and every draw was cut before it leaked."""

    @property
    def looks(self) -> Sequence[Look]:
        """All of them."""


def counted(audit: Audit) -> Counts:
    """The leaks and the draws of each prompt."""
    return [(p.num_leaks, p.num_samples) for p in audit.prompts]


def stages(num_samples: int) -> list[tuple[int, float]]:
    """The draws of each prompt after which the average one is looked at, and the share of alpha that each look has."""
    sizes = sorted({max(num_samples // 4**i, 1) for i in range(STAGES)})
    return list(zip(sizes, look_shares(len(sizes)), strict=True))


def unless_cut(verdict: Verdict, audit: Audit, allowed: float = 0.0) -> Verdict:
    """``verdict``; open where that is proven and every draw of more than ``allowed`` of the prompts was cut before it
    leaked.

    Of these no answer was seen to its end, and what would have followed may leak each time: the average P(leak) can be
    the share of such prompts.
    """
    return "open" if verdict == "proven" and audit.never_ended > allowed * len(audit.prompts) else verdict


def audit_verdict(audit: Audit) -> Verdict:
    """:func:`every_verdict` of an audit with ``until``."""
    return every_verdict(audit.prompts, audit.alpha)


def every_verdict(prompts: Sequence[Looked], alpha: float) -> Verdict:
    """Of the claim that ``until`` holds of every prompt, at once or of each alone: that is false where it is of one.

    Proven where each prompt's claim is and stands, at its own level of ``alpha``: if one is false, its own test must
    err, and where all draws of one were cut, no answer was seen to its end (:func:`unless_cut`). Refuted
    where the mean over the prompts of the evidence against each reaches 1 / ``alpha``: if all are true, each evidence
    has mean 1 at most wherever its prompt stopped, and so has their mean (Markov). Whatever is true, one of the two
    can be wrong alone.
    """
    if all(p.stands == "proven" for p in prompts):
        return "proven"
    against = [p.looks[-1].log_against for p in prompts if p.looks]
    evidence = float(np.logaddexp.reduce(against)) - math.log(len(prompts)) if against else -math.inf
    return "refuted" if evidence >= CUSHION - math.log(alpha) else "open"


def average_verdict(
    counts: Counts, limit: float, alpha: float, *, refuting: float | None = None, at_least: bool = False
) -> tuple[Verdict, float]:
    """Of the claim that the average of P(leak) over the prompts is at most ``limit``, or at least: verdict and bound.

    Proven by the upper (lower) bound at ``alpha``, refuted by the other one at ``refuting`` (by default ``alpha``): one
    of the two can be wrong alone. Assumes independent draws, as many as were planned.
    """
    leaks, draws = zip(*counts, strict=True)
    against = alpha if refuting is None else refuting
    side, other = ("lower", "upper") if at_least else ("upper", "lower")
    found = average_proportion_bound(leaks, draws, alpha=alpha, side=side)  # type: ignore[arg-type]
    second = average_proportion_bound(leaks, draws, alpha=against, side=other)  # type: ignore[arg-type]
    if at_least:
        return "proven" if found.lower >= limit else "refuted" if second.upper < limit else "open", found.lower
    return "proven" if found.upper <= limit else "refuted" if second.lower > limit else "open", found.upper
