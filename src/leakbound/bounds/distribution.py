"""The whole distribution: P(h > x) for all x at once, and quantiles."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.binomial import ERROR, log_tail_above
from leakbound.bounds.engines.clopper import clopper_pearson_lower, clopper_pearson_upper
from leakbound.bounds.engines.noncrossing import band_levels
from leakbound.bounds.engines.search import fewest
from leakbound.bounds.gate import (
    Floats,
    Ints,
    Scores,
    Side,
    check_alpha,
    check_draws,
    check_fraction,
    check_method,
    check_scores,
    check_side,
)
from leakbound.bounds.result import Bound, SurvivalBand, in_full
from leakbound.errors import InputError


def dkw_width(n: int, alpha: float, side: Side) -> float:
    """The half-width of the Dvoretzky-Kiefer-Wolfowitz band with Massart's constant.

    One side: sqrt(ln(1/a) / 2n) with a = min(alpha, 1/2), since the one-sided constant needs a <= 1/2.
    Both sides: sqrt(ln(2/alpha) / 2n).
    """
    log_odds = math.log(2 / alpha) if side == "both" else math.log(1 / min(alpha, 0.5))
    return math.sqrt(log_odds / (2 * n)) * (1 + 1e-15)


def cdf_at(values: npt.ArrayLike, cumulative: Floats, x: npt.ArrayLike) -> Floats:
    """F_n(x), given the ascending values and their cumulative shares."""
    place = np.searchsorted(np.asarray(values), np.asarray(x), side="right")
    return np.concatenate([[0.0], cumulative])[place]


def dkw_band(tail: Ints, n: int, alpha: float, side: Side) -> tuple[Floats, Floats]:
    """S_n +- eps; ``tail`` counts the draws above x."""
    eps = dkw_width(n, alpha, side)
    return np.maximum(tail / n - eps, 0.0), np.minimum(tail / n + eps, 1.0)


def hybrid_band(tail: Ints, n: int, alpha: float, side: Side) -> tuple[Floats, Floats]:
    """b_(n - N(x)) <= S(x) <= 1 - b_N(x) with the exact levels of noncrossing.py; each side has its share.

    The lower side is the upper one for 1 - h: P(h <= x) = P(1 - h >= 1 - x) <= 1 - b_M, M the draws with h > x.
    """
    share = alpha / 2 if side == "both" else alpha
    return band_levels(n, share, tail), np.minimum((1.0 - band_levels(n, share, n - tail)) * (1 + 1e-15), 1.0)


def pointwise_band(tail: Ints, n: int, alpha: float, side: Side) -> tuple[Floats, Floats]:
    """Clopper-Pearson on the number of draws above x, for one x fixed before the draws."""
    if tail.size != 1:
        raise InputError(f"thresholds has {tail.size} entries with method 'pointwise': give the one x fixed in advance")
    share = alpha / 2 if side == "both" else alpha
    return clopper_pearson_lower(tail, n, share), clopper_pearson_upper(tail, n, share)


METHODS = {
    "hybrid": (hybrid_band, "exact band, equal local levels with 1.1 Kolmogorov-Smirnov"),
    "dkw": (dkw_band, "Dvoretzky-Kiefer-Wolfowitz"),
    "paper": (dkw_band, "Dvoretzky-Kiefer-Wolfowitz"),
    "pointwise": (pointwise_band, "Clopper-Pearson at this x alone"),
}


def survival_bound(
    scores: Scores,
    *,
    alpha: float,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    method: str = "hybrid",
    thresholds: Sequence[float] | npt.ArrayLike | None = None,
) -> SurvivalBand:
    """Bound S(x) = P(h > x) for all x at once.

    ``"hybrid"`` (default): S(x) <= 1 - b_N(x), N(x) the number of draws <= x, where uniform order statistics satisfy
    P(U_(i) >= b_i for all i) >= 1 - alpha exactly, and b_i is the larger of an equal local level
    BetaInv(eta; i, n - i + 1) and i/n - 1.1 eps_KS. Far narrower than ``"dkw"`` where S is small, a tenth wider at 1/2.
    ``"dkw"``: |S - S_n| <= eps everywhere, S_n(x) = share of draws with h > x, eps = sqrt(ln(1/alpha) / 2n) on one side
    and sqrt(ln(2/alpha) / 2n) on both; ``"paper"`` is the same. S(x) = 0 for x >= 1, because scores end at 1.

    ``"pointwise"``: Clopper-Pearson at a single threshold that was fixed before the draws; not a band.

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1], atoms included. ``thresholds``:
    where the band is reported, by default 0 and every distinct score; the choice may depend on the scores.

    Dvoretzky, Kiefer, Wolfowitz 1956; Massart 1990; M_gen of arXiv 2410.03523; Berk and Jones 1979;
    Moscovich and Nadler 2017 for the exact probability.

    >>> band = survival_bound([0.0, 0.5], counts=[99, 1], alpha=0.01)
    >>> [round(limit, 4) for limit in band.upper]
    [0.0992, 0.0765]
    """
    alpha, side = check_alpha(alpha), check_side(side)
    band, name = METHODS[check_method(method, tuple(METHODS))]
    values, weights = check_scores(scores, counts)
    x = np.unique(np.append(values, 0.0) if thresholds is None else check_draws(np.asarray(thresholds), "thresholds"))
    n = int(weights.sum())
    tail = n - np.concatenate([[0], np.cumsum(weights)])[np.searchsorted(values, x, side="right")]
    lower, upper = band(tail, n, alpha, side)
    lower = np.zeros_like(x) if side == "upper" else np.where(x >= 1, 0.0, lower)
    upper = np.ones_like(x) if side == "lower" else upper
    upper = np.where(x >= 1, 0.0, upper)
    return SurvivalBand(tuple(x), tuple(tail / n), tuple(lower), tuple(upper), alpha, side, n, name)


def upper_rank(n: int, q: float, alpha: float) -> int:
    """The smallest r with P(Bin(n, q) >= r) <= alpha; n + 1 if there is none."""
    wanted = math.log(alpha) - ERROR  # the tail falls in r; at n + 1 it is 0
    return fewest(lambda r: float(log_tail_above(r, n, q)) <= wanted, first=n + 1)


def quantile_bound(
    scores: Scores,
    q: float,
    *,
    alpha: float,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    method: str = "order-statistic",
) -> Bound:
    """Bound the q-quantile inf{x : P(h <= x) >= q} by an order statistic.

    Upper: X_(r) with the smallest r such that P(Bin(n, q) >= r) <= alpha, or 1 if there is none. Lower: X_(s) with the
    largest s such that P(Bin(n, q) <= s - 1) <= alpha, or 0. ``side="both"`` gives each side alpha / 2.

    Assumes independent draws, n and q fixed before the first one; atoms are allowed.

    >>> quantile_bound([0.0, 0.5], 0.99, counts=[990, 10], alpha=0.01).claim
    'the 0.99-quantile of h <= 0.500000'
    """
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, ("order-statistic",))
    q = check_fraction("q", q, open_ends=True)
    values, weights = check_scores(scores, counts)
    n, share = int(weights.sum()), alpha / 2 if side == "both" else alpha
    cumulative = np.cumsum(weights)

    def order_statistic(rank: int) -> float:
        return float(values[np.searchsorted(cumulative, rank)])

    upper, lower = 1.0, 0.0
    if side != "lower":
        r = upper_rank(n, q, share)
        upper = order_statistic(r) if r <= n else 1.0
    if side != "upper":
        s = n + 1 - upper_rank(n, 1 - q, share)  # P(Bin(n, q) <= s - 1) = P(Bin(n, 1 - q) >= n - s + 1)
        lower = order_statistic(s) if s >= 1 else 0.0
    estimate = order_statistic(max(1, math.ceil(q * n - 1e-9)))
    return Bound(f"the {in_full(q)}-quantile of h", estimate, lower, upper, alpha, side, n, "order statistic")
