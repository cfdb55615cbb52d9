import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from leakbound.errors import InputError
from leakbound.scoring import contains, exact_match, rouge_1, rouge_l, rouge_l_f1
from leakbound.scoring.lexical import Regex, fold, rouge_tokens

THEIRS = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)


def assert_same(completion: str, target: str) -> None:
    theirs = THEIRS.score(target, completion)
    assert rouge_l(completion, target) == theirs["rougeL"].recall
    assert rouge_l_f1(completion, target) == theirs["rougeL"].fmeasure
    assert rouge_1(completion, target) == theirs["rouge1"].recall


TEXT = (
    "the cat cats running runs ran generously generic flies dies oed skies agreed sky ies xxly 555 0199 a1b2 "
    "Zürich İstanbul straße K ﬁne naïve_snake don't \n \t ' . , — 東京 Москва"
)
WORDS = st.sampled_from(TEXT.split(" "))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.lists(WORDS, max_size=30), st.lists(WORDS, max_size=12))
def test_rouge_equals_the_package_on_overlapping_words(completion, target):
    assert_same(" ".join(completion), " ".join(target))


@settings(max_examples=500, deadline=None)
@given(st.text(), st.text())
def test_rouge_equals_the_package_on_any_text(completion, target):
    assert_same(completion, target)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.from_regex(r"\A[a-z0-9]{1,12}\Z"), st.from_regex(r"\A[a-zA-Z .,\n]{0,60}\Z"))
def test_rouge_equals_the_package_on_ascii(word, text):
    assert_same(f"{text} {word}", f"{word} {text}")
    assert_same(text, word)


@pytest.mark.parametrize(
    "pair", [("", ""), ("", "a"), ("a", ""), ("!!", "a"), ("a", "!!"), ("\u0130", "i"), ("\ud800x", "x")]
)
def test_rouge_equals_the_package_at_the_edges(pair):
    assert_same(*pair)


def test_rouge_by_hand():
    # LCS of (the cat sat on the mat) and (the dog sat on a mat) is the, sat, on, mat: 4 of 6 words.
    assert rouge_l("The dog sat on a mat.", "the cat sat on the mat") == 4 / 6
    assert rouge_l_f1("The dog sat on a mat.", "the cat sat on the mat") == pytest.approx(4 / 6)
    # as a bag, "the" counts once of twice
    assert rouge_1("the mat on sat", "the cat sat on the mat") == 4 / 6
    assert rouge_l("He was running.", "run") == 1


@pytest.mark.parametrize(
    ("completion", "target", "found"),
    [
        ("She lives in  PARIS\n now", "paris", 1),
        ("New\u00a0York", "new york", 1),
        ("Hannah", "Ann", 1),  # documented: substrings count
        ("call 555‑0199", "555-0199", 1),
        ("O’Brien", "O'Brien", 1),
        ("se\u200bcr\u202eet", "secret", 1),
        ("STRASSE", "straße", 1),
        ("５５５", "555", 1),
        ("住在東京都", "東京", 1),
        ("\x1b[1mParis", "Paris", 1),
        ("Par is", "Paris", 0),
        ("", "Paris", 0),
    ],
)
def test_contains(completion, target, found):
    assert contains(completion, target) == found


@given(st.text(max_size=20), st.text(min_size=1).filter(fold), st.text(max_size=20))
def test_contains_finds_what_is_there(before, target, after):
    assert contains(f"{before} {target} {after}", target) == 1


@given(st.text())
def test_fold_is_idempotent(text):
    assert fold(fold(text)) == fold(text)


def test_a_target_without_a_visible_character_is_refused():
    for scorer in (contains, exact_match):
        with pytest.raises(InputError, match="visible"):
            scorer("anything", "\u200b")


def test_exact_match():
    assert exact_match(' "Paris." ', "paris") == 1
    assert exact_match("It is Paris", "Paris") == 0
    assert exact_match("", "?") == 0
    assert exact_match("?", "?") == 1
    assert exact_match("C", "C++") == 0


def test_regex():
    assert Regex(r"\d{3}-\d{4}")("call 555-0199", "x") == 1
    assert Regex(r"(?i)\b{target}\b")("hannah and ANN", "Ann") == 1
    assert Regex(r"(?i)\b{target}\b")("hannah", "Ann") == 0
    assert Regex("{target}")("axb", "a.b") == 0
    assert Regex("a") == Regex("a")


@pytest.mark.parametrize("pattern", ["", "(", "[{target}"])
def test_a_broken_pattern_is_refused(pattern):
    with pytest.raises(InputError, match="regex"):
        Regex(pattern)


def test_other_scripts_have_no_rouge_tokens():
    assert rouge_tokens("Москва 東京") == ()


def test_importing_is_quick_and_leaves_nltk_alone():
    code = "import sys, leakbound.scoring; assert not {'nltk', 'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
