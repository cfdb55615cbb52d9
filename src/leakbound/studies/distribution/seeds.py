"""What a few independent runs say together: the median with an exact interval, the exact sign test; no law assumed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, isnan

from leakbound.errors import InputError


@dataclass(frozen=True)
class Median:
    """A median over runs; the population's median is in [lower, upper] with probability ``confidence`` at least."""

    estimate: float
    lower: float
    upper: float
    confidence: float
    n: int


def median(values: Sequence[float], *, alpha: float = 0.05) -> Median:
    """The median of independent runs with the interval of order statistics [x_(k), x_(n+1-k)].

    It misses with probability 2 P(Bin(n, 1/2) <= k - 1); k is the largest for which that is at most ``alpha``. Where
    even the range (k = 1) misses more often, as with fewer than 6 runs at 0.05, the range is given with its own
    confidence 1 - 2^(1-n): 0.9375 for 5. Infinite values (a run that never got there) are allowed.
    """
    ordered = sorted(float(value) for value in values)
    n = len(ordered)
    if not n or any(isnan(value) for value in ordered):
        raise InputError(f"values is {list(values)!r}: give at least one number and no NaN")
    k, missed = 1, 2.0 ** (1 - n)
    total = 1
    while (total := total + comb(n, k)) * 2 <= alpha * 2**n:
        k, missed = k + 1, total * 2 / 2**n
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    centre = low if low == high else (low + high) / 2
    return Median(centre, ordered[k - 1], ordered[n - k], 1 - missed if n > 1 else 0.0, n)


def sign_test(differences: Sequence[float]) -> float:
    """Exact one-sided p-value against "a run's difference is positive with probability 1/2 at most".

    P(Bin(n, 1/2) >= number of positive differences); a difference of 0 counts as not positive. Valid also where the
    runs have different laws, if they are independent.
    """
    n = len(differences)
    if not n or any(isnan(value) for value in differences):
        raise InputError(f"differences is {list(differences)!r}: give at least one number and no NaN")
    positive = sum(value > 0 for value in differences)
    return sum(comb(n, j) for j in range(positive, n + 1)) / 2.0**n


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's adjusted p-values: all those at most alpha are right together, except with probability alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - place)))
        adjusted[i] = largest
    return tuple(adjusted)
