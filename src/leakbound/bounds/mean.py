"""The expected score E[h]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from leakbound.bounds.distribution import cdf_at, dkw_width
from leakbound.bounds.gate import Floats, Ints, Scores, Side, check_alpha, check_method, check_scores, check_side
from leakbound.bounds.result import Bound

ROUNDING = 1e-14
"""Absolute margin for sums of at most a few million terms in [0, 1] that numpy adds pairwise."""


def anderson(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """E[h] = int_0^1 S(x) dx, integrated exactly over the DKW band; the unclaimed side is 0 or 1."""
    n = int(weights.sum())
    eps = dkw_width(n, alpha, side)
    share = np.concatenate([[0.0], np.cumsum(weights) / n])  # F_n on [0, v1), [v1, v2), ..., [vm, 1]
    gap = np.diff(values, prepend=0.0, append=1.0)
    upper = 1.0 if side == "lower" else 1.0 - float(np.sum(gap * np.maximum(share - eps, 0.0)))
    lower = 0.0 if side == "upper" else float(np.sum(gap * np.maximum(1.0 - share - eps, 0.0)))
    return max(lower - ROUNDING, 0.0), min(upper + ROUNDING, 1.0)


def paper_grid(values: Floats, weights: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """The same integral on 100 equally spaced points, left rule above, right rule below: the paper's package."""
    n = int(weights.sum())
    eps = dkw_width(n, alpha, side)
    tau = np.linspace(0.0, 1.0, 100)
    share = cdf_at(values, np.cumsum(weights) / n, tau)
    gap = np.diff(tau)
    upper = 1.0 if side == "lower" else 1.0 - float(np.sum(gap * np.maximum(share[:-1] - eps, 0.0)))
    lower = 0.0 if side == "upper" else 1.0 - float(np.sum(gap * np.minimum(share[1:] + eps, 1.0)))
    return max(lower - ROUNDING, 0.0), min(upper + ROUNDING, 1.0)


METHODS = {"anderson": (anderson, "Anderson on the DKW band"), "paper": (paper_grid, "Anderson on the DKW band, grid")}


def mean_bound(
    scores: Scores,
    *,
    alpha: float,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    method: str = "anderson",
) -> Bound:
    """Bound the expected score E[h] of one prompt.

    ``"anderson"``: E[h] <= 1 - sum_i (x_(i+1) - x_(i)) max(i/n - eps, 0) with x_(0) = 0, x_(n+1) = 1 and eps the
    half-width of the Dvoretzky-Kiefer-Wolfowitz band (one-sided for one side, two-sided for both). ``"paper"``: the
    same integral on 100 equally spaced points, looser by at most 1/99.

    Assumes independent draws, n fixed before the first one; any distribution on [0, 1]. Takes distinct scores, counts.

    Anderson 1969; metric 3 of arXiv 2410.03523.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    bound, name = METHODS[check_method(method, tuple(METHODS))]
    values, weights = check_scores(scores, counts)
    n = int(weights.sum())
    lower, upper = bound(values, weights, alpha, side)
    return Bound("E[h]", float(np.dot(values, weights / n)), lower, upper, alpha, side, n, name)
