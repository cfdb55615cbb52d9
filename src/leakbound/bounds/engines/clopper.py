"""Clopper and Pearson's limits, as numbers."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.binomial import limits
from leakbound.bounds.gate import Floats, Side


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
