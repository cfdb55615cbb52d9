"""P(leak) from k leaks in n draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import Floats, Side, check_alpha, check_method, check_side, check_whole
from leakbound.bounds.result import Bound
from leakbound.errors import InputError

OUTWARD = 1e-12
"""Relative margin added to inverted beta functions, far above their error and far below anything printed."""


def clopper_pearson_upper(k: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike) -> Floats:
    """The largest p with P(Bin(n, p) <= k) >= alpha, that is the (1 - alpha)-quantile of Beta(k + 1, n - k).

    Elementwise over k, n and alpha; 1 where k = n. Rounded up.
    """
    from scipy import special  # here, because importing it takes 0.2 s

    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    p: Any = special.betainccinv(k + 1, np.maximum(n - k, 0.5), np.asarray(alpha, dtype=np.float64))
    return np.where(k >= n, 1.0, np.minimum(p * (1 + OUTWARD), 1.0))


def clopper_pearson_lower(k: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike) -> Floats:
    """The smallest p with P(Bin(n, p) >= k) >= alpha, that is the alpha-quantile of Beta(k, n - k + 1).

    Elementwise over k, n and alpha; 0 where k = 0. Rounded down.
    """
    from scipy import special  # here, because importing it takes 0.2 s

    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    p: Any = special.betaincinv(np.maximum(k, 0.5), n - k + 1, np.asarray(alpha, dtype=np.float64))
    return np.where(k <= 0, 0.0, np.maximum(p * (1 - OUTWARD), 0.0))


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
    when k = n. Lower limits by symmetry; ``side="both"`` gives each side alpha / 2.

    Assumes n independent draws, n fixed before the first one. No monotone non-random upper limit is smaller.
    ``method``: ``"clopper-pearson"``, or ``"paper"``, the same. InputError for counts that cannot be.

    Clopper and Pearson 1934; M_bin of arXiv 2410.03523.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, ("clopper-pearson", "paper"))
    n = check_whole("n", n, 1)
    k = check_whole("successes", successes)
    if k > n:
        raise InputError(f"successes is {k}, more than n, which is {n}: give the number of leaks among the n draws")
    share = alpha / 2 if side == "both" else alpha
    upper = 1.0 if side == "lower" else float(clopper_pearson_upper(k, n, share))
    lower = 0.0 if side == "upper" else float(clopper_pearson_lower(k, n, share))
    return Bound(estimand, k / n, lower, upper, alpha, side, n, "Clopper-Pearson", scope)
