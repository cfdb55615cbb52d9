import math
from dataclasses import replace

import numpy as np
import pytest
from bounds_laws import BETA, BETA_LOW, JUDGE, LAWS, ROUGE_LOW, ROUGE_MID, most_misses

from leakbound.bounds import mean_bound, mean_bounds

METHODS = ["betting", "portfolio", "anderson", "anderson-hybrid", "hoeffding-bentkus", "maurer-pontil", "paper"]


def test_anderson_by_hand():
    # n = 2, alpha = .5: eps = sqrt(ln 2 / 4); F_n = 1/2 on [.2, .6), 1 on [.6, 1]
    eps = math.sqrt(math.log(2) / 4)
    bound = mean_bound([0.2, 0.6], alpha=0.5, method="anderson")
    assert bound.upper == pytest.approx(1 - 0.4 * (0.5 - eps) - 0.4 * (1 - eps))
    assert (bound.lower, bound.estimate, bound.n) == (0.0, pytest.approx(0.4), 2)
    lower = mean_bound([0.2, 0.6], alpha=0.5, side="lower", method="anderson").lower
    assert lower == pytest.approx(0.2 * (1 - eps) + 0.4 * (0.5 - eps))


def test_published_numbers_of_the_grid_and_of_the_exact_integral():
    # formulas.md 1.3: Beta(2, 5), n = 1024, alpha = .01 a side
    from scipy import stats

    scores = stats.beta.ppf((np.arange(1024) + 0.5) / 1024, 2, 5)
    exact = mean_bound(scores, alpha=0.02, side="both", method="anderson")
    grid = mean_bound(scores, alpha=0.02, side="both", method="paper")
    assert grid.lower < exact.lower < exact.estimate < exact.upper < grid.upper
    assert exact.upper - exact.lower == pytest.approx(0.3354 - 0.2575, abs=0.004)
    assert grid.upper - exact.upper == pytest.approx(0.005, abs=0.001)


def test_grid_agrees_with_conbo():
    conbo = pytest.importorskip("conbo")
    scores = np.random.default_rng(0).beta(0.5, 5, 300)
    _, low, high = conbo.expectation_bounds(scores, alpha=0.02)
    bound = mean_bound(scores, alpha=0.02, side="both", method="paper")
    assert (bound.lower, bound.upper) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_two_sided_is_two_one_sided_at_half(method):
    scores = np.random.default_rng(3).beta(2, 8, 200)
    both = mean_bound(scores, alpha=0.02, side="both", method=method)
    assert both.upper == pytest.approx(mean_bound(scores, alpha=0.01, method=method).upper)
    assert both.lower == pytest.approx(mean_bound(scores, alpha=0.01, side="lower", method=method).lower)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scores", [[0.0], [1.0], [0.0] * 50, [1.0] * 50, [0.0, 1.0] * 25, [0.5] * 3])
