"""The exact simultaneous band for a survival function: uniform order statistics that stay above given levels.

If P(U_(i) >= b_i for all i) >= 1 - alpha for the order statistics of n uniform draws, then for every distribution,
atoms included, S(x) <= 1 - b_N(x) for all x at once, N(x) = #{X_i <= x}, b_0 = 0. The probability is computed exactly;
the levels are a mix of two families whose size is solved for.
"""

import math
from functools import lru_cache

import numpy as np

from leakbound.bounds.engines.clopper import clopper_pearson_lower
from leakbound.bounds.gate import Floats, Ints

CUSHION = 1e-9
"""Added to the wanted probability; sums of positive terms here are accurate to about 1e-11."""

FFT_CUSHION = 1e-6
"""The same where products are long enough for a Fourier transform."""

EXACT = 2**20
"""For more draws the probability is not computed: it would take minutes, and the union bound is a few percent wider."""

NEGLIGIBLE = 1e-18
"""States with less probability than this are dropped, which can only lower the result."""


def poisson_pmf(rate: float) -> Floats:
    """P(Poisson(rate) = 0, 1, ...) up to where it is negligible."""
    if rate <= 0:
        return np.ones(1)
    most = int(rate + 10 * math.sqrt(rate) + 20)
    k = np.arange(1, most + 1)
    pmf = np.exp(np.concatenate([[0.0], np.cumsum(math.log(rate) - np.log(k))]) - rate)
    return pmf[: int(np.flatnonzero(pmf > NEGLIGIBLE)[-1]) + 1]


def convolve(a: Floats, b: Floats) -> Floats:
    """The convolution, by a Fourier transform where that is shorter."""
    if min(a.size, b.size) < 200 or a.size * b.size < 500_000:
        return np.convolve(a, b)
    size = 1 << (a.size + b.size - 2).bit_length()
    full = np.fft.irfft(np.fft.rfft(a, size) * np.fft.rfft(b, size), size)
    return np.maximum(full[: a.size + b.size - 1], 0.0)


def noncrossing(ranks: Ints, levels: Floats, n: int) -> float:
    """P(U_(r) >= b_r for each given rank r), for n independent uniform draws; ranks and levels ascend.

    The event says that fewer than r draws lie below b_r. With a Poisson number of draws of mean n the counts in
    [b_r, b_s) are independent; the law of the count is carried from level to level, cut at r - 1, and conditioned on n
    draws in the end. Cf. Moscovich and Nadler 2017.
    """
    from scipy import special  # here, because importing it takes 0.2 s

    state, least, position = np.ones(1), 0, 0.0
    for rank, level in zip(ranks.tolist(), levels.tolist(), strict=True):
        # the draws between two levels are independent Poisson; "fewer than r below b_r" cuts the law of their number
        state = convolve(state, poisson_pmf(n * (level - position)))[: max(rank - least, 0)]
        position = level
        keep = np.flatnonzero(state > NEGLIGIBLE)
        if not keep.size:
            return 0.0
        state, least = state[keep[0] : keep[-1] + 1], least + int(keep[0])
    # P(no crossing, n draws in all) / P(n draws in all): given their number, Poisson draws are n uniform ones
    left, rate = n - least - np.arange(state.size), n * (1.0 - position)
    state, left = state[left >= 0], left[left >= 0]
    log_last = special.xlogy(left, rate) - rate - special.gammaln(left + 1)
    log_total = n * math.log(n) - n - special.gammaln(n + 1)
    return float(np.sum(state * np.exp(log_last - log_total)))


def constrained_ranks(n: int) -> Ints:
    """The ranks that carry a level: all for n <= 2000, above that in steps of a share of sqrt(min(r, n - r)), or of
    a 65,536th of that where it is more: else 2^53 draws would need 2^28 ranks."""
    if n <= 2000:
        return np.arange(1, n + 1)
    share = 0.1 if n <= 20_000 else 0.3 if n <= 200_000 else 1.0
    ranks, r = [], 1
    while r <= n:
        ranks.append(r)
        near = min(r, n - r)
        r += max(1, int(share * math.sqrt(near)), near >> 16)
    return np.array(ranks)


