"""The smallest sum of convex functions of one variable each, over all arguments of a given mean: by a water level.

Tangents lie below a convex function, so what is proven of them is proven of it. docs/methods.md, "The product".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from leakbound.bounds.gate import Floats

ROUNDING = 1e-12
"""Relative error of a computed logarithm or slope, far above what rounding does."""
STEPS = 60
"""Bisections of the level."""


@dataclass(frozen=True)
class Tangents:
    """Tangents of one convex function per row: touching points, values, slopes (rows, K), ascending; error sizes (rows,).

    ``low`` and ``cap`` are the ends of each row's argument.
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
    low, high = math.log(rising.min()) - 1, math.log(rising.max()) + 1  # in ln mu: all at low, all at cap
    for _ in range(STEPS):
        middle = (low + high) / 2
        _, _, height = _at_level(tangents, math.exp(middle))
        low, high = (middle, high) if height.sum() < wanted else (low, middle)
    mu = math.exp(high)
    dual, p, height = _at_level(tangents, mu)
    proven = (wanted - float(dual.sum())) / (tangents.low.size * mu)
    _, before, missed = _at_level(tangents, math.exp(low))
    reached, missed = float(height.sum()), float(missed.sum())
    if reached > missed:  # some functions are straight at this level: as far along them as is wanted
        p = before + (wanted - missed) / (reached - missed) * (p - before)
    return max(proven, float(tangents.low.mean())), p


def _at_level(t: Tangents, mu: float) -> tuple[Floats, Floats, Floats]:
    """D_i; where the slope is mu if it is linear between two touching points; and the height there.

    Two neighbouring tangents with slopes a <= mu <= b, mixed to the slope mu, bound l(p) - mu p from below for all p.
    """
    row, count = np.arange(t.low.size), (t.slopes <= mu).sum(axis=1)
    a, b = np.maximum(count - 1, 0), np.minimum(count, t.slopes.shape[1] - 1)
    p, q, s, u = t.points[row, a], t.points[row, b], t.slopes[row, a], t.slopes[row, b]
    value = t.values[row, a]
    inside = (count > 0) & (u > s)
    share = np.where(inside, (mu - s) / np.where(u > s, u - s, 1.0), 0.0)
    place = np.where(inside, p + share * (q - p), np.where(count == 0, t.low, t.cap))
    first, second = value - s * p, t.values[row, b] - u * q
    dual = np.where(inside, (1 - share) * first + share * second, first + (s - mu) * place)
    dual -= ROUNDING * (t.sizes + mu * (t.cap - t.low))
    return dual, place, value + np.where(inside, (s + mu) / 2, s) * (place - p)
