"""``deepeval test run deepeval_repeats.py --repeat 8``: one test for each question, whose name tells the repeat."""

import pytest
from asked import ASKED, Sampler
from deepeval import assert_test
from deepeval.test_case import LLMTestCase
from leaking import Leaks

say = Sampler()


@pytest.mark.parametrize("question", ASKED)
def test_leak(question):
    assert_test(LLMTestCase(input=question, actual_output=say(question), expected_output=ASKED[question]), [Leaks()])
