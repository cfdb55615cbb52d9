"""Draw until P(leak) is known to a width: looks at sizes fixed in advance, and limits that are exact where it stopped.

Let S_j be the leaks among the first N_j draws. A prompt stops low at the first look j with S_j <= low_j, high with
S_j >= N_j - low_j, and at the last look whatever was seen. Where it stopped is ranked: low at the first look, low at
the second, ..., the last look, ..., high at the second, high at the first; within a look by S_j. One more leak anywhere
never lowers the rank, so P_p(rank <= r) falls in p, and the p at which it is alpha bounds P(leak) from above with
confidence 1 - alpha, as Clopper and Pearson's limit does for fixed n. Proof in docs/methods.md.

The rank is at most that of S_j = k exactly if the draws stopped low before look j, or reached it with S_j <= k. Both
are sums over the law of S_j on paths that have not stopped, carried from look to look by convolution with a binomial
law. Windows leave out parts of that law; whatever they can leave out is added to the probability.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from leakbound.bounds.engines.clopper import clopper_pearson_lower, clopper_pearson_upper
from leakbound.bounds.gate import Floats, Side, check_alpha, check_fraction, check_side, check_whole
from leakbound.bounds.looks import check_planned
from leakbound.bounds.result import Bound, Record
from leakbound.errors import InputError

GROWTH = 1.08
"""Each look has at least this factor of the draws of the look before."""

FIRST = 1.04
"""The first look has this factor of the draws that it needs: so it spends less of alpha than all."""

LAST = 1.002
"""The last look has this factor of the draws at which a half of leaks is narrow: so that every count is."""

NEAR = 1.02
"""A look so near the last one is left out."""

TINY = 1e-12
"""What one window leaves out, as a share of the probability that is solved for."""

LARGEST = 34.0
"""Log-odds above which a limit is 1: the probability without a leak could not be told from 0."""


@dataclass(frozen=True)
class GroupPlan(Record):
    """Look at ``sizes[j]`` draws; stop there with at most ``low[j]`` leaks or at most ``low[j]`` draws without one.

    At the last size the drawing ends whatever was seen, so that ``low`` is one shorter; -1 stops nobody. Where a prompt
    stops before the last size, P(leak) is known to ``width`` with confidence 1 - ``alpha``. Made by plan_groups.
    """

    width: float
    alpha: float
    sizes: tuple[int, ...]
    low: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", check_fraction("width", self.width, open_ends=True))
        object.__setattr__(self, "alpha", check_alpha(self.alpha))
        if not self.sizes or self.sizes[0] < 1 or any(a >= b for a, b in pairwise(self.sizes)):
            raise InputError(f"sizes is {self.sizes!r}: give rising numbers of draws >= 1")
        stops = zip(self.low, self.sizes, strict=False)
        if len(self.low) != len(self.sizes) - 1 or not all(-1 <= k < n / 2 for k, n in stops):
            raise InputError(f"low is {self.low!r}: give a number in [-1, n / 2) for each size n but the last")

    def ends(self, k: int, n: int) -> bool:
        """Whether the drawing ends with ``k`` leaks in ``n`` draws, n being one of the sizes."""
        j = self.place(n)
        return j == len(self.low) or min(k, n - k) <= self.low[j]

    def place(self, n: int) -> int:
        """The number of the look at ``n`` draws, from 0 on."""
        if n not in self.sizes:
            raise InputError(f"n is {n}: look at the planned sizes only, which are {', '.join(map(str, self.sizes))}")
        return self.sizes.index(n)

    def upper(self, k: int, n: int, share: float) -> float:
        """The upper limit of P(leak) at level ``share`` where the drawing ended."""
        if not self.ends(k, n):
            raise InputError(f"k is {k} at n = {n}, where the drawing goes on: give counts of where it ended")
        j = self.place(n)
        return upper_limit(self.sizes[: j + 1], self.low[:j], k, share)

    def limits(self, k: int, n: int, share: float) -> tuple[float, float]:
        """Lower and upper limit, each at level ``share``. The lower one by exchanging leaks and draws without one."""
        return 1 - self.upper(n - k, n, share), self.upper(k, n, share)

    def reached(self, k: int, n: int) -> bool:
        """Whether P(leak) is known to ``width`` where the drawing ended: upper - lower, each side at alpha / 2."""
        lower, upper = self.limits(k, n, self.alpha / 2)
        return upper - lower <= self.width


def group_bound(
    plan: GroupPlan, k: int, n: int, *, alpha: float, side: Side = "upper", estimand: str = "P(leak)"
) -> Bound:
    """Bound P(leak) after ``k`` leaks in ``n`` draws, where ``plan`` ended the drawing.

    Upper: the p with P_p(rank <= rank seen) = alpha; lower: P_p(rank >= rank seen) = alpha; both: alpha / 2 each.
    ``alpha`` need not be the plan's. Assumes independent draws, and that nothing but these leaks ended the drawing: for
    another threshold or scorer than the plan watched, use leak_sequence_bound. InputError for counts at which the plan
    does not end.
    """
    alpha, side = check_planned(alpha), check_side(side)
    n = check_whole("n", n, 1)
    k = check_whole("k", k, 0, n)
    share = alpha / 2 if side == "both" else alpha
    lower = 0.0 if side == "upper" else min(1 - plan.upper(n - k, n, share), k / n)
    upper = 1.0 if side == "lower" else max(plan.upper(k, n, share), k / n)
    return Bound(estimand, k / n, lower, upper, alpha, side, n, "exact for looks planned in advance")


def window(n: int, p: float, tiny: float) -> tuple[int, int]:
    """Counts [first, last] that hold all but ``tiny`` of Bin(n, p), by Bernstein's inequality."""
    log = math.log(2 / tiny)
    far = log / 3 + math.sqrt(log * log / 9 + 2 * log * n * p * (1 - p))
    return max(0, math.floor(n * p - far)), min(n, math.ceil(n * p + far))


