"""Claims: draw in rounds, look after each, stop at the first verdict; it holds at any stopping time.

A claim says that a quantity is at most a limit. Evidence against its opposite is the wealth of a bet; it reaches
1/alpha with probability at most alpha, at any time, if the opposite is true. "Proven" and "refuted" are both tested
at level alpha: whatever the truth is, only one of them can be wrong, so a verdict is wrong with probability <= alpha.

Everything is pure: an audit keeps the looks, and the state on JSON, and stops at the first verdict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.betting import CUSHION
from leakbound.bounds.engines.steady import ABOVE, BETS, LOWER, UPPER, log_evidence_below, log_mix, log_wealths
from leakbound.bounds.gate import Scores, check_alpha, check_fraction, check_scores, check_whole
from leakbound.bounds.result import Record, in_full
from leakbound.errors import InputError

Verdict: TypeAlias = Literal["proven", "refuted", "open"]


@dataclass(frozen=True)
class Claim(Record):
    """``quantity`` ("leak": P(leak), "mean": E[h]) is at most ``limit``; a verdict is wrong with P <= ``alpha``."""

    quantity: Literal["leak", "mean"]
    limit: float
    alpha: float

    def __post_init__(self) -> None:
        if self.quantity not in ("leak", "mean"):
            raise InputError(f"quantity is {self.quantity!r}: give 'leak' or 'mean'")
        object.__setattr__(self, "limit", check_fraction("limit", self.limit, open_ends=True))
        object.__setattr__(self, "alpha", check_alpha(self.alpha))

    @classmethod
    def parse(cls, text: str, alpha: float) -> Claim:
        """A claim from text such as ``leak<=0.01`` or ``mean <= 0.05``."""
        found = re.fullmatch(r"\s*(leak|mean)\s*<=\s*([0-9.eE+-]+)\s*", str(text))
        try:
            limit = float(found[2]) if found else math.nan
        except ValueError:
            limit = math.nan
        if not found or not 0 < limit < 1:
            raise InputError(f"claim is {text!r}: write 'leak<=0.01' or 'mean<=0.05', with a limit between 0 and 1")
        return cls(cast(Literal["leak", "mean"], found[1]), limit, alpha)

    def __str__(self) -> str:
        return f"{'P(leak)' if self.quantity == 'leak' else 'E[h]'} <= {in_full(self.limit)}"


@dataclass(frozen=True)
class Look(Record):
    """What one look saw: ``n`` draws so far, the estimate, ln of the evidence for and against, and the verdict."""

    n: int
    estimate: float
    log_for: float
    log_against: float
    verdict: Verdict


def decide(log_for: float, log_against: float, alpha: float) -> Verdict:
    """Proven or refuted where the evidence has reached 1/alpha."""
    wanted = -math.log(alpha) + CUSHION
    return "proven" if log_for >= wanted else "refuted" if log_against >= wanted else "open"


def final_verdict(looks: Sequence[Look]) -> Verdict:
    """The first verdict that is not open: later looks cannot take it back."""
    return next((look.verdict for look in looks if look.verdict != "open"), "open")


def leak_look(k: int, n: int, claim: Claim) -> Look:
    """A look at P(leak) <= limit after ``k`` leaks in ``n`` draws; valid after any number of draws, however chosen.

    A mixture of simple alternatives on each side (Robbins). Needs only k and n.

    Assumes independent draws with one P(leak), and a claim fixed before them. Proof: docs/methods.md.
    """
    if claim.quantity != "leak":
        raise InputError(f"claim is about {claim.quantity!r}: give a claim about 'leak', or use mean_look")
    n = check_whole("n", n, 1)
    k = check_whole("k", k, 0, n)
    log_for = log_evidence_below(k, n, claim.limit)
    log_against = log_evidence_below(n - k, n, 1 - claim.limit, ABOVE)
    return Look(n, k / n, log_for, log_against, decide(log_for, log_against, claim.alpha))


@dataclass(frozen=True)
class MeanEvidence(Record):
    """The state of a claim about E[h] after some draws: pure, small, and on JSON. Start with MeanEvidence(claim).

    The log-wealth of each constant bet against a mean >= the limit and against one <= it; the evidence is their
    weighted mean. Every draw adds its own term, so neither their order nor a planned number of draws matters.
    """

    claim: Claim
    n: int = 0
    total: float = 0.0
    log_for: tuple[float, ...] = (0.0,) * BETS.size
    log_against: tuple[float, ...] = (0.0,) * BETS.size

    def __post_init__(self) -> None:
        if self.claim.quantity != "mean":
            raise InputError(f"claim is about {self.claim.quantity!r}: give a claim about 'mean', or use leak_look")

    def add(self, scores: Scores, counts: npt.ArrayLike | None = None) -> MeanEvidence:
        """The state after more draws."""
        values, weights = check_scores(scores, counts)
        m = self.claim.limit
        log_for = np.array(self.log_for) + log_wealths((m - values) / (1 - m), weights)
        log_against = np.array(self.log_against) + log_wealths((values - m) / m, weights)
        n, total = self.n + int(weights.sum()), self.total + float(np.dot(values, weights))
        return MeanEvidence(self.claim, n, total, tuple(log_for.tolist()), tuple(log_against.tolist()))

    def look(self) -> Look:
        """What the draws so far say."""
        if not self.n:
            raise InputError("n is 0: add at least one round of draws before looking")
        log_for, log_against = log_mix(np.array(self.log_for), UPPER), log_mix(np.array(self.log_against), LOWER)
        return Look(self.n, self.total / self.n, log_for, log_against, decide(log_for, log_against, self.claim.alpha))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> MeanEvidence:
        """The state that :meth:`to_json` wrote; adding the same rounds to it gives the same numbers."""
        return super().from_json({**data, "claim": Claim.from_json(data["claim"])})


def at_least_claim(text: str, name: str = "claim") -> float:
    """The limit of a claim that answers are right, ``known>=0.95``: strictly between 0 and 1."""
    found = re.fullmatch(r"\s*known\s*>=\s*(0?\.\d+|\d+e-\d+)\s*", str(text))
    if not found or not 0 < float(found[1]) < 1:
        raise InputError(f"{name} is {text!r}: write 'known>=0.95', with a limit between 0 and 1")
    return float(found[1])
