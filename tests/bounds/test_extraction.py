import itertools
from dataclasses import replace
from math import comb, log

import numpy as np
import pytest
from scipy import stats

from leakbound.bounds import (
    Bound,
    draws_to_extract,
    ed_bound,
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
    bound = leak_at_k_bound(p, k)
    assert bound.upper == pytest.approx(1 - (1 - p.upper) ** k)
    assert bound.lower == pytest.approx(1 - (1 - p.lower) ** k)
    assert bound.lower <= bound.estimate <= bound.upper
    assert bound.estimate == pytest.approx(1 - (1 - 5 / 1024) ** k)
    assert (bound.alpha, bound.side, bound.n, bound.scope) == (0.02, "both", 1024, "this prompt")
    assert bound.estimand == f"P(a leak in {k} draws)"
    one = leak_at_k_bound(proportion_bound(5, 1024, alpha=0.01), k)
    assert (one.lower, one.upper) == (0.0, pytest.approx(bound.upper))
    other = leak_at_k_bound(proportion_bound(5, 1024, alpha=0.01, side="lower"), k)
    assert (other.lower, other.upper) == (pytest.approx(bound.lower), 1.0)
    assert leak_at_k_bound(proportion_bound(10, 10, alpha=0.1), k).upper == 1


def test_leak_at_k_of_one_prompt_covers_exactly():
    """Summed over all counts: a miss of the limit is a miss of P(leak), for every k at once."""
    n, alpha = 20, 0.1
    limits = [proportion_bound(c, n, alpha=alpha) for c in range(n + 1)]
    uppers = np.array([[leak_at_k_bound(b, k).upper for k in (1, 7, 300)] for b in limits])
    for p in np.linspace(0, 1, 60):
        missed = (uppers < 1 - (1 - p) ** np.array([1, 7, 300]) - 1e-12).any(axis=1)
        assert stats.binom.pmf(np.arange(n + 1), n, p) @ missed <= alpha


@pytest.mark.parametrize("k", [1, 2, 10, 1000])
def test_leak_at_k_of_the_average_prompt_lies_between_its_limits(k):
    """For any probabilities that average to a: a <= mean of f(p) <= f(a); both are attained."""
    rng = np.random.default_rng(k)
    for p in (rng.beta(0.2, 3, 8), np.full(5, 0.03), np.array([0.0, 1.0, 0.0, 0.0])):
        average, truth = p.mean(), (1 - (1 - p) ** k).mean()
        exact = Bound("P(leak)", average, average, average, 0.1, "both", 10, "known", "the average prompt")
        bound = leak_at_k_bound(exact, k)
        assert bound.lower <= truth + 1e-12
        assert truth <= bound.upper + 1e-12
        assert bound.scope == "the average prompt"
        if np.ptp(p) == 0:
            assert bound.upper == pytest.approx(truth)
        if set(p) <= {0.0, 1.0}:
            assert bound.lower == pytest.approx(truth)
        one = leak_at_k_bound(replace(exact, scope="this prompt"), k)
        assert (one.lower, one.upper) == (pytest.approx(bound.upper), bound.upper)


def test_leak_at_k_needs_a_probability():
    with pytest.raises(InputError, match=r"bound is on 'E\[h\] \+ 2 sd\(h\)', which is no probability"):
        leak_at_k_bound(ed_bound([0.0, 1.0, 1.0], alpha=0.1), 3)
    with pytest.raises(InputError, match="k is 0"):
        leak_at_k_bound(proportion_bound(1, 5, alpha=0.1), 0)


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
