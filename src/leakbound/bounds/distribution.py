"""The whole distribution: P(h > x) for all x at once, and quantiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import (
    Floats,
    Scores,
    Side,
    check_alpha,
    check_draws,
    check_fraction,
    check_method,
    check_scores,
    check_side,
)
from leakbound.bounds.result import Bound, SurvivalBand


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


def survival_bound(
    scores: Scores,
    *,
    alpha: float,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    method: str = "dkw",
    thresholds: Sequence[float] | npt.ArrayLike | None = None,
) -> SurvivalBand:
    """Bound S(x) = P(h > x) for all x at once.

    ``"dkw"``: |S - S_n| <= eps everywhere, S_n(x) = share of draws with h > x, eps = sqrt(ln(1/alpha) / 2n) on one side
    and sqrt(ln(2/alpha) / 2n) on both; ``"paper"`` is the same. S(x) = 0 for x >= 1, because scores end at 1.

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1], atoms included. ``thresholds``:
    where the band is reported, by default 0 and every distinct score; the choice may depend on the scores.

    Dvoretzky, Kiefer, Wolfowitz 1956; Massart 1990; M_gen of arXiv 2410.03523.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, ("dkw", "paper"))
    values, weights = check_scores(scores, counts)
    x = np.unique(np.append(values, 0.0) if thresholds is None else check_draws(np.asarray(thresholds), "thresholds"))
    n = int(weights.sum())
    estimate = 1.0 - cdf_at(values, np.cumsum(weights) / n, x)
    eps = dkw_width(n, alpha, side)
    upper = np.ones_like(x) if side == "lower" else np.minimum(estimate + eps, 1.0)
    lower = np.zeros_like(x) if side == "upper" else np.maximum(estimate - eps, 0.0)
    upper[x >= 1] = lower[x >= 1] = 0.0
    return SurvivalBand(
        tuple(x), tuple(estimate), tuple(lower), tuple(upper), alpha, side, n, "Dvoretzky-Kiefer-Wolfowitz"
    )


def upper_rank(n: int, q: float, alpha: float) -> int:
    """The smallest r with P(Bin(n, q) >= r) <= alpha; n + 1 if there is none."""
    from scipy import special  # here, because importing it takes 0.2 s

    r = np.arange(1, n + 1)
    tail = special.betainc(r, n - r + 1.0, q)  # P(Bin(n, q) >= r), falling in r
    return int(np.count_nonzero(tail > alpha * (1 - 1e-12))) + 1


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
    return Bound(f"the {q:g}-quantile of h", estimate, lower, upper, alpha, side, n, "order statistic")
