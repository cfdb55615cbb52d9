"""The expected score E[h]."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.distribution import cdf_at, dkw_width
from leakbound.bounds.engines.betting import star_upper
from leakbound.bounds.engines.binary import binary_mean
from leakbound.bounds.engines.concentration import hoeffding_bentkus_upper, maurer_pontil_upper
from leakbound.bounds.engines.games import mean_game
from leakbound.bounds.engines.noncrossing import band_levels
from leakbound.bounds.engines.order import NO_ORDER, Prompt, per_prompt, upper_limits
from leakbound.bounds.engines.portfolio import portfolio_upper
from leakbound.bounds.gate import Floats, Ints, Scores, Side, check_alpha, check_method, check_side
from leakbound.bounds.result import Bound

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


Method = tuple[Callable[[Floats, Ints, float, Side], tuple[float, float]], str]
"""(lower, upper) of distinct scores and their counts, and its name."""
BETTING, STAR = "betting", "STaR betting"
METHODS: dict[str, Method] = {
    "binary": (binary_mean, "Clopper-Pearson"),
    "portfolio": (mirrored(portfolio_upper), "portfolio of constant bets"),
    "anderson": (anderson, "Anderson on the DKW band"),
    "anderson-hybrid": (anderson_hybrid, "Anderson on the exact hybrid band"),
    "hoeffding-bentkus": (mirrored(hoeffding_bentkus_upper), "Hoeffding-Bentkus"),
    "maurer-pontil": (mirrored(maurer_pontil_upper), "Maurer-Pontil"),
    "paper": (paper_grid, "Anderson on the DKW band, grid"),
}


def betting_upper(prompts: Sequence[Prompt], alpha: float) -> Floats:
    """Upper limits on the means by STaR bets in the order of generation, by constant bets where that is not known."""
    return upper_limits(prompts, lambda x: star_upper(mean_game(x), alpha), lambda v, w: portfolio_upper(v, w, alpha))


def mirror(prompt: Prompt) -> Prompt:
    """1 - h for every draw."""
    values, weights, x = prompt
    return 1.0 - values[::-1], weights[::-1], None if x is None else 1.0 - x


def bet_both_ways(prompts: Sequence[Prompt], alpha: float, side: Side) -> Floats:
    """(lower, upper) for the mean of each prompt, of shape (prompts, 2)."""
    share = alpha / 2 if side == "both" else alpha
    limits = np.tile([0.0, 1.0], (len(prompts), 1))
    if side != "lower":
        limits[:, 1] = betting_upper(prompts, share)
    if side != "upper":
        limits[:, 0] = np.maximum(1.0 - betting_upper([mirror(p) for p in prompts], share) - ROUNDING, 0.0)
    return limits


def by_method(
    scores: Sequence[Scores], counts: Sequence[npt.ArrayLike | None] | None, method: str, methods: Mapping[str, Method],
    bet: Callable[[Sequence[Prompt], float, Side], Floats], without_order: str, alpha: float, side: Side,
) -> Iterator[tuple[Floats, Ints, tuple[float, float], str]]:  # fmt: skip
    """Each prompt's distinct scores, their counts, both limits and what made them: ``bet``, or one of the methods."""
    check_method(method, (BETTING, *methods))
    prompts = per_prompt(scores, counts)
    if method == BETTING:
        limits = bet(prompts, alpha, side)
        names = [STAR if x is not None else f"{without_order}, {NO_ORDER}" for _, _, x in prompts]
    else:
        bound, name = methods[method]
        limits = np.array([bound(v, w, alpha, side) for v, w, _ in prompts]).reshape(-1, 2)
        names = [name] * len(prompts)
    for (v, w, _), (low, high), name in zip(prompts, limits, names, strict=True):
        yield v, w, (float(low), float(high)), name


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
    estimand: str = "E[h]",
) -> Bound:
    """Bound the expected score E[h] of one prompt.

    ``scores``: every draw's score, in the order of generation. With ``counts`` they are distinct scores and how often
    each was drawn; their order is not known then.

    ``"betting"`` (default): STaR bets against E[h] >= m for every m on cells fixed in advance; the bound is the end of
    what is not rejected. With counts it is ``"portfolio"`` instead, and the method says so. Draws that look sorted or
    grouped get the larger of the two (see order.py).
    ``"binary"``: for a scorer that gives 0 and 1 only, declared before the draws: then E[h] = P(h = 1),
    Clopper-Pearson.
    ``"portfolio"``: a mixture of constant bets, needs no order.
    ``"anderson"``: E[h] <= 1 - sum_i (x_(i+1) - x_(i)) max(i/n - eps, 0), x_(0) = 0, x_(n+1) = 1, eps the half-width of
    the Dvoretzky-Kiefer-Wolfowitz band. ``"anderson-hybrid"``: the same with the levels of the exact band.
    ``"hoeffding-bentkus"``, ``"maurer-pontil"``: for reference.
    ``"paper"``: Anderson's integral on 100 equally spaced points, looser by at most 1/99.

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1]. ``side="both"`` has total error
    probability alpha. Many prompts are much faster through :func:`mean_bounds`.

    Voracek and Orabona 2025; Anderson 1969; Bates et al. 2021; Maurer and Pontil 2009; metric 3 of arXiv 2410.03523.

    >>> mean_bound([0.0, 0.2] * 500, alpha=0.01).claim
    'E[h] <= 0.110230'
    """
    given = None if counts is None else [counts]
    return mean_bounds([scores], alpha=alpha, side=side, counts=given, method=method, estimand=estimand)[0]


def mean_bounds(
    scores: Sequence[Scores],
    *,
    alpha: float,
    side: Side = "upper",
    counts: Sequence[npt.ArrayLike | None] | None = None,
    method: str = BETTING,
    estimand: str = "E[h]",
) -> list[Bound]:
    """:func:`mean_bound` for many prompts at once, each at level alpha by itself.

    ``counts`` holds None for prompts whose scores are their draws in the order of generation.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    found = by_method(scores, counts, method, METHODS, bet_both_ways, METHODS["portfolio"][1], alpha, side)
    return [finish(v, w, limits, alpha, side, name, estimand) for v, w, limits, name in found]
