"""A mixture of constant bets: a bound on a mean that needs no order and holds for stratified draws."""

from __future__ import annotations

import math

import numpy as np

from leakbound.bounds.gate import Floats, Ints


def bet_sizes(n: int, alpha: float) -> Floats:
    """Bets c in (0, 1), fixed by n: ceil(log2 sqrt n), geometric from sqrt(2 ln(1/alpha) / n) / 0.6 to 0.999."""
    least = min(math.sqrt(2 * math.log(1 / alpha) / n) / 0.6, 0.9)
    count = max(2, math.ceil(math.log2(math.sqrt(n)))) if n > 1 else 1
    return np.geomspace(least, 0.999, count) if count > 1 else np.array([0.999])


def log_wealth(y: Floats, weights: Ints, m: float, top: float, bets: Floats) -> float:
    """ln E_m, E_m = mean over c of prod_i [(1 - c) + c (top - y_i) / (top - m)].

    E_m rises with m, and its mean is <= 1 when the y_i average to m or more.

    Each factor is 1 + lam (m - y_i) with lam = c / (top - m), so it stays >= 0 for y <= top.
    """
    gain = (top - y) / (top - m)
    totals = np.log1p(bets[:, None] * (gain - 1.0)) @ weights
    best = totals.max()
    return float(best + np.log(np.mean(np.exp(totals - best))))


def portfolio_upper(y: Floats, weights: Ints, alpha: float, top: float = 1.0) -> float:
    """The root m of E_m = 1 / alpha (the end of the bisection that rejects), at most ``top``.

    y_i in [0, top] independent, n fixed; bounds the average of the n means, which need not be equal: for means mu_i
    with average >= m, prod (1 + lam (m - mu_i)) <= (1 + lam (m - average))^n <= 1 by the inequality of the two means.
    """
    bets = bet_sizes(int(weights.sum()), alpha)
    wanted = math.log(1 / alpha) * (1 + 1e-12) + 1e-9
    low, high = float(np.dot(y, weights / weights.sum())), top
    for _ in range(60):
        middle = (low + high) / 2
        if not low < middle < high or high - low < 1e-9 * high:
            break
        if log_wealth(y, weights, middle, top, bets) >= wanted:
            high = middle
        else:
            low = middle
    return high
