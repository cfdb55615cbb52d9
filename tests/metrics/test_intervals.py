"""Intervals of metrics: against closed forms, and how often they miss."""

import math

import numpy as np
import pytest
from scipy import stats

from leakbound.bounds import mean_bound
from leakbound.errors import InputError
from leakbound.metrics.intervals import (
    Metric,
    auc_metric,
    average_metric,
    bootstrap_metric,
    ks_metric,
    mean_metric,
)

ALPHA = 0.05


def test_shares_of_questions_have_clopper_pearsons_interval():
    found = mean_metric("entailment", "forget", [1.0] * 3 + [0.0] * 7, alpha=ALPHA)
    assert found.lower == pytest.approx(stats.beta.ppf(0.025, 3, 8))
    assert found.upper == pytest.approx(stats.beta.ppf(0.975, 4, 7))
    assert found.guaranteed
    graded = mean_metric("rouge_l_recall", "forget", [1.0] * 3 + [0.0] * 7, alpha=ALPHA)
    assert "betting" in graded.method  # that all values are 0 or 1 is chance
    assert graded.upper > found.upper
    none = mean_metric("entailment", "forget", [0.0] * 40, alpha=0.01)
    assert none.value == 0
    assert none.upper == pytest.approx(1 - 0.005 ** (1 / 40))  # 0 of n is not 0 with certainty


def test_means_have_the_betting_interval():
    values = np.linspace(0, 0.9, 50)
    found, bound = mean_metric("p", "forget", values, alpha=ALPHA), mean_bound(values, alpha=ALPHA, side="both")
    assert (found.lower, found.upper, found.n) == (bound.lower, bound.upper, 50)
    assert found.lower < found.value < found.upper
    assert "random sample" in found.method


def test_auc_of_a_perfect_attack_is_bounded_away_from_one():
    found = auc_metric("mia", np.zeros(40), np.ones(25), alpha=ALPHA)
    assert (found.value, found.upper, found.n) == (1, 1, 65)
    assert found.lower == pytest.approx((ALPHA / 2) ** (1 / 25))  # k kl(1, a) = -k ln a <= ln(2/alpha)
    other = auc_metric("mia", np.ones(40), np.zeros(25), alpha=ALPHA)
    assert (other.value, other.lower) == (0, 0)
    assert other.upper == pytest.approx(1 - found.lower)


def test_auc_interval_solves_its_equation_and_is_within_hoeffdings():
    rng = np.random.default_rng(2)
    forget, holdout = rng.normal(size=50), rng.normal(0.5, size=80)
    found = auc_metric("mia", forget, holdout, alpha=ALPHA)
    for limit in (found.lower, found.upper):
        a = found.value
        kl = a * math.log(a / limit) + (1 - a) * math.log((1 - a) / (1 - limit))
        assert 50 * kl == pytest.approx(math.log(2 / ALPHA), rel=1e-6)
    assert found.upper - found.value <= math.sqrt(math.log(2 / ALPHA) / 100)


def test_auc_interval_covers():
    """True AUC Phi(0.5 / sqrt 2). A level of 5 % lets 400 runs miss more than 47 times with probability < 1e-6."""
    truth = stats.norm.cdf(0.5 / math.sqrt(2))
    rng, misses = np.random.default_rng(3), 0
    for _ in range(400):
        found = auc_metric("mia", rng.normal(size=20), rng.normal(0.5, size=30), alpha=ALPHA)
        misses += not found.lower <= truth <= found.upper
    assert stats.binom.sf(47, 400, ALPHA) < 1e-6
    assert misses <= 47


def test_ks_distance_interval():
    rng = np.random.default_rng(4)
    found = ks_metric("d", "forget", rng.random(200), rng.random(50) / 2, alpha=0.01)
    eps = math.sqrt(math.log(400) / 400) + math.sqrt(math.log(400) / 100)
    assert found.lower == pytest.approx(max(0, found.value - eps))
    assert found.upper == pytest.approx(min(1, found.value + eps))
    assert found.lower <= 0.5 <= found.upper  # the true distance of U(0, 1) and U(0, 1/2)


def test_bootstrap_is_near_the_normal_interval_and_is_deterministic():
    values = np.random.default_rng(5).normal(10, 2, 400)
    found = average_metric("fluency", "forget", values, alpha=ALPHA)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.upper - found.value == pytest.approx(half, rel=0.15)
    assert found.value - found.lower == pytest.approx(half, rel=0.15)
    assert found == average_metric("fluency", "forget", values, alpha=ALPHA)
    assert not found.guaranteed
    assert "no guarantee" in found.method


def test_bootstrap_draws_within_each_set_and_keeps_a_questions_numbers_together():
    """x and -x of the same question cancel in every resample."""
    rng = np.random.default_rng(6)
    x = rng.random((300, 1))
    paired = bootstrap_metric("m", "", [np.hstack([x, 1 - x])], lambda means: means.sum(axis=1), alpha=ALPHA)
    apart = bootstrap_metric("m", "", [x, 1 - x], lambda means: means.sum(axis=1), alpha=ALPHA)
    assert paired.upper - paired.lower < 1e-12
    assert apart.upper - apart.lower > 0.05


def test_a_metric_reads_back_and_must_be_a_number():
    found = mean_metric("p", "forget", [0.25, 0.75], alpha=0.01)
    assert Metric.from_json(found.to_json()) == found
    with pytest.raises(InputError, match="finite"):
        Metric("p", "forget", math.nan, 0, 1, 0.01, 2, "")


def test_a_bootstrap_of_equal_questions_gives_no_interval():
    found = bootstrap_metric("x", "", [np.zeros((20, 1))], lambda means: means[:, 0], alpha=0.01)
    assert (found.value, found.lower, found.upper) == (0.0, None, None)
    assert "no interval" in found.method
