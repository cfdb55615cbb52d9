"""A mixture of constant bets: a bound on a mean that needs no order and holds for stratified draws."""

import math
from collections.abc import Callable

import numpy as np

from leakbound.bounds.engines.search import least
from leakbound.bounds.gate import Floats, Ints

MOST_CENTRES = 2**14
"""Centres of squares that are tried: so many are half a minute."""


def bet_sizes(n: int, alpha: float) -> Floats:
    """Bets c in (0, 1), fixed by n: ceil(log2 sqrt n), geometric from sqrt(2 ln(1/alpha) / n) / 0.6 to 0.999."""
    least = min(math.sqrt(2 * -math.log(alpha) / n) / 0.6, 0.9)
    count = max(2, math.ceil(math.log2(math.sqrt(n)))) if n > 1 else 1
    return np.geomspace(least, 0.999, count) if count > 1 else np.array([0.999])


def log_wealth(y: Floats, weights: Ints, m: float, top: float, bets: Floats) -> float:
    """ln E_m, E_m = mean over c of prod_i [(1 - c) + c (top - y_i) / (top - m)].

    E_m rises with m, and its mean is <= 1 when the y_i average to m or more.

    Each factor is 1 + lam (m - y_i) with lam = c / (top - m), so it stays >= 0 for y <= top.
    """
    gain = (top - y) / (top - m)
    return log_mean_exp(np.log1p(bets[:, None] * (gain - 1.0)) @ weights)


def log_mean_exp(logs: Floats) -> float:
    """ln of the mean of exp(logs)."""
    best = float(logs.max())
    return best + math.log(float(np.exp(logs - best).sum()) / logs.size)


def least_rejected(low: float, high: float, evidence: Callable[[float], float], alpha: float) -> float:
    """The end that rejects of a bisection of (low, high) for rising evidence = ln(1 / alpha); ``high`` if none does."""
    wanted = -math.log(alpha) * (1 + 1e-12) + 1e-9
    return least(lambda m: evidence(m) >= wanted, low, high, 1e-9)


def portfolio_upper(y: Floats, weights: Ints, alpha: float, top: float = 1.0) -> float:
    """The root m of E_m = 1 / alpha (the end of the bisection that rejects), at most ``top``.

    y_i in [0, top] independent, n fixed; bounds the average of the n means, which need not be equal: for means mu_i
    with average >= m, prod (1 + lam (m - mu_i)) <= (1 + lam (m - average))^n <= 1 by the inequality of the two means.
    """
    bets = bet_sizes(int(weights.sum()), alpha)
    low = float(np.dot(y, weights / weights.sum()))
    return least_rejected(low, top, lambda m: log_wealth(y, weights, m, top, bets), alpha)


def squares_upper(
    x: Floats, weights: Ints, alpha: float, centres: Floats, wealth: Callable[[Floats, float, float], float]
) -> float:
    """Upper limit on the variance of i.i.d. draws in [0, 1]; ``wealth(y, v, top)``: ln of evidence against E[y] >= v.

    For every centre c, E(x - c)^2 is the variance or more, so the wealth of bets on y = (x - c)^2, whose top is
    max(c, 1 - c)^2, is evidence against a variance >= v, and so is its mean over centres fixed beforehand.
    """
    squares = (x - centres[:, None]) ** 2
    tops = np.maximum(centres, 1 - centres) ** 2 * (1 + 1e-12)

    def evidence(v: float) -> float:
        return log_mean_exp(np.array([wealth(y, v, top) for y, top in zip(squares, tops.tolist(), strict=True)]))

    share = weights / weights.sum()
    low = min(float(np.dot((x - float(np.dot(x, share))) ** 2, share)), 0.25)
    return least_rejected(low, 0.25, evidence, alpha)


def centred_variance_upper(x: Floats, weights: Ints, alpha: float) -> float:
    """:func:`squares_upper` by the portfolio, about the centres 0, 1/K, ..., 1; bets and K are fixed by n."""
    n = int(weights.sum())
    bets = bet_sizes(n, alpha)
    centres = np.linspace(0.0, 1.0, min(math.ceil(math.sqrt(n) / 2), MOST_CENTRES) + 1) if n > 1 else np.array([0.5])
    return squares_upper(x, weights, alpha, centres, lambda y, v, top: log_wealth(y, weights, v, top, bets))
