from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import stats

from leakbound.bounds import proportion_bound
from leakbound.bounds.engines.clopper import clopper_pearson_lower, clopper_pearson_upper
from leakbound.errors import InputError


@pytest.mark.parametrize(("k", "n", "value"), [(0, 128, 0.035338), (0, 1024, 0.004487), (5, 1024, 0.012751)])
def test_reference_values(k, n, value):
    assert proportion_bound(k, n, alpha=0.01).upper == pytest.approx(value, abs=5e-7)


def test_closed_form_without_leaks():
    assert proportion_bound(0, 1024, alpha=0.01).upper == pytest.approx(1 - 0.01 ** (1 / 1024), rel=1e-10)


def test_ends_and_estimate():
    assert proportion_bound(10, 10, alpha=0.01).upper == 1
    assert proportion_bound(0, 10, alpha=0.01, side="lower").lower == 0
    bound = proportion_bound(3, 10, alpha=0.05, side="both")
    assert bound.estimate == 0.3
    assert 0 < bound.lower < 0.3 < bound.upper < 1
    assert proportion_bound(3, 10, alpha=0.05, method="paper") == proportion_bound(3, 10, alpha=0.05)


@pytest.mark.parametrize("k", [0, 1, 7, 50, 99, 100])
def test_two_sided_is_two_one_sided_at_half(k):
    both = proportion_bound(k, 100, alpha=0.02, side="both")
    assert both.upper == proportion_bound(k, 100, alpha=0.01).upper
    assert both.lower == proportion_bound(k, 100, alpha=0.01, side="lower").lower
    mirrored = proportion_bound(100 - k, 100, alpha=0.01, side="lower").lower
    assert proportion_bound(k, 100, alpha=0.01).upper == pytest.approx(1 - mirrored, abs=1e-11)


def test_falls_in_alpha_and_rises_in_k():
    uppers = [proportion_bound(3, 50, alpha=a).upper for a in (1e-12, 1e-6, 0.01, 0.1, 0.5, 0.9)]
    assert uppers == sorted(uppers, reverse=True)
    rising = clopper_pearson_upper(np.arange(51), 50, 0.01)
    assert (np.diff(rising) > 0).all()


@pytest.mark.parametrize("n", [1, 2, 5, 32, 128])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5])
def test_exact_coverage(n, alpha):
    # the miss probability, summed over all k, on a fine grid of p with points just above and below every limit
    k = np.arange(n + 1)
    upper, lower = clopper_pearson_upper(k, n, alpha), clopper_pearson_lower(k, n, alpha)
    p = np.unique(
        np.concatenate([np.linspace(0, 1, 501), upper * (1 + 1e-9), upper * (1 - 1e-9), lower, lower * 1.001])
    )
    p = p[(p >= 0) & (p <= 1)]
    pmf = stats.binom.pmf(k, n, p[:, None])
    assert (pmf * (upper < p[:, None])).sum(axis=1).max() <= alpha
    assert (pmf * (lower > p[:, None])).sum(axis=1).max() <= alpha


@pytest.mark.parametrize(("k", "n", "alpha"), [(0, 7, 0.01), (3, 12, 0.05), (11, 12, 0.2), (5, 60, 1e-9)])
def test_rounded_outward_in_exact_arithmetic(k, n, alpha):
    p = Fraction(float(clopper_pearson_upper(k, n, alpha)))
    tail = sum(comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k + 1))
    assert tail <= Fraction(alpha)
    assert float(tail) == pytest.approx(alpha, rel=1e-8)


@pytest.mark.parametrize(
    ("k", "n", "message"),
    [
        (11, 10, "successes is 11, more than n, which is 10"),
        (-1, 10, "successes is -1: give a whole number >= 0"),
        (0.5, 10, "successes is 0.5"),
        (0, 0, "n is 0: give a whole number >= 1"),
        (True, 10, "successes is True"),
        (0, "10", "n is '10'"),
    ],
)
def test_counts_are_checked(k, n, message):
    with pytest.raises(InputError, match=message):
        proportion_bound(k, n, alpha=0.01)


def test_numpy_counts_are_counts():
    assert proportion_bound(np.int64(3), np.float64(10.0), alpha=0.01).n == 10
