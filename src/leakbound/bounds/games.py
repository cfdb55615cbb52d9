"""What the bets are on: sequences whose conditional mean is at least the mean, the variance, or mean + kappa sd."""

from __future__ import annotations

import math

import numpy as np

from leakbound.bounds.betting import Game, make_cells
from leakbound.bounds.gate import Floats, Ints

MOST_STEPS = 50_000
"""Longer sequences are averaged in blocks: block means have the same conditional mean and the same range."""

OUTWARD = 1 + 1e-12


def mean_spread(s: Floats, top: Floats, t: int, n: int) -> tuple[Floats, Floats]:
    """For a score in [0, 1] with mean s: the variance is at most s (1 - s)."""
    gap = 1.0 - s
    return gap * (n / t**2 if t else 0.0), s * gap + 1e-4


def square_spread(s: Floats, top: Floats, t: int, n: int) -> tuple[Floats, Floats]:
    """For a variable in [0, top] with mean s: the variance is at most s (top - s)."""
    ceiling = s * np.maximum(top - s, 0.0) + 1e-9
    return ceiling * (math.sqrt(n) / t if t else 0.0), ceiling


def block_starts(n: int) -> tuple[Ints, Ints]:
    """First draw and length of each block of n draws; blocks of one up to MOST_STEPS draws."""
    starts = np.arange(0, n, -(-n // MOST_STEPS))
    return starts, np.diff(np.append(starts, n))


def block_means(y: Floats, starts: Ints, lengths: Ints) -> Floats:
    """Rows averaged within blocks."""
    if starts.size == y.shape[0]:
        return y
    means: Floats = np.add.reduceat(y, starts, axis=0) / lengths[:, None]
    return means


def sequential_mean_game(x: Floats, horizon: int) -> Game:
    """Y_t = x_t in [0, 1], of which at most ``horizon`` will be seen; x of shape (draws so far, games)."""
    return Game(x, np.ones_like(x), make_cells(horizon), 1.0, mean_spread, horizon)


def mean_game(x: Floats) -> Game:
    """Y_t = x_t in [0, 1]; x of shape (draws, games)."""
    x = block_means(x, *block_starts(x.shape[0]))
    return Game(x, np.ones_like(x), make_cells(x.shape[0]), 1.0, mean_spread)


def squares_about_past(x: Floats) -> tuple[Floats, Floats, Ints, Ints]:
    """(x_t - c_t)^2 for every draw and c for every block; c is the mean of the draws before the block and one 1/2."""
    starts, lengths = block_starts(x.shape[0])
    seen = (np.cumsum(x, axis=0) - x)[starts]
    centre = (0.5 + seen) / (1.0 + starts)[:, None]
    return (x - np.repeat(centre, lengths, axis=0)) ** 2, centre, starts, lengths


def variance_game(x: Floats) -> Game:
    """Y_t = (x_t - c_t)^2: E[Y_t | past] = variance + (mean - c_t)^2 >= variance, for any c_t known before draw t.

    top_t = max(c_t, 1 - c_t)^2 >= 1/4. The first min(10, n // 8) blocks only feed c.
    """
    squares, centre, starts, lengths = squares_about_past(x)
    skip = min(10, starts.size // 8)
    y = block_means(squares, starts, lengths)[skip:]
    top = np.maximum(centre, 1 - centre)[skip:] ** 2 * OUTWARD
    return Game(y, top, make_cells(starts.size, 0.25), 0.25, square_spread)


def upper_spread_game(x: Floats, kappa: float, alpha: float) -> Game:
    """Y_t = x_t + kappa (s_t / 2 + (x_t - c_t)^2 / (2 s_t)): E[Y_t | past] >= mean + kappa sd for any s_t > 0 and c_t.

    Since E(x - c)^2 >= variance and s/2 + variance/(2s) >= sd. Here s_t^2 is the mean of the past squares and one 1/4,
    plus ln(1/alpha) / n, at most 1/4. Y is convex in x, so top_t is its larger value at x = 0 or 1.
    The largest mean + kappa sd of any law on [0, 1] is (1 + sqrt(1 + kappa^2)) / 2.
    """
    n = x.shape[0]
    squares, centre, starts, lengths = squares_about_past(x)
    past = (np.cumsum(squares, axis=0) - squares)[starts]
    scale = np.sqrt(np.minimum((0.25 + past) / (1.0 + starts)[:, None] + math.log(1 / alpha) / n, 0.25))
    whole = np.repeat(scale, lengths, axis=0)
    skip = min(10, starts.size // 8)
    y = block_means(x + kappa * (whole / 2 + squares / (2 * whole)), starts, lengths)[skip:]
    at_zero = kappa * (scale / 2 + centre**2 / (2 * scale))
    at_one = 1 + kappa * (scale / 2 + (1 - centre) ** 2 / (2 * scale))
    end = (1 + math.sqrt(1 + kappa**2)) / 2
    top = np.maximum(at_zero, at_one)[skip:] * OUTWARD
    return Game(y, top, make_cells(starts.size, end), end, square_spread)


def pair_squares(x: Floats) -> Floats:
    """(x_(2i) - x_(2i-1))^2 for consecutive pairs: independent, in [0, 1], with mean 2 variance."""
    even = x[: x.shape[0] // 2 * 2]
    return (even[0::2] - even[1::2]) ** 2
