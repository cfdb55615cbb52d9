"""The standard deviation of the score, and the ED score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.betting import star_upper
from leakbound.bounds.distribution import cdf_at, dkw_width
from leakbound.bounds.envelope import largest_variance, smallest_variance
from leakbound.bounds.games import mean_game, pair_squares, upper_spread_game, variance_game
from leakbound.bounds.gate import (
    Floats,
    Ints,
    Scores,
    Seed,
    Side,
    check_alpha,
    check_method,
    check_real,
    check_scores,
    check_side,
)
from leakbound.bounds.mean import BETTING, paper_grid, per_prompt
from leakbound.bounds.order import batches, ordered_draws
from leakbound.bounds.result import Bound
from leakbound.errors import InputError

ROUNDING = 1e-13
"""Absolute margin on a variance."""


def moments(values: Floats, weights: Ints) -> tuple[float, float]:
    """The mean and the standard deviation (divisor n) of the scores."""
    share = weights / weights.sum()
    mean = float(np.dot(values, share))
    return mean, math.sqrt(float(np.dot((values - mean) ** 2, share)))


def dkw_exact(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """Limits on the sd over all laws in the two-sided DKW band."""
    eps = dkw_width(int(weights.sum()), alpha, "both")
    upper = 0.5 if side == "lower" else math.sqrt(largest_variance(values, weights, eps))
    lower = 0.0 if side == "upper" else math.sqrt(smallest_variance(values, weights, eps))
    return lower, upper


def paper_grid_std(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """The paper package's upper limit on 100 points, with the atom at 0 that the package leaves out put back."""
    if side != "upper":
        raise InputError(f"side is {side!r} with method 'paper': only 'upper' is proven; use method 'dkw'")
    n = int(weights.sum())
    eps = dkw_width(n, alpha, "both")
    tau = np.linspace(0.0, 1.0, 100)
    share = cdf_at(values, np.cumsum(weights) / n, tau)
    low, high = paper_grid(values, weights, alpha, "both")
    corners = np.stack([(kappa - mu) ** 2 for kappa in (tau[:-1], tau[1:]) for mu in (low, high)])
    eta = corners.max(axis=0)
    step = eta[:-1] - eta[1:]
    cdf = np.where(step > 0, np.minimum(share[1:-1] + eps, 1.0), np.maximum(share[1:-1] - eps, 0.0))
    variance = float(eta[-1] + np.sum(step * cdf)) + ROUNDING
    return 0.0, math.sqrt(min(variance, 0.25))


