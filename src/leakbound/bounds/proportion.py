"""P(leak) from k leaks in n draws."""

from leakbound.bounds.engines.binomial import MOST
from leakbound.bounds.engines.clopper import clopper_pearson
from leakbound.bounds.gate import Side, check_alpha, check_method, check_side, check_whole
from leakbound.bounds.result import Bound
from leakbound.errors import InputError


def proportion_bound(
    successes: int,
    n: int,
    *,
    alpha: float,
    side: Side = "upper",
    method: str = "clopper-pearson",
    estimand: str = "P(leak)",
    scope: str = "this prompt",
) -> Bound:
    """Bound the probability p of a leak from ``successes`` leaks in ``n`` draws.

    With k successes, p <= U where P(Bin(n, U) <= k) = alpha; U is the (1 - alpha)-quantile of Beta(k + 1, n - k), and 1
    when k = n. Lower limits by symmetry; ``side="both"`` gives each side alpha / 2. Never inside the exact limit and
    right in every printed digit, for every alpha and for n up to 2^53.

    Assumes n independent draws, n fixed before the first one. No monotone non-random upper limit is smaller.
    ``method``: ``"clopper-pearson"``, or ``"paper"``, the same. InputError for counts that cannot be.

    Clopper and Pearson 1934; M_bin of arXiv 2410.03523.

    >>> print(proportion_bound(0, 1024, alpha=0.01))
    For this prompt, P(leak) <= 0.004488 with confidence 0.99 (0.000000 observed in 1024 draws; Clopper-Pearson)
    """
    alpha, side = check_alpha(alpha), check_side(side)
    check_method(method, ("clopper-pearson", "paper"))
    n = check_whole("n", n, 1, MOST)
    k = check_whole("successes", successes)
    if k > n:
        raise InputError(f"successes is {k}, more than n, which is {n}: give the number of leaks among the n draws")
    share = alpha / 2 if side == "both" else alpha
    upper = 1.0 if side == "lower" else clopper_pearson(k, n, share, "upper")
    lower = 0.0 if side == "upper" else clopper_pearson(k, n, share, "lower")
    return Bound(estimand, k / n, lower, upper, alpha, side, n, "Clopper-Pearson", scope)