def hybrid_levels(ranks: Ints, n: int, eta: float, eps: float) -> Floats:
    """max(the eta-quantile of Beta(r, n - r + 1), r / n - eps), made to ascend."""
    local = clopper_pearson_lower(ranks, n, eta)
    return np.maximum.accumulate(np.clip(np.maximum(local, ranks / n - eps), 0.0, 1.0)) * (1 - 1e-13)


@lru_cache(maxsize=256)
def calibrate(n: int, alpha: float) -> tuple[float, float]:
    """(eta, eps) of the hybrid band: eps is 1.1 times the exact one-sided Kolmogorov-Smirnov quantile, eta the largest
    equal local level with non-crossing probability >= 1 - alpha. Bisection in ln eta returns the safe end.

    Where alpha is too small for the exact probability (about 1e-7), P(a crossing) <= n eta + exp(-2 n eps^2), which is
    alpha for eta = (alpha - alpha^1.21) / n and eps = 1.1 sqrt(ln(1/alpha) / (2 n)). For more draws than EXACT the same
    with the number of ranks that carry a level instead of n, and alpha at most 1/2: the one-sided exp(-2 n eps^2) holds
    where it is no more than that (Massart 1990).
    """  # fmt: skip
    from scipy import special  # here, because importing it takes 0.2 s

    wanted = 1 - alpha + (CUSHION if n <= 50_000 else FFT_CUSHION)
    if n > EXACT:
        alpha = min(alpha, 0.5)
    by_union = (alpha - alpha**1.21) / n, 1.1 * math.sqrt(-math.log(alpha) / (2 * n))
    if n > EXACT:
        return (alpha - alpha**1.21) / constrained_ranks(n).size, by_union[1]
    if wanted >= 1:
        return by_union
    eps = 1.1 * float(special.smirnovi(n, alpha)) if n <= 2000 else by_union[1]
    ranks = constrained_ranks(n)

    def excess(log_eta: float) -> float:
        return noncrossing(ranks, hybrid_levels(ranks, n, math.exp(log_eta), eps), n) - wanted

    safe, unsafe = math.log(alpha / (2 * n)), math.log(alpha)
    at_safe, at_unsafe = excess(safe), excess(unsafe)
    if at_unsafe >= 0:
        return math.exp(unsafe), eps
    if at_safe < 0:  # alpha is near the rounding of the exact probability: what follows from the union bound and DKW
        return by_union
    # false position in ln eta, a stale end's excess halved (Illinois); only an end that was found safe is returned
    side = 0
    while unsafe - safe > 1e-4:
        guess = safe + (unsafe - safe) * min(max(at_safe / (at_safe - at_unsafe), 0.01), 0.99)
        value = excess(guess)
        if value >= 0:
            safe, at_safe = guess, value
            at_unsafe = at_unsafe / 2 if side == 1 else at_unsafe
            side = 1
        else:
            unsafe, at_unsafe = guess, value
            at_safe = at_safe / 2 if side == -1 else at_safe
            side = -1
        if at_safe < 1e-6:
            break
    return math.exp(safe), eps


@lru_cache(maxsize=64)
def _carried(n: int, alpha: float) -> tuple[Ints, Floats]:
    """The ranks that carry a level, and b_0 = 0 and their levels."""
    ranks = constrained_ranks(n)
    return ranks, np.concatenate([[0.0], hybrid_levels(ranks, n, *calibrate(n, alpha))])


def band_levels(n: int, alpha: float, at: Ints | None = None) -> Floats:
    """b_i of the hybrid band at level alpha for the i in ``at``, by default 0, 1, ..., n; b_0 = 0, and ranks without
    a level of their own take that before."""
    ranks, levels = _carried(n, alpha)
    return levels[np.searchsorted(ranks, np.arange(n + 1) if at is None else at, side="right")]
