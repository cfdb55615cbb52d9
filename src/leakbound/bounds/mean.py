"""The expected score E[h]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.betting import star_upper
from leakbound.bounds.concentration import hoeffding_bentkus_upper, maurer_pontil_upper
from leakbound.bounds.distribution import cdf_at, dkw_width
from leakbound.bounds.games import MOST_STEPS, mean_game
from leakbound.bounds.gate import Floats, Ints, Scores, Seed, Side, check_alpha, check_method, check_scores, check_side
from leakbound.bounds.noncrossing import band_levels
from leakbound.bounds.order import batches, ordered_draws
from leakbound.bounds.portfolio import portfolio_upper
from leakbound.bounds.result import Bound
from leakbound.errors import InputError

ROUNDING = 1e-14
"""Absolute margin for sums of at most a few million terms in [0, 1] that numpy adds pairwise."""


def anderson(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """E[h] = int_0^1 S(x) dx, integrated exactly over the DKW band."""
    n = int(weights.sum())
    eps = dkw_width(n, alpha, side)
    share = np.concatenate([[0.0], np.cumsum(weights) / n])  # F_n on [0, v1), [v1, v2), ..., [vm, 1]
    gap = np.diff(values, prepend=0.0, append=1.0)
    upper = 1.0 - float(np.sum(gap * np.maximum(share - eps, 0.0)))
    lower = float(np.sum(gap * np.maximum(1.0 - share - eps, 0.0)))
    return lower - ROUNDING, upper + ROUNDING


def anderson_hybrid(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """E[h] = int_0^1 S(x) dx, integrated exactly over the hybrid band; each side has its share of alpha."""
    levels = band_levels(int(weights.sum()), alpha / 2 if side == "both" else alpha)
    below = np.concatenate([[0], np.cumsum(weights)])
    gap = np.diff(values, prepend=0.0, append=1.0)
    upper = 1.0 - float(np.sum(gap * levels[below]))
    lower = float(np.sum(gap * levels[below[-1] - below]))
    return lower - ROUNDING, upper + ROUNDING


def paper_grid(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """The integral over the DKW band on 100 equally spaced points, left rule above, right rule below."""
    n = int(weights.sum())
    eps = dkw_width(n, alpha, side)
    tau = np.linspace(0.0, 1.0, 100)
    share = cdf_at(values, np.cumsum(weights) / n, tau)
    gap = np.diff(tau)
    upper = 1.0 - float(np.sum(gap * np.maximum(share[:-1] - eps, 0.0)))
    lower = 1.0 - float(np.sum(gap * np.minimum(share[1:] + eps, 1.0)))
    return lower - ROUNDING, upper + ROUNDING


def mirrored(
    upper_of: Callable[[Floats, Ints, float], float],
) -> Callable[[Floats, Ints, float, Side], tuple[float, float]]:
    """Both sides from an upper bound: the lower one is 1 - the upper one for 1 - h; each has its share of alpha."""

    def bound(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
        share = alpha / 2 if side == "both" else alpha
        upper = 1.0 if side == "lower" else upper_of(values, weights, share)
        return (0.0 if side == "upper" else 1.0 - upper_of(1.0 - values, weights, share) - ROUNDING), upper

    return bound


BETTING = "betting"
METHODS = {
    "portfolio": (mirrored(portfolio_upper), "portfolio of constant bets"),
    "anderson": (anderson, "Anderson on the DKW band"),
    "anderson-hybrid": (anderson_hybrid, "Anderson on the exact hybrid band"),
    "hoeffding-bentkus": (mirrored(hoeffding_bentkus_upper), "Hoeffding-Bentkus"),
    "maurer-pontil": (mirrored(maurer_pontil_upper), "Maurer-Pontil"),
    "paper": (paper_grid, "Anderson on the DKW band, grid"),
}


def betting_upper(x: Floats, alpha: float) -> Floats:
    """Upper bounds on the means of the columns of x by STaR betting.

    Beyond MOST_STEPS draws, where bets see blocks and can no longer profit from all-zero draws one by one, the smaller
    of that bound and the portfolio's, at alpha / 2 each.
    """
    if x.shape[0] <= MOST_STEPS:
        return star_upper(mean_game(x), alpha)
    columns = (np.unique(column, return_counts=True) for column in x.T)
    return np.minimum(star_upper(mean_game(x), alpha / 2), [portfolio_upper(v, w, alpha / 2) for v, w in columns])


def bet_both_ways(draws: Sequence[Floats], alpha: float, side: Side) -> Floats:
    """(lower, upper) for the mean of each sequence of draws in [0, 1], of shape (sequences, 2)."""
    share = alpha / 2 if side == "both" else alpha
    limits = np.tile([0.0, 1.0], (len(draws), 1))
    for places, x in batches(draws):
        if side != "lower":
            limits[places, 1] = betting_upper(x, share)
        if side != "upper":
            limits[places, 0] = np.maximum(1.0 - betting_upper(1.0 - x, share) - ROUNDING, 0.0)
    return limits


def per_prompt(
    scores: Sequence[Scores], counts: Sequence[npt.ArrayLike] | None, seed: int | None
) -> tuple[list[tuple[Floats, Ints]], list[Floats]]:
    """Checked distinct scores with counts, and the draws in betting order, prompt i's order from the seed (seed, i)."""
    if counts is not None and len(counts) != len(scores):
        raise InputError(f"counts has {len(counts)} entries: give one array for each of the {len(scores)} prompts")
    given = [None] * len(scores) if counts is None else list(counts)
    checked = [check_scores(s, c) for s, c in zip(scores, given, strict=True)]
    if seed is None:
        return checked, [ordered_draws(s, c, None) for s, c in zip(scores, given, strict=True)]
    return checked, [ordered_draws(v, w, (seed, i)) for i, (v, w) in enumerate(checked)]