def test_order_and_ends(method, scores):
    bound = mean_bound(scores, alpha=0.01, side="both", method=method)
    assert 0 <= bound.lower <= bound.estimate <= bound.upper <= 1
    assert bound.upper > 0
    assert bound.lower < 1
    uppers = [mean_bound(scores, alpha=a, method=method).upper for a in (0.001, 0.01, 0.1, 0.4)]
    assert uppers == sorted(uppers, reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_counts_equal_repeats_and_mirror(method):
    scores, counts = np.array([0.0, 0.25, 0.9]), np.array([700, 5, 11])
    grouped = mean_bound(scores, counts=counts, alpha=0.01, side="both", method=method)
    repeated = mean_bound(np.repeat(scores, counts), alpha=0.01, side="both", method=method)
    if method == "betting":  # counts have no order: tests/bounds/test_order.py
        assert replace(grouped, method="") == replace(mean_bound(scores, counts=counts, alpha=0.01, side="both",
                                                                 method="portfolio"), method="")  # fmt: skip
    else:
        assert grouped == repeated
    mirrored = mean_bound(1 - scores, counts=counts, alpha=0.01, side="both", method=method)
    tolerance = 1e-12 if method != "paper" else 0.011
    assert (1 - mirrored.upper, 1 - mirrored.lower) == pytest.approx((grouped.lower, grouped.upper), abs=tolerance)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("method", [*METHODS[:2], *(pytest.param(m, marks=pytest.mark.slow) for m in METHODS[2:])])
def test_coverage(law, method):
    rng, alpha, runs, n = np.random.default_rng(4), 0.2, 100 if method == "hoeffding-bentkus" else 300, 30
    samples, times = law.draw(rng, (runs, n)), np.ones(runs, int)
    if method != "betting":  # the others know no order: equal draws in another order have equal bounds
        samples, times = np.unique(np.sort(samples), axis=0, return_counts=True)
    bounds = mean_bounds(samples, alpha=alpha, side="both", method=method)
    misses = times @ [not b.lower - 1e-12 <= law.mean <= b.upper + 1e-12 for b in bounds]
    assert misses <= most_misses(runs, alpha)


def test_many_prompts_equal_one_by_one():
    rng = np.random.default_rng(5)
    scores = [law.draw(rng, n) for law, n in zip(LAWS, [50, 7, 50, 1, 2, 50, 7, 80, 80, 3, 50], strict=True)]
    bounds = mean_bounds(scores, alpha=0.05, side="both")
    assert bounds == [mean_bound(s, alpha=0.05, side="both") for s in scores]
    assert mean_bounds(scores, alpha=0.05, method="portfolio")[3] == mean_bound(
        scores[3], alpha=0.05, method="portfolio"
    )
    assert mean_bounds([], alpha=0.05) == mean_bounds([], alpha=0.05, method="portfolio") == []


@pytest.mark.parametrize("n", [128, 1024])
def test_betting_without_leaks_is_clopper_pearson(n):
    assert mean_bound(np.zeros(n), alpha=0.01).upper == pytest.approx(1 - 0.01 ** (1 / n), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "width"), [(BETA_LOW, 0.0098), (BETA, 0.0094), (ROUGE_LOW, 0.0120), (ROUGE_MID, 0.0187), (JUDGE, 0.0151)]
)
def test_betting_keeps_its_width(law, width):
    # design/statistics.md 2.2, n = 1024, alpha = .01: medians there, within Monte Carlo error here
    bounds = mean_bounds(law.draw(np.random.default_rng(7), (200, 1024)), alpha=0.01)
    assert np.median([b.upper for b in bounds]) - law.mean < 1.12 * width


def test_hoeffding_bentkus_is_the_smaller_p_value():
    from scipy import optimize, stats

    n, k, alpha = 50, 4, 0.05
    bound = mean_bound([0.0, 1.0], counts=[n - k, k], alpha=alpha, method="hoeffding-bentkus").upper
    bentkus = optimize.brentq(lambda m: np.e * stats.binom.cdf(k, n, m) - alpha, 0.08, 0.9)
    kl = optimize.brentq(lambda m: stats.entropy([k / n, 1 - k / n], [m, 1 - m]) - np.log(1 / alpha) / n, 0.09, 0.9)
    assert bound == pytest.approx(min(bentkus, kl), rel=1e-6)


def test_maurer_pontil_by_hand():
    bound = mean_bound([0.0, 1.0] * 500, alpha=0.02, method="maurer-pontil").upper
    assert bound == pytest.approx(0.5 + np.sqrt(2 * (0.25 * 1000 / 999) * np.log(100) / 1000) + 7 * np.log(100) / 2997)


@pytest.mark.slow
def test_long_runs_without_leaks_keep_the_rate():
    assert mean_bound(np.zeros(60_000), alpha=0.01).upper == pytest.approx(1 - 0.01 ** (1 / 60_000), rel=0.02)
    samples = BETA_LOW.draw(np.random.default_rng(8), (60, 5000))
    bounds = mean_bounds(samples, alpha=0.01, side="both")
    assert all(b.lower < b.estimate < b.upper < b.estimate + 0.012 for b in bounds)
    assert sum(not b.lower <= BETA_LOW.mean <= b.upper for b in bounds) <= most_misses(60, 0.01)
