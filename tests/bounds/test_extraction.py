import itertools
from math import comb, log

import numpy as np
import pytest

from leakbound.bounds import (
    draws_to_extract,
    extraction_probability,
    leak_at_k,
    leak_at_k_bound,
    max_score_at_k,
    max_score_at_k_bound,
    proportion_bound,
    survival_bound,
)
from leakbound.errors import InputError


@pytest.mark.parametrize(("c", "n", "k"), [(0, 10, 3), (2, 10, 3), (9, 10, 3), (10, 10, 10), (1, 5, 1), (5, 1024, 100)])
def test_leak_at_k_counts_subsets(c, n, k):
    assert leak_at_k(c, n, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k))


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_max_score_at_k_averages_over_subsets(k):
    scores = [0.0, 0.0, 0.3, 0.3, 0.7, 1.0]
    exact = np.mean([max(s) for s in itertools.combinations(scores, k)])
    assert max_score_at_k(scores, k) == pytest.approx(exact)
    assert max_score_at_k([0.0, 0.3, 0.7, 1.0], k, counts=[2, 2, 1, 1]) == pytest.approx(exact)
    assert max_score_at_k([0.0, 1.0], k, counts=[4, 2]) == pytest.approx(leak_at_k(2, 6, k))


def test_estimates_need_k_up_to_n():
    with pytest.raises(InputError, match="k is 7: give a whole number >= 1 and <= 6"):
        leak_at_k(1, 6, 7)


@pytest.mark.parametrize("k", [1, 10, 5000])
def test_leak_at_k_bound(k):
    p = proportion_bound(5, 1024, alpha=0.02, side="both")
    bound = leak_at_k_bound(5, 1024, k, alpha=0.02, side="both")
    assert bound.upper == pytest.approx(1 - (1 - p.upper) ** k)
    assert bound.lower == pytest.approx(1 - (1 - p.lower) ** k)
    assert bound.lower <= bound.estimate <= bound.upper
    assert bound.estimand == f"P(a leak in {k} draws)"
    assert leak_at_k_bound(10, 10, k, alpha=0.1).upper == 1


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("thresholds", [None, [0.0, 0.1, 0.5, 0.9], [0.3]])
def test_max_score_bound_integrates_the_band(k, thresholds):
    scores = np.random.default_rng(0).beta(0.5, 5, 300)
    band = survival_bound(scores, alpha=0.05, side="both", thresholds=thresholds)
    bound = max_score_at_k_bound(band, k)
    x = (np.arange(20_000) + 0.5) / 20_000
    upper = np.mean(1 - (1 - np.array([band.upper_at(v) for v in x])) ** k)
    lower = np.mean(1 - (1 - np.array([band.lower_at(v) for v in x])) ** k)
    assert (bound.lower, bound.upper) == pytest.approx((lower, upper), abs=2e-3)
    if thresholds is None:
        assert bound.lower <= max_score_at_k(scores, k) <= bound.upper


def test_extraction_with_known_probability():
    assert extraction_probability(log(0.1), 3) == pytest.approx(1 - 0.9**3)
    assert extraction_probability(0.0, 1) == 1
    assert extraction_probability(-800.0, 10) == 0.0
    for log_p, p in ((log(0.1), 0.5), (-5.0, 0.9), (-12.0, 0.01), (-1e-3, 0.999)):
        n = draws_to_extract(log_p, p)
        assert extraction_probability(log_p, n) >= p - 1e-12
        if n > 1:
            assert extraction_probability(log_p, n - 1) < p
    assert draws_to_extract(0.0, 0.5) == 1
    assert draws_to_extract(-1000.0, 0.5) // 10**430 == 13655  # ln 2 times e^1000, beyond any float


@pytest.mark.parametrize("value", [0.1, float("nan"), "-1", -float("inf")])
def test_log_probability_is_checked(value):
    with pytest.raises(InputError, match="log_probability is"):
        extraction_probability(value, 10)
