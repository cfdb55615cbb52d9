"""The standard deviation of the score, and the ED score."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from leakbound.bounds.distribution import cdf_at, dkw_width
from leakbound.bounds.gate import Floats, Ints, Scores, Side, check_alpha, check_method, check_scores, check_side
from leakbound.bounds.mean import paper_grid
from leakbound.bounds.result import Bound
from leakbound.errors import InputError

ROUNDING = 1e-13
"""Absolute margin on a variance computed from cumulative sums."""


def moments(values: Floats, weights: Ints) -> tuple[float, float]:
    """The mean and the standard deviation (divisor n) of the scores."""
    share = weights / weights.sum()
    mean = float(np.dot(values, share))
    return mean, math.sqrt(float(np.dot((values - mean) ** 2, share)))


def quantile_envelope(values: Floats, weights: Ints, eps: float) -> tuple[Floats, Floats, Floats]:
    """Cells [u_i, u_(i+1)] of (0, 1) and the least and greatest quantile there of any law within eps of F_n.

    Least: 0 for u <= eps, else X_(ceil(n(u - eps))). Greatest: 1 for u > 1 - eps, else X_(ceil(n(u + eps))).
    Returns widths, least, greatest.
    """
    n = int(weights.sum())
    cumulative = np.cumsum(weights) / n
    knots = np.concatenate([[0.0, 1.0, eps, 1.0 - eps], cumulative + eps, cumulative - eps])
    u = np.unique(np.clip(knots, 0.0, 1.0))
    middle = (u[:-1] + u[1:]) / 2
    at = np.append(values, 1.0)  # beyond the last order statistic the envelope is 1
    least = np.where(middle <= eps, 0.0, at[np.searchsorted(cumulative, middle - eps)])
    greatest = np.where(middle > 1 - eps, 1.0, at[np.searchsorted(cumulative, middle + eps)])
    return np.diff(u), least, greatest


def largest_variance(values: Floats, weights: Ints, eps: float) -> float:
    """The largest variance of a law on [0, 1] within eps of F_n, rounded up.

    A maximiser takes the least quantiles below some p and the greatest above it; on each cell of p the variance is a
    concave parabola in p (proof in docs/methods.md).
    """
    w, a, b = quantile_envelope(values, weights, eps)
    tail = [np.concatenate([[0.0], np.cumsum((w * b**k)[::-1])])[::-1][:-1] for k in (1, 2)]
    head = [np.concatenate([[0.0], np.cumsum(w * a**k)])[:-1] for k in (1, 2)]
    m1, m2 = head[0] + tail[0], head[1] + tail[1]  # moments with p at the left end of each cell
    d1, d2 = a - b, a**2 - b**2
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.where(d1 < 0, (d2 - 2 * m1 * d1) / (2 * d1**2), 0.0)
    s = np.clip(s, 0.0, w)
    variance = (m2 + d2 * s) - (m1 + d1 * s) ** 2
    return min(float(variance.max()) + ROUNDING, 0.25)


def smallest_variance(values: Floats, weights: Ints, eps: float) -> float:
    """The smallest variance of a law on [0, 1] within eps of F_n, rounded down.

    min over c of the integral of the squared distance from c to [least(u), greatest(u)]; convex in c with a
    piecewise linear derivative, so the minimiser is found exactly between two kinks.
    """
    w, a, b = quantile_envelope(values, weights, eps)
    c = np.unique(np.concatenate([a, b]))

    def slope(at: Floats) -> Floats:
        # half the derivative: int (c - greatest)+ - int (least - c)+ ; both envelopes ascend in u
        below = np.searchsorted(b, at)
        above = np.searchsorted(a, at, side="right")
        mass = np.concatenate([[0.0], np.cumsum(w)])
        sum_b = np.concatenate([[0.0], np.cumsum(w * b)])
        sum_a = np.concatenate([[0.0], np.cumsum(w * a)])
        pull: Floats = (at * mass[below] - sum_b[below]) - ((sum_a[-1] - sum_a[above]) - at * (mass[-1] - mass[above]))
        return pull

    pull = slope(c)
    i = int(np.searchsorted(pull, 0.0))  # first kink with slope >= 0
    i = min(max(i, 1), c.size - 1) if c.size > 1 else 0
    centre = c[i]
    if i > 0 and pull[i] > pull[i - 1]:
        centre = c[i - 1] - pull[i - 1] * (c[i] - c[i - 1]) / (pull[i] - pull[i - 1])
        centre = min(max(centre, c[i - 1]), c[i])
    distance = np.maximum(a - centre, 0.0) + np.maximum(centre - b, 0.0)
    return max(float(np.sum(w * distance**2)) - ROUNDING, 0.0)


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


METHODS = {
    "dkw": (dkw_exact, "exact supremum over the DKW band"),
    "paper": (paper_grid_std, "DKW band on a grid, repaired"),
}


def std_bound(
    scores: Scores,
    *,
    alpha: float,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    method: str = "dkw",
) -> Bound:
    """Bound the standard deviation of the score of one prompt.

    ``"dkw"``: the largest (smallest) sd of any law on [0, 1] whose distribution function stays within
    eps = sqrt(ln(2/alpha) / 2n) of the empirical one; both sides hold at once, so one side costs the same.
    ``"paper"``: the formula of the paper's package on 100 points with F(0-) = 0; as released it drops the atom at 0 and
    falls below the truth. Upper side only. Never above 1/2, the largest sd on [0, 1].

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1]. Takes distinct scores, counts.

    Metric 4 of arXiv 2410.03523; the supremum is derived in docs/methods.md.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    bound, name = METHODS[check_method(method, tuple(METHODS))]
    values, weights = check_scores(scores, counts)
    lower, upper = bound(values, weights, alpha, side)
    return Bound("sd(h)", moments(values, weights)[1], lower, upper, alpha, side, int(weights.sum()), name)


def ed_score(scores: Scores, *, counts: npt.ArrayLike | None = None) -> float:
    """The ED score: sample mean + 2 sample standard deviations (divisor n). A plug-in value without a guarantee.

    arXiv 2410.03523, as quoted in its reviews; the divisor is ours.
    """
    mean, sd = moments(*check_scores(scores, counts))
    return mean + 2 * sd
