"""The water level against brute force: what it proves holds, and little is lost."""

import itertools

import numpy as np
import pytest

from leakbound.bounds.engines.allocation import ROUNDING, Tangents, least_mean


def bowls(a, b):
    """l_i(p) = a_i p + b_i p^2, convex and rising on [0, 1]."""
    return lambda p: (a * p + b * p * p, a + 2 * b * p)


def tangents_of(function, points, low=0.0, cap=1.0, sizes=0.0):
    found = [function(points[:, k]) for k in range(points.shape[1])]
    values, slopes = (np.stack(x, axis=1) for x in zip(*found, strict=True))
    rows = points.shape[0]
    full = [np.broadcast_to(np.asarray(x, dtype=float), (rows,)) for x in (sizes, low, cap)]
    return Tangents(points, values, slopes, *full)


def refined(function, tangents, wanted, rounds=12):
    best = np.inf
    for _ in range(rounds):
        mean, following = least_mean(tangents, wanted)
        best = min(best, mean)
        points = np.sort(np.column_stack([tangents.points, following]), axis=1)
        tangents = tangents_of(function, points, tangents.low, tangents.cap, tangents.sizes)
    return best


def smallest_sum(function, mean, rows, low, cap, steps=200):
    """The least sum over a grid of arguments with that mean; the last argument is what is left."""
    grids = [np.linspace(lo, hi, steps) for lo, hi in zip(low[:-1], cap[:-1], strict=True)]
    first = np.array(list(itertools.product(*grids))).T
    last = mean * rows - first.sum(axis=0)
    fits = (last >= low[-1] - 1e-12) & (last <= cap[-1] + 1e-12)
    return function(np.vstack([first, last])[:, fits])[0].sum(axis=0).min() if fits.any() else np.inf


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rows", [2, 3])
def test_proves_and_is_tight(rows, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((rows, 1)) * rng.choice([0.1, 3.0]), rng.random((rows, 1)) * rng.choice([0.0, 5.0, 50.0])
    function, wide = bowls(a[:, 0], b[:, 0]), bowls(a, b)
    low, cap = rng.random(rows) * 0.2, 0.5 + rng.random(rows) * 0.5
    wanted = function(low + rng.random() * (cap - low))[0].sum()
    points = low[:, None] + (cap - low)[:, None] * np.linspace(0, 1, 4)
    coarse = tangents_of(function, points, low, cap)
    mean = least_mean(coarse, wanted)[0]
    finest = refined(function, coarse, wanted)
    assert low.mean() <= finest <= mean + 1e-12
    assert smallest_sum(wide, finest, rows, low, cap) >= wanted - 1e-9
    assert smallest_sum(wide, mean, rows, low, cap) >= wanted - 1e-9
    below = finest - 2e-3
    if below > low.mean():
        assert smallest_sum(wide, below, rows, low, cap) < wanted


def test_one_straight_function_by_hand():
    function = bowls(np.array([2.0]), np.array([0.0]))
    mean, following = least_mean(tangents_of(function, np.array([[0.0, 0.5]])), 0.6)
    assert mean == pytest.approx(0.3, abs=1e-9)
    assert following == pytest.approx(0.3, abs=1e-9)
    raised = tangents_of(lambda p: (1 + 2 * p, np.full_like(p, 2.0)), np.array([[0.0, 0.5]]), 0.1, 1.0)
    assert least_mean(raised, 1.6)[1] == pytest.approx(0.3, abs=1e-9)


def test_alike_functions_get_alike_arguments():
    function = bowls(np.full(5, 1.0), np.full(5, 10.0))  # p + 10 p^2 = 0.3 at p = 0.13027756...
    points = np.broadcast_to(np.linspace(0, 1, 6), (5, 6)).copy()
    assert refined(function, tangents_of(function, points), 1.5) == pytest.approx(0.1302775638, abs=1e-5)


def test_flat_functions_go_to_their_caps_at_no_cost():
    function = bowls(np.array([0.0, 4.0]), np.zeros(2))
    tangents = tangents_of(function, np.array([[0.0, 0.5], [0.0, 0.5]]), 0.0, np.array([0.7, 1.0]))
    assert least_mean(tangents, 2.0)[0] == pytest.approx((0.7 + 0.5) / 2, abs=1e-9)
    flat = tangents_of(bowls(np.zeros(2), np.zeros(2)), np.array([[0.0], [0.0]]), 0.1, np.array([0.7, 0.9]))
    mean, following = least_mean(flat, 1.0)
    assert mean == pytest.approx(0.8)
    assert following.tolist() == [0.1, 0.1]


def test_what_is_above_at_the_lowest_arguments_and_what_is_never_reached():
    function = bowls(np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    tangents = tangents_of(function, np.array([[0.2, 0.6], [0.2, 0.6]]), 0.2, 1.0)
    assert least_mean(tangents, 0.1)[0] == pytest.approx(0.2, abs=1e-6)
    assert least_mean(tangents, 100.0)[0] > 1.0


def test_rounding_of_values_is_paid_for():
    function = bowls(np.array([2.0, 2.0]), np.zeros(2))
    points = np.array([[0.0, 0.5], [0.0, 0.5]])
    exact = least_mean(tangents_of(function, points), 0.6)[0]
    rough = least_mean(tangents_of(function, points, sizes=1e6), 0.6)[0]
    assert rough - exact == pytest.approx(2 * 1e6 * ROUNDING / (2 * 2.0), rel=1e-3)  # both rows, mu = 2
    assert exact > 0.15
    assert exact - 0.15 == pytest.approx(ROUNDING, rel=0.2)  # mu (cap - low) of each row


def test_slopes_that_rounding_has_disordered_prove_nothing_wrong():
    values = np.array([[0.0, 0.5, 0.5, 0.99]])
    slopes = np.array([[1.0, 1.0 + 1e-15, 1.0, 1.0 + 1e-14]])
    tangents = Tangents(np.array([[0.0, 0.5, 0.5, 0.99]]), values, slopes, np.zeros(1), np.zeros(1), np.ones(1))
    assert least_mean(tangents, 0.4)[0] == pytest.approx(0.4, abs=1e-9)
    assert least_mean(tangents, 0.4)[0] >= 0.4
