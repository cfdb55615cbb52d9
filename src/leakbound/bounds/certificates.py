"""What the exact probabilities of a model's completions prove: bounds that plain draws cannot give.

Everything is about the law P of completions under the deployed decoding; M is the seen mass, the sum of P over known
completions, and L the seen leak, the sum of P h. Always L <= E[h] <= L + 1 - M. Proofs in docs/certificates.md.
"""

import math

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.masses import LEAST_REST, OUTWARD, before_each, check_known, check_masses, leak_estimate
from leakbound.bounds.engines.portfolio import bet_sizes
from leakbound.bounds.engines.search import least
from leakbound.bounds.gate import Floats, Scores, Side, as_numbers, check_alpha, check_counts, check_side
from leakbound.bounds.result import Bound
from leakbound.errors import InputError

BETS = np.array([1.0, 0.9, 0.7, 0.45, 0.25, 0.12])
BET_WEIGHTS = (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)
"""The mixture of bets, fixed in advance: half of the capital on "no leak is left", statistics.md section 6.2."""
CUSHION = 1e-9
"""Added to ln(1/alpha): far above the rounding error of a log-wealth."""


def exact_limits(
    masses: Scores,
    scores: Scores,
    *,
    alpha: float,
    side: Side = "both",
    estimand: str = "E[h]",
    scope: str = "this prompt",
) -> Bound:
    """L <= E[h] <= L + 1 - M from any set of distinct completions: certain, whatever was drawn.

    ``masses``: P(y) of distinct completions, sum at most 1; ``scores``: h(y) in [0, 1]. L and M are rounded outward.
    The limits have no sampling error: ``alpha`` is only carried along, so that they stand beside other bounds.
    The estimate is the seen leak, L.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    p, h = check_masses(masses, scores)
    low, high = _limits(p, h)
    lower, upper = (0.0 if side == "upper" else low), (1.0 if side == "lower" else high)
    return Bound(
        estimand, float(np.dot(p, h)), lower, upper, alpha, side, p.size, "exact limits (certain)", scope, "completions"
    )


def without_replacement_bound(
    masses: Scores,
    scores: Scores,
    *,
    alpha: float,
    side: Side = "upper",
    known: tuple[float, float] = (0.0, 0.0),
    estimand: str = "E[h]",
    scope: str = "this prompt",
) -> Bound:
    """Bound E[h] from distinct completions in the order in which sampling without replacement gave them.

    Generation t is drawn from P restricted to what was not seen, so E[h_t | past] = (p - L_{t-1}) / (1 - M_{t-1}). For
    the claim p >= p0 the wealth

        E_t(p0) = sum_j w_j prod_{s<=t} [1 - c_j + c_j (1 - h_s) (1 - M_{s-1}) / (L_{s-1} + 1 - M_{s-1} - p0)]

    is a nonnegative supermartingale that rises with p0. The bound is the smallest p0 that some E_s, s <= t, rejects at
    1/alpha, and at most L + 1 - M. So it holds at any stopping time, also one that looked at the scores.
    Lower limits by h -> 1 - h; ``side="both"`` gives each side alpha / 2.

    ``masses``: P of the completions in order; ``scores``: their h in [0, 1]; ``known``: (M, L) of completions that were
    fixed before the first generation and left out of the order. InputError for masses that sum to more than 1.

    Equal-weights case of Shekhar et al. 2023 (arXiv 2305.06884); order of Kool et al. 2019 (arXiv 1903.06059).
    """
    alpha, side = check_alpha(alpha), check_side(side)
    p, h, mass, leak = check_known(masses, scores, known)
    share = alpha / 2 if side == "both" else alpha
    upper = 1.0 if side == "lower" else _upper(p, h, share, mass, leak)
    lower = 0.0 if side == "upper" else max(0.0, 1.0 - _upper(p, 1 - h, share, mass, mass - leak) * (1 + 1e-15))
    estimate = leak_estimate(p, h, mass, leak)
    return Bound(
        estimand, estimate, min(lower, upper), upper, alpha, side, p.size, "e-process without replacement", scope,
        "distinct generations",
    )  # fmt: skip


def importance_lower_bound(
    weighted: npt.ArrayLike,
    *,
    alpha: float,
    counts: npt.ArrayLike | None = None,
    estimand: str = "E[h]",
    scope: str = "this prompt",
) -> Bound:
    """A lower bound on p = E_P[h] from n draws y_i ~ q of another law: x_i = h(y_i) P(y_i) / q(y_i) >= 0, E[x_i] <= p.

    For the claim p <= p0, E(p0) = mean over c of prod_i [1 - c + c x_i / p0] has mean at most 1, whatever the size of
    the weights, and falls with p0; the bound is the largest p0 with E(p0) >= 1/alpha. The order of the draws does not
    matter; n is fixed in advance. Bets c as in :func:`leakbound.bounds.engines.portfolio.bet_sizes`.

    ``weighted``: the x_i, finite and >= 0, or their distinct values with ``counts``. Weights that were rounded down
    make the bound smaller, never wrong.
    """
    alpha = check_alpha(alpha)
    x = as_numbers("weighted", weighted)
    if x.ndim != 1 or x.size == 0 or not (np.isfinite(x) & (x >= 0)).all():
        raise InputError(
            "weighted is not a one-dimensional array of finite numbers >= 0: give h times P/q of each draw"
        )
    times = np.ones(x.size, dtype=np.int64) if counts is None else check_counts(counts, x.size)
    n = int(times.sum())
    mean = float(np.dot(x, times) / n)
    bets = bet_sizes(n, alpha)[:, None]
    wanted = -math.log(alpha) + CUSHION

    # E(p0) has mean <= 1 for every p0 >= p and falls in p0: what it rejects is an interval from 0 on
    def rejected(p0: float) -> bool:
        totals = np.log1p(bets * (x / p0 - 1.0)) @ times
        return bool(np.logaddexp.reduce(totals) - math.log(len(bets)) >= wanted)

    low, high = (math.log(mean) - 60.0, math.log(mean)) if mean > 0 else (0.0, 0.0)  # in logs: leaks of any size
    if mean <= 0 or not rejected(math.exp(low)):
        lower = 0.0
    else:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if rejected(math.exp(middle)) else (low, middle)
        lower = min(math.exp(low), 1.0)
    return Bound(
        estimand, min(max(mean, lower), 1.0), lower, 1.0, alpha, "lower", n, "importance-sampled betting", scope
    )


def log_wealth(rest: Floats, ceiling: Floats, h: Floats, p0: float) -> Floats:
    """ln E_t(p0) after each generation; arrays (..., t) of 1 - M and L + 1 - M before each, and of h.

    ``p0`` is below every ``ceiling``. Where too little is left, nobody bets.
    """
    room = np.maximum(ceiling - p0, 1e-300)
    gain = np.where(rest > LEAST_REST, (1.0 - h) * rest / room, 1.0)
    shares = np.array([math.log(w) for w in BET_WEIGHTS])
    bets, shares = (x.reshape(-1, *[1] * gain.ndim) for x in (BETS, shares))
    with np.errstate(divide="ignore"):  # all on "no leak is left", and a leak: that part of the capital is lost
        paths = shares + np.cumsum(np.log((1 - bets) + bets * gain), axis=-1)
    wealth: Floats = np.logaddexp.reduce(paths, axis=0)
    return wealth


def _upper(p: Floats, h: Floats, alpha: float, mass: float, leak: float) -> float:
    """The smallest claim p >= p0 that is rejected, bisected from above."""
    rest, ceiling = before_each(p, h, mass, leak)
    high = min(float(ceiling.min()), 1.0)
    low = min(leak + float(np.dot(p, h)), high)
    wanted = -math.log(alpha) + CUSHION
    before, limits = rest[:-1], ceiling[:-1]
    return least(lambda p0: log_wealth(before, limits, h, p0).max(initial=-math.inf) >= wanted, low, high, 1e-9)


def _limits(p: Floats, h: Floats) -> tuple[float, float]:
    leak = float(np.dot(p, h))
    return leak * (1 - OUTWARD), min(1.0, leak * (1 + OUTWARD) + max(0.0, 1.0 - float(p.sum()) * (1 - OUTWARD)))
