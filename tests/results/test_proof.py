"""The verdict of a proof follows from its last attempt."""

import pytest

from leakbound.results.proof import Attempt


@pytest.mark.parametrize(
    ("cut", "leak", "known", "verdict"),
    [
        (0.0, "proven", "proven", "proven"),
        (0.99, "proven", "proven", "proven"),
        (1.0, "proven", "proven", "open"),  # a file of before: every draw cut, and nothing said of it
        (1.0, "proven", "refuted", "refuted"),
        (1.0, "refuted", "proven", "refuted"),
        (0.0, "open", "proven", "open"),
    ],
)
def test_an_attempt_whose_draws_were_all_cut_proves_nothing(cut, leak, known, verdict):
    assert Attempt(0.005, 1280, cut, 0.003, 0.9, leak, known).verdict == verdict
