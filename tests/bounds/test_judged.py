import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from leakbound.bounds import judged_bound, judged_proportion_bound, proportion_bound, worst_prompt_bound
from leakbound.bounds.judged import leak_lower, leak_upper
from leakbound.errors import InputError

RATES = {"sensitivity": (47, 50), "specificity": (95, 100)}


def test_by_hand_with_known_rates():
    # p <= U, theta <= (U + .9 - 1) / (.9 + .8 - 1)
    flagged = proportion_bound(30, 100, alpha=0.05)
    found = judged_proportion_bound(30, 100, sensitivity=0.8, specificity=0.9, alpha=0.05)
    assert found.upper == pytest.approx((flagged.upper - 0.1) / 0.7, rel=1e-9)
    assert found.estimate == pytest.approx((0.3 - 0.1) / 0.7)
    assert (found.alpha, found.n, found.side, found.lower) == (0.05, 100, "upper", 0.0)


def test_by_hand_with_estimated_rates():
    # alpha .04: .02 for the draws, .01 for each rate
    p = proportion_bound(30, 100, alpha=0.02).upper
    q1 = proportion_bound(47, 50, alpha=0.01, side="lower").lower
    q0 = proportion_bound(95, 100, alpha=0.01).upper
    found = judged_proportion_bound(30, 100, **RATES, alpha=0.04)
    assert found.upper == pytest.approx((p + q0 - 1) / (q0 + q1 - 1), rel=1e-9)
    p, q1, q0 = (
        proportion_bound(30, 100, alpha=0.02, side="lower").lower,
        proportion_bound(47, 50, alpha=0.01).upper,
        proportion_bound(95, 100, alpha=0.01, side="lower").lower,
    )
    found = judged_proportion_bound(30, 100, **RATES, alpha=0.04, side="lower")
    assert found.lower == pytest.approx((p + q0 - 1) / (q0 + q1 - 1), rel=1e-9)


def test_a_perfect_judge_costs_nothing():
    for side in ("upper", "lower", "both"):
        plain = proportion_bound(3, 100, alpha=0.01, side=side)
        judged = judged_proportion_bound(3, 100, sensitivity=1.0, specificity=1.0, alpha=0.01, side=side)
        assert judged.upper == pytest.approx(plain.upper, rel=1e-9)
        assert judged.lower == pytest.approx(plain.lower, rel=1e-9)


@pytest.mark.parametrize("k", [0, 5, 40, 100])
def test_two_sided_is_two_one_sided_at_half(k):
    both = judged_proportion_bound(k, 100, **RATES, alpha=0.02, side="both")
    assert both.upper == judged_proportion_bound(k, 100, **RATES, alpha=0.01).upper
    assert both.lower == judged_proportion_bound(k, 100, **RATES, alpha=0.01, side="lower").lower
    assert 0 <= both.lower <= both.estimate <= both.upper <= 1


def test_wider_than_without_errors_and_narrower_with_more_labels():
    exact = judged_proportion_bound(100, 1000, sensitivity=0.94, specificity=0.95, alpha=0.01).upper
    few = judged_proportion_bound(100, 1000, sensitivity=(47, 50), specificity=(95, 100), alpha=0.01).upper
    many = judged_proportion_bound(100, 1000, sensitivity=(4700, 5000), specificity=(9500, 10000), alpha=0.01).upper
    assert exact < many < few
    # missed leaks raise the upper bound above the share of flags; false alarms lower it
    assert judged_proportion_bound(100, 1000, sensitivity=0.5, specificity=1.0, alpha=0.01).upper > 0.2
    assert judged_proportion_bound(100, 1000, sensitivity=1.0, specificity=0.95, alpha=0.01).upper < 0.1


@pytest.mark.parametrize("rates", [(0.3, 0.7), (0.2, 0.1), ((0, 50), (45, 50)), ((1, 9), 0.9)])
def test_a_judge_no_better_than_chance_says_nothing(rates):
    rates = dict(zip(("sensitivity", "specificity"), rates, strict=True))
    for k in (0, 2, 50):
        found = judged_proportion_bound(k, 50, **rates, alpha=0.01, side="upper")
        assert found.upper == 1
        assert "no better than chance" in found.method
    mirrored = {"sensitivity": rates["specificity"], "specificity": rates["sensitivity"]}
    for k in (0, 48, 50):
        found = judged_proportion_bound(k, 50, **mirrored, alpha=0.01, side="lower")
        assert found.lower == 0
        assert "no better than chance" in found.method


