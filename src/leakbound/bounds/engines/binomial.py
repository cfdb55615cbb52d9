"""Logarithms of binomial tails, right to 1e-12 for every n up to 2^53, and the Clopper-Pearson limits that they give.

SciPy's bdtr, betainc and betaincinv are off by 5e-9 at n = 1e8 and by any factor at tiny levels. Here every step has
positive terms and no cancellation. Proof of the error: docs/methods.md, "Binomial tails".
"""

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import Floats
from leakbound.errors import InputError

MOST = 2**53
"""The largest n whose counts are exact in float64."""
ERROR = 1e-11
"""More than any logarithm of a tail here is off by."""
AIM = 1e-10
"""How far inside its level a limit is aimed, relative to the level."""
CUT = 45.0
"""The integrals end where their integrand is exp(-CUT), or at the end of [0, 1]."""
FEW = 60
"""Up to so many other trials the integrand is a low power, and the whole of [0, 1] is taken."""
APART = 2.0**-50
"""A step between neighbouring floats, in ln(p / q)."""
FAST = 10**12
"""SciPy's inverse takes milliseconds where n is larger."""
BATCH = 2048
"""Integrals that are taken together: what fits into a processor's cache."""
STEPS = 200
"""More than the inversion needs by far."""

_POINTS, _WEIGHTS = (np.asarray(x) for x in np.polynomial.legendre.leggauss(32))
NODES, NODE_WEIGHTS = (_POINTS + 1) / 2, _WEIGHTS / 2
SMALL_ERRORS = np.array(
    [0.0]
    + [math.log(math.factorial(n)) - (n + 0.5) * math.log(n) + n - math.log(2 * math.pi) / 2 for n in range(1, 16)]
)

Tails: TypeAlias = tuple[Floats, Floats, Floats]
Bools: TypeAlias = npt.NDArray[np.bool_]


def stirling_error(n: Floats) -> Floats:
    """ln n! - ln(sqrt(2 pi n) (n / e)^n), elementwise; 0 for n = 0."""
    small = SMALL_ERRORS[np.minimum(n, 15).astype(np.int64)]
    m = np.maximum(n, 16.0)
    s = 1 / (m * m)
    series = (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188)))) / m
    return np.where(n < 16, small, series)


def gap(t: Floats) -> Floats:
    """t - ln(1 + t) >= 0 for t > -1.

    Near 0 without cancellation: r (t - 2 r^2 (1/3 + r^2/5 + ...)) with r = t / (2 + t).
    """
    r = t / (2 + t)
    s = r * r
    series = 1 / 19 + np.zeros_like(s)
    for odd in (17, 15, 13, 11, 9, 7, 5, 3):
        series = 1 / odd + s * series
    with np.errstate(divide="ignore"):
        far: Floats = t - np.log1p(t)
    return np.where(np.abs(t) < 0.2, r * (t - 2 * s * series), far)


def exact_excess(x: Floats, n: Floats, p: Floats) -> Floats:
    """n p - x, rounded once: the product is taken in two parts (Dekker 1971)."""
    split = 134217729.0
    high = n * p
    a, b = split * n, split * p
    n_high, p_high = a - (a - n), b - (b - p)
    n_low, p_low = n - n_high, p - p_high
    low = ((n_high * p_high - high) + n_high * p_low + n_low * p_high) + n_low * p_low
    return (high - x) + low


def deviance(x: Floats, excess: Floats, expected: Floats) -> Floats:
    """x ln(x / expected) + expected - x, with excess = expected - x given to full precision."""
    share = excess / np.where(x > 0, x, 1.0)
    near = np.abs(share) < 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        far = x * np.log(x / expected) + excess
    return np.where(x > 0, np.where(near, x * gap(np.where(near, share, 0.0)), far), expected)


def log_pmf(a: Floats, b: Floats, p: Floats, q: Floats) -> tuple[Floats, Floats]:
    """ln P(Bin(a + b, p) = a), and (a + b) p - a. The smaller of p and q = 1 - p is the one that is exact.

    Saddle-point form of Loader 2000: Stirling errors and deviances.
    """
    n = a + b
    excess = np.where(p <= q, exact_excess(a, n, p), -exact_excess(b, n, q))
    inside = (a > 0) & (b > 0)
    x, y = np.where(inside, a, 1.0), np.where(inside, b, 1.0)
    front = stirling_error(n) - stirling_error(a) - stirling_error(b) + 0.5 * np.log((x + y) / (2 * math.pi * x) / y)
    return np.where(inside, front, 0.0) - deviance(a, excess, n * p) - deviance(b, -excess, n * q), excess


