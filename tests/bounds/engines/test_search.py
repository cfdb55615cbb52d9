"""Bisection returns the end that holds, at the first place where it does."""

from __future__ import annotations

import pytest

from leakbound.bounds.engines.search import fewest, least


@pytest.mark.parametrize("place", [1, 2, 3, 7, 8, 9, 1000])
def test_fewest_is_the_first_whole_number_that_holds(place: int) -> None:
    assert fewest(lambda n: n >= place) == place
    assert fewest(lambda n: n >= place, -1, 1024) == place
    assert place <= fewest(lambda n: n >= place, first=8, parts=4) <= max(8, place * 1.25 + 1)


def test_least_holds_and_is_the_first_float_that_does() -> None:
    third = least(lambda x: x >= 1 / 3, 0.0, 1.0)
    assert third == 1 / 3
    assert 1 / 3 <= least(lambda x: x >= 1 / 3, 0.0, 1.0, near=1e-3) < 1 / 3 * (1 + 2e-3)
    assert least(lambda x: False, 0.25, 0.5) == 0.5
