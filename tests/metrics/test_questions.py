"""What a set of questions refuses, and that its values stay as they were."""

import numpy as np
import pytest

from leakbound.errors import InputError
from leakbound.metrics.questions import QuestionSet


def question_set(name="forget", n=2, **values):
    return QuestionSet(name, tuple(f"q{i}" for i in range(n)), values)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: question_set(answer_loss=[0.1, float("nan")]), r"'forget': answer_loss\[1\] is missing"),
        (lambda: question_set(answer_loss=[0.1]), "has 1 values and there are 2 questions"),
        (lambda: question_set(perturbed_loss=[[0.1], [0.2, 0.3]]), "array of numbers"),
        (lambda: question_set(perturbed_loss=[0.1, 0.2]), "shape"),
        (lambda: question_set(rouge_l_recall=[0.1, 1.2]), r"rouge_l_recall\[1\] is 1.2"),
        (lambda: question_set(rougeL=[0.1, 0.2]), "'rougeL' is unknown"),
        (lambda: question_set(mia_loss=[0.1, float("inf")]), "finite"),
        (lambda: QuestionSet("forget", (), {}), "at least one question"),
        (lambda: QuestionSet("forget", ("a", "a"), {}), "'a' is not a text or appears twice"),
        (lambda: QuestionSet("forget", ("a", 1), {}), "1 is not a text"),
        (lambda: QuestionSet("forget", ("a", "b"), {}, (("p", "g", "t"),)), "1 generations and 2 questions"),
        (lambda: QuestionSet("forget", ("a",), {}, (("p", "g"),)), r"generations\[0\]"),
    ],
)
def test_what_does_not_fit_together_is_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_values_cannot_be_changed():
    given = np.array([0.1, 0.2])
    values = question_set(answer_loss=given).values["answer_loss"]
    given[0] = 5.0
    assert values[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1
