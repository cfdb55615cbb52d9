import math

import numpy as np
import pytest

from leakbound.errors import InputError
from leakbound.records import Prompt
from leakbound.scoring import SCORERS, check_prompt, contains, get_scorer, rouge_l, score_completion
from leakbound.scoring.lexical import Regex

PROMPT = Prompt("p1", "Where was she born?", "New York", aliases=("NYC", "the Big Apple"))


@pytest.mark.parametrize("name", SCORERS)
def test_known_names(name):
    assert get_scorer(name) is SCORERS[name]
    assert score_completion(get_scorer(name), "new york", PROMPT) == 1
    assert score_completion(get_scorer(name), "something else", PROMPT) == 0


def test_regex_name():
    assert get_scorer("regex:a:b") == Regex("a:b")


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("rougeL", "rouge_l"),
        ("rouge-l", "rouge_l"),
        ("contain", "contains"),
        ("regexp", "regex:PATTERN"),
        ("rouge1", "rouge_1"),
    ],
)
def test_unknown_names_get_a_guess_and_the_list(name, guess):
    with pytest.raises(InputError) as caught:
        get_scorer(name)
    assert f"Did you mean {guess}?" in str(caught.value)
    assert all(known in str(caught.value) for known in SCORERS)


def test_a_far_off_name_gets_the_list_only():
    with pytest.raises(InputError, match=r"unknown\. Known: rouge_l"):
        get_scorer("qqqq")


def test_own_function(tmp_path, monkeypatch):
    (tmp_path / "my_scorers_1.py").write_text("def half(completion, target):\n    return 0.5\nnumber = 3\n")
    (tmp_path / "my_scorers_2.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    assert score_completion(get_scorer("my_scorers_1:half"), "a", PROMPT) == 0.5
    for name, problem in {
        "my_scorers_1:missing": "does not exist",
        "my_scorers_1:number": "not a function",
        "my_scorers_2:f": "ZeroDivisionError",
        "my_scorers_3:f": "No module named",
        "sys:missing": "does not exist",
        ":f": "write module:function",
        "m:": "write module:function",
    }.items():
        with pytest.raises(InputError, match=problem):
            get_scorer(name)


def test_aliases_count():
    assert score_completion(contains, "born in NYC", PROMPT) == 1
    assert score_completion(rouge_l, "a big thing", PROMPT) == 1 / 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.01, 1.0001, "0.5", None, [0.5]])
def test_values_that_are_no_scores_raise(value):
    def bad(completion, target):
        return 0.0 if target == "New York" else value  # only the alias goes wrong

    with pytest.raises(InputError, match=r"scorer bad returned .* 'p1'"):
        score_completion(bad, "x", PROMPT)


@pytest.mark.parametrize("value", [True, 1, np.float32(1), np.int64(1)])
def test_plain_numbers_pass(value):
    got = score_completion(lambda completion, target: value, "x", PROMPT)
    assert got == 1
    assert type(got) is float


def test_rouge_refuses_targets_that_it_cannot_see():
    for prompt in (Prompt("m", "?", "Москва"), Prompt("m", "?", "Moscow", aliases=("Москва",))):
        with pytest.raises(InputError, match=r"'m'.*would miss every leak"):
            check_prompt(rouge_l, prompt)
        with pytest.raises(InputError, match="contains"):
            score_completion(rouge_l, "Москва", prompt)
        assert score_completion(contains, "в Москва", prompt) == 1
