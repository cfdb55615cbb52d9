"""The exact band: two algorithms, one in fractions; the Kolmogorov-Smirnov law; the level that is solved for."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import special

from leakbound.bounds.engines.noncrossing import (
    EXACT,
    band_levels,
    calibrate,
    constrained_ranks,
    convolve,
    hybrid_levels,
    noncrossing,
    poisson_pmf,
)


def in_fractions(ranks, levels, n):
    """The same probability by the multinomial recursion over counts, in exact arithmetic and without Poisson draws."""
    ways, position = {0: Fraction(1)}, Fraction(0)
    for rank, level in zip(ranks, levels, strict=True):
        step, position = level - position, level
        grown: dict[int, Fraction] = {}
        for count, p in ways.items():
            for more in range(n - count + 1):
                if count + more < rank:
                    grown[count + more] = grown.get(count + more, Fraction(0)) + p * comb(n - count, more) * step**more
        ways = grown
    return sum(p * (1 - position) ** (n - count) for count, p in ways.items())


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_exact_fractions(n, seed):
    rng = np.random.default_rng(seed)
    levels = np.sort(rng.integers(0, 60, n)) / 64 * rng.choice([0.2, 0.5, 1])
    ranks = np.arange(1, n + 1)
    exact = in_fractions(ranks.tolist(), [Fraction(b) for b in levels], n)
    assert noncrossing(ranks, levels, n) == pytest.approx(float(exact), rel=1e-12, abs=1e-15)
    some = np.unique(rng.integers(1, n + 1, 3))
    exact = in_fractions(some.tolist(), [Fraction(levels[r - 1]) for r in some], n)
    assert noncrossing(some, levels[some - 1], n) == pytest.approx(float(exact), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("n", [1, 2, 10, 128, 1024])
@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_reproduces_the_kolmogorov_smirnov_law(n, alpha):
    ranks = np.arange(1, n + 1)
    levels = np.clip(ranks / n - special.smirnovi(n, alpha), 0, 1)
    assert noncrossing(ranks, levels, n) == pytest.approx(1 - alpha, abs=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.4])
def test_band_is_exact_in_fractions(n, alpha):
    levels = band_levels(n, alpha)
    assert levels[0] == 0
    assert (np.diff(levels) >= 0).all()
    exact = in_fractions(range(1, n + 1), [Fraction(b) for b in levels[1:]], n)
    assert exact >= 1 - Fraction(alpha)
    assert float(exact) <= 1 - alpha + 3e-4 * alpha + 1e-6


@pytest.mark.parametrize(("n", "log_eta"), [(32, 7.38), (128, 8.07), (1024, 8.80)])
def test_solved_level(n, log_eta):
    eta, eps = calibrate(n, 0.01)
    assert -np.log(eta) == pytest.approx(log_eta, abs=0.01)
    ranks = constrained_ranks(n)
    levels = hybrid_levels(ranks, n, eta, eps)
    assert 0 <= noncrossing(ranks, levels, n) - 0.99 < 2e-6
    wider = hybrid_levels(ranks, n, eta * 1.01, eps)
    assert noncrossing(ranks, wider, n) < 0.99


@pytest.mark.slow
@pytest.mark.parametrize("n", [5000, 30_000])
def test_large_samples_carry_levels_on_some_ranks(n):
    ranks = constrained_ranks(n)
    assert ranks.size < n / 2
    assert (ranks[0], np.all(np.diff(ranks) > 0)) == (1, True)
    levels = band_levels(n, 0.01)
    assert noncrossing(ranks, levels[ranks], n) >= 0.99
    # between two such ranks the level stays that of the lower one
    gaps = np.setdiff1d(np.arange(1, n + 1), ranks)[::97]
    assert (levels[gaps] == levels[gaps - 1]).all()


def test_long_convolution_keeps_its_accuracy():
    a, b = poisson_pmf(40_000.0), poisson_pmf(30_000.0)
    both, direct = convolve(a, b), poisson_pmf(70_000.0)
    size = min(both.size, direct.size)
    assert both[:size] == pytest.approx(direct[:size], abs=1e-12)


def test_poisson_pmf():
    from scipy import stats

    for rate in (0.0, 1e-9, 0.7, 30.0, 5000.0):
        pmf = poisson_pmf(rate)
        assert pmf == pytest.approx(stats.poisson.pmf(np.arange(pmf.size), rate), rel=1e-9, abs=1e-18)
        assert pmf.sum() == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("alpha", [1e-9, 1e-15])
def test_levels_too_small_for_the_exact_probability_keep_to_the_union_bound(alpha):
    eta, eps = calibrate(300, alpha)
    assert 0 < 300 * eta + np.exp(-2 * 300 * eps**2) <= alpha * (1 + 1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.9, 0.9999])
def test_more_draws_than_exact_keep_to_massarts_condition(alpha):
    n = EXACT + 1
    eta, eps = calibrate(n, alpha)
    apart = np.exp(-2 * n * eps**2)
    assert apart <= 0.5
    assert constrained_ranks(n).size * eta + apart <= alpha * (1 + 1e-9)
