"""Planned looks: stop early when few leaks were seen, at sample sizes fixed before the first draw."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from leakbound.bounds.engines.binomial import MOST, log_pmf
from leakbound.bounds.engines.search import fewest
from leakbound.bounds.gate import Floats, check_alpha, check_fraction, check_whole
from leakbound.bounds.result import Record
from leakbound.errors import InputError

LEAST_ALPHA = 1e-290
"""Below this level the shares of alpha come near the end of the normal floats."""


def check_planned(alpha: object) -> float:
    """A level at which looks can be planned."""
    level = check_alpha(alpha)
    if level < LEAST_ALPHA:
        raise InputError(f"alpha is {alpha!r}: give at least {LEAST_ALPHA:g}; smaller probabilities cannot be planned")
    return level


EVEN = 12
"""About this many first looks get nearly even shares of alpha."""


def look_shares(num_looks: int) -> tuple[float, ...]:
    """Shares of alpha for the looks at a bound, of which one will count: they fall, and sum to 1 at most.

    Share r of R is a (R + a) / (R (r + a - 1) (r + a)) with a = 12: at least 1/R at the first looks, and R / (R + a) of
    it stays however many looks are added. A bound at level share r alpha at look r holds at whatever look one stops.
    """
    count = check_whole("num_looks", num_looks, 1)
    scale = EVEN * (count + EVEN) / count * (1 - 1e-12)
    return tuple(scale / ((r + EVEN - 1) * (r + EVEN)) for r in range(1, count + 1))


@dataclass(frozen=True)
class PlannedLooks(Record):
    """At ``sizes[j]`` draws, P(leak) <= ``limit`` is proven by at most ``allowed[j]`` leaks. Made by plan_looks."""

    limit: float
    alpha: float
    sizes: tuple[int, ...]
    allowed: tuple[int, ...]

    def proven(self, leaks: int, n: int) -> bool:
        """Whether this look proves the claim. ``n`` must be one of the planned sizes."""
        if n not in self.sizes:
            raise InputError(f"n is {n}: look at the planned sizes only, which are {', '.join(map(str, self.sizes))}")
        return check_whole("leaks", leaks, 0, n) <= self.allowed[self.sizes.index(n)]

    def next_size(self, n: int) -> int | None:
        """The first planned size above ``n``; None after the last look."""
        return next((size for size in self.sizes if size > n), None)


def binomial_pmf(n: int, p: float, most: int) -> Floats:
    """P(Bin(n, p) = 0, ..., most), each right to 1e-11 of itself; 0 < p < 1."""
    k = np.arange(most + 1, dtype=np.float64)
    left = np.maximum(n - k, 0.0)
    return np.where(k <= n, np.exp(log_pmf(k, left, np.full_like(k, p), np.full_like(k, 1 - p))[0]), 0.0)


def plan_looks(
    limit: float,
    *,
    alpha: float,
    allowed: tuple[int, ...] = (0, 1, 2, 4, 7),
    shares: tuple[float, ...] = (0.5, 0.2, 0.12, 0.1, 0.08),
) -> PlannedLooks:
    """The smallest sizes N_1 < N_2 < ... such that look j passes first with P <= shares[j] alpha when p = limit.

    Passing at some look only gets rarer as p grows, so P(claim proven) <= alpha for every p >= limit. The probabilities
    are exact: the law of the leaks that have not passed is carried from look to look. InputError for an alpha below
    1e-290, which the smallest floats cannot carry, and for a limit so small that a look would need 2^53 draws.
    """
    limit, alpha = check_fraction("limit", limit, open_ends=True), check_planned(alpha)
    allowed = tuple(check_whole("allowed", leaks) for leaks in allowed)
    shares = tuple(check_fraction("shares", share) for share in shares)
    ascending = all(a < b for a, b in pairwise(allowed))
    if not allowed or not ascending or len(shares) != len(allowed):
        raise InputError(f"allowed is {allowed!r}: give rising numbers of leaks >= 0, one for each of the shares")
    if min(shares) <= 0 or sum(shares) > 1 + 1e-12:
        raise InputError(f"shares is {shares!r}: give positive shares of alpha that sum to at most 1")
    most = allowed[-1]
    waiting = np.zeros(most + 1)  # P(no pass so far, k leaks so far)
    waiting[0] = 1.0
    sizes: list[int] = []
    for most_now, share in zip(allowed, shares, strict=True):
        done = sizes[-1] if sizes else 0
        spend = share * alpha * (1 - 1e-9)

        def rare(more: int, most_now: int = most_now, waiting: Floats = waiting, spend: float = spend) -> bool:
            if more > MOST:
                raise InputError(f"limit is {limit!r}: a look would need more than {MOST} draws; give a larger limit")
            return float(np.convolve(waiting, binomial_pmf(more, limit, most))[: most_now + 1].sum()) <= spend

        # the fewest further draws whose chance of passing here, after no pass before, is within this look's share
        more = fewest(rare)
        sizes.append(done + more)
        waiting = np.convolve(waiting, binomial_pmf(more, limit, most))[: most + 1]
        waiting[: most_now + 1] = 0.0  # who passed is out: the next look's chance is that of a first pass
    return PlannedLooks(limit, alpha, tuple(sizes), allowed)