def binomial(n: int, p: float, tiny: float) -> tuple[int, Floats]:
    """The first count of the window, and the probabilities from there on, scaled to the sum 1; 0 < p < 1."""
    first, last = window(n, p, tiny)
    k = np.arange(first, last, dtype=np.float64)
    steps = np.log((n - k) / (k + 1)) + (math.log(p) - math.log1p(-p))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    law = np.exp(logs - logs.max())
    return first, law / law.sum()


def at_most(sizes: tuple[int, ...], low: tuple[int, ...], k: int, p: float, share: float) -> float:
    """P_p(rank <= that of ``k`` leaks at the last of ``sizes``): never too small, at most 1e-9 ``share`` too large.

    P(stopped low before the last look) + P(reached it with S <= k). The law of S starts at the first look that stops
    more than tiny of the draws; each look before it, and each window of a law and of a step, leaves out at most tiny.
    """
    tiny = share * TINY
    total = 3 * len(sizes) * tiny
    start, law, done = 0, np.ones(1), 0
    for n, most in zip(sizes, (*low, k), strict=True):
        first, last = window(n, p, tiny)
        # where hardly anybody stops the look is not played, which leaves out at most tiny of the probability
        if done == 0 and n < sizes[-1] and most < first and last < n - most:
            continue
        shift, step = binomial(n - done, p, tiny)
        law, start, done = np.convolve(law, step), start + shift, n
        law, start = law[max(first - start, 0) : max(last + 1 - start, 0)], max(first, start)
        # "rank at most that of (last look, k)": stopped low before, or reached it with S <= k; the others go on
        total += float(law[: max(most + 1 - start, 0)].sum())
        law, start = law[max(most + 1 - start, 0) : max(n - most - start, 0)], max(most + 1, start)
        if not law.size:
            break
    return total


@lru_cache(maxsize=65536)
def upper_limit(sizes: tuple[int, ...], low: tuple[int, ...], k: int, share: float) -> float:
    """The p at which P_p(rank <= that of ``k`` leaks at the last size) is ``share``, rounded up; 1 where all leaked."""
    from scipy import optimize  # here, because importing it takes 0.2 s

    if k == sizes[-1]:
        return 1.0

    def excess(x: float) -> float:
        return math.log(at_most(sizes, low, k, expit(x), share) / share)

    # at_most falls in p (one more leak never lowers the rank): bracket the root from the limit for fixed n
    guess = min(float(clopper_pearson_upper(k, sizes[-1], share)), expit(LARGEST))
    left = right = math.log(guess) - math.log1p(-guess)
    step = 0.05
    while excess(left) <= 0:
        left, step = left - step, 2 * step
    while excess(right) > 0:
        left, right, step = right, right + step, 2 * step
        if right > LARGEST:
            return 1.0
    # outward until the inequality itself holds, so that the root finder is not trusted
    right = float(optimize.brentq(excess, left, right, xtol=1e-10)) + 1e-9
    while excess(right) > 0:
        right += 1e-9
    return expit(right)


def expit(x: float) -> float:
    """The probability whose log-odds are ``x``."""
    return 1 / (1 + math.exp(-x))


@lru_cache(maxsize=64)
def plan_groups(width: float, *, alpha: float, budget: int) -> GroupPlan:
    """The plan that stops where P(leak) is known to ``width`` with confidence 1 - ``alpha``, after at most ``budget``.

    Each look stops every count up to the largest at which upper - lower <= width, both limits exact; these limits
    depend on the looks before it only. A look has GROWTH times the draws of the one before or, if that is more, what
    one more leak needs. The last is the budget or, if that is less, where every count is narrow. Any sizes are valid.
    """
    width, alpha = check_fraction("width", width, open_ends=True), check_planned(alpha)
    budget, share = check_whole("budget", budget, 1), alpha / 2
    sizes: tuple[int, ...] = ()
    low: tuple[int, ...] = ()

    def narrow(n: int, k: int) -> bool:
        upper, lower = (upper_limit((*sizes, n), low, some, share) for some in (k, n - k))
        return upper - (1 - lower) <= width

    def fewest(n: int, most: int, enough: Callable[[int], bool]) -> int:
        """The fewest draws in [n, most] that are enough, ``most`` if none are."""
        below, n = n - 1, min(n, most)
        while n < most and not enough(n):
            below, n = n, min(2 * n, most)
        while n - below > 1:
            middle = (below + n) // 2
            below, n = (below, middle) if enough(middle) else (middle, n)
        return n

    end = min(budget, math.ceil(LAST * fewest(1, budget, lambda n: narrow(n, n // 2))))
    n, k = 0, -1
    while True:
        more, start = k + 1, max(math.ceil(n * GROWTH), n + 1, 2 * k + 3)
        n = fewest(start, end, lambda n: narrow(n, more))  # noqa: B023
        n = n if sizes else math.ceil(n * FIRST)
        if n * NEAR >= end:
            return GroupPlan(width, alpha, (*sizes, end), low)
        counts = np.arange(more, (n + 1) // 2)
        known = clopper_pearson_upper(counts, n, share) - clopper_pearson_lower(counts, n, share) <= width
        k = int(counts[known].max(initial=more))
        while not narrow(n, k):
            k -= 1
        sizes, low = (*sizes, n), (*low, k)
