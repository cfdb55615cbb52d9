"""P(leak) from k leaks in n draws."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.binomial import MOST, limits
from leakbound.bounds.gate import Floats, Side, check_alpha, check_method, check_side, check_whole
from leakbound.bounds.result import Bound
from leakbound.errors import InputError


def clopper_pearson_upper(k: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike) -> Floats:
    """The least p with P(Bin(n, p) <= k) <= alpha, that is the (1 - alpha)-quantile of Beta(k + 1, n - k).

    1 where k = n. Elementwise over k, n <= 2^53 and alpha. Never below the exact limit; P(Bin(n, p) <= k) is above
    alpha (1 - 3e-10) unless the next floats are farther apart than that.
    """
    p, q = limits(k, n, alpha)
    near = 1.0 - q  # q is the precise one above 1/2; 1 - near is exact there
    return np.where(p <= 0.5, p, np.where(1.0 - near > q, np.nextafter(near, 2.0), near))


def clopper_pearson_lower(k: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike) -> Floats:
    """The largest p with P(Bin(n, p) >= k) <= alpha, that is the alpha-quantile of Beta(k, n - k + 1); 0 where k = 0.

    The upper limit for n - k, subtracted from 1: never above the exact limit. 0 where it lies below the normal floats.
    """
    q, p = limits(np.asarray(n, dtype=np.float64) - np.asarray(k, dtype=np.float64), n, alpha)
    near = 1.0 - q
    return np.where(p <= 0.5, p, np.where(1.0 - near < q, np.nextafter(near, 0.0), near))


@lru_cache(maxsize=4096)
def clopper_pearson(k: int, n: int, alpha: float, side: Side) -> float:
    """One limit, ``side`` "upper" or "lower"; prompts of an audit often have the same counts."""
    return float(clopper_pearson_upper(k, n, alpha) if side == "upper" else clopper_pearson_lower(k, n, alpha))


def proportion_bound(
    successes: int,
    n: int,
    *,
    alpha: float,
    side: Side = "upper",
    method: str = "clopper-pearson",
    estimand: str = "P(leak)",
    scope: str = "this prompt",
) -> Bound:
    """Bound the probability p of a leak from ``successes`` leaks in ``n`` draws.

    With k successes, p <= U where P(Bin(n, U) <= k) = alpha; U is the (1 - alpha)-quantile of Beta(k + 1, n - k), and 1
    when k = n. Lower limits by symmetry; ``side="both"`` gives each side alpha / 2. Never inside the exact limit and
    right in every printed digit, for every alpha and for n up to 2^53.

    Assumes n independent draws, n fixed before the first one. No monotone non-random upper limit is smaller.
    ``method``: ``"clopper-pearson"``, or ``"paper"``, the same. InputError for counts that cannot be.

    Clopper and Pearson 1934; M_bin of arXiv 2410.03523.

    >>> print(proportion_bound(0, 1024, alpha=0.01))
    For this prompt, P(leak) <= 0.004488 with confidence 0.99 (0.000000 observed in 1024 draws; Clopper-Pearson)
    """
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, ("clopper-pearson", "paper"))
    n = check_whole("n", n, 1, MOST)
    k = check_whole("successes", successes)
    if k > n:
        raise InputError(f"successes is {k}, more than n, which is {n}: give the number of leaks among the n draws")
    share = alpha / 2 if side == "both" else alpha
    upper = 1.0 if side == "lower" else clopper_pearson(k, n, share, "upper")
    lower = 0.0 if side == "upper" else clopper_pearson(k, n, share, "lower")
    return Bound(estimand, k / n, lower, upper, alpha, side, n, "Clopper-Pearson", scope)