def log_integral(a: Floats, b: Floats, p: Floats, q: Floats, excess: Floats) -> Floats:
    """ln of the integral over v in [0, 1] of (1 + v q / p)^a (1 - v)^b, where the integrand does not grow much.

    Gauss-Legendre on [0, V], V = 1 or about where the integrand is exp(-CUT): minus its logarithm is
    (excess / p) v + a gap(v q / p) + b gap(-v), and gap(t) is about t^2 / (2 + 4 t / 3) for t > 0.
    """
    ratio, slope = q / p, excess / p
    end, front = np.zeros_like(a), np.maximum(slope, 0.0)
    for _ in range(4):
        curve = a * ratio**2 / (1 + ratio * end * 2 / 3) + b
        end = 2 * CUT / (front + np.sqrt(front**2 + 2 * CUT * curve) + 1e-300)
    end = np.where(b <= FEW, 1.0, np.minimum(end, 1.0))
    total = np.empty_like(end)
    for first in range(0, end.size, BATCH):
        part = slice(first, first + BATCH)
        v = end[part, None] * NODES
        height = slope[part, None] * v + a[part, None] * gap(ratio[part, None] * v) + b[part, None] * gap(-v)
        total[part] = np.exp(-height) @ NODE_WEIGHTS
    return np.log(end * total)


def log_tails(k: Floats, n: Floats, p: Floats, q: Floats) -> Tails:
    """ln P(Bin(n, p) <= k), ln P(Bin(n, p) >= k + 1), and ln of the density of Beta(k + 1, n - k) at p; 0 <= k < n.

    Both tails are integrals of that density. The smaller one is taken from p outward; the other is its complement.
    """
    a, b = k, n - 1 - k
    point, excess = log_pmf(a, b, p, q)
    density = np.log(n) + point
    # whether p is above the median of the beta law, nearly
    right = np.where(p <= q, p * (n + 1 / 3) > k + 2 / 3, q * (n + 1 / 3) < n - k - 1 / 3)
    sides = np.where(right, a, b), np.where(right, b, a), np.where(right, p, q), np.where(right, q, p)
    smaller = np.minimum(density + np.log(sides[3]) + log_integral(*sides, np.where(right, excess, -excess)), -1e-17)
    with np.errstate(divide="ignore"):  # the smaller tail may underflow, the larger may be 1
        larger = np.where(smaller > -math.log(2), np.log(-np.expm1(smaller)), np.log1p(-np.exp(smaller)))
    return np.where(right, smaller, larger), np.where(right, larger, smaller), density


def log_tail(k: npt.ArrayLike, n: npt.ArrayLike, p: npt.ArrayLike) -> Floats:
    """ln P(Bin(n, p) <= k), elementwise, within ERROR; whole 0 <= k <= n <= 2^53 and 0 <= p <= 1."""
    successes, n, p = _checked(k, n, p)
    return _tail(successes, n, p, 0)


def log_tail_above(k: npt.ArrayLike, n: npt.ArrayLike, p: npt.ArrayLike) -> Floats:
    """ln P(Bin(n, p) >= k), elementwise, within ERROR; whole 0 <= k <= n <= 2^53 and 0 <= p <= 1."""
    successes, n, p = _checked(k, n, p)
    return _tail(successes - 1, n, p, 1)


def _tail(k: Floats, n: Floats, p: Floats, which: int) -> Floats:
    low, high = k < 0, k >= n  # no draw, or every draw: whatever p is
    sure = (low if which else high) | ((p == which) & ~low & ~high)
    never = ~sure & ((p == 1 - which) | low | high)
    inside = ~(sure | never)
    found = np.where(sure, 0.0, -np.inf)
    if inside.any():
        found[inside] = log_tails(k[inside], n[inside], p[inside], 1 - p[inside])[which]
    return found


def _checked(*given: npt.ArrayLike) -> list[Floats]:
    """Broadcast arrays of float64; n, the second, at most 2^53."""
    arrays = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in given))
    if arrays[1].size and arrays[1].max() > MOST:
        raise InputError(f"n is {arrays[1].max():.17g}: give at most {MOST} draws, above which counts are not exact")
    return [np.array(x) for x in arrays]


