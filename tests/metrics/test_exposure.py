"""Exposure: closed forms, hand numbers, calibration."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy import stats

from leakbound.errors import InputError
from leakbound.metrics.exposure import (
    epsilon_lower_bound,
    exposure,
    generalized_exposure,
    generalized_exposures,
    heldout_exposure,
    largest_epsilon,
    log_mean,
    original_exposure,
    sampled_exposure,
)


def test_enumerated_exposure_by_hand():
    assert exposure(-1.0, [-2.0, -3.0, -4.0]) == 2.0  # rank 1 of 4
    assert exposure(-3.0, [-2.0, -1.0, -4.0]) == pytest.approx(2 - math.log2(3))
    assert exposure(-9.0, [-2.0, -1.0, -4.0]) == 0.0
    assert exposure(-2.0, [-2.0, -2.0, -2.0]) == 0.0  # ties lower it


def test_exposure_of_a_known_distribution_equals_the_exact_value():
    """Three biased coins: every string's rank can be counted by hand from the number of heads."""
    heads = 0.8
    strings = list(product((0, 1), repeat=3))
    logp = {s: sum(math.log(heads if x else 1 - heads) for x in s) for s in strings}
    at_least = {3: 1, 2: 4, 1: 7, 0: 8}  # strings with at least so many heads
    for s in strings:
        value = exposure(logp[s], [logp[t] for t in strings if t != s])
        assert value == pytest.approx(3 - math.log2(at_least[sum(s)]), abs=1e-12)


def test_sampled_exposure_holds_the_exact_value():
    """Interval at alpha 1e-8 over 40 samples: a false alarm in less than 4e-7 of all versions of this test."""
    rng = np.random.default_rng(0)
    space = np.sort(rng.normal(size=512))[::-1]
    for rank in (1, 2, 50, 400):
        target = space[rank - 1]
        exact = exposure(target, np.delete(space, rank - 1))
        assert exact == pytest.approx(9 - math.log2(rank))
        for _ in range(10):
            found = sampled_exposure(target, rng.choice(space, size=60), space=512, alpha=1e-8)
            assert found.lower <= exact <= found.upper
            assert found.lower <= found.estimate <= found.upper


def test_sampled_exposure_limits_are_clopper_pearsons():
    found = sampled_exposure(0.0, [1.0] * 3 + [-1.0] * 13, space=1024, alpha=0.1)
    low, high = stats.beta.ppf(0.05, 3, 14), stats.beta.ppf(0.95, 4, 13)
    assert found.estimate == pytest.approx(-math.log2(3 / 16))
    assert (found.lower, found.upper) == (pytest.approx(-math.log2(high)), pytest.approx(-math.log2(low)))


def test_saturation():
    found = sampled_exposure(0.0, [-1.0] * 64, space=2.0**30, alpha=0.05)
    assert found.saturated
    assert found.estimate == 6.0  # log2 64
    assert found.upper == 30.0  # log2 of the space: the sample says no more
    assert found.lower == pytest.approx(-math.log2(1 - 0.025 ** (1 / 64)))
    assert f"at least 6.00 bits, {math.floor(found.lower * 100) / 100} to 30.00 with confidence 0.95" in str(found)
    assert math.floor(found.lower * 100) < round(found.lower * 100)
    unseen = heldout_exposure(0.0, [-1.0] * 64, alpha=0.05)
    assert unseen.upper == math.inf
    assert str(unseen)


def test_heldout_exposure_of_an_unseen_example_is_small():
    """Exchangeable with 127 others its rank is uniform: P(estimate > b) <= 2^-b + 1/128; exact, by all ranks."""
    values = np.arange(128.0)
    estimates = [heldout_exposure(x, np.delete(values, i), alpha=0.05).estimate for i, x in enumerate(values)]
    for bits in (1, 2, 3, 5):
        assert np.mean(np.array(estimates) > bits) <= 2.0**-bits + 1 / 128
    assert np.mean(estimates) < math.log2(math.e) + 0.1


def test_log_mean_is_the_log_of_the_mean():
    rows = np.log([[0.1, 0.5], [0.3, 0.25]])
    assert np.exp(log_mean(rows)) == pytest.approx([0.2, 0.375])
    assert np.exp(log_mean(rows, "log")) == pytest.approx(np.sqrt([0.03, 0.125]))
    assert log_mean(np.full((3, 1), -5000.0)) == pytest.approx([-5000.0])  # no underflow


def test_generalized_exposure_by_hand():
    unlearned, retrained = np.log([[0.5], [0.25]]), np.log([[0.125], [0.0625]])
    assert generalized_exposures(unlearned, retrained) == pytest.approx([2.0])  # log2 (3/8) / (3/32)
    assert generalized_exposures(unlearned, retrained, mean="log") == pytest.approx([2.0])
    assert generalized_exposures(retrained, unlearned) == pytest.approx([-2.0])


def test_welch_interval_by_scipy():
    rng = np.random.default_rng(1)
    u, r = rng.normal(3, 2, size=(5, 7)), rng.normal(0, 1, size=(8, 7))
    found = generalized_exposure(u, r, alpha=0.05, mean="log")
    other = stats.ttest_ind(u.mean(1), r.mean(1), equal_var=False).confidence_interval(0.95)
    assert found.lower == pytest.approx(other.low / math.log(2))
    assert found.upper == pytest.approx(other.high / math.log(2))


