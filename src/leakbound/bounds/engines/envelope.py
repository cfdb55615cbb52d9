"""The extreme variances over all laws whose distribution function stays within eps of the empirical one."""

import numpy as np

from leakbound.bounds.gate import Floats, Ints

ROUNDING = 1e-13
"""Absolute margin on a variance computed from cumulative sums."""


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
    # moving p by s within a cell: variance (m2 + d2 s) - (m1 + d1 s)^2, whose top is taken, cut to the cell
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

    # the derivative rises and is linear between kinks: where it is 0, the squared distance is least
    pull = slope(c)
    i = int(np.searchsorted(pull, 0.0))  # first kink with slope >= 0
    i = min(max(i, 1), c.size - 1) if c.size > 1 else 0
    centre = c[i]
    if i > 0 and pull[i] > pull[i - 1]:
        centre = c[i - 1] - pull[i - 1] * (c[i] - c[i - 1]) / (pull[i] - pull[i - 1])
        centre = min(max(centre, c[i - 1]), c[i])
    distance = np.maximum(a - centre, 0.0) + np.maximum(centre - b, 0.0)
    return max(float(np.sum(w * distance**2)) - ROUNDING, 0.0)
