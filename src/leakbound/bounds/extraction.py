"""Leaks among several draws: leak@k, the chance of at least one leak, and extraction at a known probability."""

import dataclasses
import math
from decimal import ROUND_CEILING, Decimal, localcontext

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import Floats, Scores, check_fraction, check_real, check_scores, check_whole
from leakbound.bounds.result import Bound, SurvivalBand
from leakbound.errors import InputError

OUTWARD = 1e-12


def subset_share(inside: npt.ArrayLike, n: int, k: int) -> Floats:
    """C(inside, k) / C(n, k): the chance that k of n draws, taken without replacement, are all among ``inside``."""
    from scipy import special  # here, because importing it takes 0.2 s

    m = np.asarray(inside, dtype=np.float64)
    logs = special.gammaln(m + 1) - special.gammaln(np.maximum(m - k, 0) + 1)
    logs = logs - (special.gammaln(n + 1) - special.gammaln(n - k + 1))
    return np.where(m < k, 0.0, np.where(m >= n, 1.0, np.exp(np.minimum(logs, 0.0))))


def leak_at_k(leaks: int, n: int, k: int) -> float:
    """leak@k: the unbiased estimate of the chance that at least one of k draws leaks, 1 - C(n - leaks, k) / C(n, k).

    An estimate without a guarantee. With one: :func:`leak_at_k_bound`.

    Assumes n independent draws, n fixed beforehand, and k <= n. Chen et al. 2021 (pass@k).

    >>> leak_at_k(1, 10, 5)
    0.5
    """
    n = check_whole("n", n, 1)
    c, k = check_whole("leaks", leaks, 0, n), check_whole("k", k, 1, n)
    return 1.0 - float(subset_share(n - c, n, k))


def max_score_at_k(scores: Scores, k: int, *, counts: npt.ArrayLike | None = None) -> float:
    """The unbiased estimate of E[max score of k draws]: the average of the maximum over all k-subsets of the n draws.

    sum over the distinct scores v of v (C(N_v, k) - C(N_(v-), k)) / C(n, k), N_v = number of draws <= v. An estimate
    without a guarantee. With one: :func:`max_score_at_k_bound`.

    Assumes n independent draws, n fixed beforehand, and k <= n.
    """
    values, weights = check_scores(scores, counts)
    n = int(weights.sum())
    k = check_whole("k", k, 1, n)
    share = subset_share(np.concatenate([[0], np.cumsum(weights)]), n, k)
    return float(np.dot(values, np.diff(share)))


def any_of(p: float, k: int) -> float:
    """1 - (1 - p)^k, right to a few roundings of itself also where p is tiny."""
    return -math.expm1(k * math.log1p(-p)) if p < 1 else 1.0


def leak_at_k_bound(bound: Bound, k: int) -> Bound:
    """Bound the chance of at least one leak in k independent future draws from a bound on P(leak), of any scope.

    f(p) = 1 - (1 - p)^k rises with p: both limits carry over for one prompt and for the largest of many, for all k at
    once and on the same event. Over an average f is not a function of the average, but f is concave, so the mean of
    f(p_i) is at most f of the mean (Jensen), and f(p) >= p: the average prompt's limits are f(upper) and lower.

    ``bound``: on a probability, such as :func:`~leakbound.bounds.proportion_bound` returns; its scope, alpha and side
    stay. k >= 1 may exceed its n. The estimate is f of its estimate, plug-in; for k <= n :func:`leak_at_k` is unbiased.
    Derived in docs/methods.md.

    >>> from leakbound.bounds import proportion_bound
    >>> leak_at_k_bound(proportion_bound(0, 1024, alpha=0.01), 10).claim
    'P(a leak in 10 draws) <= 0.043977'
    """
    k = check_whole("k", k, 1)
    if not 0 <= bound.lower <= bound.upper <= 1:
        raise InputError(f"bound is on {bound.estimand!r}, which is no probability: give a bound on P(leak)")
    upper = 1.0 if bound.side == "lower" else min(1.0, any_of(bound.upper, k) * (1 + OUTWARD))
    lower = 0.0 if bound.side == "upper" else any_of(bound.lower, k) * (1 - OUTWARD)
    if "average" in bound.scope:
        lower = bound.lower
    name = f"P(a leak in {k} draws)"
    return dataclasses.replace(bound, estimand=name, estimate=any_of(bound.estimate, k), lower=lower, upper=upper)


