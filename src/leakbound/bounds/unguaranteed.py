"""Intervals WITHOUT a guarantee, for comparison only: Student t, Wilson, bootstrap.

They miss more often than they say where leaks are rare: with P(leak) = 0.01 and 32 draws, Student t at 99 % misses in
72 of 100 cases. Their type is not Bound, so that they cannot be taken for one.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import Scores, Side, check_alpha, check_scores, check_side, check_whole


@dataclass(frozen=True)
class Unguaranteed:
    """An interval that may miss more often than ``nominal_alpha``."""

    estimand: str
    estimate: float
    lower: float
    upper: float
    nominal_alpha: float
    side: Side
    n: int
    method: str

    def __str__(self) -> str:
        return (
            f"No guarantee: {self.method} puts {self.estimand} between {self.lower:.6f} and {self.upper:.6f} "
            f"(nominal confidence {1 - self.nominal_alpha:.10g}, {self.n} draws)"
        )


def limits(low: float, high: float, side: Side) -> tuple[float, float]:
    """Both limits within [0, 1], the side that is not asked for trivial."""
    return (0.0 if side == "upper" else min(max(low, 0.0), 1.0)), (1.0 if side == "lower" else min(max(high, 0.0), 1.0))


def student_t(
    scores: Scores, *, alpha: float, side: Side = "upper", counts: npt.ArrayLike | None = None
) -> Unguaranteed:
    """xbar -+ t s / sqrt(n). No guarantee for scores that are not normal."""
    from scipy import special  # here, because importing it takes 0.2 s

    alpha, side = check_alpha(alpha), check_side(side)
    values, weights = check_scores(scores, counts)
    n = int(weights.sum())
    mean = float(np.dot(values, weights / n))
    sd = math.sqrt(float(np.sum((values - mean) ** 2 * weights)) / max(n - 1, 1))
    width = float(special.stdtrit(max(n - 1, 1), 1 - (alpha / 2 if side == "both" else alpha))) * sd / math.sqrt(n)
    return Unguaranteed("E[h]", mean, *limits(mean - width, mean + width, side), alpha, side, n, "Student t")


def wilson(leaks: int, n: int, *, alpha: float, side: Side = "upper") -> Unguaranteed:
    """Wilson's score interval for P(leak). No guarantee for small n p."""
    from scipy import special  # here, because importing it takes 0.2 s

    alpha, side = check_alpha(alpha), check_side(side)
    n = check_whole("n", n, 1)
    p = check_whole("leaks", leaks, 0, n) / n
    z = float(special.ndtri(1 - (alpha / 2 if side == "both" else alpha)))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    width = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Unguaranteed("P(leak)", p, *limits(centre - width, centre + width, side), alpha, side, n, "Wilson")


def bootstrap(
    scores: Scores,
    *,
    alpha: float,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Unguaranteed:
    """Percentile bootstrap for E[h]. No guarantee: what was never drawn is never resampled."""
    alpha, side = check_alpha(alpha), check_side(side)
    resamples = check_whole("resamples", resamples, 1)
    values, weights = check_scores(scores, counts)
    n = int(weights.sum())
    means = np.random.default_rng(seed).multinomial(n, weights / n, size=resamples) @ values / n
    share = alpha / 2 if side == "both" else alpha
    low, high = (float(x) for x in np.quantile(means, [share, 1 - share]))
    mean = float(np.dot(values, weights / n))
    return Unguaranteed("E[h]", mean, *limits(low, high, side), alpha, side, n, f"bootstrap of {resamples} resamples")
