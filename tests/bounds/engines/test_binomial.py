"""Binomial tails and their inversion against exact fractions and 60 digits of mpmath."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from leakbound.bounds import proportion_bound
from leakbound.bounds.distribution import upper_rank
from leakbound.bounds.engines.binomial import (
    ERROR,
    MOST,
    deviance,
    exact_excess,
    gap,
    limits,
    log_pmf,
    log_tail,
    log_tail_above,
    stirling_error,
)
from leakbound.bounds.engines.clopper import clopper_pearson_lower, clopper_pearson_upper
from leakbound.bounds.engines.concentration import hoeffding_bentkus_upper, log_hoeffding
from leakbound.bounds.engines.noncrossing import band_levels
from leakbound.bounds.looks import LEAST_ALPHA, binomial_pmf, plan_looks
from leakbound.bounds.multiplicity import leak_p_value
from leakbound.bounds.planning import draws_allowing
from leakbound.errors import InputError

ALPHAS = (5e-324, 1e-310, 1e-300, 1e-100, 1e-12, 1e-4, 0.01, 0.3, 0.5, 0.7, 0.999, 1 - 1e-9, 1 - 2**-53)


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


def in_fractions(k, n, p):
    """P(Bin(n, p) <= k), a sum of fractions."""
    p = Fraction(p)
    return sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k + 1))


def continued(a, b, x):
    """The continued fraction of the incomplete beta function (Lentz)."""
    c, d = mp.mpf(1), 1 / (1 - (a + b) * x / (a + 1))
    h, m = d, 0
    while True:
        m += 1
        for part in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / (1 + part * d), 1 + part / c
            h *= c * d
        if abs(c * d - 1) < mp.mpf(10) ** -35:
            return h


def in_sixty_digits(k, n, p):
    """P(Bin(n, p) <= k) and P(Bin(n, p) >= k + 1), the smaller one right to 30 digits of itself."""
    a, b, x = mp.mpf(k + 1), mp.mpf(n - k), mp.mpf(p)
    front = mp.exp(a * mp.log(x) + b * mp.log(1 - x) + mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b))
    if x < (a + 1) / (a + b + 2):
        above = front * continued(a, b, x) / a
        return 1 - above, above
    below = front * continued(b, a, 1 - x) / b
    return below, 1 - below


def places(n):
    some = (0, 1, 2, 5, 20, 59, 60, 61, 62, 1000, n // 100, n // 3, n // 2, n - 62, n - 61, n - 60, n - 20, n - 2)
    return sorted({k for k in (*some, n - 1) if 0 <= k < n})


def test_the_reference_is_the_sum():
    for k, n, p in ((0, 3, 0.25), (2, 9, 0.7), (9, 40, 0.1), (20, 40, 0.5)):
        below, above = in_sixty_digits(k, n, p)
        exact = in_fractions(k, n, p)
        assert abs(below - mp.mpf(exact.numerator) / exact.denominator) < mp.mpf(10) ** -30
        assert abs(below + above - 1) < mp.mpf(10) ** -30


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 61, 62, 63, 130, 1000, 10**5, 10**8])
def test_tails_are_right_to_a_tenth_of_the_stated_error(n):
    for k in places(n):
        centre = math.log((k + 2 / 3) / (n - k - 1 / 3))
        for z in (-35, -10, -1, -0.02, 0.02, 1, 10, 37):
            p = 1 / (1 + math.exp(-centre - z * math.sqrt(1 / (k + 1) + 1 / (n - k))))
            found = float(log_tail(k, n, p)), float(log_tail_above(k + 1, n, p))
            if not 0 < p < 1 or min(found) < -745:
                continue
            for ours, exact in zip(found, in_sixty_digits(k, n, p), strict=True):
                if exact < 0.9:  # above that the logarithm is near 0 and stands for the other tail
                    assert abs(ours - mp.log(exact)) < ERROR / 10, (k, n, p)


def test_tails_of_the_largest_counts():
    # no reference sums these: Chernoff from above, one term from below, and the normal law at one deviation
    n = MOST
    for share, z in ((0.5, 10.0), (0.1, 3.0), (1e-6, 30.0)):
        k = int(n * share)
        p = share + z * math.sqrt(share * (1 - share) / n)
        excess = Fraction(p) * n - k
        assert float(exact_excess(np.float64(k), np.float64(n), np.float64(p))) == pytest.approx(
            float(excess), rel=1e-15
        )
        tail = float(log_tail(k, n, p))
        assert tail < -float(deviance(np.float64(k), np.float64(excess), np.float64(n * p))) / 1
        normal = float(mp.log(mp.ncdf(-float(excess) / math.sqrt(n * share * (1 - share)))))
        assert tail == pytest.approx(normal, rel=2e-4 * z)
    assert float(log_tail(n // 2, n, 0.5)) == pytest.approx(math.log(0.5), abs=1e-8)
    assert float(log_tail(0, n, 1e-15)) == pytest.approx(-n * (1e-15 + 5e-31), rel=1e-13)


def test_tails_at_the_ends():
    assert log_tail([0, 3, 5, 5], 5, [0.0, 1.0, 1.0, 0.5]).tolist() == [0.0, -math.inf, 0.0, 0.0]
    assert log_tail_above([0, 3, 5, 1], 5, [0.0, 1.0, 1.0, 0.0]).tolist() == [0.0, 0.0, 0.0, -math.inf]
    assert log_tail(np.zeros((2, 0)), 1, 0.5).shape == (2, 0)
    assert float(log_tail_above(5, 5, 0.25)) == pytest.approx(5 * math.log(0.25), rel=1e-14)
    with pytest.raises(InputError, match="n is 9007199254740994: give at most 9007199254740992 draws"):
        log_tail(0, 2**53 + 2, 0.5)


def test_parts_of_a_tail():
    for n in (1, 7, 15, 16, 17, 40, 1000):
        exact = mp.loggamma(n + 1) - (n + mp.mpf("0.5")) * mp.log(n) + n - mp.log(2 * mp.pi) / 2
        assert float(stirling_error(np.array(float(n)))) == pytest.approx(float(exact), abs=3e-15)
    assert float(stirling_error(np.array(0.0))) == 0.0
    for t in (-0.999, -0.5, -0.2, -0.1999, -1e-9, 1e-12, 0.1, 0.1999, 0.2, 3.0, 1e6):
        assert float(gap(np.array(t))) == pytest.approx(float(mp.mpf(t) - mp.log(1 + mp.mpf(t))), rel=4e-15)
    k = np.arange(8.0)
    found, excess = log_pmf(k, 7 - k, np.full(8, 0.3), np.full(8, 0.7))
    exact = [math.comb(7, j) * Fraction(0.3) ** j * (1 - Fraction(0.3)) ** (7 - j) for j in range(8)]
    np.testing.assert_allclose(found, [math.log(x) for x in exact], rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(excess, 2.1 - k, atol=1e-14)
    assert (gap(np.array([-0.0, 0.0])) == 0).all()


def assert_proven(k, n, p, alpha, proven):
    """P(Bin(n, p) <= k) <= alpha or not, compared by the smaller of the two tails."""
    below, above = in_sixty_digits(k, n, p)
    found = below <= mp.mpf(float(alpha)) if alpha <= 0.5 else above >= 1 - mp.mpf(float(alpha))
    assert found == proven, (k, n, p, alpha)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 10, 61, 100, 1000, 10**5, 10**8, 10**12])
def test_g5_limits_are_exact_and_tight_at_every_level(n):
    ks = [k for k in places(n) if n <= 10**8 or min(k, n - k) <= 1000]
    k, alpha = (x.ravel() for x in np.meshgrid(ks, ALPHAS))
    upper = clopper_pearson_upper(k, n, alpha)
    cheap = n <= 10**5  # with more draws a few levels only: each reference takes 0.1 s
    for place in range(k.size):
        if not cheap and place % 5:
            continue
        u = float(upper[place])
        if u < 1:
            assert_proven(int(k[place]), n, u, alpha[place], True)
        assert_proven(int(k[place]), n, u * (1 - 1e-9), alpha[place], False)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 10, 100, 10**5])
def test_lower_limits_are_exact_and_tight_at_every_level(n):
    for k in places(n):
        lower = clopper_pearson_lower(k + 1, n, ALPHAS)
        for low, alpha in zip(lower.tolist(), ALPHAS, strict=True):
            if low > 0:
                assert in_sixty_digits(k, n, low)[1] <= mp.mpf(alpha)
            else:
                assert alpha < 1e-300
            beyond = max(low * (1 + 1e-9), 2.3e-308)
            assert beyond >= 1 or in_sixty_digits(k, n, beyond)[1] > mp.mpf(alpha), (k, alpha)


def test_limits_with_all_counts_in_fractions():
    for n in (1, 2, 7, 12):
        for alpha in (1e-300, 0.01, 0.5, 0.95, 1 - 2**-53):
            uppers = clopper_pearson_upper(np.arange(n), n, alpha).tolist()
            lowers = clopper_pearson_lower(np.arange(1, n + 1), n, alpha).tolist()
            for k, u in enumerate(uppers):
                assert in_fractions(k, n, u) <= Fraction(alpha)
            for k, low in enumerate(lowers):
                assert 1 - in_fractions(k, n, low) <= Fraction(alpha)  # P(Bin >= k + 1)
            assert float(clopper_pearson_upper(n, n, alpha)) == 1.0
            assert float(clopper_pearson_lower(0, n, alpha)) == 0.0


def test_g5_the_case_that_missed():
    # SciPy's inverse missed by 1e15 times alpha at k=20, and gave NaN at k=998
    for k in (20, 998):
        u = proportion_bound(k, 1000, alpha=1e-300).upper
        assert u == 1.0 or in_sixty_digits(k, 1000, u)[0] <= mp.mpf(1e-300)
    assert 0.5 < proportion_bound(20, 1000, alpha=1e-300).upper < 0.6
    p, q = limits(998, 1000, 1e-300)  # beyond the floats near 1 the distance from 1 is still exact
    assert float(p) == 1.0
    assert in_sixty_digits(998, 1000, 1 - mp.mpf(float(q)))[0] <= mp.mpf(1e-300)
    assert float(q) == pytest.approx(math.sqrt(1e-300 / math.comb(1000, 2)), rel=1e-9)
    for k in (0, 10, 10**4):
        u = proportion_bound(k, 10**8, alpha=0.01).upper
        assert in_sixty_digits(k, 10**8, u)[0] <= mp.mpf(0.01)


@pytest.mark.parametrize("n", [50, 3000, 10**9, MOST])
def test_limits_rise_in_k_and_fall_in_alpha(n):
    k = np.unique(np.concatenate([np.arange(50), n // 2 + np.arange(50), n - 1 - np.arange(50)]))
    k = k[(k >= 0) & (k < n)]
    alpha = np.array(ALPHAS)
    upper = clopper_pearson_upper(k[:, None], n, alpha)
    assert (np.diff(upper, axis=0) >= 0).all()
    assert (np.diff(upper, axis=1) <= 0).all()
    lower = clopper_pearson_lower(k[:, None], n, alpha)
    assert (np.diff(lower, axis=0) >= 0).all()
    assert (np.diff(lower, axis=1) >= 0).all()
    middle = alpha > 1e-13
    assert (np.diff(upper[:, middle], axis=1) < 0)[upper[:, middle][:, 1:] < 1 - 1e-12].all()
    assert (upper[:, alpha <= 0.3] >= (k / n)[:, None]).all()
    assert (lower[:, alpha <= 0.3] <= (k / n)[:, None]).all()


def test_no_level_at_all_proves_nothing():
    p, q = limits([0, 3], 5, 0.0)
    assert p.tolist() == [1.0, 1.0]
    assert q.tolist() == [0.0, 0.0]
    assert proportion_bound(1, 5, alpha=5e-324, side="both").lower == 0.0
    with pytest.raises(InputError, match="n is 9007199254740993: give a whole number >= 1 and <= 9007199254740992"):
        proportion_bound(0, 2**53 + 1, alpha=0.01)
    assert proportion_bound(2**52, 2**53, alpha=0.01).upper == pytest.approx(0.5, abs=1e-7)


def test_p_values_at_tiny_levels():
    assert leak_p_value(0, 1000, 0.5) >= 0.5**1000
    assert leak_p_value(0, 1000, 0.5) == pytest.approx(0.5**1000, rel=1e-10)
    assert leak_p_value(0, 10**6, 0.5) == 5e-324  # below the floats, and not 0
    assert leak_p_value(7, 7, 0.5) == 1.0
    k, n, limit = 990_000, 10**8, 0.01
    assert in_sixty_digits(k, n, limit)[0] <= leak_p_value(k, n, limit)


def test_ranks_of_quantiles_at_tiny_levels():
    for n, q, alpha in ((50, 0.5, 0.01), (400, 0.9, 1e-12), (1000, 0.1, 1e-100), (3, 0.5, 0.01)):
        r = upper_rank(n, q, alpha)
        assert r == n + 1 or in_sixty_digits(r - 1, n, q)[1] <= mp.mpf(alpha)
        assert r == 1 or in_sixty_digits(r - 2, n, q)[1] > mp.mpf(alpha)


def test_plans_are_exact():
    assert binomial_pmf(2, 0.25, 4).tolist() == pytest.approx([0.5625, 0.375, 0.0625, 0, 0], rel=1e-14)
    assert binomial_pmf(10**8, 1e-6, 0)[0] == pytest.approx(math.exp(10**8 * math.log1p(-1e-6)), rel=1e-10)
    plan = plan_looks(0.5, alpha=1e-200, allowed=(0,), shares=(1.0,))
    assert plan.sizes == (665,)  # the first n with 2^-n <= 1e-200
    with pytest.raises(InputError, match="alpha is 1e-300: give at least 1e-290"):
        plan_looks(0.5, alpha=1e-300)
    assert plan_looks(0.9, alpha=LEAST_ALPHA).sizes
    with pytest.raises(InputError, match="limit is 1e-300: a look would need more than 9007199254740992 draws"):
        plan_looks(1e-300, alpha=0.01)
    for leaks, limit, alpha in ((0, 0.01, 0.01), (3, 0.2, 1e-200), (10, 0.001, 0.3)):
        n = draws_allowing(leaks, limit, alpha)
        assert proportion_bound(leaks, n, alpha=alpha).upper <= limit
        assert proportion_bound(leaks, n - 1, alpha=alpha).upper > limit


def test_hoeffding_and_bentkus_at_large_n_and_tiny_levels():
    for total, n, m in ((3.0, 10, 0.5), (5e11, 10**12, 0.500005), (0.0, 50, 0.1), (4.0, 4, 1 - 1e-9)):
        a, b = mp.mpf(total) / n, mp.mpf(m)
        kl = (a * mp.log(a / b) if a else 0) + ((1 - a) * mp.log((1 - a) / (1 - b)) if a < 1 else 0)
        assert log_hoeffding(total, n, m) == pytest.approx(float(-n * kl), rel=1e-10)
    values, weights = np.array([0.0, 1.0]), np.array([980, 20])
    u = hoeffding_bentkus_upper(values, weights, 1e-300)
    assert min(mp.e * in_sixty_digits(20, 1000, u)[0], mp.exp(log_hoeffding(20.0, 1000, u))) <= mp.mpf(1e-300)


def test_bands_at_tiny_levels():
    levels = band_levels(1000, 1e-300)
    assert np.isfinite(levels).all()
    assert (np.diff(levels) >= 0).all()
    assert levels[-1] < 1
    assert levels[-1] >= (0.99e-303) ** (1 / 1000) * (1 - 1e-9)  # the last rank's own level, eta^(1/n)
    assert in_sixty_digits(499, 1000, float(levels[500]))[1] <= mp.mpf(1e-303)
