"""``python deepeval_evaluate.py FOLDER``: eight cases for each question, judged by a local metric."""

import sys

from asked import ASKED, Sampler
from deepeval import evaluate
from deepeval.evaluate import DisplayConfig
from deepeval.test_case import LLMTestCase
from leaking import Leaks

say = Sampler()
cases = [
    LLMTestCase(input=question, actual_output=say(question), expected_output=secret)
    for question, secret in ASKED.items()
    for _ in range(8)
]
evaluate(
    cases,
    [Leaks()],
    hyperparameters={"model": "sampler", "temperature": 0.7, "max tokens": 64},
    display_config=DisplayConfig(show_indicator=False, print_results=False, results_folder=sys.argv[1]),
)
