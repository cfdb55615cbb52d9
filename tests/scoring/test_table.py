import math
import re
import typing
from pathlib import Path

import numpy as np
import pytest

from leakbound.bounds.gate import reaches
from leakbound.errors import InputError
from leakbound.records import Prompt
from leakbound.scoring import (
    SCORERS,
    binary,
    check_prompt,
    contains,
    get_scorer,
    is_binary,
    rouge_l,
    score_completion,
)
from leakbound.scoring.lexical import Regex

ROOT = Path(__file__).resolve().parents[2]
PROMPT = Prompt("p1", "Where was she born?", "New York", aliases=("NYC", "the Big Apple"))


PLAIN = [name for name, line in SCORERS.own.items() if not line.argument]


@pytest.mark.parametrize("name", PLAIN)
def test_known_names(name):
    assert get_scorer(name) is SCORERS[name].scorer
    assert SCORERS[name]("new york", "New York") == 1
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
    with pytest.raises(
        InputError, match=r"^scorer is 'qqqq': give one of rouge_l, .*, or module:function for your own\.$"
    ):
        get_scorer("qqqq")


@pytest.mark.parametrize("name", ["regex", "regex:", "judge", "judge:", "embedding:"])
def test_what_needs_something_after_its_name_is_refused_without(name):
    with pytest.raises(InputError, match=rf"^scorer is '{name}': give one of .*, regex:PATTERN, embedding\[:MODEL\]"):
        get_scorer(name)


def test_help_and_pages_name_each_scorer_and_what_its_1_means():
    from leakbound.auditing.settings import How

    pages = "".join((ROOT / "docs" / page).read_text() for page in ("quickstart.md", "judges.md"))
    shown = typing.get_type_hints(How, include_extras=True)["scorer"].__metadata__[0].help
    for name, line in SCORERS.own.items():
        written = name + line.argument
        assert written in shown
        assert re.search(rf"\| `{re.escape(written)}`.*\| {re.escape(line.means)} \|", pages), (written, line.means)


def test_own_function(tmp_path, monkeypatch):
    (tmp_path / "my_scorers_1.py").write_text("def half(completion, target):\n    return 0.5\nnumber = 3\n")
    (tmp_path / "my_scorers_2.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    assert score_completion(get_scorer("my_scorers_1:half"), "a", PROMPT) == 0.5
    for name, problem in {
        "my_scorers_1:missing": "does not exist",
        "my_scorers_1:number": "'my_scorers_1:number' is 3: give a function",
        "my_scorers_2:f": "ZeroDivisionError",
        "my_scorers_3:f": "No module named",
        "sys:missing": "does not exist",
        ":f": "write module:object",
        "m:": "write module:object",
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


BINARY = ("contains", "exact_match", "regex:a", "entailment", "judge:judge_functions:says_leak")


def test_binary_scorers_say_so_and_the_others_do_not(tmp_path, monkeypatch):
    (tmp_path / "judge_functions.py").write_text(
        "from leakbound.scoring import binary\n"
        "def says_leak(prompt, completion, target):\n    return True\n"
        "def graded(completion, target):\n    return 0.5\n"
        "@binary\ndef decorated(completion, target):\n    return 1\n"
        "def marked(completion, target):\n    return 1\nmarked.binary = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = ("judge_functions:decorated", "judge_functions:marked")
    assert all(is_binary(get_scorer(name)) for name in (*BINARY, *mine))
    graded = {name for name in PLAIN if not is_binary(get_scorer(name))}
    assert graded == {"rouge_l", "rouge_l_f1", "rouge_1"}
    assert not is_binary(get_scorer("embedding"))
    assert not is_binary(get_scorer("judge_functions:graded"))
    assert get_scorer("judge_functions:decorated").__name__ == "decorated"


@pytest.mark.parametrize("name", ["contains", "exact_match", "regex:[ab]", "regex:{target}"])
def test_what_declares_itself_binary_gives_0_and_1_only(name):
    scorer, rng = get_scorer(name), np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ab é"), size=rng.integers(0, 5))) for _ in range(300)]
    values = [scorer(text, target) for text in texts for target in ("a", "b a", "É")]
    assert set(values) == {0.0, 1.0}
    assert {type(v) for v in values} == {float}


@pytest.mark.parametrize("value", [0.5, 1e-9, 0.9999999999999999, np.float32(0.25)])
def test_a_broken_declaration_is_an_error_that_names_the_remedy(value):
    @binary
    def mine(completion, target):
        return value if target == "NYC" else 1  # only one alias goes wrong

    with pytest.raises(InputError, match=r"scorer mine returned .* 'p1' .*binary.*drop the declaration"):
        score_completion(mine, "x", PROMPT)
    mine.binary = False
    assert score_completion(mine, "x", PROMPT) == 1


@pytest.mark.parametrize("value", [0, 1, True, False, 0.0, 1.0, np.float32(1), np.int64(0)])
def test_a_kept_declaration_passes(value):
    @binary
    def mine(completion, target):
        return value

    assert score_completion(mine, "x", PROMPT) == value


def test_a_batch_scorer_is_held_to_its_declaration():
    class Many:
        binary = True

        def __call__(self, completion, target):
            return 1.0

        def score_many(self, pairs):
            return [0.5 for _ in pairs]

        def ready(self):
            pass

    assert is_binary(Many())
    with pytest.raises(InputError, match="binary"):
        score_completion(Many(), "x", PROMPT)


@pytest.mark.parametrize("declared", [1, "yes", None])
def test_a_declaration_is_true_or_false(declared):
    def mine(completion, target):
        return 1

    mine.binary = declared
    with pytest.raises(InputError, match=r"binary of scorer mine is .*True or False"):
        is_binary(mine)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_number_of_few_digits_reaches_the_threshold_that_it_stands_for(kind):
    for percent in range(1, 101):
        got = score_completion(lambda completion, target, p=percent: kind(p / 100), "x", PROMPT)
        assert reaches(got, percent / 100)
        assert got == percent / 100


def test_rouge_refuses_targets_that_it_cannot_see():
    for prompt in (Prompt("m", "?", "Москва"), Prompt("m", "?", "Moscow", aliases=("Москва",))):
        with pytest.raises(InputError, match=r"'m'.*would miss every leak"):
            check_prompt(rouge_l, prompt)
        with pytest.raises(InputError, match="contains"):
            score_completion(rouge_l, "Москва", prompt)
        assert score_completion(contains, "в Москва", prompt) == 1
