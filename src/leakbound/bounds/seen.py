"""What distinct completions with exact probabilities prove about the whole distribution of the score.

M is the mass that was seen and judged, L its part of the mean; the rest, 1 - M, may score anything that the e-process
does not forbid. Completions come in the order of sampling without replacement. Upper sides; proofs in
docs/certificates.md.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.certificates import without_replacement_bound
from leakbound.bounds.engines.masses import LEAST_REST, OUTWARD, check_masses
from leakbound.bounds.gate import Floats, Scores, check_alpha, check_draws, check_fraction
from leakbound.bounds.result import Bound, SurvivalBand, in_full
from leakbound.bounds.spread import check_kappa

ANCHORS = (0.0, 0.25, 0.5, 0.75)
"""Scores at which the e-process bounds what is unseen; fixed in advance, each has its share of alpha."""
ROUNDING = 1e-13
"""Absolute margin on a variance."""


def estimated_law(masses: Scores) -> Floats:
    """Weights of the completions that sum to 1, for plug-in estimates: at least their probabilities, in all.

    The mean of the unbiased L_{t-1} + (1 - M_{t-1}) h_t, weighted by 1 / (1 - M_{t-1}), is sum_s w_s h_s. Where w is
    above P it says which completions stand for the unseen ones; these share 1 - M in that proportion.
    """
    p, _ = check_masses(masses, np.zeros(np.asarray(masses).size))
    rest = np.maximum(1.0 - (np.cumsum(p) - p), LEAST_REST)
    share = (1 / rest) / np.sum(1 / rest)
    later = np.cumsum(share[::-1])[::-1] - share
    beyond: Floats = np.maximum(p * later + share * rest - p, 0.0) + 1e-300
    weights: Floats = p + max(0.0, 1.0 - float(p.sum())) * (beyond / beyond.sum())
    weights /= weights.sum()
    return weights


def seen_survival_bound(
    masses: Scores, scores: Scores, *, alpha: float, thresholds: Sequence[float] | npt.ArrayLike | None = None
) -> SurvivalBand:
    """Bound S(x) = P(h > x) for all x at once.

    S(x) is the seen mass that scores above x, exact, and an unseen part U(x) <= 1 - M. U falls with x, so for every
    anchor a <= x also U(x) <= U(a) <= B_a - L_a, with B_a the e-process bound on P(h > a) at alpha / 4 and L_a the seen
    mass above a. ``thresholds``: where the band is reported, by default 0 and every distinct score.
    """
    alpha = check_alpha(alpha)
    p, h = check_masses(masses, scores)
    x = np.unique(np.append(h, 0.0) if thresholds is None else check_draws(np.asarray(thresholds), "thresholds"))
    order = np.argsort(h)
    above = np.append(np.cumsum(p[order][::-1])[::-1], 0.0)[np.searchsorted(h[order], x, side="right")]
    unseen = np.full(x.size, max(0.0, 1.0 - float(p.sum()) * (1 - OUTWARD)))
    # U(x) <= U(a) <= B_a - L_a for every anchor a <= x, all four B_a at once by the union bound
    for anchor in ANCHORS:
        over = (h > anchor).astype(np.float64)
        most = without_replacement_bound(p, over, alpha=alpha / len(ANCHORS)).upper
        unseen[x >= anchor] = np.minimum(unseen[x >= anchor], max(0.0, most - float(p @ over) * (1 - OUTWARD)))
    upper = np.where(x >= 1, 0.0, np.minimum(above * (1 + OUTWARD) + unseen, 1.0))
    weights = estimated_law(p)[order]
    guess = np.append(np.cumsum(weights[::-1])[::-1], 0.0)[np.searchsorted(h[order], x, side="right")]
    estimate = np.clip(guess, np.minimum(above, upper), upper)
    name = "seen mass, e-process for the rest"
    return SurvivalBand(
        tuple(x), tuple(estimate), tuple(np.zeros_like(x)), tuple(upper), alpha, "upper", p.size, name
    )  # fmt: skip


def seen_quantile_bound(masses: Scores, scores: Scores, q: float, *, alpha: float) -> Bound:
    """Bound the q-quantile inf{x : P(h <= x) >= q} from above: the first score where the band falls to 1 - q, or 1.

    It comes from one band, so that it holds for all q at once.
    """
    q = check_fraction("q", q, open_ends=True)
    band = seen_survival_bound(masses, scores, alpha=alpha)
    upper = next((x for x, s in zip(band.thresholds, band.upper, strict=True) if s <= 1 - q), 1.0)
    estimate = next((x for x, s in zip(band.thresholds, band.estimate, strict=True) if s <= 1 - q), upper)
    name = f"the {in_full(q)}-quantile of h"
    return Bound(
        name, min(estimate, upper), 0.0, upper, alpha, "upper", band.n, band.method, unit="distinct generations"
    )  # fmt: skip


def seen_std_bound(masses: Scores, scores: Scores, *, alpha: float) -> Bound:
    """Bound the standard deviation of the score.

    Var(h) = m (1 - m) - E[h (1 - h)] with m = E[h], and the seen part of E[h (1 - h)] is exact. So Var(h) <= max over
    L <= m <= B of m (1 - m) - sum of P h (1 - h) over the seen completions, B the e-process bound on m at alpha.
    """
    p, h, low, high, spread = _moments(masses, scores, alpha)
    m = min(max(0.5, low), high)
    upper = min(0.5, math.sqrt(max(m * (1 - m) - spread, 0.0) + ROUNDING))
    sd = _plug_in(p, h)[1]
    return Bound("sd(h)", min(sd, upper), 0.0, upper, alpha, "upper", p.size, _NAME, unit="distinct generations")


def seen_ed_bound(masses: Scores, scores: Scores, *, alpha: float, kappa: float = 2.0) -> Bound:
    """Bound E[h] + kappa sd(h): the largest value of m + kappa sqrt(m (1 - m) - G) over L <= m <= B.

    G and B as in :func:`seen_std_bound`. It is concave in m, with its top at (1 + sqrt((1 - 4 G) / (1 + kappa^2))) / 2.
    """
    kappa = check_kappa(kappa)
    p, h, low, high, spread = _moments(masses, scores, alpha)
    top = (1 + math.sqrt(max(1 - 4 * spread, 0.0) / (1 + kappa**2))) / 2
    m = min(max(top, low), high)
    most = (1 + math.sqrt(1 + kappa**2)) / 2
    upper = min(most, m + kappa * math.sqrt(max(m * (1 - m) - spread, 0.0) + ROUNDING))
    mean, sd = _plug_in(p, h)
    return Bound(
        f"E[h] + {in_full(kappa)} sd(h)", min(mean + kappa * sd, upper), 0.0, upper, alpha, "upper", p.size, _NAME,
        unit="distinct generations",
    )  # fmt: skip


def seen_ed_score(masses: Scores, scores: Scores) -> float:
    """The ED score, mean + 2 sd, of the estimated law. A plug-in value without a guarantee."""
    p, h = check_masses(masses, scores)
    mean, sd = _plug_in(p, h)
    return mean + 2 * sd


_NAME = "seen moments, e-process for the mean"


def _plug_in(p: Floats, h: Floats) -> tuple[float, float]:
    weights = estimated_law(p)
    mean = float(weights @ h)
    return mean, min(0.5, math.sqrt(float(weights @ (h - mean) ** 2)))


def _moments(masses: Scores, scores: Scores, alpha: float) -> tuple[Floats, Floats, float, float, float]:
    """Probabilities, scores, L, B, and the seen part G of E[h (1 - h)]; L and G rounded down, B up."""
    p, h = check_masses(masses, scores)
    low = float(p @ h) * (1 - OUTWARD)
    high = max(low, without_replacement_bound(p, h, alpha=alpha).upper)
    return p, h, low, high, float(p @ (h * (1 - h))) * (1 - OUTWARD)
