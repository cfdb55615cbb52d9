"""Binary scores: exact tails for E[h], sd and mean + kappa sd, against sums over all outcomes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from leakbound.bounds import ed_bound, mean_bound, proportion_bound, std_bound
from leakbound.bounds.engines.binary import as_extreme
from leakbound.errors import InputError

RATES = np.concatenate([np.linspace(0, 1, 2001), [1e-5, 1e-3, 0.5 - 1e-9, 0.5 + 1e-9, 0.7236]])


def sd(p):
    return np.sqrt(p * (1 - p))


def of_counts(bound, n, alpha, **more):
    return np.array([bound([0.0, 1.0], counts=[n - k, k], alpha=alpha, method="binary", **more) for k in range(n + 1)])


@pytest.mark.parametrize("alpha", [0.01, 0.3])
@pytest.mark.parametrize("n", [1, 2, 5, 32, pytest.param(92, marks=pytest.mark.slow)])
def test_no_rate_is_missed_more_often_than_alpha(n, alpha):
    pmf = stats.binom.pmf(np.arange(n + 1), n, RATES[:, None])
    values = {mean_bound: RATES, std_bound: sd(RATES), ed_bound: RATES + 2 * sd(RATES)}
    for bound, truth in values.items():
        upper = np.array([b.upper for b in of_counts(bound, n, alpha)])
        assert (pmf * (upper < truth[:, None] - 1e-12)).sum(axis=1).max() <= alpha
    for bound in (mean_bound, std_bound):
        lower = np.array([b.lower for b in of_counts(bound, n, alpha, side="lower")])
        assert (pmf * (lower > values[bound][:, None] + 1e-12)).sum(axis=1).max() <= alpha


@pytest.mark.parametrize(("k", "n"), [(0, 1024), (3, 1024), (20, 1000), (1, 32)])
def test_few_leaks_are_clopper_pearson_in_other_words(k, n):
    u = proportion_bound(k, n, alpha=0.01).upper
    scores = np.zeros(n)
    scores[:k] = 1.0
    assert mean_bound(scores, alpha=0.01, method="binary").upper == u
    assert std_bound(scores, alpha=0.01, method="binary").upper == pytest.approx(math.sqrt(u * (1 - u)), rel=1e-8)
    assert ed_bound(scores, alpha=0.01, method="binary").upper == pytest.approx(
        u + 2 * math.sqrt(u * (1 - u)), rel=1e-9
    )


def test_the_spread_does_not_care_which_outcome_is_called_a_leak():
    for k in (0, 1, 7, 30):
        left, right = ([0.0, 1.0], [60 - k, k]), ([0.0, 1.0], [k, 60 - k])
        one, other = (std_bound(s, counts=c, alpha=0.01, method="binary", side="both") for s, c in (left, right))
        assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper), rel=1e-9)


def test_a_model_that_nearly_always_leaks_is_known_well():
    """p = .94: a limit on p from above alone would leave sd <= 1/2 and mean + 2 sd <= 1.618."""
    scores, counts = [0.0, 1.0], [61, 963]
    assert std_bound(scores, counts=counts, alpha=0.01, method="binary").upper < 0.27
    assert ed_bound(scores, counts=counts, alpha=0.01, method="binary").upper < 1.47


def test_the_spread_at_many_draws_is_the_largest_there_is():
    bound = std_bound([0.0, 1.0], counts=[5000, 5000], alpha=0.01, method="binary", side="both")
    assert bound.upper == 0.5
    assert 0.499 < bound.lower < 0.5


@pytest.mark.parametrize("kappa", [0.5, 2.0])
def test_outcomes_as_extreme_by_brute_force(kappa):
    def value(p):
        return p + kappa * math.sqrt(p * (1 - p))

    peak = (1 + 1 / math.sqrt(1 + kappa**2)) / 2
    for n in (1, 2, 7, 40):
        for k in range(n + 1):
            low, high = as_extreme(k, n, value, peak)
            small = {j for j in range(n + 1) if value(j / n) <= value(k / n)}
            assert {*range(low + 1), *range(high, n + 1)} == small


def test_scores_between_are_refused():
    for bound in (mean_bound, std_bound, ed_bound):
        with pytest.raises(InputError, match=r"scores hold 0\.5 with method 'binary'"):
            bound([0.0, 0.5, 1.0], alpha=0.01, method="binary")
