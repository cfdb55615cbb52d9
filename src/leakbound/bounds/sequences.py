"""Bounds that hold at any stopping time: after every draw at once, for whatever reason one stops."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from leakbound.bounds.distribution import survival_bound
from leakbound.bounds.engines import steady
from leakbound.bounds.engines.betting import CUSHION
from leakbound.bounds.engines.games import OUTWARD, pair_squares
from leakbound.bounds.engines.order import looks_arranged
from leakbound.bounds.engines.search import least
from leakbound.bounds.gate import Floats, Scores, Side, check_alpha, check_draws, check_scores, check_side, check_whole
from leakbound.bounds.result import Bound, SurvivalBand, in_full
from leakbound.bounds.spread import check_kappa, moments
from leakbound.errors import InputError

METHOD = "constant bets, valid at any stopping time"


def leak_sequence_bound(k: int, n: int, *, alpha: float, side: Side = "upper", estimand: str = "P(leak)") -> Bound:
    """Bound P(leak) after ``k`` leaks in ``n`` draws, valid for all n at once: stop whenever you like.

    The p at which the evidence against a probability >= p (<= p) reaches 1/alpha; each side has its share of alpha.

    Assumes independent draws with one P(leak). A mixture of simple alternatives (Robbins); proof: docs/methods.md.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    n = check_whole("n", n, 1)
    k = check_whole("k", k, 0, n)
    wanted = math.log((2 if side == "both" else 1) / alpha) + CUSHION

    def rejected_from(hits: int, weights: Floats) -> float:
        return least(lambda p: steady.log_evidence_below(hits, n, p, weights) >= wanted, hits / n, 1.0)

    upper = 1.0 if side == "lower" else rejected_from(k, steady.BELOW)
    lower = 0.0 if side == "upper" else max(1.0 - rejected_from(n - k, steady.ABOVE) - 1e-15, 0.0)
    return Bound(estimand, k / n, lower, upper, alpha, side, n, "mixture of bets, valid at any stopping time")


def mean_sequence_bound(
    scores: Scores, *, alpha: float, side: Side = "upper", counts: npt.ArrayLike | None = None
) -> Bound:
    """Bound E[h] after all draws so far, valid for all n at once: stop whenever you like. Their order is not used.

    Upper: the m at which the weighted mean over c of prod_i (1 + c (m - x_i) / (1 - m)) is 1/alpha; lower: the same
    for 1 - h; both: alpha / 2 each. A claim about the mean is proven (MeanEvidence) exactly if this is at most its
    limit. Assumes independent draws of one law on [0, 1].
    """
    alpha, side = check_alpha(alpha), check_side(side)
    values, weights = check_scores(scores, counts)
    mean = float(np.dot(values, weights) / weights.sum())
    lower, upper = steady.unit_limits(values, weights, alpha, side)
    return Bound("E[h]", mean, min(lower, mean), max(upper, mean), alpha, side, int(weights.sum()), METHOD)


def std_sequence_bound(scores: Scores, *, alpha: float, side: Side = "upper") -> Bound:
    """Bound sd(h) after all draws so far, in the order of generation, valid for all n at once.

    Upper: bets on the squares about the mean of the past draws; lower: on the squared differences of consecutive pairs,
    which have twice the variance as mean. ``side="both"``: alpha / 2 each. Draws that look sorted or grouped get the
    larger of this upper limit and one that needs no order, and no lower limit.

    Assumes independent draws of one law on [0, 1]. Proof: docs/methods.md, constant bets at any time.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    x = check_draws(scores)
    share, upper, lower = alpha / 2 if side == "both" else alpha, 0.5, 0.0
    doubtful = looks_arranged(x)
    if side != "lower":
        y, top = steady.square_steps(x)
        variance = steady.steady_upper(y, top, np.ones(y.size, np.int64), 0.25, share, steady.UPPER)
        variance = max(variance, steady.variance_without_order(x, share)) if doubtful else variance
        upper = math.sqrt(variance) * OUTWARD
    if side != "upper" and x.size > 1 and not doubtful:
        pairs = pair_squares(x)
        lower = math.sqrt(steady.unit_limits(pairs, np.ones(pairs.size, np.int64), share, "lower")[0] / 2) / OUTWARD
    sd = min(moments(*check_scores(x))[1], 0.5)
    return Bound("sd(h)", sd, min(lower, sd), max(min(upper, 0.5), sd), alpha, side, x.size, METHOD)


def ed_sequence_bound(scores: Scores, *, alpha: float, kappa: float = 2.0) -> Bound:
    """Upper bound on E[h] + kappa sd(h) after all draws so far, in the order of generation, valid for all n at once.

    One test, as ed_bound's: bets on :func:`spread_steps`. Never above (1 + sqrt(1 + kappa^2)) / 2, the largest value.
    Draws that look sorted or grouped get the larger of this and the limits of mean and sd, alpha / 2 each, that need no
    order.

    Assumes independent draws of one law on [0, 1]. Proof: docs/methods.md, constant bets at any time.
    """
    alpha, kappa = check_alpha(alpha), check_kappa(kappa)
    x = check_draws(scores)
    y, top = steady.spread_steps(x, kappa, alpha)
    most = (1 + math.sqrt(1 + kappa**2)) / 2
    upper = steady.steady_upper(y, top, np.ones(y.size, np.int64), most, alpha, steady.UPPER)
    if looks_arranged(x):
        spread = min(math.sqrt(steady.variance_without_order(x, alpha / 2)) * OUTWARD, 0.5)
        upper = max(upper, min(steady.unit_limits(*check_scores(x), alpha / 2, "upper")[1] + kappa * spread, most))
    mean, sd = moments(*check_scores(x))
    estimate, name = mean + kappa * sd, f"E[h] + {in_full(kappa)} sd(h)"
    return Bound(name, estimate, 0.0, max(upper, estimate), alpha, "upper", x.size, METHOD)


def survival_look(
    scores: Scores,
    *,
    alpha: float,
    first: int,
    side: Side = "upper",
    counts: npt.ArrayLike | None = None,
    method: str = "hybrid",
) -> SurvivalBand:
    """The survival band after ``first`` 2^j draws, valid at all j = 0, 1, 2, ... at once.

    Look j has level alpha / ((j + 1) (j + 2)); these sum to alpha (union bound). Otherwise as
    :func:`~leakbound.bounds.survival_bound`.

    Assumes independent draws, ``first`` fixed before them. InputError for another number of draws.
    """
    alpha, first = check_alpha(alpha), check_whole("first", first, 1)
    values, weights = check_scores(scores, counts)
    n = int(weights.sum())
    j = max(round(math.log2(n / first)), 0)
    if n != first * 2**j:
        raise InputError(f"scores hold {n} draws: look at {first} times a power of two, next at {first * 2 ** (j + 1)}")
    band = survival_bound(values, alpha=alpha / ((j + 1) * (j + 2)), side=side, counts=weights, method=method)
    return dataclasses.replace(
        band, alpha=alpha, method=f"{band.method}, valid at {first}, {2 * first}, ... draws at once"
    )
