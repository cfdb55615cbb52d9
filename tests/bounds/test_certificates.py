"""The certificates against populations that are known completely."""

import itertools
import math

import numpy as np
import pytest
from bounds_laws import most_misses

from leakbound.bounds.certificates import (
    BET_WEIGHTS,
    exact_limits,
    importance_lower_bound,
    log_wealth,
    without_replacement_bound,
)
from leakbound.bounds.engines.masses import before_each
from leakbound.bounds.proportion import proportion_bound
from leakbound.errors import InputError

SMALL = [  # (probabilities, scores)
    ([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 0]),
    ([0.05, 0.05, 0.1, 0.3, 0.5], [1, 0, 1, 0, 0]),
    ([0.25] * 4, [1, 1, 0, 0]),
    ([0.75, 0.1, 0.08, 0.05, 0.02], [0, 0.5, 0, 1, 0.2]),
    ([0.9, 0.04, 0.03, 0.02, 0.01], [0, 0, 0, 0, 1]),
    ([0.96, 0.01, 0.01, 0.01, 0.01], [1, 0, 0, 0, 0]),
]


def orders(p):
    """Every order of the population with its Plackett-Luce probability."""
    for order in itertools.permutations(range(len(p))):
        weight, rest = 1.0, 1.0
        for i in order:
            weight *= p[i] / rest
            rest -= p[i]
        yield np.array(order), weight


@pytest.mark.parametrize(("p", "h"), SMALL)
def test_the_wealth_at_the_truth_is_a_martingale_by_enumeration(p, h):
    p, h = np.array(p), np.array(h, float)
    truth, n = p @ h, len(p)
    mean = np.zeros(n)
    for order, weight in orders(p):
        rest, ceiling = before_each(p[order], h[order])
        assert (ceiling[:-1] > truth - 1e-12).all()
        wealth = np.exp(log_wealth(rest[:-1], np.maximum(ceiling[:-1], truth + 1e-15), h[order], truth))
        mean += weight * np.nan_to_num(wealth, posinf=0)
    assert (mean[:-1] <= 1 + 1e-6).all()  # the last step is certain: there the exact limits speak


@pytest.mark.parametrize(("p", "h"), SMALL)
@pytest.mark.parametrize("alpha", [0.02, 0.2, 0.5])
@pytest.mark.parametrize("side", ["upper", "lower", "both"])
def test_misses_at_any_stopping_time_at_most_alpha_by_enumeration(p, h, alpha, side):
    p, h = np.array(p), np.array(h, float)
    truth, missed = p @ h, 0.0
    for order, weight in orders(p):
        bound = without_replacement_bound(p[order], h[order], alpha=alpha, side=side)  # it keeps the best look so far
        if not bound.lower <= truth * (1 + 1e-9) or not bound.upper >= truth * (1 - 1e-9):
            missed += weight
    assert missed <= alpha + 1e-12


@pytest.mark.slow
def test_false_alarms_over_twenty_thousand_runs():
    """Gumbel order, all looks t <= 40: the truth is rejected in at most alpha of the runs (false alarm < 1e-7 each)."""
    rng = np.random.default_rng(0)
    alpha, runs = 0.05, 20_000
    populations = []
    for concentration in (0.05, 0.3, 3.0):
        p = rng.dirichlet(np.full(200, concentration))
        for h in (p < np.median(p), rng.random(200) < 0.02, rng.beta(0.3, 2, 200)):
            populations.append((p, h.astype(float)))
    rejected_somewhere = 0
    for p, h in populations:
        keys = np.log(p + 1e-300) + rng.gumbel(size=(runs, 200))
        order = np.argsort(-keys, axis=1)[:, :40]
        q, x, truth = p[order], h[order], p @ h
        rest = 1 - (np.cumsum(q, 1) - q)
        ceiling = rest + np.cumsum(q * x, 1) - q * x
        wealth = log_wealth(rest, np.maximum(ceiling, truth + 1e-12), x, truth)
        misses = int((wealth.max(1) >= math.log(1 / alpha)).sum())
        assert misses <= most_misses(runs, alpha)
        rejected_somewhere += misses
    assert rejected_somewhere > 0  # the test is not vacuous


def test_bound_and_wealth_agree():
    """The bound is where the wealth, at its best look, crosses 1/alpha."""
    rng = np.random.default_rng(1)
    p = np.sort(rng.dirichlet(np.full(60, 0.3)))[::-1][:30]
    h = (rng.random(30) < 0.1).astype(float)
    bound = without_replacement_bound(p, h, alpha=0.01)
    rest, ceiling = before_each(p, h)
    if bound.upper < ceiling.min():
        at = log_wealth(rest[:-1], ceiling[:-1], h, bound.upper).max()
        assert at == pytest.approx(math.log(100), abs=1e-3)
    assert p @ h <= bound.upper <= p @ h + 1 - p.sum() + 1e-9