def test_fewer_flags_than_false_alarms_is_no_proof_of_silence():
    found = judged_proportion_bound(0, 1000, sensitivity=0.9, specificity=0.9, alpha=0.01)
    assert found.upper == pytest.approx(proportion_bound(0, 1000, alpha=0.01).upper / 0.9, rel=1e-9)
    assert "specificity is taken as 1" in found.method
    found = judged_proportion_bound(1000, 1000, sensitivity=0.9, specificity=0.9, alpha=0.01, side="lower")
    low = proportion_bound(1000, 1000, alpha=0.01, side="lower").lower
    assert found.lower == pytest.approx((low - 0.1) / 0.9, rel=1e-9)
    assert "sensitivity is taken as 1" in found.method


@pytest.mark.slow
def test_luck_is_not_taken_for_knowledge():
    # 0.1 x 1000 false alarms are expected: fewer flags would push the formula to 0 without a floor
    perfect = judged_proportion_bound(0, 1000, sensitivity=0.9, specificity=1.0, alpha=0.01).upper
    found = [judged_proportion_bound(k, 1000, sensitivity=0.9, specificity=0.9, alpha=0.01) for k in range(1001)]
    assert min(b.upper for b in found) >= perfect
    assert any(b.upper == perfect for b in found[5:])
    for k in range(0, 1001, 7):
        mirrored = judged_proportion_bound(1000 - k, 1000, sensitivity=0.9, specificity=0.9, alpha=0.01, side="lower")
        assert mirrored.lower <= 1 - perfect
        assert mirrored.lower == pytest.approx(1 - found[k].upper, abs=1e-9)


def test_the_limits_are_the_extremes_over_the_box():
    # slow restatement: the largest theta in [0, 1] for which some (p, q1, q0) of the box fits, over a fine grid
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, 2001)
    for _ in range(200):
        q1_low, q1_high = np.sort(rng.uniform(0, 1, 2))
        q0_low, q0_high = np.sort(rng.uniform(0, 1, 2))
        theta = rng.uniform()
        q1, q0 = rng.uniform(q1_low, q1_high), rng.uniform(q0_low, q0_high)
        p = theta * q1 + (1 - theta) * (1 - q0)
        p_low, p_high = max(p - rng.uniform(0, 0.1), 0), min(p + rng.uniform(0, 0.1), 1)
        least = grid * q1_low + (1 - grid) * (1 - q0_high)
        most = grid * q1_high + (1 - grid) * (1 - q0_low)
        fits = grid[least <= p_high]
        assert leak_upper(p_high, q1_low, q0_high) >= theta - 1e-12
        assert leak_upper(p_high, q1_low, q0_high) >= fits.max() - 1e-9
        assert leak_upper(p_high, q1_low, q0_high) <= fits.max() + 1 / 2000 + 1e-9 or q1_low + q0_high <= 1
        assert leak_lower(p_low, q1_high, q0_low) <= grid[most >= p_low].min() + 1e-9
        assert leak_lower(p_low, q1_high, q0_low) <= theta + 1e-12


def test_rounded_outward_in_exact_arithmetic():
    for p, q1, q0 in itertools.product((0.3, 1 / 3, 0.7), (0.9, 0.77), (0.95, 0.8)):
        exact = (Fraction(p) + Fraction(q0) - 1) / (Fraction(q0) + Fraction(q1) - 1)
        assert Fraction(float(leak_upper(p, q1, q0))) >= min(exact, 1)
        assert Fraction(float(leak_lower(p, q1, q0))) <= max(exact, 0)


