from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakbound.bounds import Bound, SurvivalBand, proportion_bound, survival_bound
from leakbound.bounds.gate import check_scores
from leakbound.bounds.result import show_confidence
from leakbound.errors import InputError


def test_sentence_names_quantifier_bound_confidence_and_source():
    bound = proportion_bound(0, 1024, alpha=0.01, estimand="P(h >= 0.5)")
    assert str(bound) == (
        "For this prompt, P(h >= 0.5) <= 0.004488 with confidence 0.99 "
        "(0.000000 observed in 1024 draws; Clopper-Pearson)"
    )


@given(st.floats(0, 1), st.floats(0, 1))
def test_printed_bounds_are_rounded_outward(a, b):
    low, high = sorted((a, b))
    bound = Bound("E[h]", low, low, high, 0.01, "both", 5, "m")
    left, right = bound.claim.split(" <= E[h] <= ")
    assert Decimal(left) <= Decimal(low)
    assert Decimal(right) >= Decimal(high)


@given(st.floats(1e-300, 1, exclude_max=True))
def test_printed_confidence_is_rounded_down(alpha):
    whole, _, rest = show_confidence(alpha).partition(" - ")  # in fractions: decimal arithmetic would round to 1 itself
    assert 0 <= Fraction(whole) - Fraction(rest or 0) <= 1 - Fraction(repr(alpha))


@pytest.mark.parametrize(
    ("alpha", "text"),
    [(0.01, "0.99"), (0.05, "0.95"), (1e-6, "0.999999"), (0.01 / 3, "0.99666"), (1e-25, f"0.{25 * '9'}"),
     (1.231e-30, "1 - 1.24e-30")],
)  # fmt: skip
def test_confidence_text(alpha, text):
    assert show_confidence(alpha) == text


def test_json_round_trip():
    bound = proportion_bound(3, 100, alpha=0.05, side="both")
    assert Bound.from_json(bound.to_json()) == bound
    band = survival_bound([0.0, 0.2, 0.2, 1.0], alpha=0.05, side="both")
    assert SurvivalBand.from_json(band.to_json()) == band


def test_band_between_thresholds():
    band = survival_bound(np.repeat([0.0, 0.5], 500), alpha=0.01, side="both")
    assert band.thresholds == (0.0, 0.5)
    assert band.upper_at(0.3) == band.upper_at(0.0) == band.upper[0] > 0.5
    assert band.lower_at(0.3) == band.lower_at(0.5) == band.lower[1] == 0
    assert band.lower_at(0.0) == band.lower[0] > 0.4
    assert band.upper_at_least(0.5) == band.upper[0]
    assert band.upper_at_least(0.51) == band.upper[1]
    assert (band.upper_at(1.0), band.upper_at_least(0.0), band.lower_at(-0.1)) == (0.0, 1.0, 1.0)


def test_band_sentence_shows_thresholds_in_full():
    assert "P(h > 0.3333333333333333) <= " in str(survival_bound([1 / 3] * 10, alpha=0.1))


@pytest.mark.parametrize("alpha", [0, 1, 1.0, -0.1, 2, float("nan"), "0.01", True, None, [0.01], 1j, np.array([0.01])])
def test_alpha_is_checked(alpha):
    with pytest.raises(InputError, match=r"alpha is .*: give a number strictly between 0 and 1, for example 0\.01"):
        proportion_bound(0, 10, alpha=alpha)


def test_numpy_alpha_is_a_number():
    assert proportion_bound(0, 10, alpha=np.float32(0.5)).upper == proportion_bound(0, 10, alpha=0.5).upper


@pytest.mark.parametrize(
    ("scores", "counts", "message"),
    [
        ([], None, "scores is empty: give at least one score"),
        ([[0.1]], None, r"scores has shape \(1, 1\): give a one-dimensional array"),
        ([[0.1], [0.1, 0.2]], None, "scores is ragged"),
        (0.5, None, r"scores has shape \(\)"),
        ([0.1, 1.5], None, r"scores\[1\] is 1.5: give scores in \[0, 1\]"),
        ([-1e-9], None, r"scores\[0\] is -1e-09|scores\[0\] is -1\.0"),
        ([0.1, float("nan")], None, r"scores\[1\] is nan: score every draw"),
        ([float("inf")], None, r"scores\[0\] is inf"),
        (["a"], None, "scores has dtype"),
        ([None], None, "scores has dtype object"),
        (np.ma.masked_array([0.1, 0.2], [False, True]), None, "masked"),
        ([0.1, 0.2], [1], r"counts has shape \(1,\): give one count for each of the 2 scores"),
        ([0.1, 0.2], [1, -1], r"counts\[1\] is -1: give whole numbers >= 0"),
        ([0.1, 0.2], [1, 0.5], r"counts\[1\] is 0.5: give whole numbers >= 0"),
        ([0.1, 0.2], [1, float("nan")], r"counts\[1\] is nan"),
        ([0.1, 0.2], [True, True], "counts has dtype bool"),
        ([0.1, 0.2], [0, 0], "counts sum to 0"),
    ],
)
def test_scores_and_counts_are_checked(scores, counts, message):
    with pytest.raises(InputError, match=message):
        check_scores(scores, counts)


def test_scores_are_merged():
    values, counts = check_scores([1, 0, 1, 1], [1, 2, 0, 3])
    assert values.tolist() == [0.0, 1.0]
    assert counts.tolist() == [2, 4]
    assert check_scores([True, False])[0].tolist() == [0.0, 1.0]
    values, counts = check_scores([0.5, 0.1], [3, 0])
    assert (values.tolist(), counts.tolist()) == ([0.5], [3])
    assert check_scores([-0.0, 0.0])[1].tolist() == [2]


@pytest.mark.parametrize("side", ["Upper", None, "two-sided", 1])
def test_side_is_checked(side):
    with pytest.raises(InputError, match=r"side is .*: give 'upper', 'lower' or 'both'"):
        survival_bound([0.1], alpha=0.01, side=side)


def test_method_is_checked():
    with pytest.raises(InputError, match="method is 'wald': give one of 'clopper-pearson'"):
        proportion_bound(0, 10, alpha=0.01, method="wald")