def max_score_at_k_bound(band: SurvivalBand, k: int) -> Bound:
    """Bound E[max score of k future draws] from a survival band: int_0^1 1 - (1 - S(x))^k dx over the band.

    E[max] = int_0^1 P(max > x) dx, and P(max of k > x) = 1 - (1 - S(x))^k rises with S. The band holds for all x at
    once, so one band gives all k at once. Between thresholds the band is a step function.

    Assumes what the band does, and k future draws that are independent of one another and of the same law.
    """
    k = check_whole("k", k, 1)
    x = np.array(band.thresholds)
    upper = lower = 0.0

    def best_of(s: npt.ArrayLike) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray(-np.expm1(k * np.log1p(-np.asarray(s, dtype=np.float64))))

    if band.side != "lower":
        upper = float(x[0] + np.sum(np.diff(x, append=1.0) * best_of(band.upper)))
    if band.side != "upper":
        lower = float(np.sum(np.diff(x, prepend=0.0) * best_of(band.lower)))
    middle = float(x[0] * float(best_of(band.estimate[0])) + np.sum(np.diff(x, append=1.0) * best_of(band.estimate)))
    upper = 1.0 if band.side == "lower" else min(upper * (1 + OUTWARD) + 1e-14, 1.0)
    lower = max(lower * (1 - OUTWARD) - 1e-14, 0.0)
    estimate = min(max(middle, lower), upper)
    return Bound(
        f"E[max h of {k} draws]", estimate, lower, upper, band.alpha, band.side, band.n, band.method, band.scope
    )


def check_log_probability(log_probability: float) -> float:
    """A natural log-probability: a finite number <= 0."""
    value = check_real("log_probability", log_probability, "give a natural log-probability, a finite number <= 0")
    if value > 0:
        raise InputError(f"log_probability is {value!r}: give a natural log-probability, a finite number <= 0")
    return value


def extraction_probability(log_probability: float, n: int) -> float:
    """The chance that at least one of n draws is a sequence of this log-probability: 1 - (1 - p_z)^n, exact.

    The sequence is (n, p)-discoverable if this is at least p. ``log_probability`` is that of the whole target under the
    sampling distribution, from one teacher-forced pass. It bounds P(leak) from below only: other texts leak as well.

    Hayes et al. 2024 (arXiv 2410.19482).
    """
    log_p, n = check_log_probability(log_probability), check_whole("n", n, 1)
    return any_of(math.exp(log_p), n)


def draws_to_extract(log_probability: float, p: float) -> int:
    """The smallest n for which a sequence of this log-probability is (n, p)-discoverable: ln(1 - p) / ln(1 - p_z), up.

    ``log_probability`` and p_z as in :func:`extraction_probability`. Exact also where p_z is too small for a float.

    Hayes et al. 2024 (arXiv 2410.19482).

    >>> draws_to_extract(-10.0, 0.5)
    15268
    """
    log_p, p = check_log_probability(log_probability), check_fraction("p", p, open_ends=True)
    if log_p == 0:
        return 1
    with localcontext() as context:
        context.prec = 120 + int(-log_p / 2)  # more digits than the number has, log10 e < 1/2
        chance, wanted = Decimal(log_p).exp(), -(1 - Decimal(p)).ln()
        # -1 / ln(1 - x) = 1/x - 1/2 - x/12 - O(x^2); the logarithm takes minutes at thousands of digits
        many = 1 / chance - Decimal("0.5") - chance / 12 if log_p < -50 else -1 / (1 - chance).ln()
        needed = wanted * many
        return max(1, int(needed.to_integral_value(rounding=ROUND_CEILING)))
