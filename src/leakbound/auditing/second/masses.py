"""Distinct completions with exact probabilities, drawn without replacement: docs/certificates.md with 60 digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np

from leakbound.auditing.second.draws import bet_sizes

BETS = [Decimal(c) for c in ("1", ".9", ".7", ".45", ".25", ".12")]
WEIGHTS = [Decimal(w) for w in (".5", ".1", ".1", ".1", ".1", ".1")]
ANCHORS = (0.0, 0.25, 0.5, 0.75)
OUTWARD, LEAST_REST = Decimal("1e-10"), Decimal("1e-9")
"""So much is taken off the seen mass and added to the seen leak, relatively; with less unseen mass nobody bets."""
NEAR = 1e-13
"""What float64 may lose of a limit that no bet is behind."""


def rests(masses: Sequence[float], h: Sequence[float]) -> list[tuple[Decimal, Decimal]]:
    """1 - M and L + 1 - M before each completion and after the last, both rounded up."""
    with localcontext(prec=60):
        seen, leaked, found = Decimal(0), Decimal(0), []
        for p, score in zip((*masses, 0.0), (*h, 0.0), strict=True):
            rest = max(1 - seen * (1 - OUTWARD), Decimal(0))
            found.append((rest, rest + leaked * (1 + OUTWARD)))
            seen, leaked = seen + Decimal(p), leaked + Decimal(p) * Decimal(score)
        return found


def refutes(masses: Sequence[float], h: Sequence[float], at: float, alpha: float) -> bool:
    """Whether the completions, at some moment, refute that E[h] is ``at`` or more: by a bet, or for certain."""
    before = rests(masses, h)
    if at >= float(min(ceiling for _, ceiling in before)) * (1 - NEAR):
        return True
    with localcontext(prec=60):
        capital = WEIGHTS
        for (rest, ceiling), score in zip(before, h, strict=False):
            if rest > LEAST_REST:
                gain = (1 - Decimal(score)) * rest / (ceiling - Decimal(at))
                capital = [w * (1 - c + c * gain) for c, w in zip(BETS, capital, strict=True)]
                if sum(capital) * Decimal(alpha) >= 1:
                    return True
    return False


def certain(masses: Sequence[float], h: Sequence[float], low: float, high: float) -> bool:
    """Whether L <= E[h] <= L + 1 - M says as much."""
    seen, leaked = math.fsum(masses), math.fsum(p * x for p, x in zip(masses, h, strict=True))
    return low <= leaked * (1 + NEAR) and high >= min(1.0, leaked + max(1 - seen, 0.0)) - NEAR


def spread_holds(masses: Sequence[float], h: Sequence[float], claim: float, kappa: float, alpha: float) -> bool:
    """Whether kappa = 0: the standard deviation, else E[h] + kappa sd, is at most the claim.

    Var <= m (1 - m) - G, m the mean and G the seen part of E[h (1 - h)]. The m >= L with a larger value are an
    interval; they are refuted where its lower end is.
    """
    least = math.fsum(p * x for p, x in zip(masses, h, strict=True))
    seen = math.fsum(p * x * (1 - x) for p, x in zip(masses, h, strict=True))
    # the smaller root of a m^2 - 2 b m + c: m (1 - m) - G = claim^2, or = (claim - m)^2 / kappa^2
    a, b, c = 1.0, 0.5, claim**2 + seen
    if kappa:
        a, b, c = 1 + kappa**2, claim + kappa**2 / 2, claim**2 + kappa**2 * seen
    if b * b <= a * c * (1 + NEAR):
        return True
    first, end = max((b - math.sqrt(b * b - a * c)) / a, least), (b + math.sqrt(b * b - a * c)) / a
    beyond = first >= end * (1 - 1e-12) and (not kappa or end <= claim)  # with a smaller value, all of them
    return beyond or refutes(masses, h, first * (1 + NEAR), alpha)


def band_holds(
    masses: Sequence[float], h: Sequence[float], thresholds: Sequence[float], upper: Sequence[float], alpha: float
) -> bool:
    """Whether P(h > x) <= upper for all x at once: the seen part, and what four anchors or nothing say of the unseen.

    The unseen mass above x falls in x, so that for an anchor a <= x it is at most B_a less the seen mass above a.
    """
    left = 1 - math.fsum(masses)

    def above(x: float) -> float:
        return math.fsum(p for p, score in zip(masses, h, strict=True) if score > x)

    for low, end in zip(ANCHORS, (*ANCHORS[1:], 1.0), strict=True):
        unseen = [claim - above(x) for x, claim in zip(thresholds, upper, strict=True) if low <= x < end]
        said = min(unseen, default=1.0) + NEAR
        if said < left and not any(
            refutes(masses, [float(score > a) for score in h], above(a) + said, alpha / len(ANCHORS))
            for a in ANCHORS
            if a <= low
        ):
            return False
    return True


def weighted_holds(x: Sequence[float], counts: Sequence[int], at: float, alpha: float) -> bool:
    """Whether draws of another law, each with h P/q, refute that E[h] is ``at`` or less."""
    if at <= 0:
        return True
    bets = bet_sizes(sum(counts), alpha)
    logs = np.array([math.fsum(k * math.log1p(c * (v / at - 1)) for v, k in zip(x, counts, strict=True)) for c in bets])
    return bool(logs.max() + math.log(np.exp(logs - logs.max()).mean()) >= -math.log(alpha))
