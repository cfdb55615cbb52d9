import itertools

import numpy as np
import pytest
from bounds_laws import LAWS, most_misses

from leakbound.bounds import ed_score, std_bound, std_bounds
from leakbound.bounds.engines.envelope import largest_variance, smallest_variance
from leakbound.errors import InputError

METHODS = ["betting", "dkw", "maurer-pontil", "paper"]


@pytest.mark.parametrize("n", [128, 1024, 8192])
@pytest.mark.parametrize("method", METHODS)
def test_a_fair_coin_is_covered(n, method):
    # the published package gives .448 at n = 1024 and .389 at n = 8192 here; the sd is .5
    assert std_bound(np.repeat([0, 1], n // 2), alpha=0.01, method=method).upper >= 0.5


@pytest.mark.parametrize(
    ("n", "scores", "value"), [(128, "uniform", 0.391), (1024, "uniform", 0.329), (1024, "beta", 0.220)]
)
def test_reference_values(n, scores, value):
    from scipy import stats

    u = (np.arange(n) + 0.5) / n
    x = u if scores == "uniform" else stats.beta.ppf(u, 2, 8)
    assert std_bound(x, alpha=0.01, method="dkw").upper == pytest.approx(value, abs=0.004)


def linear_programme(values, weights, eps, grid):
    """The extreme variances by brute force: for each mean on a grid, a linear programme over laws on the atoms."""
    from scipy.optimize import linprog

    points = np.unique(np.concatenate([values, grid]))
    n = weights.sum()
    f = np.array([(weights[values <= p].sum()) / n for p in points])
    rows = np.tril(np.ones((points.size, points.size)))
    worst, best = 0.0, 1.0
    for mean in np.linspace(0, 1, 41):
        shared = {
            "A_ub": np.vstack([rows, -rows]),
            "b_ub": np.concatenate([np.minimum(f + eps, 1), -np.maximum(f - eps, 0)]),
            "A_eq": np.vstack([np.ones(points.size), points]),
            "b_eq": [1, mean],
            "bounds": (0, 1),
        }
        high, low = linprog(-(points**2), **shared), linprog(points**2, **shared)
        if high.status == 0:
            worst = max(worst, -high.fun - mean**2)
        if low.status == 0:
            best = min(best, low.fun - mean**2)
    return best, worst


@pytest.mark.slow
@pytest.mark.parametrize("eps", [0.05, 0.2, 0.45])
@pytest.mark.parametrize(
    ("values", "weights"),
    [
        ([0.0, 1.0], [7, 3]),
        ([0.0, 0.2, 0.7], [5, 4, 3]),
        ([0.1, 0.15, 0.9], [1, 1, 1]),
        ([0.3], [4]),
        ([0.9, 1.0], [3, 5]),
    ],
)
def test_extremes_over_the_band_equal_brute_force(values, weights, eps):
    values, weights = np.array(values), np.array(weights)
    best, worst = linear_programme(values, weights, eps, np.linspace(0, 1, 21))
    exact = largest_variance(values, weights, eps)
    assert worst - 1e-9 <= exact <= worst + 0.03  # the programme sees means and atoms on a grid only
    least = smallest_variance(values, weights, eps)
    assert best - 0.03 <= least <= best + 1e-9


def test_supremum_beats_every_law_in_the_band():
    # random laws inside the band, given by quantile functions between the least and the greatest one
    rng = np.random.default_rng(5)
    scores, n, eps = np.sort(rng.beta(1, 4, 50)), 50, 0.13
    ceiling = largest_variance(scores, np.ones(n, dtype=np.int64), eps)
    floor = smallest_variance(scores, np.ones(n, dtype=np.int64), eps)
    u = (np.arange(4000) + 0.5) / 4000
    place = np.ceil(n * (u - eps)).astype(int) - 1
    least = np.where(u <= eps, 0, scores[np.clip(place, 0, n - 1)])
    place = np.ceil(n * (u + eps)).astype(int) - 1
    greatest = np.where(u > 1 - eps, 1, scores[np.clip(place, 0, n - 1)])
    for cut, mix in itertools.product(np.linspace(0, 1, 41), [0.0, 0.1, 0.5]):
        wide = np.where(u < cut, least + mix * (greatest - least), greatest - mix * (greatest - least))
        assert floor - 1e-4 <= wide.var() <= ceiling + 1e-4
        flat = np.clip(scores.mean() + 0.3 * (cut - 0.5), least, greatest)
        assert floor - 1e-4 <= flat.var()
    wide = [np.where(u < cut, least, greatest).var() for cut in np.linspace(0, 1, 400)]
    assert max(wide) == pytest.approx(ceiling, abs=1e-3)


@pytest.mark.parametrize("method", ["betting", "dkw", "maurer-pontil"])
@pytest.mark.parametrize("scores", [[0.0], [1.0], [0.0] * 50, [0.0, 1.0] * 25, [0.5] * 3, [0.0, 0.3, 0.3, 1.0]])
def test_order_and_ends(scores, method):
    bound = std_bound(scores, alpha=0.01, side="both", method=method)
    assert 0 <= bound.lower <= bound.estimate + 1e-7
    assert bound.estimate <= bound.upper <= 0.5
    assert bound.upper > 0
    uppers = [std_bound(scores, alpha=a, method=method).upper for a in (0.001, 0.01, 0.1, 0.9)]
    assert uppers == sorted(uppers, reverse=True)


def test_the_exact_supremum_is_at_most_the_papers_bound():
    rng = np.random.default_rng(6)
    for law in LAWS:
        scores = law.draw(rng, 200)
        exact, paper = (std_bound(scores, alpha=0.01, method=m).upper for m in ("dkw", "paper"))
        assert exact <= paper + 1e-9


def test_counts_equal_repeats():
    scores, counts = np.array([0.0, 0.25, 0.9]), np.array([700, 5, 11])
    for method, side in [("dkw", "both"), ("maurer-pontil", "both"), ("paper", "upper")]:
        grouped = std_bound(scores, counts=counts, alpha=0.01, side=side, method=method)
        assert grouped == std_bound(np.repeat(scores, counts), alpha=0.01, side=side, method=method)


def test_paper_has_no_lower_side():
    with pytest.raises(InputError, match="only 'upper' is proven; use method 'dkw'"):
        std_bound([0.1, 0.2], alpha=0.01, side="both", method="paper")


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_coverage(law):
    rng, alpha, runs, n = np.random.default_rng(7), 0.2, 300, 30
    samples = law.draw(rng, (runs, n))
    unordered, times = np.unique(np.sort(samples), axis=0, return_counts=True)  # equal draws have equal bounds
    both = std_bounds(samples, alpha=alpha, side="both")
    assert sum(not b.lower - 1e-12 <= law.sd <= b.upper + 1e-12 for b in both) <= most_misses(runs, alpha)
    for method in ("dkw", "maurer-pontil"):
        both = std_bounds(unordered, alpha=alpha, side="both", method=method)
        assert times @ [not b.lower - 1e-12 <= law.sd <= b.upper + 1e-12 for b in both] <= most_misses(runs, alpha)
    paper = std_bounds(unordered, alpha=alpha, method="paper")
    assert times @ [law.sd > b.upper + 1e-12 for b in paper] <= most_misses(runs, alpha)


def test_many_prompts_equal_one_by_one():
    rng = np.random.default_rng(8)
    scores = [law.draw(rng, n) for law, n in zip(LAWS, [50, 7, 50, 1, 2, 50, 7, 80, 80, 3, 50], strict=True)]
    bounds = std_bounds(scores, alpha=0.05, side="both")
    assert bounds == [std_bound(s, alpha=0.05, side="both") for s in scores]
    assert std_bounds(scores, alpha=0.05, method="dkw")[3] == std_bound(scores[3], alpha=0.05, method="dkw")


def test_ed_score():
    assert ed_score([0.0, 1.0]) == pytest.approx(0.5 + 2 * 0.5)
    assert ed_score([0.2, 0.4], counts=[3, 1]) == pytest.approx(0.25 + 2 * np.std([0.2, 0.2, 0.2, 0.4]))
