"""What counts of leaks in independent draws prove: tails of binomials, summed with 60 digits."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from decimal import MIN_EMIN, ROUND_CEILING, Context, Decimal, localcontext

import numpy as np

ARITHMETIC = Context(prec=60, rounding=ROUND_CEILING, Emin=MIN_EMIN)
FEW_TERMS = 10_000
"""Longer sums are made from their largest terms down, and end where the rest is negligible."""
HALF_LOG_2_PI = Decimal("0.918938533204672741780329736405617639861397473637783412817152")
STIRLING = (
    (1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156), (-3617, 122400), (43867, 244188),
    (-174611, 125400), (77683, 5796), (-236364091, 1506960),
)  # fmt: skip
Moments = tuple[float, float, float]
"""What is claimed as upper limits on E[h], sd and mean + 2 sd of a prompt."""
MOST: Moments = (1.0, 0.5, (1 + math.sqrt(5)) / 2)
"""Limits that always hold: whoever claims these claims nothing."""
SHRINK = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, *(1 - 0.5**j for j in range(2, 13)))
BELOW = (0.4, 0.12, 0.12, 0.12, 0.1, 0.04, 0.02, *[0.08 / 9] * 9)


def at_most_probability(k: int, n: int, p: float) -> Decimal:
    """P(Bin(n, p) <= k), summed term by term with 60 digits and rounded upward: never below it, and at most
    10^-40 above, relatively. 0 where p is 1 and k < n."""
    ctx = ARITHMETIC
    chance = ctx.create_decimal(Decimal(p))
    other = ctx.subtract(Decimal(1), Decimal(p))
    if k >= n or other <= 0:
        return Decimal(int(k >= n))
    if k > FEW_TERMS:
        return _summed_down(k, n, chance, other)
    term = total = ctx.power(other, n)
    odds = ctx.divide(chance, other)
    for i in range(k):
        term = ctx.multiply(ctx.multiply(term, odds), ctx.divide(Decimal(n - i), Decimal(i + 1)))
        total = ctx.add(total, term)
    return total


def _summed_down(k: int, n: int, p: Decimal, q: Decimal) -> Decimal:
    """The same from the k-th term down, until all that are left, at most a geometric series, are 10^-45 of the sum."""
    with localcontext(ARITHMETIC):
        logs = log_factorial(n) - log_factorial(k) - log_factorial(n - k) + k * p.ln() + (n - k) * q.ln()
        total = term = logs.exp() * (1 + Decimal("1e-42"))
        odds = q / p
        for i in range(k, 0, -1):
            ratio = odds * i / (n - i + 1)
            term *= ratio
            total += term
            if ratio < 1 and term / (1 - ratio) < total * Decimal("1e-45"):
                break
        return total * (1 + Decimal("1e-44"))


def log_factorial(n: int) -> Decimal:
    """ln n! to 45 digits behind the point at n = 10^9, by Stirling's series: its 12 terms miss 10^-70 from 1000 on."""
    with localcontext(ARITHMETIC):
        if n < 1000:
            return Decimal(math.factorial(n)).ln()
        x = Decimal(n)
        terms = [a / (b * x ** (2 * j + 1)) for j, (a, b) in enumerate(STIRLING)]
        return (x + Decimal("0.5")) * x.ln() - x + sum(terms, HALF_LOG_2_PI)


def against_mixture(k: int, n: int, p: float) -> Decimal:
    """1 / evidence against a probability >= p after k leaks in n draws, whenever one stopped: the mixture of bets."""
    ctx, total = Context(prec=60, Emin=MIN_EMIN), Decimal(0)
    for c, weight in zip(SHRINK, BELOW, strict=True):
        if k == 0 or c > 0:
            ratio = ctx.divide(1 - Decimal(c) * Decimal(p), 1 - Decimal(p))
            bet = ctx.multiply(ctx.power(Decimal(c), k) if k else Decimal(1), ctx.power(ratio, n - k))
            total = ctx.add(total, ctx.multiply(Decimal(weight), bet))
    return ctx.divide(Decimal(1), total)


def rank_probability(k: int, sizes: Sequence[int], low: Sequence[int], p: float) -> float:
    """P(stopped low before the last of the sizes, or there with at most k leaks), by the whole law of the leaks."""
    from scipy.stats import binom

    law, done, total = np.ones(1), 0, 0.0
    for n, most in zip(sizes, [*low[: len(sizes) - 1], k], strict=True):
        law, done = np.convolve(law, binom.pmf(np.arange(n - done + 1), n - done, p)), n
        total += float(law[: most + 1].sum())
        law[: most + 1] = law[n - most :] = 0.0  # these have stopped, at the last of the sizes all
    return total


def follow(p: float, claims: Moments) -> list[bool]:
    """Whether the claims about a score of 0 and 1 follow from P(h = 1) <= p."""
    spread = [math.sqrt(x * (1 - x)) for x in (min(p, 0.5), min(p, 0.5 + 0.5 / math.sqrt(5)))]
    least = (p, spread[0], min(p, 0.5 + 0.5 / math.sqrt(5)) + 2 * spread[1])
    return [claim >= value * (1 - 1e-15) for claim, value in zip(claims, least, strict=True)]


def two_tails(k: int, n: int, alpha: float, claims: Moments) -> list[bool]:
    """Whether every p at which a score of 0 and 1 has a larger value than claimed is refuted by k ones in n draws.

    The value v(p) is E[h], sd or mean + 2 sd; a p is refuted by outcomes whose plug-in value is at most the observed
    one, if these have probability alpha or less. That is largest at the ends of the p with v(p) above the claim.
    """
    values: tuple[tuple[Callable[[float], float], float], ...] = (
        (lambda p: p, 1.0),
        (lambda p: math.sqrt(p * (1 - p)), 0.5),
        (lambda p: p + 2 * math.sqrt(p * (1 - p)), 0.5 + 0.5 / math.sqrt(5)),
    )
    right = []
    for claim, (value, peak) in zip(claims, values, strict=True):
        middle, seen = math.floor(peak * n), value(k / n)
        up, down = range(middle + 1), range(middle + 1, n + 1)  # the value rises to its peak, and falls behind it
        low = bisect_right(up, seen, key=lambda i: value(i / n)) - 1
        high = middle + 1 + bisect_left(down, -seen, key=lambda i: -value(i / n))
        ends = [] if claim >= value(peak) else [_where(value, claim, 0.0, peak), _where(value, claim, 1.0, peak)]
        chances = [
            (at_most_probability(low, n, p) if low >= 0 else 0)
            + (at_most_probability(n - high, n, 1 - p) if high <= n else 0)
            for p in (ends if peak < 1 else ends[:1])
        ]
        right.append(all(chance <= Decimal(alpha) * (1 + Decimal("1e-6")) for chance in chances))
    return right


def _where(value: Callable[[float], float], claim: float, low: float, high: float) -> float:
    """Where between ``low``, whose value is at most the claim, and ``high`` the value passes it; just beyond."""
    if value(low) > claim:
        return low
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) <= claim else (low, middle)
    return high
