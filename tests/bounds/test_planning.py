import numpy as np
import pytest
from scipy import stats

from leakbound import bounds
from leakbound.bounds import mean_bounds, plan_leak_claim, plan_mean_claim, plan_width, proportion_bound
from leakbound.bounds.certificates import importance_lower_bound
from leakbound.bounds.planning import expected_width
from leakbound.bounds.unguaranteed import Unguaranteed, bootstrap, student_t, wilson
from leakbound.errors import InputError


@pytest.mark.parametrize(("rate", "n"), [(0, 459), (0.0005, 662), (0.001, 838), (0.002, 1157), (0.004, 2539)])
def test_leak_plans_of_the_design_page(rate, n):
    plan = plan_leak_claim(0.01, alpha=0.01, true_rate=rate)
    assert plan.n == n
    assert proportion_bound(plan.allowed, plan.n, alpha=0.01).upper <= 0.01
    assert proportion_bound(plan.allowed, plan.n - 1, alpha=0.01).upper > 0.01
    assert plan.power == pytest.approx(stats.binom.cdf(plan.allowed, plan.n, rate))
    assert plan.power >= 0.9


def test_leak_plan_says_what_it_takes():
    assert str(plan_leak_claim(0.01, alpha=0.01)) == (
        "459 draws per prompt prove P(leak) <= 0.01 with confidence 0.99 if at most 0 leak; "
        "where the true P(leak) is 0, that happens with probability 1.000"
    )
    with pytest.raises(InputError, match=r"true_rate is 0.02, not below limit"):
        plan_leak_claim(0.01, alpha=0.01, true_rate=0.02)


@pytest.mark.parametrize("side", ["upper", "lower", "both"])
@pytest.mark.parametrize(("n", "rate"), [(20, 0.0), (50, 0.1), (300, 0.4), (30, 1.0)])
def test_expected_width_is_the_mean(side, n, rate):
    k = np.arange(n + 1)
    bounds = [proportion_bound(int(j), n, alpha=0.05, side=side) for j in k]
    pmf = stats.binom.pmf(k, n, rate)
    widths = {
        "both": [b.upper - b.lower for b in bounds],
        "upper": [b.upper - rate for b in bounds],
        "lower": [rate - b.lower for b in bounds],
    }[side]
    assert expected_width(n, rate, alpha=0.05, side=side) == pytest.approx(pmf @ widths, abs=1e-9)


@pytest.mark.slow
def test_plan_width():
    plan = plan_width(0.02, alpha=0.01, true_rate=0.01)
    n = plan.n
    assert str(plan) == (
        f"{n} draws per prompt know P(leak) to a width of 0.02 with confidence 0.99, on average where the true P(leak) "
        "is 0.01"
    )
    assert expected_width(n, 0.01, alpha=0.01) <= 0.02
    assert expected_width(int(n * 0.97), 0.01, alpha=0.01) > 0.02
    with pytest.raises(InputError, match="width is 1e-06: more than"):
        plan_width(1e-6, alpha=0.01, true_rate=0.5)


def test_plan_mean_claim_keeps_its_promise():
    rng = np.random.default_rng(0)
    n = plan_mean_claim(rng.beta(0.1, 4.9, 2000), 0.05, alpha=0.01)
    assert 150 < n < 300
    bounds = mean_bounds(rng.beta(0.1, 4.9, (100, n)), alpha=0.01)
    assert np.mean([b.upper <= 0.05 for b in bounds]) > 0.75
    with pytest.raises(InputError, match=r"pilot has mean 0.5, not below limit"):
        plan_mean_claim([0.0, 1.0], 0.4, alpha=0.01)


def test_intervals_without_a_guarantee_say_so():
    x = np.random.default_rng(1).beta(2, 8, 200)
    for interval in (
        student_t(x, alpha=0.05, side="both"),
        wilson(3, 200, alpha=0.05, side="both"),
        bootstrap(x, alpha=0.05, side="both"),
    ):
        assert isinstance(interval, Unguaranteed)
        assert str(interval).startswith("No guarantee: ")
        assert interval.lower < interval.estimate < interval.upper
    low, high = stats.t.interval(0.95, 199, x.mean(), stats.sem(x))
    assert (student_t(x, alpha=0.05, side="both").lower, student_t(x, alpha=0.05, side="both").upper) == pytest.approx(
        (low, high)
    )
    ci = stats.binomtest(3, 200).proportion_ci(0.95, method="wilson")
    assert wilson(3, 200, alpha=0.05, side="both").upper == pytest.approx(ci.high)
    assert student_t([0.0] * 5, alpha=0.01).upper == 0.0  # the trap that the page warns of


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bounds.plan_mean_claim([0.0] * 10, 0.1, alpha=0.1, runs=0), "runs is 0"),  # looked for n for ever
        (lambda: bounds.plan_mean_claim([0.0] * 10, 0.1, alpha=0.1, seed=-1), "seed is -1"),
        (lambda: bounds.plan_looks(0.1, alpha=0.1, allowed=(0.5,), shares=(0.5,)), "allowed is 0.5"),
        (lambda: bounds.plan_looks(0.1, alpha=0.1, allowed=(0,), shares=(float("nan"),)), "shares is nan"),
        (lambda: bounds.e_holm(["a"], alpha=0.1), "log_e_values is not an array of numbers"),
        (lambda: importance_lower_bound(["a"], alpha=0.1), "weighted is not an array of numbers"),
        (
            lambda: bounds.judged_proportion_bound(0, 9, sensitivity=(1, 10**400), specificity=1.0, alpha=0.1),
            r"sensitivity\[1\] is 10",
        ),
    ],
)
def test_what_no_plan_or_test_can_take_is_named(call, said):
    with pytest.raises(InputError, match=said):
        call()
