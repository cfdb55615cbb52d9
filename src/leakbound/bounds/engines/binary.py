"""Scores that are 0 or 1 by declaration: E[h], sd and mean + kappa sd from exact binomial tails, without an order.

h is 1 with probability p, so each of them is a value v(p): p itself, sqrt(p (1 - p)), p + kappa sqrt(p (1 - p)). v
rises up to a peak and falls after it. Take as evidence for a small v the outcomes K at which the plug-in v(K / n) is
at most the observed one: K <= low or K >= high. They are nested, so the test that rejects p where their probability
is at most alpha rejects the true p with probability at most alpha; the bound is the largest v of a p that is not
rejected. Where one tail is empty, as for v(p) = p, this is Clopper-Pearson. Proof in docs/methods.md.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from leakbound.bounds.engines.binomial import log_tail, log_tail_above
from leakbound.bounds.engines.clopper import clopper_pearson_lower, clopper_pearson_upper
from leakbound.bounds.engines.search import fewest
from leakbound.bounds.gate import Floats, Ints, Side
from leakbound.errors import InputError

CUSHION = 1e-9
"""Taken from ln(alpha): far above the error of a tail's logarithm."""


def count_ones(values: Floats, weights: Ints) -> tuple[int, int]:
    """How many draws score 1, and how many there are; InputError for a score between 0 and 1."""
    between = (values > 0) & (values < 1)
    if between.any():
        raise InputError(
            f"scores hold {values[between][0]:.17g} with method 'binary': give scores of 0 and 1, or another method"
        )
    return int(weights[values == 1].sum()), int(weights.sum())


def binary_mean(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """Clopper-Pearson limits on p, each with its share of alpha."""
    k, n = count_ones(values, weights)
    share = alpha / 2 if side == "both" else alpha
    return float(clopper_pearson_lower(k, n, share)), float(clopper_pearson_upper(k, n, share))


def two_tails(low: int, high: int, n: int) -> Callable[[Floats], Floats]:
    """p -> ln of P(Bin(n, p) <= low) + P(Bin(n, p) >= high), elementwise."""
    return lambda p: np.logaddexp(log_tail(low, n, p), log_tail_above(high, n, p))


def between(low: int, high: int, n: int) -> Callable[[Floats], Floats]:
    """p -> ln P(low <= Bin(n, p) <= high), elementwise, for p <= 1/2 and high = n - low: the first tail is larger."""

    def found(p: Floats) -> Floats:
        whole, beyond = log_tail_above(low, n, p), log_tail_above(high + 1, n, p)
        with np.errstate(divide="ignore"):
            return whole + np.log1p(-np.exp(np.minimum(beyond - whole, 0.0)))

    return found


@lru_cache(maxsize=4096)
def largest_value(k: int, n: int, alpha: float, value: Callable[[float], float], peak: float) -> float:
    """The largest v(p) of a p that k ones in n draws do not reject at alpha; v rises to ``peak`` and falls after it."""
    low, high = as_extreme(k, n, value, peak)
    # one tail alone is Clopper-Pearson's test, of the branch of v on that side of the peak
    if low < 0:
        return value(max(float(clopper_pearson_lower(high, n, alpha)), peak))
    if high > n:
        return value(min(float(clopper_pearson_upper(low, n, alpha)), peak))
    if high <= low + 1:  # every outcome is as extreme: nothing is rejected
        return value(peak)
    tails = two_tails(low, high, n)
    # the sum of the tails falls and then rises; its slope is 0 where C(n-1, low) q^(high-1-low) = C(n-1, high-1) ...
    log_ratio = (log_choose(n - 1, low) - log_choose(n - 1, high - 1)) / (high - 1 - low)
    least = 1 / (1 + math.exp(-log_ratio))
    wanted = math.log(alpha) - CUSHION
    if float(tails(np.array([least]))[0]) > wanted:
        return value(peak)
    # the rejected p are an interval [left, right] about the least sum of tails: v is largest at an end of what is kept
    near = alpha * (1 - 1e-8)  # mostly one tail is next to nothing where the other one is alpha
    ends = np.array([float(clopper_pearson_upper(low, n, near)), float(clopper_pearson_lower(high, n, near))])
    enough = (tails(ends) <= wanted) & np.array([ends[0] <= least, ends[1] >= least])
    left = ends[0] if enough[0] else crossing(tails, wanted, 0.0, least)
    right = ends[1] if enough[1] else crossing(tails, wanted, 1.0, least)
    return max(value(min(left, peak)), value(max(right, peak)))


def as_extreme(k: int, n: int, value: Callable[[float], float], peak: float) -> tuple[int, int]:
    """(low, high): v(K / n) <= v(k / n) for K <= low and for K >= high; low is -1, high n + 1 for no such K."""
    observed = value(k / n)
    middle = math.floor(peak * n)
    if k <= middle:  # v falls beyond: the first K there that is small enough
        return k, fewest(lambda some: some > n or value(some / n) <= observed, middle, n + 1)
    # v rises up to there: the last K before one that is too large
    return fewest(lambda some: some > middle or value(some / n) > observed, -1, middle + 1) - 1, k


def crossing(log_tails: Callable[[Floats], Floats], wanted: float, kept: float, rejected: float) -> float:
    """Between a p that is kept and one that is rejected: where the tails fall to ``wanted``, on the side that rejects.

    By parts of 32: a whole array of p costs hardly more than one.
    """
    for _ in range(12):
        points = np.linspace(kept, rejected, 33)
        first = int(np.argmax(np.append(log_tails(points[1:-1]) <= wanted, True))) + 1
        kept, rejected = float(points[first - 1]), float(points[first])
        if abs(rejected - kept) < 1e-10 * min(rejected, 1 - rejected):
            break
    return rejected


def log_choose(n: int, k: int) -> float:
    """ln of the binomial coefficient."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def spread(p: float) -> float:
    """The standard deviation of a score that is 1 with probability p."""
    return math.sqrt(max(p * (1 - p), 0.0))


@lru_cache(maxsize=64)
def mean_and_spread(kappa: float) -> Callable[[float], float]:
    """p -> p + kappa sqrt(p (1 - p))."""
    return lambda p: p + kappa * spread(p)


def binary_std(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """Limits on sqrt(p (1 - p)), each with its share of alpha. Below: central outcomes, m <= K <= n - m."""
    k, n = count_ones(values, weights)
    share = alpha / 2 if side == "both" else alpha
    upper = 0.5 if side == "lower" else largest_value(k, n, share, spread, 0.5) * (1 + 1e-15)
    m, lower = min(k, n - k), 0.0
    if side != "upper" and m > 0:  # the central outcomes get likelier up to p = 1/2
        lower = spread(crossing(between(m, n - m, n), math.log(share) - CUSHION, 0.5, 0.0)) * (1 - 1e-9)
    return lower, min(upper, 0.5)


def binary_ed(values: Floats, weights: Ints, alpha: float, kappa: float) -> float:
    """Upper limit on p + kappa sqrt(p (1 - p)), whose peak lies at p = (1 + 1 / sqrt(1 + kappa^2)) / 2."""
    k, n = count_ones(values, weights)
    peak = (1 + 1 / math.sqrt(1 + kappa**2)) / 2
    return largest_value(k, n, alpha, mean_and_spread(kappa), peak) * (1 + 1e-15)
