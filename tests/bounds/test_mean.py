import math

import numpy as np
import pytest
from bounds_laws import LAWS, most_misses

from leakbound.bounds import mean_bound

METHODS = ["anderson", "paper"]


def test_anderson_by_hand():
    # n = 2, alpha = .5: eps = sqrt(ln 2 / 4); F_n = 1/2 on [.2, .6), 1 on [.6, 1]
    eps = math.sqrt(math.log(2) / 4)
    bound = mean_bound([0.2, 0.6], alpha=0.5)
    assert bound.upper == pytest.approx(1 - 0.4 * (0.5 - eps) - 0.4 * (1 - eps))
    assert (bound.lower, bound.estimate, bound.n) == (0.0, pytest.approx(0.4), 2)
    lower = mean_bound([0.2, 0.6], alpha=0.5, side="lower").lower
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
    assert grouped == repeated
    mirrored = mean_bound(1 - scores, counts=counts, alpha=0.01, side="both", method=method)
    tolerance = 1e-12 if method != "paper" else 0.011
    assert (1 - mirrored.upper, 1 - mirrored.lower) == pytest.approx((grouped.lower, grouped.upper), abs=tolerance)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("method", METHODS)
def test_coverage(law, method):
    rng, alpha, runs, n = np.random.default_rng(4), 0.2, 300, 30
    bounds = [mean_bound(s, alpha=alpha, side="both", method=method) for s in law.draw(rng, (runs, n))]
    misses = sum(not b.lower - 1e-12 <= law.mean <= b.upper + 1e-12 for b in bounds)
    assert misses <= most_misses(runs, alpha)
