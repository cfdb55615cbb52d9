"""What the bets are on: sequences whose conditional mean is at least the mean, the variance, or mean + kappa sd."""

import math

import numpy as np

from leakbound.bounds.engines.betting import Game, make_cells
from leakbound.bounds.gate import Floats

OUTWARD = 1 + 1e-12


def mean_spread(s: Floats, top: Floats, t: int, n: int) -> tuple[Floats, Floats]:
    """For a score in [0, 1] with mean s: the variance is at most s (1 - s); the cushion of 1e-4 falls with n."""
    gap = 1.0 - s
    return gap * (n / t**2 if t else 0.0), s * gap + min(1e-4, 0.5 / n)


def square_spread(s: Floats, top: Floats, t: int, n: int) -> tuple[Floats, Floats]:
    """For a variable in [0, top] with mean s: the variance is at most s (top - s)."""
    ceiling = s * np.maximum(top - s, 0.0) + 1e-9
    return ceiling * (math.sqrt(n) / t if t else 0.0), ceiling


def mean_game(x: Floats) -> Game:
    """Y_t = x_t in [0, 1]; x of shape (draws, games)."""
    return Game(x, np.ones((1, x.shape[1])), make_cells(x.shape[0]), 1.0, mean_spread)


def squares_about_past(x: Floats) -> tuple[Floats, Floats]:
    """(x_t - c_t)^2 and c_t for every draw; c_t is the mean of the draws before it and one 1/2."""
    centre = np.cumsum(x, axis=0)
    centre -= x
    centre += 0.5
    centre /= np.arange(1.0, x.shape[0] + 1.0)[:, None]
    return (x - centre) ** 2, centre


def fed_only(n: int) -> int:
    """How many first draws only feed the centre: min(10, n // 8)."""
    return min(10, n // 8)


def variance_game(x: Floats) -> Game:
    """Y_t = (x_t - c_t)^2: E[Y_t | past] = variance + (mean - c_t)^2 >= variance, for any c_t known before draw t.

    top_t = max(c_t, 1 - c_t)^2 >= 1/4. The first few draws only feed c.
    """
    n = x.shape[0]
    skip = fed_only(n)
    y, centre = squares_about_past(x)
    top = np.maximum(centre, 1 - centre)[skip:] ** 2 * OUTWARD
    return Game(y[skip:], top, make_cells(n, 0.25), 0.25, square_spread)


def upper_spread_game(x: Floats, kappa: float, alpha: float) -> Game:
    """Y_t = x_t + kappa (s_t / 2 + (x_t - c_t)^2 / (2 s_t)): E[Y_t | past] >= mean + kappa sd for any s_t > 0 and c_t.

    Since E(x - c)^2 >= variance and s/2 + variance/(2s) >= sd. Here s_t^2 is the mean of the past squares and one 1/4,
    plus ln(1/alpha) / n, at most 1/4. Y is convex in x, so top_t is its larger value at x = 0 or 1.
    The largest mean + kappa sd of any law on [0, 1] is (1 + sqrt(1 + kappa^2)) / 2.
    """
    n = x.shape[0]
    skip = fed_only(n)
    squares, centre = squares_about_past(x)
    past = np.cumsum(squares, axis=0) - squares
    number = np.arange(1.0, n + 1.0)[:, None]
    scale = np.sqrt(np.minimum((0.25 + past) / number + -math.log(alpha) / n, 0.25))
    y = x + kappa * (scale / 2 + squares / (2 * scale))
    at_zero = kappa * (scale / 2 + centre**2 / (2 * scale))
    at_one = 1 + kappa * (scale / 2 + (1 - centre) ** 2 / (2 * scale))
    end = (1 + math.sqrt(1 + kappa**2)) / 2
    top = np.maximum(at_zero, at_one)[skip:] * OUTWARD
    return Game(y[skip:], top, make_cells(n, end), end, square_spread)


def pair_squares(x: Floats) -> Floats:
    """(x_(2i) - x_(2i-1))^2 for consecutive pairs: independent, in [0, 1], with mean 2 variance."""
    even = x[: x.shape[0] // 2 * 2]
    return (even[0::2] - even[1::2]) ** 2
