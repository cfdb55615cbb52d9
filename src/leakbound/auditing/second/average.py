"""The average over prompts: the pooled count, and the product of bets by its dual, prompt by prompt and bet by bet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from leakbound.auditing.second.draws import Floats, unordered_refutes
from leakbound.auditing.second.masses import LEAST_REST, rests
from leakbound.auditing.second.tails import at_most_probability

KEPT = np.array([1e-4, 0.03, 0.1, 0.25, 0.45, 0.65, 0.8, 0.9, 0.95, 0.975, 0.99, 0.996])
PORTFOLIO = 0.85
Drawn = tuple[tuple[float, ...], tuple[float, ...], bool]
"""One prompt's scores, and their counts; or, where drawn without replacement, True and their probabilities in order."""


def pooled_holds(k: int, n: int, claim: float, alpha: float) -> bool:
    """Whether k leaks in n draws of prompts that differ, equally many of each, prove the average P(leak) <= claim."""
    return claim >= 1 or (claim >= (k + 1) / n and at_most_probability(k, n, claim) <= Decimal(alpha))


def either_holds(drawn: Sequence[Drawn], claim: float, alpha: float) -> bool:
    """Whether independent draws, equally many of each prompt, prove the average E[h] <= claim: one of two bets."""
    values, counts = np.array([x for h, _, _ in drawn for x in h]), np.array([k for _, some, _ in drawn for k in some])
    share = PORTFOLIO * alpha if len(drawn) > 1 else alpha
    return (
        claim >= 1
        or unordered_refutes(values, counts, claim, share, variance=False)
        or (len(drawn) > 1 and product_holds(drawn, claim, alpha - share))
    )


class Prompts:
    """ln of the bets of prompts with the same draws, as functions of the tested value p from ``low`` to ``end``."""

    def __init__(self, drawn: Drawn, number: int) -> None:
        h, weights, distinct = drawn
        before, self.number = [(Decimal(1), Decimal(1))] * (len(h) + 1), number
        if distinct:
            before = rests(weights, h)
        used = [i for i in range(len(h)) if before[i][0] > LEAST_REST]
        self.ceiling = np.array([float(before[i][1]) for i in used])
        self.kept = np.array([(1 - h[i]) * float(before[i][0]) for i in used])
        self.counts = np.array([1.0 if distinct else weights[i] for i in used])
        self.end = min(float(min(c for _, c in before)), 1.0)
        self.low = min(math.fsum(p * x for p, x in zip(weights, h, strict=True)), self.end) if distinct else 0.0

    def at(self, p: float, weights: Floats) -> tuple[float, float]:
        """ln of the mixture's capital, and how fast it rises."""
        room, c = self.ceiling - p, (1 - KEPT)[:, None]
        factors = 1 - c + c * self.kept / room
        logs = np.where(weights > 0, np.log(factors) @ self.counts, -np.inf)  # a bet without a share is no measure
        share = weights * np.exp(logs - logs.max())
        slopes = (c * self.kept / room**2 / factors) @ self.counts
        return float(logs.max() + math.log(share.sum())), float(share @ slopes / share.sum())

    def least(self, mu: float, weights: Floats) -> tuple[float, float]:
        """A number that ln capital - mu p never falls below, by a tangent at nearly the p where it is least; and p."""
        low, high = self.low, self.end - 1e-9 * (self.end - self.low)
        for _ in range(50):
            p = (low + high) / 2
            low, high = (p, high) if self.at(p, weights)[1] < mu else (low, p)
        value, slope = self.at(low, weights)
        return value - mu * low + min((slope - mu) * (end - low) for end in (self.low, self.end)), low


def product_holds(drawn: Sequence[Drawn], claim: float, alpha: float) -> bool:
    """Whether a mixture of bets, with its share, has 1 / alpha wherever the prompts average to the claim or more.

    ln of the least capital is at least sum_i min_p (l_i(p) - mu p) + mu N claim, for every mu > 0; the best is sought.
    Wherever a mixture had too little at some p that average to the claim, it need not be tried.
    """
    prompts = [Prompts(one, number) for one, number in Counter(drawn).items()]
    size, low, end = len(drawn), *(sum(getattr(p, x) * p.number for p in prompts) for x in ("low", "end"))
    if claim * size >= end * (1 - 1e-12):
        return True
    if claim * size < low:
        return False
    rows, shares = mixtures(size)
    wanted = (-math.log(alpha) - np.log(shares)).tolist()
    place = (claim * size - low) / (end - low)
    tried = [[p.low + place * (p.end - p.low) for p in prompts]]
    left = set(range(len(rows)))

    def over(s: int) -> float:
        """How much a mixture has beyond what is wanted, at most."""
        totals = [sum(p.number * p.at(x, rows[s])[0] for p, x in zip(prompts, where, strict=True)) for where in tried]
        return min(totals) - float(wanted[s])

    while left and over(best := max(left, key=over)) >= 0:
        value, where = dual(prompts, rows[best], claim * size)
        if value >= wanted[best]:
            return True
        left.discard(best)
        tried.append(where)
    return False


def dual(prompts: Sequence[Prompts], weights: Floats, total: float) -> tuple[float, list[float]]:
    """The largest bound found on the least sum of ln capital where p sum to ``total``; some p with that sum or more."""
    low, high, best, where = -40.0, 40.0, -math.inf, [p.end for p in prompts]
    for _ in range(36):
        middle = (low + high) / 2
        mu = math.exp(middle)
        found = [p.least(mu, weights) for p in prompts]
        best = max(best, sum(p.number * value for p, (value, _) in zip(prompts, found, strict=True)) + mu * total)
        enough = sum(p.number * x for p, (_, x) in zip(prompts, found, strict=True)) >= total
        low, high = (low, middle) if enough else (middle, high)
        where = [x for _, x in found] if enough else where
    return best, where


def mixtures(prompts: int) -> tuple[list[Floats], Floats]:
    """How each mixture shares its capital among the bets, and how much of the capital it has."""

    def most_on(place: int, others: float) -> Floats:
        return np.array([1 - others if i == place else others / 11 for i in range(12)])

    few = 0.3 / prompts
    rows = [most_on(0, few), most_on(0, 0.05), most_on(0, 0.3)]
    rows += [most_on(place, others) for place in range(2, 11) for others in (few, 0.1)]
    rows += [np.array([0.0] * 5 + [1 / 7] * 7), np.full(12, 1 / 12)]
    return rows, np.array([8.0, 1.0, 2.0] + [1.0] * 20) / 31