def finish(
    values: Floats, weights: Ints, limits: tuple[float, float], alpha: float, side: Side, name: str, estimand: str
) -> Bound:
    """The record; limits are kept in [0, 1] and around the estimate, and the side not claimed is made trivial."""
    n = int(weights.sum())
    estimate = min(max(math.fsum(values * (weights / n)), float(values[0])), float(values[-1]))
    lower = 0.0 if side == "upper" else min(max(limits[0], 0.0), estimate)
    upper = 1.0 if side == "lower" else max(min(limits[1], 1.0), estimate)
    return Bound(estimand, estimate, lower, upper, alpha, side, n, name)


def mean_bound(
    scores: Scores,
    *,
    alpha: float,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    method: str = BETTING,
    seed: Seed | None = 0,
    estimand: str = "E[h]",
) -> Bound:
    """Bound the expected score E[h] of one prompt.

    ``"betting"`` (default): STaR bets against E[h] >= m for every m on cells fixed in advance; the bound is the end of
    what is not rejected. It uses an order of the draws, made from ``seed`` (see order.py); None takes the order given.
    ``"portfolio"``: a mixture of constant bets, needs no order.
    ``"anderson"``: E[h] <= 1 - sum_i (x_(i+1) - x_(i)) max(i/n - eps, 0), x_(0) = 0, x_(n+1) = 1, eps the half-width of
    the Dvoretzky-Kiefer-Wolfowitz band. ``"anderson-hybrid"``: the same with the levels of the exact band.
    ``"hoeffding-bentkus"``, ``"maurer-pontil"``: for reference.
    ``"paper"``: Anderson's integral on 100 equally spaced points, looser by at most 1/99.

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1]. ``side="both"`` has total error
    probability alpha. Many prompts are much faster through :func:`mean_bounds`.

    Voracek and Orabona 2025; Anderson 1969; Bates et al. 2021; Maurer and Pontil 2009; metric 3 of arXiv 2410.03523.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, (BETTING, *METHODS))
    values, weights = check_scores(scores, counts)
    if method == BETTING:
        lower, upper = bet_both_ways([ordered_draws(scores, counts, seed)], alpha, side)[0]
        return finish(values, weights, (float(lower), float(upper)), alpha, side, "STaR betting", estimand)
    bound, name = METHODS[method]
    return finish(values, weights, bound(values, weights, alpha, side), alpha, side, name, estimand)


def mean_bounds(
    scores: Sequence[Scores],
    *,
    alpha: float,
    side: Side = "upper",
    counts: Sequence[npt.ArrayLike] | None = None,
    method: str = BETTING,
    seed: int | None = 0,
    estimand: str = "E[h]",
) -> list[Bound]:
    """:func:`mean_bound` for many prompts at once, each at level alpha by itself.

    Prompt i is bounded as by ``mean_bound(..., seed=(seed, i))``; with seed None in the order given.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, (BETTING, *METHODS))
    if method != BETTING:
        given = [None] * len(scores) if counts is None else counts
        return [
            mean_bound(s, alpha=alpha, side=side, counts=c, method=method, estimand=estimand)
            for s, c in zip(scores, given, strict=True)
        ]
    checked, draws = per_prompt(scores, counts, seed)
    limits = bet_both_ways(draws, alpha, side)
    return [
        finish(v, w, (float(a), float(b)), alpha, side, "STaR betting", estimand)
        for (v, w), (a, b) in zip(checked, limits, strict=True)
    ]
