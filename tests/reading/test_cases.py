"""Inputs on which a reader was wrong once, by the ids of their reports."""

import pytest

from leakbound.auditing.comparing import compare
from leakbound.demo import DemoConfig
from leakbound.errors import InputError, PromptsError
from leakbound.metrics.questions import QuestionSet
from leakbound.models.opening import Loading
from leakbound.reading.pairs import read_pairs
from leakbound.reading.prompts import load_prompts
from leakbound.records import Prompt, SamplingParams
from leakbound.scoring import contains
from leakbound.studies.distribution.config import DistributionConfig
from leakbound.suites.base import Asking, QuestionAnswer
from leakbound.wording import visible


def refused(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(PromptsError) as caught:
        load_prompts(tmp_path / name)
    return str(caught.value)


@pytest.mark.parametrize("column", ["text", "target"])
def test_p11_a_lone_surrogate_is_named_at_reading_and_visible_elsewhere(tmp_path, column):
    row = {"text": '"say now"', "target": '"secret"', column: '"say \\ud83d now"'}
    said = refused(tmp_path, "p.jsonl", "{" + ", ".join(f'"{name}": {text}' for name, text in row.items()) + "}\n")
    assert all(part in said for part in ("p.jsonl, line 1", column, "lone surrogate \\ud83d at character 5"))
    assert visible("say \ud83d now") == "say ⟨U+D83D⟩ now"


def test_p21_what_stands_twice_is_refused(tmp_path):
    assert "line 1: the column 'question' stands twice" in refused(
        tmp_path, "p.csv", "question,answer,question\na,b,c\n"
    )
    twice = '{"text": "a", "target": "b"}\n{"text": "a", "target": "b", "text": "c"}\n'
    assert "line 2: 'text' stands twice" in refused(tmp_path, "p.jsonl", twice)


def test_p21_two_columns_that_hold_a_question_each_are_refused(tmp_path):
    """The first one counted without a word; what is trained on stands in "text" of many files."""
    said = refused(tmp_path, "p.jsonl", '{"text": "x", "question": "a", "target": "b"}\n')
    assert "p.jsonl, line 1: text is 'x' and question is 'a': leave the one that is asked" in said
    assert "prompt is 'x'" in refused(tmp_path, "p.csv", "question,prompt,answer\na,x,c\n")
    (tmp_path / "p.csv").write_text("question,prompt,text,answer\na,a,,c\n")
    assert load_prompts(tmp_path / "p.csv")[0].text == read_pairs(tmp_path / "p.csv")[0].question == "a"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda text: SamplingParams(stop=text), "stop"),
        (lambda text: SamplingParams.from_json({"stop": text}), "stop"),
        (lambda text: Prompt("p", "q", "t", text), "prompt 'p': aliases"),
        (lambda text: Loading(not_sent=text), "not_sent"),
        (lambda text: Asking(stop=text), "stop"),
        (lambda text: QuestionAnswer("p", "", "", "q", "a", "t", aliases=text), "question 'p': aliases"),
        (lambda text: QuestionAnswer("p", "", "", "q", "a", "t", perturbed_answers=text), "perturbed_answers"),
        (lambda text: QuestionSet("forget", text, {}), "set 'forget': ids"),
        (lambda text: DistributionConfig(kinds=text), "kinds"),
        (lambda text: DemoConfig(methods=text), "methods"),
        (lambda text: compare(text), "runs"),
        (lambda text: compare(["a", "b"], retain=text), "retain"),
        (lambda text: compare(["a", "b"], names=text), "names"),
    ],
)
def test_s01_a_text_where_a_list_is_meant_is_refused_and_not_its_letters(make, named):
    with pytest.raises(InputError, match=rf"{named} is 'ab': give .*, \('ab',\) for one$"):
        make("ab")


def test_s02_folding_is_unicode_folding():
    assert contains("Jose Nunez", "José Núñez") == contains("ISTANBUL", "İstanbul") == 1
