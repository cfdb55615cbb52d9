"""A second, slow way from counts to printed numbers, which shares no code with the library."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal


def at_most_hits(k, n, p):
    """P(Bin(n, p) <= k), term by term."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


def root(falls, low=0.0, high=1.0):
    """Where a function that falls from above 0 to below 0 crosses it."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) > 0 else (low, middle)
    return (low + high) / 2


def upper(k, n, alpha):
    """The p at which so few leaks have probability alpha."""
    return 1.0 if k == n else root(lambda p: at_most_hits(k, n, p) - alpha)


def lower(k, n, alpha):
    """The p at which so many leaks have probability alpha."""
    return 1 - upper(n - k, n, alpha)


def pooled(k, n, alpha):
    """The average of unequal probabilities, from k leaks in n draws in all."""
    return min(1.0, max(upper(k, n, alpha), (k + 1) / n))


def joint(alpha, prompts):
    """The level of each of so many independent prompts."""
    return 1 - (1 - alpha) ** (1 / prompts)


def enough(alpha, limit=0.1):
    """The fewest draws without a leak that prove P(leak) <= limit: (1 - limit)^n <= alpha."""
    n = 1
    while (1 - limit) ** n > alpha:
        n += 1
    return n


def shown(value, rounding):
    """Three significant digits, rounded in a direction."""
    if value == int(value):
        return str(int(value))
    near = Context(prec=3, rounding=rounding).create_decimal(Decimal(value))
    return f"{near:.2e}" if near < Decimal("0.0001") else f"{near:f}" if near != 1 else "1"


def up(value):
    return shown(value, ROUND_CEILING)


def down(value):
    return shown(value, ROUND_FLOOR)


def near(value):
    text = shown(value, ROUND_HALF_EVEN)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def cell(value):
    """An upper bound on a probability in a table."""
    return "no limit" if up(value) == "1" else f"≤ {up(value)}"