def test_zero_within_the_interval_for_retrained_models():
    """Calibration: the "unlearned" models are retrained ones. Normal log-likelihoods, 5 models each, alpha 0.05.

    Welch's interval misses 0 in 5 % of 2,000 repetitions or less often (it is conservative for small groups); more than
    7.5 % has probability below 1e-6 (binomial).
    """
    rng = np.random.default_rng(2)
    repetitions, misses = 2000, 0
    for _ in range(repetitions):
        models = rng.normal(-40, 6, size=(10, 1)) + rng.normal(0, 2, size=(10, 6))
        found = generalized_exposure(models[:5], models[5:], alpha=0.05, mean="log")
        misses += not found.lower <= 0 <= found.upper
    assert stats.binom.sf(150, repetitions, 0.05) < 1e-6
    assert 20 <= misses <= 150


def test_positive_for_models_that_saw_the_example():
    rng = np.random.default_rng(3)
    never, seen = rng.normal(-40, 6, size=(6, 5)), rng.normal(-2, 0.5, size=(6, 5))
    for mean in ("log", "likelihood"):
        found = generalized_exposure(seen, never, alpha=0.001, mean=mean)
        assert found.lower > 10
        assert found.lower <= found.estimate <= found.upper


def test_original_exposure():
    assert original_exposure([-3.0, -1.0], [-1.0, -1.0]) == pytest.approx([-2 / math.log(2), 0.0])


def test_epsilon_bound_by_hand():
    """10 of 10 models above the threshold against 0 of 10: l = a^(1/10), u = 1 - l with a = alpha / 4."""
    found = epsilon_lower_bound(np.ones(10), np.zeros(10), threshold=0.5, alpha=0.05)
    low = 0.0125 ** (1 / 10)
    assert found.lower == pytest.approx(math.log(low / (1 - low)))
    assert f"epsilon >= {math.floor(found.lower * 1e6) / 1e6} with confidence 0.95" in str(found)  # no upper limit
    assert largest_epsilon(10, 10, alpha=0.05) == pytest.approx(found.lower)
    assert largest_epsilon(3, 3, alpha=0.05) == 0.0
    assert epsilon_lower_bound(np.zeros(10), np.ones(10), threshold=0.5, alpha=0.05).lower == pytest.approx(found.lower)


def test_epsilon_bound_is_valid_exactly():
    """Models whose event has probability p under unlearning and q under retraining: the true epsilon is known.

    All outcomes of 6 and 6 models, summed in fractions: the bound exceeds the truth with probability at most alpha.
    """
    n, alpha = 6, Fraction(1, 5)
    lower = [
        [epsilon_lower_bound([1.0] * a + [0.0] * (n - a), [1.0] * b + [0.0] * (n - b), threshold=0.5, alpha=0.2).lower
         for b in range(n + 1)]
        for a in range(n + 1)
    ]  # fmt: skip
    assert max(map(max, lower)) > 0
    grid = [Fraction(i, 20) for i in range(1, 20)]
    worst = Fraction(0)
    for p, q in product(grid, grid):
        truth = math.log(max(p / q, q / p, (1 - p) / (1 - q), (1 - q) / (1 - p)))
        wrong = sum(
            _binomial(a, n, p) * _binomial(b, n, q)
            for a, b in product(range(n + 1), repeat=2)
            if lower[a][b] > truth + 1e-9
        )
        worst = max(worst, wrong)
    assert 0 < worst <= alpha


def _binomial(k, n, p):
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("mean", ["log", "likelihood"])
def test_models_that_agree_give_no_interval(mean):
    found = generalized_exposure([[2.0], [2.0]], [[1.0], [1.0]], alpha=0.1, mean=mean)
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    assert found.estimate == pytest.approx(1 / math.log(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: exposure(math.nan, [0.0]),
        lambda: exposure(0.0, []),
        lambda: exposure(0.0, [-math.inf]),
        lambda: sampled_exposure(0.0, [-1.0], space=1, alpha=0.1),
        lambda: generalized_exposures([[0.0]], [[0.0, 1.0]]),
        lambda: generalized_exposure([[0.0]], [[0.0], [1.0]], alpha=0.1),
        lambda: generalized_exposures([[0.0]], [[0.0]], mean="median"),
        lambda: original_exposure([math.nan], [0.0]),
        lambda: epsilon_lower_bound([0.0], [1.0], threshold=math.nan, alpha=0.1),
        lambda: exposure(-1.0, ["a"]),
        lambda: original_exposure([1.0, 2.0], [1.0, 2.0, 3.0]),
        lambda: original_exposure(["a"], [1.0]),
        lambda: sampled_exposure(-1.0, [-2.0], space="9", alpha=0.1),
        lambda: generalized_exposure([[1.0], [2.0]], [[1.0], [2.0]], alpha=0.1, seed=-1),
    ],
)
def test_bad_input(call):
    with pytest.raises(InputError):
        call()