def limits(k: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The least p, up to rounding outward, with P(Bin(n, p) <= k) <= alpha, and q = 1 - p; p = 1 where k = n.

    The tail is proven at p, and is above alpha (1 - 4 ERROR) unless that falls between two floats. The smaller of p
    and q carries the precision. Elementwise. alpha = 0 gives p = 1.
    """
    k, n, alpha = _checked(k, n, alpha)
    p, q = np.ones_like(alpha), np.zeros_like(alpha)
    open_ones = (k < n) & (alpha > 0)
    if open_ones.any():
        p[open_ones], q[open_ones] = _invert(k[open_ones], n[open_ones], alpha[open_ones])
    return p, q


def _invert(k: Floats, n: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """Newton's steps in ln(p / q), in which the logarithms of both tails are concave: they cannot run away.

    Of alpha and 1 - alpha the smaller is aimed at, by the tail that it belongs to, so that both stay precise.
    """
    small = alpha <= 0.5
    aim = np.where(small, np.log(alpha) - AIM, np.log1p(-np.where(small, 0.5, alpha)) + AIM)
    p, q = _guess(k, n, alpha - AIM * np.minimum(alpha, 1 - alpha))
    busy = np.arange(k.size)
    for _ in range(STEPS):
        at = p[busy], q[busy]
        miss, log_slope = _miss(k[busy], n[busy], *at, small[busy], aim[busy])
        with np.errstate(over="ignore"):
            step = miss * np.exp(-log_slope)
        done = (np.abs(miss) <= AIM - ERROR) | ((miss < 0) & (step > -2 * APART))
        loose = busy[done & (miss < -AIM)]
        if loose.size:
            p[loose], q[loose] = _inward(p[loose], q[loose], k[loose], n[loose], small[loose], aim[loose])
        busy, step = busy[~done], np.where(miss > 0, np.maximum(step, APART), step)[~done]
        p[busy], q[busy] = _moved(p[busy], q[busy], step)
        lost = q[busy] < np.finfo(np.float64).tiny  # no normal float is left: outward to the end
        p[busy[lost]], q[busy[lost]] = 1.0, 0.0
        busy = busy[~lost]
        if not busy.size:
            return p, q
    raise InputError(f"alpha is {alpha[busy[0]]!r}: the limit for k={k[busy[0]]}, n={n[busy[0]]} cannot be computed")


def _miss(k: Floats, n: Floats, p: Floats, q: Floats, small: Bools, aim: Floats) -> tuple[Floats, Floats]:
    """How far ln of the tail is from its aim, > 0 where p is too small, and ln of its derivative in ln(p / q)."""
    below, above, density = log_tails(k, n, p, q)
    tail = np.where(small, below, above)
    return np.where(small, tail - aim, aim - tail), density + np.log(p) + np.log(q) - tail


def _inward(p: Floats, q: Floats, k: Floats, n: Floats, small: Bools, aim: Floats) -> tuple[Floats, Floats]:
    """Where floats are far apart, the smallest p that is proven: single steps back, so that limits rise with k."""
    for _ in range(8):
        back = np.where(p <= q, np.nextafter(p, 0.0), 1 - np.nextafter(q, 1.0))
        rest = np.where(p <= q, 1 - back, np.nextafter(q, 1.0))
        good = _miss(k, n, back, rest, small, aim)[0] <= AIM - ERROR
        p, q = np.where(good, back, p), np.where(good, rest, q)
    return p, q


def _guess(k: Floats, n: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """SciPy's inverse where it has one and is fast, else a normal law for ln(p / q)."""
    from scipy import special  # here, because importing it takes 0.2 s

    width = np.sqrt(1 / (k + 1) + 1 / (n - k))
    p, q = _moved((k + 2 / 3) / (n + 1 / 3), (n - k - 1 / 3) / (n + 1 / 3), -special.ndtri(alpha) * width)
    size = np.where(n <= FAST, n, np.nan)
    near, far = special.betainccinv(k + 1, size - k, alpha), special.betaincinv(size - k, k + 1, alpha)
    low, high = (near > 1e-300) & (near <= 0.5), (far > 1e-300) & (far < 0.5)
    return np.where(low, near, np.where(high, 1 - far, p)), np.where(low, 1 - near, np.where(high, far, q))


def _moved(p: Floats, q: Floats, step: Floats) -> tuple[Floats, Floats]:
    """ln(p / q) moved by ``step``, at most 600 at once; the larger one is made 1 minus the smaller one."""
    grown = np.expm1(np.clip(step, -600.0, 600.0))
    whole = 1 + p * grown
    p, q = p * (1 + grown) / whole, q / whole
    return np.where(p <= q, p, 1 - q), np.where(p <= q, 1 - p, q)
