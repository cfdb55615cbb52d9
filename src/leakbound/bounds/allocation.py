"""The smallest sum of convex functions of one variable each, over all arguments of a given mean: by a water level.

Tangents lie below a convex function, so what is proven of them is proven of it. docs/methods.md, "The product".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from leakbound.bounds.gate import Floats

ROUNDING = 1e-12
"""Relative error of a computed logarithm or slope, far above what rounding does."""
STEPS = 60
"""Bisections of the level."""
PATIENCE = 2e-4
"""Refining ends when it gains less than this share of the mean."""


@dataclass(frozen=True)
class Tangents:
    """Tangents of one convex function per row: touching points, values, slopes (rows, K), ascending; error sizes
    (rows,).

    ``low`` and ``cap`` are the ends of each row's argument.
    """

    points: Floats
    values: Floats
    slopes: Floats
    sizes: Floats
    low: Floats
    cap: Floats

    def with_more(self, points: Floats, values: Floats, slopes: Floats) -> Tangents:
        """One more tangent for every row."""
        order = np.argsort(np.column_stack([self.points, points]), axis=1, kind="stable")
        old = (self.points, points), (self.values, values), (self.slopes, slopes)
        p, v, s = (np.take_along_axis(np.column_stack(pair), order, axis=1) for pair in old)
        return Tangents(p, v, np.maximum.accumulate(s, axis=1), self.sizes, self.low, self.cap)


def least_mean(tangents: Tangents, wanted: float) -> tuple[float, Floats]:
    """A mean m such that the functions sum to ``wanted`` or more wherever their arguments average to m or more.

    For every level mu >= 0: sum l_i(p_i) >= sum_i D_i + mu sum_i p_i with D_i <= min over p of l_i(p) - mu p, so m =
    (wanted - sum D_i) / (rows mu) will do; the best mu is bisected for. Also where tangents are wanted next.
    """
    rows, rising = tangents.low.size, tangents.slopes[tangents.slopes > 0]
    if not rising.size:
        return float(tangents.cap.mean()), tangents.low
    low, high = math.log(rising.min()) - 1, math.log(rising.max()) + 1  # in ln mu: all at low, all at cap
    for _ in range(STEPS):
        middle = (low + high) / 2
        _, _, height, _ = _at_level(tangents, math.exp(middle))
        low, high = (middle, high) if height.sum() < wanted else (low, middle)
    mu = math.exp(high)
    dual, p, height, between = _at_level(tangents, mu)
    mean = (wanted - float(dual.sum())) / (rows * mu)
    _, before, missed, _ = _at_level(tangents, math.exp(low))
    reached, missed = float(height.sum()), float(missed.sum())
    share = (wanted - missed) / (reached - missed) if reached > missed else 1.0
    flat = p - before > 1e-6 * p  # the level meets a tangent of this slope: anywhere on it, as far as is wanted
    following = np.where(flat, before + min(max(share, 0.0), 1.0) * (p - before), between)
    return max(mean, float(tangents.low.mean())), following


def _at_level(t: Tangents, mu: float) -> tuple[Floats, Floats, Floats, Floats]:
    """D_i, where the highest tangent minus mu p is least, its height there, and a point between two touching points.

    Two neighbouring tangents with slopes a <= mu <= b, mixed to the slope mu, bound l(p) - mu p from below for all p.
    """
    row, count = np.arange(t.low.size), (t.slopes <= mu).sum(axis=1)
    a, b = np.maximum(count - 1, 0), np.minimum(count, t.slopes.shape[1] - 1)
    p, q, s, u = t.points[row, a], t.points[row, b], t.slopes[row, a], t.slopes[row, b]
    first, second = t.values[row, a] - s * p, t.values[row, b] - u * q
    inside, gap = a < b, np.where(u > s, u - s, 1.0)
    inside &= (count > 0) & (u > s)
    share = np.where(inside, (u - mu) / gap, 1.0)
    crossing = np.clip((first - second) / gap, t.low, t.cap)
    end = np.where(count == 0, t.low, t.cap)
    dual = np.where(inside, share * first + (1 - share) * second, first + (s - mu) * end)
    dual -= ROUNDING * (t.sizes + mu * (t.cap - t.low))
    least, between = np.where(inside, crossing, end), np.where(inside, p + np.clip(1 - share, 0.1, 0.9) * (q - p), end)
    return dual, least, first + s * least, between


def refined(tangents: Tangents, wanted: float, touch: Callable[[Floats], tuple[Floats, Floats]], rounds: int) -> float:
    """:func:`least_mean` with tangents added where they matter; ``touch`` gives values and slopes at given points."""
    best, points = least_mean(tangents, wanted)
    for _ in range(rounds):
        points = np.minimum(points, tangents.cap - 1e-4 * (tangents.cap - tangents.low))
        tangents = tangents.with_more(points, *touch(points))
        mean, points = least_mean(tangents, wanted)
        best, gained = min(best, mean), best - mean
        if gained < PATIENCE * best:
            break
    return best
