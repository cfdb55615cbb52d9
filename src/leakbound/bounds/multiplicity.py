"""Statements about many prompts: the worst one, the k-th worst, all at once, and which ones are certified."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.binomial import ERROR, MOST, log_tail, log_tail_above
from leakbound.bounds.gate import as_numbers, check_alpha, check_fraction, check_whole
from leakbound.bounds.result import Bound
from leakbound.errors import InputError


def simultaneous_alpha(alpha: float, num_prompts: int) -> float:
    """The level for each prompt such that all ``num_prompts`` statements hold together with confidence 1 - alpha.

    1 - (1 - alpha)^(1/N), Sidak. Assumes that the prompts were sampled independently of one another.
    """
    alpha, num_prompts = check_alpha(alpha), check_whole("num_prompts", num_prompts, 1)
    return -math.expm1(math.log1p(-alpha) / num_prompts) * (1 - 1e-15)


def check_alike(bounds: Sequence[Bound]) -> Bound:
    """The first of some one-sided bounds of one side on one estimand."""
    if len(bounds) == 0:
        raise InputError("bounds is empty: give one bound per prompt")
    sides, estimands = {bound.side for bound in bounds}, {bound.estimand for bound in bounds}
    if len(sides) > 1 or "both" in sides:
        raise InputError(f"bounds have sides {sorted(sides)}: give one-sided bounds, all 'upper' or all 'lower'")
    if len(estimands) > 1:
        raise InputError(f"bounds are about {sorted(estimands)}: give bounds of one estimand")
    return bounds[0]


def worst_prompt_bound(bounds: Sequence[Bound]) -> Bound:
    """Every prompt at once, from one one-sided bound per prompt and without a correction for their number.

    max_i theta_i <= max_i U_i with confidence 1 - alpha: if the largest theta, that of prompt j, lies above every U_i,
    then it lies above U_j, which happens with probability <= alpha. Lower bounds: min_i theta_i >= min_i L_i.

    Assumes prompts fixed before the draws, bounds of one side and one estimand. alpha is the largest of theirs. It says
    nothing about the single bounds holding together: that needs :func:`simultaneous_alpha`.

    Intersection-union test, Berger 1982.

    >>> from leakbound import proportion_bound
    >>> worst_prompt_bound([proportion_bound(k, 1024, alpha=0.01) for k in (0, 3)]).claim
    'P(leak) <= 0.009776'
    """
    first = check_alike(bounds)
    pick = max if first.side == "upper" else min
    return Bound(
        first.estimand,
        pick(bound.estimate for bound in bounds),
        min(bound.lower for bound in bounds),
        max(bound.upper for bound in bounds),
        max(bound.alpha for bound in bounds),
        first.side,
        sum(bound.n for bound in bounds),
        f"intersection-union over {len(bounds)} prompts; {' or '.join(dict.fromkeys(b.method for b in bounds))}",
        "every prompt",
    )


def ordinal(k: int) -> str:
    """1st, 2nd, 3rd, 4th, ..."""
    ending = "th" if k % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return f"{k}{ending}"


def kth_worst_bound(bounds: Sequence[Bound], k: int, *, alpha: float) -> Bound:
    """Upper bound on the k-th largest value over the prompts, from one upper bound per prompt at any level gamma.

    theta_(k) <= U_[s], the s-th largest of the bounds, with the largest s <= k such that
    P(Bin(k, gamma) >= k - s + 1) <= alpha: if it fails, then at least k - s + 1 of the k largest prompts were missed by
    their own bounds. gamma, the largest alpha of the bounds, may be as large as 0.3: fewer draws per prompt.

    Assumes fixed prompts, sampled independently of one another. InputError where no s fits. Derived in docs/methods.md.
    """
    first, alpha = check_alike(bounds), check_alpha(alpha)
    k = check_whole("k", k, 1, len(bounds))
    if first.side != "upper":
        raise InputError("bounds have side 'lower': give upper bounds")
    gamma = max(bound.alpha for bound in bounds)
    misses = np.arange(1, k + 1)  # k - s + 1
    fits = misses[log_tail_above(misses, k, gamma) <= math.log(alpha) - ERROR]  # P(Bin(k, gamma) >= misses)
    if k == 1 and gamma <= alpha:
        fits = misses  # all of alpha, without rounding
    if not fits.size:
        remedy = "give a larger k, or bounds of a smaller alpha"
        raise InputError(f"bounds have alpha up to {gamma:g}, too large for k = {k} at alpha {alpha:g}: {remedy}")
    # the fewest misses among the k worst that are too rare: so U_[s] is missed with probability alpha at most
    s = k - int(fits[0]) + 1
    ranked = sorted((bound.upper for bound in bounds), reverse=True)
    estimates = sorted((bound.estimate for bound in bounds), reverse=True)
    method = f"{ordinal(s)} largest of {len(bounds)} bounds at alpha {gamma:g}; {first.method}"
    name = f"the {ordinal(k)} largest {first.estimand} of the {len(bounds)} prompts"
    total = sum(bound.n for bound in bounds)
    return Bound(name, estimates[k - 1], 0.0, ranked[s - 1], alpha, "upper", total, method, "these prompts together")


def leak_p_value(leaks: int, n: int, limit: float) -> float:
    """The p-value of "P(leak) > limit" from ``leaks`` in ``n`` draws: P(Bin(n, limit) <= leaks), rounded up.

    Assumes independent draws, n and ``limit`` fixed before the first one.
    """
    n = check_whole("n", n, 1, MOST)
    k = check_whole("leaks", leaks, 0, n)
    tail = float(log_tail(k, n, check_fraction("limit", limit, open_ends=True)))
    return min(1.0, max(math.exp(tail + ERROR), math.nextafter(0.0, 1.0)))  # rounded up, so never 0


def holm(p_values: Sequence[float] | npt.ArrayLike, *, alpha: float) -> tuple[bool, ...]:
    """Which hypotheses are rejected, with P(any true one among them) <= alpha, whatever the dependence.

    In rising order the j-th p-value (j = 0, 1, ...) is compared with alpha / (N - j), up to the first that is larger.
    With :func:`leak_p_value` the rejected prompts are those certified to leak at most ``limit``, all at once.

    Assumes valid p-values: P(p_i <= u) <= u for every true hypothesis i. InputError for numbers outside [0, 1].
    Holm 1979.

    >>> holm([0.001, 0.04, 0.03], alpha=0.05)
    (True, False, False)
    """
    alpha = check_alpha(alpha)
    p = np.array([check_fraction("p_values", value) for value in np.atleast_1d(np.asarray(p_values)).tolist()])
    order = np.argsort(p, kind="stable")
    # step-down: the j-th smallest against alpha / (N - j), until the first that fails
    passed = np.logical_and.accumulate(p[order] <= alpha / (p.size - np.arange(p.size)))
    rejected = np.zeros(p.size, dtype=bool)
    rejected[order] = passed
    return tuple(rejected.tolist())


def e_holm(log_e_values: Sequence[float] | npt.ArrayLike, *, alpha: float) -> tuple[bool, ...]:
    """:func:`holm` for e-values, given by their logarithms; valid for any dependence and at any stopping time.

    Hypothesis i is rejected if the average e-value of every set that contains i is at least 1/alpha, that is for all m:
    (e_i + the m smallest others) / (m + 1) >= 1/alpha. An average of e-values is an e-value, so this is a closed test.

    Assumes e-values: of mean at most 1 for every true hypothesis. Vovk and Wang 2021; proof: docs/methods.md.
    """
    alpha = check_alpha(alpha)
    logs = np.atleast_1d(as_numbers("log_e_values", log_e_values))
    if np.isnan(logs).any() or logs.ndim != 1:
        raise InputError("log_e_values holds NaN or is not one-dimensional: give one logarithm per hypothesis")
    e = np.exp(np.minimum(logs, 700.0))
    ascending = np.sort(e)
    sums, sizes = np.concatenate([[0.0], np.cumsum(ascending)]), np.arange(e.size + 1)
    rejected = []
    for place, own in zip(np.searchsorted(ascending, e), e, strict=True):
        # the worst set holds the i smallest; own is added where it is not among them
        with_own = np.where(sizes > place, sums, sums + own)
        size = np.where(sizes > place, sizes, sizes + 1)
        rejected.append(bool((with_own / size).min() * (1 - 1e-12) >= 1 / alpha))
    return tuple(rejected)
