"""The smallest sum of convex functions of one variable each, over all arguments of a given mean: by a water level.

Tangents lie below a convex function, so what is proven of them is proven of it. docs/methods.md, "The product".
"""

import math
from dataclasses import dataclass

import numpy as np

from leakbound.bounds.gate import Floats

ROUNDING = 1e-12
"""Relative error of a computed logarithm or slope, far above what rounding does."""
TOGETHER = 2**18
"""Comparisons that are made together: more levels at once for fewer rows."""
NEAR = 1e-11
"""The level is found to this share of itself."""


@dataclass(frozen=True)
class Tangents:
    """Tangents of one convex, rising function per row, arrays (rows, K): points and slopes ascend along a row.

    ``sizes``, ``low`` and ``cap``, (rows,): what the rounding of a value is measured by, and the ends of the argument.
    """

    points: Floats
    values: Floats
    slopes: Floats
    sizes: Floats
    low: Floats
    cap: Floats


def least_mean(tangents: Tangents, wanted: float) -> tuple[float, Floats]:
    """A mean m such that the functions sum to ``wanted`` or more wherever their arguments average to m or more.

    For every level mu > 0: sum l_i(p_i) >= sum_i D_i + mu sum_i p_i with D_i <= min over p of l_i(p) - mu p, so m =
    (wanted - sum D_i) / (rows mu) will do. mu is where the functions, with slopes interpolated between tangents, would
    sum to ``wanted``. Also the arguments there: with tangents at them m gets smaller.
    """
    rising = tangents.slopes[tangents.slopes > 0]
    if not rising.size:
        return float(tangents.cap.mean()), tangents.low
    low, high = math.log(rising.min()) - 1, math.log(rising.max()) + 1  # ln mu: all arguments at low, all at cap
    shares = np.linspace(0.0, 1.0, min(max(TOGETHER // tangents.points.size, 8), 64))
    while high - low > NEAR:
        levels = low + (high - low) * shares
        heights = _at_levels(tangents, np.exp(levels))[2].sum(axis=0)
        place = min(max(int(np.count_nonzero(heights < wanted)), 1), shares.size - 1)
        low, high = float(levels[place - 1]), float(levels[place])
    # weak duality: every mu proves its m, so how well mu was found matters for the width alone
    mu = np.exp(np.array([low, high]))
    dual, places, height = _at_levels(tangents, mu)
    proven = (wanted - float(dual[:, 1].sum())) / (tangents.low.size * float(mu[1]))
    below, above = height.sum(axis=0).tolist()
    share = (wanted - below) / (above - below) if above > below else 1.0
    # where functions are straight at this level: as far along them as is wanted
    following = places[:, 0] + min(max(share, 0.0), 1.0) * (places[:, 1] - places[:, 0])
    return max(proven, float(tangents.low.mean())), following


def _at_levels(t: Tangents, mu: Floats) -> tuple[Floats, Floats, Floats]:
    """D_i, where the slope is mu if it is linear between touching points, and the height there: (rows, levels).

    Two neighbouring tangents with slopes a <= mu <= b, mixed to the slope mu, bound l(p) - mu p from below for all p.
    """
    row, count = np.arange(t.low.size)[:, None], (t.slopes[:, :, None] <= mu).sum(axis=1)
    a, b = np.maximum(count - 1, 0), np.minimum(count, t.slopes.shape[1] - 1)
    p, s, value = t.points[row, a], t.slopes[row, a], t.values[row, a]
    q, u, other = t.points[row, b], t.slopes[row, b], t.values[row, b]
    # inside: slopes s <= mu <= u, mixed to the slope mu; minus mu p their mixture is a constant, the dual. Where all
    # slopes are above mu (below), the first (last) tangent minus mu p is least at the low end (at the cap).
    inside = (count > 0) & (u > s)
    share = np.where(inside, np.clip((mu - s) / np.where(inside, u - s, 1.0), 0.0, 1.0), 0.0)
    end = np.where(count == 0, t.low[:, None], t.cap[:, None])
    place = np.where(inside, p + share * (q - p), end)
    first, second = value - s * p, other - u * q
    dual = np.where(inside, (1 - share) * first + share * second, first + (s - mu) * end)
    dual -= ROUNDING * (t.sizes[:, None] + mu * (t.cap - t.low)[:, None])
    return dual, place, value + np.where(inside, (s + mu) / 2, s) * (place - p)