def miss_rates(n, m1, m0, alpha):
    """P(miss) of both sides, summed over all outcomes, for a grid of (theta, q1, q0)."""
    shape = [(k, k1, k0) for k in range(n + 1) for k1 in range(m1 + 1) for k0 in range(m0 + 1)]
    found = {
        (k, k1, k0): judged_proportion_bound(k, n, sensitivity=(k1, m1), specificity=(k0, m0), alpha=alpha, side="both")
        for k, k1, k0 in shape
    }
    upper = np.array([found[o].upper for o in shape]).reshape(n + 1, m1 + 1, m0 + 1)
    lower = np.array([found[o].lower for o in shape]).reshape(n + 1, m1 + 1, m0 + 1)
    assert (lower <= upper).all()
    for theta, q1, q0 in itertools.product((0, 0.02, 0.2, 0.5, 0.9, 1), (0.3, 0.7, 0.95, 1), (0.4, 0.8, 0.99, 1)):
        p = theta * q1 + (1 - theta) * (1 - q0)
        laws = (stats.binom.pmf(np.arange(m + 1), m, r) for m, r in ((n, p), (m1, q1), (m0, q0)))
        law = np.einsum("i,j,k->ijk", *laws)
        yield float(law[upper < theta].sum()), float(law[lower > theta].sum())


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m1", "m0", "alpha"), [(12, 6, 6, 0.2), (15, 8, 4, 0.1), (8, 3, 9, 0.5), (1, 1, 1, 0.4)])
def test_exact_coverage(n, m1, m0, alpha):
    rates = list(miss_rates(n, m1, m0, alpha))
    assert len(rates) == 96
    assert max(up for up, _ in rates) <= alpha / 2
    assert max(low for _, low in rates) <= alpha / 2
    assert n == 1 or max(max(pair) for pair in rates) > 0  # the enumeration sees misses at all


@pytest.mark.parametrize(("q1", "q0"), [(0.9, 0.95), (0.6, 0.7), (1.0, 0.8)])
def test_exact_coverage_with_known_rates(q1, q0):
    n, alpha, k = 60, 0.05, np.arange(61)
    bounds = [judged_proportion_bound(int(i), n, sensitivity=q1, specificity=q0, alpha=alpha) for i in k]
    upper = np.array([b.upper for b in bounds])
    misses = []
    for theta in np.unique(np.concatenate([np.linspace(0, 1, 101), np.clip(upper + 1e-9, 0, 1)])):
        law = stats.binom.pmf(k, n, theta * q1 + (1 - theta) * (1 - q0))
        misses.append(law[upper < theta].sum())
    assert 0.5 * alpha < max(misses) <= alpha


def test_the_labelled_completions_may_be_some_of_the_draws():
    # all of 6 draws are labelled: the three counts are then functions of the same draws, and the bound still holds
    n, theta, q1, q0, alpha = 6, 0.3, 0.8, 0.9, 0.3
    miss = 0.0
    for leaks in range(n + 1):
        for hits, alarms in itertools.product(range(leaks + 1), range(n - leaks + 1)):
            law = stats.binom.pmf(leaks, n, theta)
            law *= stats.binom.pmf(hits, leaks, q1) * stats.binom.pmf(alarms, n - leaks, 1 - q0)
            rates = {
                "sensitivity": (hits, leaks) if leaks else (0, 1),  # without a labelled leak: the limit is 0 anyway
                "specificity": (n - leaks - alarms, n - leaks) if leaks < n else (1, 1),
            }
            miss += law * (judged_proportion_bound(hits + alarms, n, **rates, alpha=alpha).upper < theta)
    assert miss <= alpha


def test_any_bound_on_flags_can_be_corrected():
    flagged = worst_prompt_bound([proportion_bound(k, 500, alpha=0.005) for k in (10, 40, 25)])
    found = judged_bound(flagged, **RATES, alpha=0.005)
    assert (found.alpha, found.scope) == (0.01, flagged.scope)
    assert found.upper == judged_proportion_bound(40, 500, **RATES, alpha=0.01).upper
    with pytest.raises(InputError, match="give alpha=0"):
        judged_bound(flagged, sensitivity=0.9, specificity=0.9, alpha=0.005)
    assert judged_bound(flagged, sensitivity=1.0, specificity=1.0, alpha=0).upper == pytest.approx(flagged.upper)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sensitivity": (51, 50)}, "51 right verdicts among 50"),
        ({"sensitivity": (0, 0)}, r"sensitivity\[1\] is 0"),
        ({"specificity": 1.2}, "specificity is 1.2"),
        ({"specificity": float("nan")}, "specificity is nan"),
        ({"specificity": (1, 2, 3)}, "give \\(right verdicts"),
        ({"sensitivity": (True, 2)}, "sensitivity"),
        ({"alpha": 0}, "alpha is 0"),
    ],
)
def test_bad_rates_are_named(given, message):
    with pytest.raises(InputError, match=message):
        judged_proportion_bound(1, 10, **{**RATES, "alpha": 0.01, **given})
