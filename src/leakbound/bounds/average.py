"""The average over fixed prompts, of P(leak) and of E[h]."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.binomial import MOST
from leakbound.bounds.engines.clopper import clopper_pearson_upper
from leakbound.bounds.engines.evidence import Evidence
from leakbound.bounds.engines.portfolio import portfolio_upper
from leakbound.bounds.engines.product import product_upper
from leakbound.bounds.gate import Floats, Ints, Scores, Side, check_alpha, check_scores, check_side, check_whole
from leakbound.bounds.result import Bound
from leakbound.errors import InputError

PORTFOLIO = 0.85
"""Share of alpha for the portfolio, the rest for the product; fixed, so that no data can choose."""


def pooled_upper(k: int, n: int, alpha: float) -> float:
    """The average of n unequal probabilities from k successes in n independent trials: max(CP(k, n), (k + 1) / n).

    Hoeffding 1956: P(S <= c) <= P(Bin(n, pbar) <= c) for c <= n pbar - 1. A miss means S <= c for the largest c whose
    limit lies below pbar, and then (c + 1) / n < pbar, so the condition holds.
    """
    return min(1.0, max(float(clopper_pearson_upper(k, n, alpha)), (k + 1) / n * (1 + 1e-15)))


def stratified_upper(strata: Sequence[tuple[Floats, Ints]], alpha: float) -> float:
    """The average over strata of E[h], every stratum with the same weight; sizes may differ.

    A draw of stratum i counts a_i h with a_i = n / (N n_i), so that the n means average to the wanted value.
    """
    sizes = np.array([weights.sum() for _, weights in strata], dtype=np.float64)
    if sizes.sum() > MOST:
        raise InputError(f"counts sum to {sizes.sum():.17g} over all prompts: give at most {MOST} draws in all")
    scale = sizes.sum() / (len(strata) * sizes)
    y = np.concatenate([a * values for a, (values, _) in zip(scale, strata, strict=True)])
    y, inverse = np.unique(y, return_inverse=True)
    weights = np.zeros(y.size, dtype=np.int64)
    np.add.at(weights, inverse, np.concatenate([w for _, w in strata]))
    return min(1.0, portfolio_upper(y, weights, alpha, float(scale.max())))


def either_upper(strata: Sequence[tuple[Floats, Ints]], alpha: float) -> float:
    """The smaller one of the portfolio at PORTFOLIO alpha and the product of e-processes at the rest of alpha.

    Which one is smaller depends on the law: the portfolio where prompts are alike, the product where they are not, or
    where sizes differ and nothing leaks. One prompt: the portfolio at alpha.
    """
    if len(strata) == 1:
        return stratified_upper(strata, alpha)
    first = PORTFOLIO * alpha
    evidence = [Evidence.independent(values, weights) for values, weights in strata]
    return min(stratified_upper(strata, first), product_upper(evidence, alpha - first))


def either_name(prompts: int) -> str:
    """What :func:`either_upper` does, in words."""
    if prompts == 1:
        return "portfolio of constant bets over 1 prompts"
    return (
        f"portfolio of constant bets at {PORTFOLIO:g} of alpha, or product of e-processes at the rest, "
        f"over {prompts} prompts"
    )


def average_proportion_bound(
    successes: Sequence[int] | npt.ArrayLike,
    n: int | Sequence[int] | npt.ArrayLike,
    *,
    alpha: float,
    side: Side = "upper",
    estimand: str = "P(leak)",
) -> Bound:
    """Bound the average over N fixed prompts of P(leak), from k_i leaks in n_i draws of prompt i.

    Equal n_i: max(CP(sum k, sum n), (sum k + 1) / sum n), CP at level alpha; at all sizes tried it is the smallest but
    where some prompts always leak. Unequal n_i: the smaller one of a portfolio of constant bets on reweighted draws, at
    0.85 alpha, and the product of e-processes, at 0.15 alpha. Lower sides through 1 - h; ``side="both"`` gives each
    side alpha / 2.

    Assumes independent draws, all n_i fixed before the first one. ``n`` is one number or one per prompt.

    Hoeffding 1956; docs/methods.md.

    >>> average_proportion_bound([0, 3], 1024, alpha=0.01).claim
    'P(leak) <= 0.004897'
    """
    alpha, side = check_alpha(alpha), check_side(side)
    ks = [check_whole("successes", k) for k in np.atleast_1d(np.asarray(successes)).tolist()]
    given = np.atleast_1d(np.asarray(n)).tolist()
    ns = [check_whole("n", size, 1) for size in (given * len(ks) if len(given) == 1 else given)]
    if not ks or len(ks) != len(ns):
        raise InputError(f"successes has {len(ks)} entries and n has {len(ns)}: give one of each per prompt")
    for k, size in zip(ks, ns, strict=True):
        if k > size:
            raise InputError(
                f"successes is {k}, more than n, which is {size}: give the number of leaks among the draws"
            )
    share = alpha / 2 if side == "both" else alpha
    equal, total = len(set(ns)) == 1, sum(ns)

    def upper_of(hits: list[int]) -> float:
        if equal:
            return pooled_upper(sum(hits), total, share)
        strata = [check_scores([0.0, 1.0], [size - k, k]) for k, size in zip(hits, ns, strict=True)]
        return either_upper(strata, share)

    upper = 1.0 if side == "lower" else upper_of(ks)
    lower = 0.0 if side == "upper" else 1.0 - upper_of([size - k for k, size in zip(ks, ns, strict=True)])
    estimate = float(np.mean([k / size for k, size in zip(ks, ns, strict=True)]))
    method = f"pooled Clopper-Pearson over {len(ks)} prompts" if equal else either_name(len(ks))
    lower = max(lower - 1e-15, 0.0)
    return Bound(estimand, estimate, lower, upper, alpha, side, total, method, "the average prompt")


def average_mean_bound(
    scores: Sequence[Scores],
    *,
    alpha: float,
    side: Side = "upper",
    counts: Sequence[npt.ArrayLike] | None = None,
    estimand: str = "E[h]",
) -> Bound:
    """Bound the average over N fixed prompts of E[h], from the scores of each prompt.

    The smaller one of two bounds. At 0.85 alpha a portfolio of constant bets: the root m of mean_c prod_i [(1 - c) + c
    (1 - x_i) / (1 - m)] = 1 / (0.85 alpha) over all draws; with unequal n_i draws are reweighted so that every prompt
    counts the same. At 0.15 alpha
    :func:`product_average_bound`. Lower sides through 1 - h; ``side="both"`` gives
    each side alpha / 2.

    Assumes independent draws, all n_i fixed before the first one; the prompts may differ in any way.

    Constant bets: Cover's universal portfolio; validity for unequal means: docs/methods.md.

    >>> average_mean_bound([[0.0] * 500, [0.0, 0.2] * 250], alpha=0.01).claim
    'E[h] <= 0.059916'
    """
    alpha, side = check_alpha(alpha), check_side(side)
    if len(scores) == 0:
        raise InputError("scores is empty: give the scores of at least one prompt")
    if counts is not None and len(counts) != len(scores):
        raise InputError(f"counts has {len(counts)} entries: give one array for each of the {len(scores)} prompts")
    strata = [check_scores(s, None if counts is None else counts[i]) for i, s in enumerate(scores)]
    share = alpha / 2 if side == "both" else alpha
    upper = 1.0 if side == "lower" else either_upper(strata, share)
    lower = 0.0
    if side != "upper":
        lower = max(1.0 - either_upper([(1.0 - v, w) for v, w in strata], share) - 1e-15, 0.0)
    estimate = float(np.mean([np.dot(v, w / w.sum()) for v, w in strata]))
    total = int(sum(w.sum() for _, w in strata))
    method = either_name(len(strata))
    return Bound(estimand, estimate, lower, upper, alpha, side, total, method, "the average prompt")


def product_average_bound(
    evidence: Sequence[Evidence], *, alpha: float, side: Side = "upper", estimand: str = "E[h]"
) -> Bound:
    """Bound the average over N fixed prompts of theta_i = E[h], from the evidence of each, whenever its draws stopped.

    m is rejected if, for one of a fixed list of mixtures with shares that sum to 1, its share times the product of
    e_i(p_i) is at least 1/alpha for all p that average to m or more, within the certain limits L_i <= p_i <= L_i + 1 -
    M_i of prompts without replacement. The bound is the least such m. Lower sides through 1 - h; ``side="both"`` gives
    each side alpha / 2. For P(leak) give scores 0 and 1.

    Assumes fixed prompts and draws that are independent from prompt to prompt; each prompt may stop at any time, and
    the choice which prompt to draw from next may depend on all that was seen. It does not hold for evidence that was
    picked from several moments afterwards, such as the best look of each prompt.

    Stratified e-processes: cf. Spertus, Sridhar and Stark, arXiv 2409.06680; this form and proof: docs/methods.md.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    if len(evidence) == 0:
        raise InputError("evidence is empty: give the evidence of at least one prompt")
    share = alpha / 2 if side == "both" else alpha
    upper = 1.0 if side == "lower" else product_upper(evidence, share)
    lower = 0.0
    if side != "upper":
        lower = max(1.0 - product_upper([one.mirrored() for one in evidence], share) - 1e-15, 0.0)
    estimate = math.fsum(one.estimate for one in evidence) / len(evidence)
    distinct = sum(one.masses is not None for one in evidence)
    unit = "distinct generations" if distinct == len(evidence) else "draws, some without replacement"
    unit = unit if distinct else "draws"
    method = f"product of e-processes over {len(evidence)} prompts, valid at any stopping time"
    total = sum(one.n for one in evidence)
    return Bound(estimand, estimate, min(lower, upper), upper, alpha, side, total, method, "the average prompt", unit)
