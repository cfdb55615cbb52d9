"""Memorization, difficulty, learning speed, and what runs say together: by hand numbers."""

import math
from itertools import product

import numpy as np
import pytest

from leakbound.errors import InputError
from leakbound.metrics.memorization import (
    counterfactual_memorization,
    difficulty,
    draw_subsets,
    learning_speed,
    median_speed,
    memorization_interval,
    upper_half,
)
from leakbound.studies.distribution.seeds import holm, median, sign_test

LOGPS = np.array([[-1.0, -9.0], [-3.0, -4.0], [-8.0, -2.0], [-12.0, -5.0]])
MEMBER = np.array([[True, False], [True, True], [False, True], [False, False]])


def test_subsets_are_halves_and_every_example_is_in_half_of_each_pair():
    member = draw_subsets(6, 10, seed=3)
    assert (member.sum(axis=1) == 5).all()
    assert (member[0::2] ^ member[1::2]).all()
    assert (member[:4] == draw_subsets(4, 10, seed=3)).all()  # more models change nothing
    assert (draw_subsets(6, 10, seed=4) != member).any()


def test_memorization_by_hand():
    assert counterfactual_memorization(LOGPS, MEMBER) == pytest.approx([-2 - -10, -3 - -7])


def test_memorization_interval_holds_the_estimate_and_is_a_resample():
    low, high = memorization_interval(LOGPS, MEMBER, alpha=0.1, resamples=400)
    estimate = counterfactual_memorization(LOGPS, MEMBER)
    assert (low <= estimate).all()
    assert (estimate <= high).all()
    assert low[0] >= -3 + 8  # the smallest and the largest difference of two models' values
    assert high[0] <= -1 + 12
    same = memorization_interval(np.array([[-1.0], [-1.0], [-7.0], [-7.0]]), MEMBER[:, :1], alpha=0.1, resamples=10)
    assert [x.item() for x in same] == [6.0, 6.0]


def test_difficulty_by_hand():
    assert difficulty(-LOGPS, MEMBER) == pytest.approx([10.0, 7.0])


def test_learning_speed_by_hand():
    reproduced = np.array([[False, True, False], [True, False, False], [True, True, False]])
    assert learning_speed(reproduced).tolist() == [2.0, 1.0, math.inf]


def test_median_speed_by_hand():
    speeds = np.array([[3.0, math.inf], [5.0, 2.0], [9.0, math.inf]])
    member = np.array([[True, True], [True, True], [False, True]])
    assert median_speed(speeds, member).tolist() == [4.0, math.inf]


def test_upper_half():
    assert upper_half([3.0, 1.0, 2.0, 2.0]).tolist() == [True, False, False, True]
    assert upper_half([1.0, 2.0, 3.0]).tolist() == [False, True, True]


def test_median_of_runs():
    found = median([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (found.estimate, found.lower, found.upper, found.confidence) == (3.0, 1.0, 5.0, 0.9375)
    ten = median(list(range(10)))  # P(Bin(10, 1/2) <= 1) = 11/1024
    assert (ten.estimate, ten.lower, ten.upper, ten.confidence) == (4.5, 1.0, 8.0, 1 - 22 / 1024)
    late = median([1.0, 2.0, math.inf, math.inf])
    assert (late.estimate, late.upper) == (math.inf, math.inf)


def test_median_interval_covers_exactly():
    """Of 7 runs with law uniform on (0, 1): the interval misses 1/2 where all but k are on one side; by enumeration."""
    misses = sum(
        not (found.lower <= 0.5 <= found.upper)
        for sides in product((0.25, 0.75), repeat=7)
        if (found := median(list(sides), alpha=0.2))
    )
    assert misses / 2**7 == pytest.approx(1 - median([0.0] * 7, alpha=0.2).confidence) == 16 / 128


def test_sign_test_by_hand():
    assert sign_test([1.0, 2.0, 3.0, 4.0, 5.0]) == 1 / 32
    assert sign_test([1.0, 2.0, 3.0, 4.0, -5.0]) == 6 / 32
    assert sign_test([0.0, 0.0]) == 1.0  # no difference is not a positive one
    assert sign_test([math.inf, -1.0]) == 0.75


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda: counterfactual_memorization(LOGPS, np.ones_like(MEMBER)),
        lambda: counterfactual_memorization(np.where(MEMBER, np.nan, LOGPS), MEMBER),
        lambda: counterfactual_memorization(LOGPS, MEMBER[:3]),
        lambda: memorization_interval(LOGPS[1:], MEMBER[1:], alpha=0.1),
        lambda: difficulty(LOGPS, np.ones_like(MEMBER)),
        lambda: learning_speed([[1.0]]),
        lambda: median_speed([[math.nan]], [[True]]),
        lambda: draw_subsets(2, 5, seed=0),
        lambda: draw_subsets(2, 4, seed=-1),
        lambda: counterfactual_memorization([[1.0], [1.0, 2.0]], [[True], [False]]),
        lambda: counterfactual_memorization([["a"]], [[True]]),
        lambda: median_speed([1.0, 2.0], [True, True]),
        lambda: upper_half([1.0, math.nan, 0.0, 2.0]),
        lambda: median([]),
        lambda: median([math.nan]),
        lambda: sign_test([]),
    ],
)
def test_bad_input(call):
    with pytest.raises(InputError):
        call()
