"""The standard deviation of the score, and the ED score."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from leakbound.bounds.distribution import cdf_at, dkw_width
from leakbound.bounds.engines.betting import star_upper
from leakbound.bounds.engines.binary import binary_ed, binary_std, spread
from leakbound.bounds.engines.envelope import largest_variance, smallest_variance
from leakbound.bounds.engines.games import mean_game, pair_squares, upper_spread_game, variance_game
from leakbound.bounds.engines.order import NO_ORDER, Prompt, looks_arranged, per_prompt, upper_limits
from leakbound.bounds.engines.portfolio import centred_variance_upper, portfolio_upper
from leakbound.bounds.gate import (
    Floats,
    Ints,
    Scores,
    Side,
    check_alpha,
    check_method,
    check_real,
    check_scores,
    check_side,
)
from leakbound.bounds.mean import BETTING, STAR, Method, by_method, paper_grid
from leakbound.bounds.result import Bound, in_full
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


METHODS: dict[str, Method] = {
    "binary": (binary_std, "exact binomial tails"),
    "dkw": (dkw_exact, "exact supremum over the DKW band"),
    "maurer-pontil": (maurer_pontil_std, "Maurer-Pontil"),
    "paper": (paper_grid_std, "DKW band on a grid, repaired"),
}


def betting_upper_std(prompts: Sequence[Prompt], alpha: float) -> Floats:
    """Upper limits on the sd: squares about the past mean in order, about fixed centres where no order is known."""
    variance = upper_limits(
        prompts, lambda x: star_upper(variance_game(x), alpha), lambda v, w: centred_variance_upper(v, w, alpha)
    )
    return np.minimum(np.sqrt(variance) * (1 + 1e-15), 0.5)


def bet_on_std(prompts: Sequence[Prompt], alpha: float, side: Side) -> Floats:
    """(lower, upper) for the sd of each prompt: pairs of consecutive draws below, nothing where no order is known."""
    share = alpha / 2 if side == "both" else alpha
    limits = np.tile([0.0, 0.5], (len(prompts), 1))
    if side != "lower":
        limits[:, 1] = betting_upper_std(prompts, share)
    if side != "upper":
        for i, (_, _, x) in enumerate(prompts):
            if x is not None and x.size > 1 and not looks_arranged(x):
                twice = 1.0 - float(star_upper(mean_game(1.0 - pair_squares(x[:, None])), share)[0]) - ROUNDING
                limits[i, 0] = math.sqrt(max(twice, 0.0) / 2) * (1 - 1e-15)
    return limits


def record(values: Floats, weights: Ints, limits: tuple[float, float], alpha: float, side: Side, name: str) -> Bound:
    """The record; limits are kept in [0, 1/2] and around the estimate, and the side not claimed is made trivial."""
    estimate = min(moments(values, weights)[1], 0.5)
    lower = 0.0 if side == "upper" else min(max(limits[0], 0.0), estimate)
    upper = 0.5 if side == "lower" else max(min(limits[1], 0.5), estimate)
    return Bound("sd(h)", estimate, lower, upper, alpha, side, int(weights.sum()), name)


def std_bound(
    scores: Scores, *, alpha: float, side: Side = "upper", counts: npt.ArrayLike | None = None, method: str = BETTING
) -> Bound:
    """Bound the standard deviation of the score of one prompt.

    ``scores``: every draw's score, in the order of generation. With ``counts`` they are distinct scores and how often
    each was drawn; their order is not known then.

    ``"betting"`` (default): STaR bets on (x_t - mean of the past)^2, whose conditional mean is at least the variance;
    below, on the squared differences of consecutive pairs. With counts: constant bets on squares about centres fixed in
    advance, above only. Draws that look sorted or grouped get the larger of the two.
    ``"binary"``: for a scorer that gives 0 and 1 only, declared before the draws: sd = sqrt(p (1 - p)), by exact
    binomial tails.
    ``"dkw"``: the largest (smallest) sd of any law on [0, 1] whose distribution function stays within
    eps = sqrt(ln(2/alpha) / 2n) of the empirical one; both sides hold at once, so one side costs the same.
    ``"maurer-pontil"``: s + sqrt(2 ln(1/alpha) / (n - 1)).
    ``"paper"``: the formula of the paper's package on 100 points with F(0-) = 0; as released it drops the atom at 0 and
    falls below the truth. Upper side only. No upper limit exceeds 1/2, the largest sd on [0, 1].

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1].

    Metric 4 of arXiv 2410.03523; Maurer and Pontil 2009; the supremum and the bets are derived in docs/methods.md.

    >>> std_bound([0.0, 0.2] * 500, alpha=0.01).claim
    'sd(h) <= 0.117621'
    """
    given = None if counts is None else [counts]
    return std_bounds([scores], alpha=alpha, side=side, counts=given, method=method)[0]


def std_bounds(
    scores: Sequence[Scores],
    *,
    alpha: float,
    side: Side = "upper",
    counts: Sequence[npt.ArrayLike | None] | None = None,
    method: str = BETTING,
) -> list[Bound]:
    """:func:`std_bound` for many prompts at once, each at level alpha by itself; ``counts`` as for mean_bounds."""
    alpha, side = check_alpha(alpha), check_side(side)
    found = by_method(scores, counts, method, METHODS, bet_on_std, "constant bets on fixed centres", alpha, side)
    return [record(v, w, limits, alpha, side, name) for v, w, limits, name in found]


def ed_score(scores: Scores, *, counts: npt.ArrayLike | None = None) -> float:
    """The ED score: sample mean + 2 sample standard deviations (divisor n). A plug-in value without a guarantee.

    arXiv 2410.03523, as quoted in its reviews; the divisor is ours. With a guarantee: :func:`ed_bound`.

    >>> ed_score([0.0, 1.0])
    1.5
    """
    mean, sd = moments(*check_scores(scores, counts))
    return mean + 2 * sd


def check_kappa(kappa: object) -> float:
    """A finite number > 0."""
    value = check_real("kappa", kappa, "give a number > 0, for example 2")
    if value <= 0:
        raise InputError(f"kappa is {kappa!r}: give a number > 0, for example 2")
    return value


def betting_upper_ed(prompts: Sequence[Prompt], alpha: float, kappa: float) -> Floats:
    """Upper limits on mean + kappa sd: one test in order; where that is not known, one of each at alpha / 2."""

    def apart(values: Floats, weights: Ints) -> float:
        spread = math.sqrt(centred_variance_upper(values, weights, alpha / 2)) * (1 + 1e-15)
        return portfolio_upper(values, weights, alpha / 2) + kappa * min(spread, 0.5)

    return upper_limits(prompts, lambda x: star_upper(upper_spread_game(x, kappa, alpha), alpha), apart)


def ed_bound(
    scores: Scores, *, alpha: float, kappa: float = 2.0, counts: npt.ArrayLike | None = None, method: str = BETTING
) -> Bound:
    """Upper bound on E[h] + kappa sd(h), the ED score with a guarantee, by one test.

    ``"betting"`` (default): for any s > 0 and c: sd <= s/2 + variance/(2s) and variance <= E(h - c)^2, so
    E[h] + kappa sd is at most E[h + kappa (s/2 + (h - c)^2 / (2s))]; s and c follow the past draws, and STaR bets bound
    the right side. ``scores`` are in the order of generation; with ``counts`` their order is not known, and the mean
    and the sd are bounded apart, at alpha / 2 each. Draws that look sorted or grouped get the larger of the two.
    ``"binary"``: for a scorer that gives 0 and 1 only, declared before the draws: p + kappa sqrt(p (1 - p)), by exact
    binomial tails.

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1]. The limit that always holds is
    (1 + sqrt(1 + kappa^2)) / 2. Derived in docs/methods.md.
    """
    given = None if counts is None else [counts]
    return ed_bounds([scores], alpha=alpha, kappa=kappa, counts=given, method=method)[0]


def ed_bounds(
    scores: Sequence[Scores],
    *,
    alpha: float,
    kappa: float = 2.0,
    counts: Sequence[npt.ArrayLike | None] | None = None,
    method: str = BETTING,
) -> list[Bound]:
    """:func:`ed_bound` for many prompts at once, each at level alpha by itself; ``counts`` as for mean_bounds."""
    alpha, kappa = check_alpha(alpha), check_kappa(kappa)
    check_method(method, (BETTING, "binary"))
    prompts = per_prompt(scores, counts)
    if method == BETTING:
        limits = betting_upper_ed(prompts, alpha, kappa).tolist()
        apart = f"mean and sd apart by constant bets, {NO_ORDER}"
        names = [f"{STAR}, one test" if x is not None else apart for _, _, x in prompts]
    else:
        limits = [binary_ed(v, w, alpha, kappa) for v, w, _ in prompts]
        names = ["exact binomial tails"] * len(prompts)
    most, estimand = (1 + math.sqrt(1 + kappa**2)) / 2, f"E[h] + {in_full(kappa)} sd(h)"
    bounds = []
    for (values, weights, _), limit, name in zip(prompts, limits, names, strict=True):
        mean, sd = moments(values, weights)
        estimate = mean + kappa * sd
        high, n = max(min(limit, most), estimate), int(weights.sum())
        bounds.append(Bound(estimand, estimate, 0.0, high, alpha, "upper", n, name))
    return bounds


def bounds_of_binary(leak: Bound, *, kappa: float = 2.0) -> tuple[Bound, Bound, Bound]:
    """E[h], sd(h) and E[h] + kappa sd(h) of a binary score from any upper bound U on P(h = 1), at the same level.

    One event: where P(h = 1) = p <= U, sd <= v(min(U, 1/2)) and likewise the last one, at its peak where U is beyond.
    So they hold at whatever stopping time U holds.

    Assumes what U does, and a scorer that declared before the draws that it gives 0 and 1 only. InputError for a bound
    that is no upper one. Derived in docs/methods.md, binary scores.
    """
    if leak.side != "upper":
        raise InputError(f"leak has side {leak.side!r}: give an upper bound on P(h = 1)")
    k, u = leak.estimate, leak.upper
    peak = (1 + 1 / math.sqrt(1 + kappa**2)) / 2
    return (
        replace(leak, estimand="E[h]"),
        replace(leak, estimand="sd(h)", estimate=spread(k), upper=min(spread(min(u, 0.5)) * (1 + 1e-15), 0.5)),
        replace(
            leak,
            estimand=f"E[h] + {in_full(kappa)} sd(h)",
            estimate=k + kappa * spread(k),
            upper=(min(u, peak) + kappa * spread(min(u, peak))) * (1 + 1e-15),
        ),
    )
