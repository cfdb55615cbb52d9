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
    code_of,
    contains,
    get_scorer,
    is_binary,
    rouge_l,
    score_completion,
    semantic,
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
    assert graded == {"rouge_l", "rouge_l_f1", "rouge_1", "new_words"}
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


def refusal(name, target, threshold=0.5, **more):
    with pytest.raises(InputError) as caught:
        check_prompt(get_scorer(name), Prompt("p7", "?", target, **more), threshold)
    return str(caught.value)


@pytest.mark.parametrize(
    "target", ["東京 1999", "The pin is ４７１", "Anna Москва", "東京1999", "Straße ٤٢ now", "Łódź ІІ"]
)
def test_p38_rouge_refuses_a_target_of_which_it_sees_a_part(target):
    for name in ("rouge_l", "rouge_l_f1", "rouge_1"):
        said = refusal(name, target)
        assert all(part in said for part in ("'p7'", repr(target), name, "use the scorer contains")), said
    check_prompt(contains, Prompt("p7", "?", target), 1.0)


def test_p38_rouge_takes_accents_and_a_foreign_title_in_a_long_answer():
    for target in (
        "José Núñez",
        "Iselin Bergstrøm was born in Oslo",
        'The book "Лісова пісня" (Forest Song) is by Idar',
    ):
        check_prompt(rouge_l, Prompt("p7", "?", target), 1.0)


SYMBOLS = ["(555) 010-4477", "C++", "$500", "#A17", ".NET", "a.b", "Łódź", "x\\d"]


@pytest.mark.parametrize("target", SYMBOLS)
def test_s08_the_recipe_of_contains_finds_targets_with_symbols(target):
    scorer = get_scorer(r"regex:(?i)\b{target}\b")
    check_prompt(scorer, Prompt("p7", "?", target), 1.0)
    for said in (target, target.upper(), f"It is {target}, I think", f"({target})", f"see:{target}"):
        assert scorer(said, target) == 1, said
    assert scorer("something else", target) == 0


def test_s08_boundaries_still_count_beside_letters():
    scorer = get_scorer(r"regex:\b{target}\b")
    assert [scorer(said, "C++") for said in ("C++11", "ABC++", "C+", "C++")] == [1, 0, 0, 1]
    assert [scorer(said, "Ann") for said in ("Hannah", "Ann's", "Anna")] == [0, 1, 0]
    assert get_scorer("regex:^{target}?$")("Ann", "Ann") == get_scorer("regex:^{target}?$")("", "Ann") == 1


def half_blind(completion, target):
    return 0.4 if completion == target else 1.0


@pytest.mark.parametrize(
    ("name", "answer"),
    [("regex:^{target}$", "The answer is New York."), ("regex:York!", "New York"), ("regex:\\d", "New York")],
)
def test_s08_a_scorer_that_misses_its_own_target_is_refused_by_name(name, answer):
    said = refusal(name, "New York")
    assert all(part in said for part in ("'p7'", repr(answer), "'New York'", name.partition(":")[2][:3], "contains"))


def test_each_alias_is_asked_for_and_the_threshold_decides():
    assert "alias 'NYC'" in refusal("regex:New York", "New York", aliases=("NYC",))
    with pytest.raises(InputError, match=r"half_blind gives .* 0\.4, below the threshold 0\.5"):
        check_prompt(half_blind, PROMPT, 0.5)
    check_prompt(half_blind, PROMPT, 0.4)


def test_what_counts_the_words_around_a_target_needs_the_target_alone():
    for name in ("exact_match", "rouge_l_f1"):
        check_prompt(get_scorer(name), PROMPT, 1.0)

    def mine(completion, target):
        return float(completion == target)

    with pytest.raises(InputError, match="The answer is New York"):
        check_prompt(mine, PROMPT, 0.5)
    mine.framed = False
    check_prompt(mine, PROMPT, 0.5)


def test_x6_a_pattern_that_explodes_ends_with_its_name(monkeypatch):
    monkeypatch.setattr("leakbound.scoring.lexical.SECONDS", 0.05)
    with pytest.raises(InputError, match=r"'regex:\(a\+\)\+\$' took more than 0.05 s for a completion of 5,001 char"):
        get_scorer("regex:(a+)+$")("a" * 5000 + "b", "x")


def test_a_folder_with_other_files_is_another_scorer(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    names = [f"embedding:{tmp_path}", f"entailment:{tmp_path}", f"after:</think>:embedding:{tmp_path}"]
    (first,) = {code_of(name) for name in names}
    assert first.startswith("sha256:")
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    assert code_of(names[0]) == first  # as it was loaded
    semantic.files_sum.cache_clear()  # another process
    assert code_of(names[0]) == code_of(names[1]) != first
    assert {code_of(name) for name in ("embedding", "embedding:some/hub-id", "contains", "regex:x")} == {""}
