"""Bets see draws in the order of generation; scores with counts have none and get bounds that need none."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from bounds_laws import LAWS, most_misses
from scipy import stats

from leakbound.bounds import ed_bound, ed_bounds, mean_bound, mean_bounds, std_bound, std_bounds
from leakbound.bounds.engines.order import looks_arranged
from leakbound.bounds.engines.portfolio import centred_variance_upper
from leakbound.errors import InputError

FAMILY = {
    "mean": (mean_bound, mean_bounds, lambda p: p),
    "std": (std_bound, std_bounds, lambda p: np.sqrt(p * (1 - p))),
    "ed": (ed_bound, ed_bounds, lambda p: p + 2 * np.sqrt(p * (1 - p))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("n", [32, 92, 128])
def test_g1_counts_miss_no_more_than_alpha(name, n):
    """Summed exactly: a constant permutation of sorted scores missed up to .0987 (n = 92, p = .749) at alpha = .01."""
    one, _, value = FAMILY[name]
    upper = np.array([one([0.0, 1.0], counts=[n - k, k], alpha=0.01).upper for k in range(n + 1)])
    rates = np.concatenate([np.linspace(0, 1, 501), [0.7490001, 0.10685, 0.9394, 0.2333]])
    missed = upper < value(rates)[:, None] - 1e-12
    pmf = stats.binom.pmf(np.arange(n + 1), n, rates[:, None])
    assert (pmf * missed).sum(axis=1).max() <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_three_point_laws_through_every_order(name):
    """All 3^7 orders of generation of scores in {0, 1/2, 1}, many laws: the exact probability of a miss."""
    _, many, _ = FAMILY[name]
    n = 7
    paths = np.array(list(itertools.product((0, 1, 2), repeat=n)))
    points = np.array([0.0, 0.5, 1.0])
    uppers = {alpha: np.array([b.upper for b in many(points[paths], alpha=alpha)]) for alpha in (0.01, 0.1, 0.4)}
    grid = np.linspace(0, 1, 13)
    for a, b in itertools.product(grid, grid):
        if a + b > 1 + 1e-12:
            continue
        weights = np.array([a, b, max(1 - a - b, 0.0)])
        mean = weights @ points
        sd = np.sqrt(max(weights @ points**2 - mean**2, 0.0))
        truth = {"mean": mean, "std": sd, "ed": mean + 2 * sd}[name]
        probability = weights[paths].prod(axis=1)
        for alpha, upper in uppers.items():
            assert probability[upper < truth - 1e-12].sum() <= alpha + 1e-12, (weights, alpha)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_sorted_draws_are_covered_as_well(law):
    """Somebody may sort the scores before they come here: then the bound is one that needs no order."""
    rng, alpha, runs, n = np.random.default_rng(4), 0.2, 150, 30
    samples, times = np.unique(np.sort(law.draw(rng, (runs, n))), axis=0, return_counts=True)
    truths = {"mean": law.mean, "std": law.sd, "ed": law.mean + 2 * law.sd}
    for name, (_, many, _) in FAMILY.items():
        misses = times @ [b.upper < truths[name] - 1e-9 for b in many(samples, alpha=alpha)]
        assert misses <= most_misses(runs, alpha)  # false alarm < 1e-7


def test_the_order_given_is_the_order_bet_on():
    x = np.random.default_rng(6).beta(0.5, 5, 200)
    for one in (mean_bound, std_bound, ed_bound):
        bound = one(x, alpha=0.01)
        assert bound == one(x.tolist(), alpha=0.01)
        assert bound.upper != one(np.roll(x, 60), alpha=0.01).upper
        assert bound.method.startswith("STaR betting")
        values, counts = np.unique(x, return_counts=True)
        unordered = one(values, counts=counts, alpha=0.01)
        assert unordered == one(values[::-1], counts=counts[::-1], alpha=0.01)
        assert unordered.method.endswith("no order known")
        assert one(np.sort(x), alpha=0.01).upper >= unordered.upper


def test_prompts_with_and_without_an_order_go_together():
    x, counted = [0.0, 1.0, 0.0, 0.5], ([0.0, 0.5, 1.0], [2, 1, 1])
    for one, many, _ in FAMILY.values():
        found = many([x, counted[0]], counts=[None, counted[1]], alpha=0.05)
        assert found == [one(x, alpha=0.05), one(counted[0], counts=counted[1], alpha=0.05)]
    with pytest.raises(InputError, match="counts has 1 entries"):
        mean_bounds([[0.1], [0.2]], counts=[[2]], alpha=0.01)


def test_equal_sequences_are_bet_on_once_and_alike():
    x = np.random.default_rng(7).beta(0.5, 5, (5, 40))
    many = [x[0], np.zeros(40), x[1], np.zeros(40), x[0], np.zeros(7), x[2]]
    for one, several, _ in FAMILY.values():
        assert several(many, alpha=0.05) == [one(s, alpha=0.05) for s in many]


def test_what_looks_arranged():
    assert looks_arranged(np.array([0.0, 0.0, 1.0]))
    assert looks_arranged(np.array([0.9, 0.5, 0.5]))
    assert not looks_arranged(np.array([0.0, 1.0, 0.0]))
    assert not looks_arranged(np.zeros(5))
    assert not looks_arranged(np.array([0.3]))
    # grouped, in any order of the groups; and blocks of 32, each sorted
    assert looks_arranged(np.repeat([0.0, 1.0, 0.3], [40, 30, 30]))
    rng = np.random.default_rng(3)
    x = rng.choice([0.0, 0.4, 1.0], size=1024, p=[0.5, 0.3, 0.2])
    assert not looks_arranged(x)
    assert looks_arranged(np.concatenate([np.sort(part) for part in np.split(x, 32)]))


@pytest.mark.slow
def test_grouped_draws_are_covered_as_well():
    """Answers listed text by text: bets in that order missed up to .5 at alpha = .01."""
    rng, alpha, runs = np.random.default_rng(5), 0.05, 200
    points, weights = np.array([0.0, 1.0, 0.3]), np.array([0.4, 0.3, 0.3])
    mean = float(points @ weights)
    sd = math.sqrt(points**2 @ weights - mean**2)
    for n in (128, 256):
        samples = [np.repeat(points, rng.multinomial(n, weights)) for _ in range(runs)]
        for name, truth in (("mean", mean), ("std", sd), ("ed", mean + 2 * sd)):
            misses = sum(b.upper < truth - 1e-12 for b in FAMILY[name][1](samples, alpha=alpha))
            assert misses <= most_misses(runs, alpha)  # false alarm < 1e-7


def test_no_bound_takes_a_seed():
    for one in (mean_bound, std_bound, ed_bound):
        with pytest.raises(TypeError, match="seed"):
            one([0.1, 0.2], alpha=0.05, seed=0)


def test_the_centred_variance_by_hand():
    """n = 1: one centre, 1/2, and one bet, .999: E_v = 1 - .999 + .999 (1/4 - y) / (1/4 - v) = 1 / alpha."""
    for x, alpha in ((0.5, 0.5), (0.4, 0.3)):
        y = (x - 0.5) ** 2
        wanted = 0.25 - 0.999 * (0.25 - y) / (1 / alpha - 0.001)
        assert centred_variance_upper(np.array([x]), np.array([1]), alpha) == pytest.approx(wanted, rel=1e-6)


def test_order_free_bounds_keep_their_width():
    x = np.random.default_rng(8).beta(2, 8, 1024)
    values, counts = np.unique(x, return_counts=True)
    assert mean_bound(values, counts=counts, alpha=0.01).upper < 0.2 + 0.016
    assert std_bound(values, counts=counts, alpha=0.01).upper < 0.1206 + 0.035
    assert ed_bound(values, counts=counts, alpha=0.01).upper < 0.2 + 2 * 0.1206 + 0.09
    lower = std_bound(values, counts=counts, alpha=0.01, side="lower")
    assert (lower.lower, lower.upper) == (0.0, 0.5)
    assert replace(lower, method="") == replace(lower, method="", upper=0.5)