def test_hand_number_one_generation():
    """One clean generation: E = sum_j w_j [1 - c_j + c_j / (1 - p0)], solved by hand for alpha = 1/2."""
    mean_bet = sum(w * c for w, c in zip(BET_WEIGHTS, (1, 0.9, 0.7, 0.45, 0.25, 0.12), strict=True))
    expected = 1 - 1 / (1 + 1 / mean_bet)  # 1 - mean + mean / (1 - p0) = 2
    bound = without_replacement_bound([1e-9], [0.0], alpha=0.5)
    assert bound.upper == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_exact_limits_always_hold(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 200))
    p, h = rng.dirichlet(np.full(size, 0.2)), rng.random(size) * (rng.random(size) < 0.3)
    for seen in (1, size // 2 + 1, size):
        chosen = rng.permutation(size)[:seen]
        limits = exact_limits(p[chosen], h[chosen], alpha=0.01)
        assert limits.lower <= p @ h <= limits.upper
        drawn = without_replacement_bound(p[chosen], h[chosen], alpha=0.01)
        assert drawn.upper <= limits.upper + 1e-12
    assert limits.upper - limits.lower < 1e-8  # everything seen: nothing left to guess


def test_known_completions_move_both_limits():
    """What is known beforehand counts as seen; without generations of weight it is the exact limit."""
    p, h = np.array([0.1, 0.05]), np.array([0.0, 0.0])
    plain = without_replacement_bound(p, h, alpha=0.01)
    known = without_replacement_bound(p, h, alpha=0.01, known=(0.8, 0.01))
    assert known.upper <= 0.01 + 0.05 + 1e-6
    assert known.upper < plain.upper
    assert without_replacement_bound(p, h, alpha=0.01, side="lower", known=(0.8, 0.01)).lower >= 0.01 - 1e-9


def test_little_seen_mass_costs_at_most_ln_two_against_clopper_pearson():
    p, h = np.full(100, 1e-9), np.zeros(100)
    ours = without_replacement_bound(p, h, alpha=0.01).upper
    theirs = proportion_bound(0, 100, alpha=0.01).upper
    assert ours / theirs < 1 + 1.05 * math.log(2) / math.log(100)


def test_much_seen_mass_beats_every_number_of_draws():
    p = 0.5 ** np.arange(1, 31)
    assert without_replacement_bound(p, np.zeros(30), alpha=0.01).upper < 1e-6


def test_order_relations():
    rng = np.random.default_rng(5)
    p, h = rng.dirichlet(np.ones(50))[:20], rng.random(20)
    both = without_replacement_bound(p, h, alpha=0.02, side="both")
    assert both.upper == without_replacement_bound(p, h, alpha=0.01).upper
    assert both.lower == without_replacement_bound(p, h, alpha=0.01, side="lower").lower
    assert both.lower <= both.estimate <= both.upper
    uppers = [without_replacement_bound(p[:t], h[:t], alpha=0.01).upper for t in range(1, 21)]
    assert all(b <= a * (1 + 1e-8) for a, b in itertools.pairwise(uppers))  # looks only help


IMPORTANCE = [  # (P, q, h)
    ([0.01, 0.99], [0.6, 0.4], [1, 0]),
    ([1e-6, 1 - 1e-6], [0.5, 0.5], [1, 0]),
    ([0.3, 0.3, 0.4], [0.1, 0.8, 0.1], [1, 0.5, 0]),
    ([0.001, 0.499, 0.5], [0.9, 0.05, 0.05], [1, 0, 0]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("p", "q", "h"), IMPORTANCE)
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_importance_bound_misses_at_most_alpha_by_enumeration(p, q, h, alpha):
    p, q, h = np.array(p), np.array(q), np.array(h, float)
    x, truth, missed = h * p / q, p @ h, 0.0
    for path in itertools.product(range(len(p)), repeat=6):
        if importance_lower_bound(x[list(path)], alpha=alpha).lower > truth * (1 + 1e-9):
            missed += np.prod(q[list(path)])
    assert missed <= alpha


def test_importance_bound_sees_what_plain_sampling_cannot():
    """A leak of probability 1e-8 that the proposal gives half of the time."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random(200) < 0.5, 1e-8 / 0.5, 0.0)
    bound = importance_lower_bound(x, alpha=0.01)
    assert 5e-9 < bound.lower < 1e-8
    values, counts = np.unique(x, return_counts=True)
    assert importance_lower_bound(values, alpha=0.01, counts=counts).lower == pytest.approx(bound.lower, rel=1e-9)
    assert importance_lower_bound(np.zeros(50), alpha=0.01).lower == 0


def test_bad_input_is_named():
    with pytest.raises(InputError, match="masses sum to"):
        without_replacement_bound([0.7, 0.7], [0, 0], alpha=0.01)
    with pytest.raises(InputError, match="masses has 2 entries for 1 scores"):
        exact_limits([0.5, 0.2], [0], alpha=0.01)
    with pytest.raises(InputError, match="known is"):
        without_replacement_bound([0.1], [0], alpha=0.01, known=(0.1, 0.5))
    with pytest.raises(InputError, match="weighted is not"):
        importance_lower_bound([-1.0], alpha=0.01)
