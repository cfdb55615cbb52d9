"""Independent draws of one prompt: bets draw by draw, and how likely a band is crossed."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from leakbound.auditing.second.tails import MOST, Moments
from leakbound.bounds.engines.order import looks_arranged
from leakbound.records import Draw

Floats = NDArray[np.float64]
STEADY = [0.999 * 1.6**-j for j in range(18)]
WEIGHTS = [0.25, *(0.75 * 0.8**j / sum(0.8**i for i in range(17)) for j in range(17))]


def squares(x: Floats, *, ahead: float = 0.0, often: float = 0.0) -> tuple[list[tuple[float, float]], ...]:
    """(Y_t, top_t) of each draw for the variance, (x - c)^2, and for mean + 2 sd, x + s + (x - c)^2 / s.

    c is the mean of the draws before and one 1/2; s^2 = (the squares before + 1/4 + ``often``) / t + ``ahead``, at most
    1/4; top_t is the largest value that Y_t could have had.
    """
    total, past, found = 0.5, 0.25, ([], [])  # type: ignore[var-annotated]
    for t, h in enumerate(x.tolist(), 1):
        c, s = total / t, math.sqrt(min((past + often) / t + ahead, 0.25))
        found[0].append(((h - c) ** 2, max(c, 1 - c) ** 2 * (1 + 1e-12)))
        values = [v + s + (v - c) ** 2 / s for v in (h, 0.0, 1.0)]
        found[1].append((values[0], max(values[1:]) * (1 + 1e-12)))
        total, past = total + h, past + (h - c) ** 2
    return found


def star_refutes(pairs: Sequence[tuple[float, float]], at: float, end: float, n: int, alpha: float) -> bool:
    """Whether STaR bets refute every value from ``at`` to ``end`` of the least conditional mean of the Y_t.

    ``pairs``: (Y_t, top_t), of n draws; all top_t are 1 for the mean itself. Each cell bets with its left end.
    """
    steps, wanted, mean, cells = len(pairs), -math.log(alpha), all(top == 1.0 for _, top in pairs), [0.0]
    while (g := cells[-1]) < end:
        cells.append(g + (0.2 * math.sqrt(g * (end - g) / n) + 0.1 * end / n))
    at *= 1 + 1e-12  # where it is the end of a cell, that is not the one below it by rounding
    s = np.array([left for left, right in pairwise(cells) if right > at])
    own, wealth, best, first, second, until = 0 * s, 0 * s, 0 * s, 0.0, 0.0, 0
    for t, (y, top) in enumerate(pairs):
        if t == until:
            left = best < wanted  # the others are refuted
            if not left.any():
                return True
            s, own, wealth, best = s[left], own[left], wealth[left], best[left]
            until += max(1, min(t, steps - t) // 64)
            ceiling = s * np.maximum(top - s, 0.0) + (min(1e-4, 0.5 / steps) if mean else 1e-9)
            variance = ceiling
            if t:
                floor = (1 - s) * steps / t**2 if mean else ceiling * math.sqrt(steps) / t
                variance = np.minimum(second / t - 2 * s * first / t + s * s + floor, ceiling)
            missing = np.maximum(wanted + 1e-9 - own, 0.0)
            square = 2 * missing if steps < 100 else missing * (0.76 + 0.48 * missing) / (1 + 0.24 * missing)
            bet = np.sqrt(square / (np.maximum(variance, 1e-300) * (steps - t)))
            bet = np.minimum(bet, 1 / (np.maximum(top - s, 0.0) + 1e-4))
        placed = np.minimum(bet, 1 / (np.maximum(top - s, 0.0) + 1e-4))
        own = own + np.log1p(placed * (s - y))
        wealth = wealth + np.log1p(placed * (np.maximum(s, at) - y))
        best, first, second = np.maximum(best, wealth), first + y, second + y * y
    return bool((best >= wanted).all())


def evidence(
    y: Floats, top: Floats | float, counts: Floats, at: float, bets: Sequence[float], weights: Floats
) -> float:
    """ln of the weighted mean over the bets c of prod (1 + c (at - y) / (top - at)); certain from the least top on."""
    if at >= np.min(top) * (1 - 1e-12):
        return math.inf
    logs = np.array([math.fsum(counts * np.log1p(c * (at - y) / (top - at))) for c in bets])
    return float(logs.max() + np.log(np.dot(weights, np.exp(logs - logs.max()))))


def steady_refutes(pairs: Sequence[tuple[float, float]], at: float, alpha: float) -> bool:
    """Whether constant bets, at whatever draw one stopped, refute that the least conditional mean is ``at`` or more."""
    y, top = (np.array(some) for some in zip(*pairs, strict=True))
    return evidence(y, top, np.ones(y.size), at, STEADY, np.array(WEIGHTS)) >= -math.log(alpha)


def bet_sizes(n: int, alpha: float) -> list[float]:
    """The bets of a portfolio, fixed by n and alpha."""
    number = max(2, math.ceil(math.log2(math.sqrt(n)))) if n > 1 else 1
    least = min(math.sqrt(2 * -math.log(alpha) / n) / 0.6, 0.9)
    return [least * (0.999 / least) ** (j / (number - 1)) for j in range(number)] if number > 1 else [0.999]


def unordered_refutes(
    values: Floats, counts: Floats, at: float, alpha: float, *, variance: bool, steady: bool = False
) -> bool:
    """Whether constant bets refute that the mean, or the variance, is ``at`` or more: in any order. ``steady``: those
    that hold at whatever draw one stopped."""
    n = int(counts.sum())
    bets = STEADY if steady else bet_sizes(n, alpha)
    weights = np.array(WEIGHTS) if steady else np.full(len(bets), 1 / len(bets))
    if not variance:
        return evidence(values, 1.0, counts, at, bets, weights) >= -math.log(alpha)
    last = 64 if steady else min(math.ceil(math.sqrt(n) / 2), 2**14)
    centres = [j / last for j in range(last + 1)] if n > 1 or steady else [0.5]
    tops = [max(c, 1 - c) ** 2 * (1 + 1e-12) for c in centres]
    logs = np.array(
        [evidence((values - c) ** 2, top, counts, at, bets, weights) for c, top in zip(centres, tops, strict=True)]
    )
    return bool(np.isinf(logs).any() or logs.max() + math.log(np.exp(logs - logs.max()).mean()) >= -math.log(alpha))


def level_of(n: int, alpha: float, sizes: Sequence[int] | None) -> float:
    """At which level a bound for fixed n is made where one of these looks will count."""
    if sizes is None:
        return alpha
    look = sizes.index(n) + 1
    return alpha * (len(sizes) + 12) / len(sizes) * 12 / ((look + 11) * (look + 12))


def graded(
    drawn: Sequence[tuple[Draw, float]], claims: Moments, alpha: float, sizes: Sequence[int] | None = None
) -> list[bool]:
    """Whether the draws of one prompt, with their scores, prove each claim; ``sizes``: the rounds at which it may have
    stopped."""
    values, counts = np.array([h for _, h in drawn]), np.array([draw.count for draw, _ in drawn])
    n, x = int(counts.sum()), None
    if all(draw.places is not None for draw, _ in drawn):
        x = np.array([h for _, h in sorted((place, h) for draw, h in drawn for place in draw.places or ())])
    mean, sd, both = claims[0], claims[1] ** 2 * (1 + 1e-13), claims[2]
    level, doubtful = level_of(n, alpha, sizes), x is None or looks_arranged(x)
    right = [True] * 3
    steady = sizes is not None and x is not None
    if doubtful:
        level = alpha if steady else level
        right = [
            unordered_refutes(values, counts, mean, level, variance=False, steady=steady),
            unordered_refutes(values, counts, sd, level, variance=True, steady=steady),
            _apart(values, counts, level, steady=steady) <= both * (1 + 1e-9),
        ]
    if x is not None and sizes is None:
        skip = min(10, n // 8)
        spreads, sums = (some[skip:] for some in squares(x, ahead=-math.log(alpha) / n))
        cases = (([(h, 1.0) for h in x.tolist()], mean), (spreads, sd), (sums, both))
        right = [
            known and star_refutes(pairs, at, most, n, alpha)
            for known, (pairs, at), most in zip(right, cases, (1.0, 0.25, MOST[2]), strict=True)
        ]
    elif sizes is not None and x is None:  # constant bets on the mean need no order
        right[0] = steady_refutes(
            [(h, 1.0) for h, c in zip(values.tolist(), counts.tolist(), strict=True) for _ in range(c)], mean, alpha
        )
    elif x is not None:
        spreads, sums = (some[4:] for some in squares(x, often=-math.log(alpha) / 8))
        cases = (([(h, 1.0) for h in x.tolist()], mean), (spreads, sd), (sums, both))
        right = [
            known and (not pairs or steady_refutes(pairs, at, alpha))
            for known, (pairs, at) in zip(right, cases, strict=True)
        ]
    return [said or claim >= most for said, claim, most in zip(right, claims, MOST, strict=True)]


def _apart(values: Floats, counts: Floats, alpha: float, *, steady: bool) -> float:
    """mean + 2 sd from limits of each at alpha / 2, in any order."""

    def least(end: float, variance: bool) -> float:
        low, high = 0.0, end
        for _ in range(40):
            middle = (low + high) / 2
            refuted = unordered_refutes(values, counts, middle, alpha / 2, variance=variance, steady=steady)
            low, high = (low, middle) if refuted else (middle, high)
        return high

    return least(1.0, False) + 2 * math.sqrt(least(0.25, True))


def crossing(ranks: Sequence[int], levels: Sequence[float], n: int, negligible: float) -> float:
    """P(r or more of n uniform draws lie below b_r, for some rank r); ranks and levels b_r ascend. Never too small.

    The law of how many lie below the level, cut at each rank, goes on by binomials: of the draws above one level each
    lies below the next with the same chance. States of less than ``negligible`` count as crossings.
    """
    from scipy.special import gammaln  # here, because importing it takes 0.2 s

    logs, law, least, below, crossed = gammaln(np.arange(n + 1) + 1.0), np.ones(1), 0, 0.0, 0.0
    for r, level in zip(ranks, levels, strict=True):
        chance, below = (level - below) / (1 - below), level
        if chance > 0:
            mean = (n - least) * chance
            more = np.arange(min(n - least, int(mean + 12 * math.sqrt(mean) + 40)) + 1)  # all but e^-72, by Bennett
            left = n - least - np.arange(law.size)[:, None]
            rest = np.maximum(left - more, 0)
            terms = logs[left] - logs[more] - logs[rest] + more * math.log(chance) + rest * math.log1p(-chance)
            terms = np.where(more <= left, np.exp(terms) * law[:, None], 0.0)
            law = np.zeros(law.size + more.size)
            for i, row in enumerate(terms):
                law[i : i + more.size] += row
        crossed += float(law[max(r - least, 0) :].sum())
        law = law[: max(r - least, 0)]
        kept = np.flatnonzero(law > negligible)
        if not kept.size:
            return 1.0
        crossed += float(law[: kept[0]].sum() + law[kept[-1] + 1 :].sum())
        law, least = law[kept[0] : kept[-1] + 1], least + int(kept[0])
    return crossed


def ranks_of(n: int) -> list[int]:
    """The ranks that carry a level: all up to n = 2000, above that in steps of a share of sqrt(min(r, n - r)), or of
    a 65,536th of that where it is more."""
    if n <= 2000:
        return list(range(1, n + 1))
    share, found = 0.1 if n <= 20_000 else 0.3 if n <= 200_000 else 1.0, [1]
    while (r := found[-1]) <= n:
        near = min(r, n - r)
        found.append(r + max(1, int(share * math.sqrt(near)), near // 65536))
    return found[:-1]


def band_holds(claims: Mapping[int, float], n: int, alpha: float) -> bool:
    """Whether P(h > x) <= claims[N], N of n draws being at most x, for all x and all laws at once.

    Levels b_r = max(eta-quantile of Beta(r, n - r + 1), r / n - 1.1 eps), with the least eta for which the claims are
    no less than 1 - b_N. If they are crossed with probability alpha or less, they lie below those of the largest such
    eta, which n and alpha fix; any eps that these fix is as good.
    """
    from scipy import special

    eps = 1.1 * (special.smirnovi(n, alpha) if n <= 2000 else math.sqrt(-math.log(alpha) / (2 * n)))
    ranks, eta = np.array(ranks_of(n)), 0.0
    for below, claim in claims.items():
        known = ranks[ranks <= below]
        r, level = (int(known[-1]) if known.size else 0), (1 - claim) * (1 - 1e-13)
        if level > r / n - eps and level > 0:
            eta = max(eta, float(special.betainc(r, n - r + 1, level)) if r else 1.0)
    if n > 2**20:  # by the union bound
        return ranks.size * eta + math.exp(-2 * n * eps**2) <= alpha * (1 + 1e-9)
    if eta >= alpha:  # one rank alone would be crossed too often
        return False
    local = special.betaincinv(ranks, n - ranks + 1.0, eta)
    levels = np.maximum.accumulate(np.clip(np.maximum(local, ranks / n - eps), 0.0, 1.0))
    return crossing(ranks.tolist(), levels.tolist(), n, alpha * 1e-16) <= alpha


def everywhere_near(claims: Mapping[int, float], n: int, alpha: float) -> bool:
    """:func:`band_holds` by the inequality of Dvoretzky, Kiefer, Wolfowitz and Massart."""
    eps = math.sqrt(-math.log(min(alpha, 0.5)) / (2 * n))
    return all(claim >= min((n - below) / n + eps, 1.0) - 1e-14 for below, claim in claims.items())


def largest_near(values: Sequence[float], counts: Sequence[float], alpha: float) -> tuple[float, float]:
    """The largest mean, and the largest sd, of any law on [0, 1] near distinct values in ascending order.

    Near: within sqrt(ln(1/alpha) / 2n) of them on the side of the mean, sqrt(ln(2/alpha) / 2n) on both for the sd. The
    first has that much of the mass moved from the bottom to 1; the second has a window of twice as much taken out of
    the middle, half of it to 0 and half to 1. As the window moves, E[h] and E[h^2] are linear between its corners.
    """
    x, n = np.array(values), sum(counts)
    ends = np.cumsum(counts) / n
    starts = np.append(0.0, ends[:-1])
    once, twice = (math.sqrt(math.log(sides / min(alpha, 0.5)) / (2 * n)) for sides in (1, 2))

    def sums(middle: float, eps: float) -> tuple[float, float]:
        kept = np.maximum(np.minimum(ends, middle - eps) - starts, 0.0)
        kept += np.maximum(ends - np.maximum(starts, middle + eps), 0.0)
        at_1 = min(1 - middle, eps)
        return float(kept @ x) + at_1, float(kept @ x**2) + at_1

    corners = np.concatenate([ends - twice, ends + twice, [0.0, 1.0, twice, 1 - twice]])
    most = 0.0
    for (a, a2), (b, b2) in pairwise([sums(at, twice) for at in np.unique(corners.clip(0.0, 1.0)).tolist()]):
        top = 0.0 if a == b else min(max((b2 - a2 - 2 * a * (b - a)) / (2 * (b - a) ** 2), 0.0), 1.0)
        most = max(most, *(a2 + t * (b2 - a2) - (a + t * (b - a)) ** 2 for t in (0.0, top, 1.0)))
    return min(sums(0.0, once)[0], 1.0), math.sqrt(min(most, 0.25))