def maurer_pontil_std(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """s -+ sqrt(2 ln(1/alpha) / (n - 1)), s with divisor n - 1; each side has its share of alpha."""
    n = int(weights.sum())
    if n < 2:
        return 0.0, 0.5
    s = moments(values, weights)[1] * math.sqrt(n / (n - 1))
    width = math.sqrt(2 * math.log((2 if side == "both" else 1) / alpha) / (n - 1))
    return s - width - ROUNDING, s + width + ROUNDING


METHODS = {
    "dkw": (dkw_exact, "exact supremum over the DKW band"),
    "maurer-pontil": (maurer_pontil_std, "Maurer-Pontil"),
    "paper": (paper_grid_std, "DKW band on a grid, repaired"),
}


def bet_on_std(draws: Sequence[Floats], alpha: float, side: Side) -> Floats:
    """(lower, upper) for the sd of each sequence of draws: squares about the past mean above, pairs below."""
    share = alpha / 2 if side == "both" else alpha
    limits = np.tile([0.0, 0.5], (len(draws), 1))
    for places, x in batches(draws):
        if side != "lower":
            limits[places, 1] = np.minimum(np.sqrt(star_upper(variance_game(x), share)) * (1 + 1e-15), 0.5)
        if side != "upper" and x.shape[0] > 1:
            twice = 1.0 - star_upper(mean_game(1.0 - pair_squares(x)), share) - ROUNDING
            limits[places, 0] = np.sqrt(np.maximum(twice, 0.0) / 2) * (1 - 1e-15)
    return limits


def record(values: Floats, weights: Ints, limits: tuple[float, float], alpha: float, side: Side, name: str) -> Bound:
    """The record; limits are kept in [0, 1/2] and around the estimate, and the side not claimed is made trivial."""
    estimate = min(moments(values, weights)[1], 0.5)
    lower = 0.0 if side == "upper" else min(max(limits[0], 0.0), estimate)
    upper = 0.5 if side == "lower" else max(min(limits[1], 0.5), estimate)
    return Bound("sd(h)", estimate, lower, upper, alpha, side, int(weights.sum()), name)


def std_bound(
    scores: Scores,
    *,
    alpha: float,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    method: str = BETTING,
    seed: Seed | None = 0,
) -> Bound:
    """Bound the standard deviation of the score of one prompt.

    ``"betting"`` (default): STaR bets on (x_t - mean of the past)^2, whose conditional mean is at least the variance;
    below, on the squared differences of consecutive pairs. Uses an order made from ``seed`` (see order.py).
    ``"dkw"``: the largest (smallest) sd of any law on [0, 1] whose distribution function stays within
    eps = sqrt(ln(2/alpha) / 2n) of the empirical one; both sides hold at once, so one side costs the same.
    ``"maurer-pontil"``: s + sqrt(2 ln(1/alpha) / (n - 1)).
    ``"paper"``: the formula of the paper's package on 100 points with F(0-) = 0; as released it drops the atom at 0 and
    falls below the truth. Upper side only. No upper limit exceeds 1/2, the largest sd on [0, 1].

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1].

    Metric 4 of arXiv 2410.03523; Maurer and Pontil 2009; the supremum and the bets are derived in docs/methods.md.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, (BETTING, *METHODS))
    values, weights = check_scores(scores, counts)
    if method == BETTING:
        lower, upper = bet_on_std([ordered_draws(scores, counts, seed)], alpha, side)[0]
        return record(values, weights, (float(lower), float(upper)), alpha, side, "STaR betting")
    bound, name = METHODS[method]
    return record(values, weights, bound(values, weights, alpha, side), alpha, side, name)


def std_bounds(
    scores: Sequence[Scores],
    *,
    alpha: float,
    side: Side = "upper",
    counts: Sequence[npt.ArrayLike] | None = None,
    method: str = BETTING,
    seed: int | None = 0,
) -> list[Bound]:
    """:func:`std_bound` for many prompts at once, each at level alpha by itself; prompt i with the seed (seed, i)."""
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, (BETTING, *METHODS))
    checked, draws = per_prompt(scores, counts, seed)
    if method != BETTING:
        return [std_bound(v, alpha=alpha, side=side, counts=w, method=method) for v, w in checked]
    return [
        record(v, w, (float(a), float(b)), alpha, side, "STaR betting")
        for (v, w), (a, b) in zip(checked, bet_on_std(draws, alpha, side), strict=True)
    ]


def ed_score(scores: Scores, *, counts: npt.ArrayLike | None = None) -> float:
    """The ED score: sample mean + 2 sample standard deviations (divisor n). A plug-in value without a guarantee.

    arXiv 2410.03523, as quoted in its reviews; the divisor is ours. With a guarantee: :func:`ed_bound`.
    """
    mean, sd = moments(*check_scores(scores, counts))
    return mean + 2 * sd


def check_kappa(kappa: object) -> float:
    """A finite number > 0."""
    value = check_real("kappa", kappa, "give a number > 0, for example 2")
    if value <= 0:
        raise InputError(f"kappa is {kappa!r}: give a number > 0, for example 2")
    return value


def bet_on_ed(
    checked: Sequence[tuple[Floats, Ints]], draws: Sequence[Floats], alpha: float, kappa: float
) -> list[Bound]:
    """The bound of :func:`ed_bound` for each sequence of draws."""
    upper = np.zeros(len(draws))
    for places, x in batches(draws):
        upper[places] = star_upper(upper_spread_game(x, kappa, alpha), alpha)
    most, name = (1 + math.sqrt(1 + kappa**2)) / 2, f"E[h] + {kappa:g} sd(h)"
    bounds = []
    for (values, weights), limit in zip(checked, upper.tolist(), strict=True):
        mean, sd = moments(values, weights)
        estimate = mean + kappa * sd
        high, n = max(min(limit, most), estimate), int(weights.sum())
        bounds.append(Bound(name, estimate, 0.0, high, alpha, "upper", n, "STaR betting, one test"))
    return bounds


def ed_bound(
    scores: Scores,
    *,
    alpha: float,
    kappa: float = 2.0,
    counts: npt.ArrayLike | None = None,
    seed: Seed | None = 0,
) -> Bound:
    """Upper bound on E[h] + kappa sd(h), the ED score with a guarantee, by one betting test.

    For any s > 0 and c: sd <= s/2 + variance/(2s) and variance <= E(h - c)^2, so E[h] + kappa sd is at most
    E[h + kappa (s/2 + (h - c)^2 / (2s))]; s and c follow the past draws, and STaR bets bound the right side.

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1]. The limit that always holds is
    (1 + sqrt(1 + kappa^2)) / 2. Uses an order made from ``seed`` (see order.py). Derived in docs/methods.md.
    """
    alpha, kappa = check_alpha(alpha), check_kappa(kappa)
    return bet_on_ed([check_scores(scores, counts)], [ordered_draws(scores, counts, seed)], alpha, kappa)[0]


def ed_bounds(
    scores: Sequence[Scores],
    *,
    alpha: float,
    kappa: float = 2.0,
    counts: Sequence[npt.ArrayLike] | None = None,
    seed: int | None = 0,
) -> list[Bound]:
    """:func:`ed_bound` for many prompts at once, each at level alpha by itself; prompt i with the seed (seed, i)."""
    alpha, kappa = check_alpha(alpha), check_kappa(kappa)
    checked, draws = per_prompt(scores, counts, seed)
    return bet_on_ed(checked, draws, alpha, kappa)
