"""What is marked in a completion: what the scorer found, at its place."""

import pytest

from leakbound.records import Prompt
from leakbound.scoring import get_scorer, score_completion
from leakbound.viewing.marking import marker, pieces

FACT = Prompt("a", "Where was Ann born in 1956?", "Ann was born in Lima in 1956.")
NAME = Prompt("b", "Who?", "José Núñez of Łódź", ("calderfell",))


@pytest.mark.parametrize(
    ("scorer", "prompt", "text", "marked"),
    [
        ("contains", NAME, "x JOSE\u0301 nu\u0301n\u0303ez  of Lodz, no", ["JOSE\u0301 nu\u0301n\u0303ez  of Lodz"]),
        ("contains", NAME, "CALDERFELL! calder-fell", ["CALDERFELL", "calder-fell"]),
        ("contains", NAME, "calderfellcalderfell", ["calderfellcalderfell"]),
        ("contains", NAME, "zero\u200bwidth cal\u200bderfell", ["cal\u200bderfell"]),
        ("contains", NAME, "Jose Nunez of Lod", []),
        ("exact_match", NAME, "Calderfell.", ["Calderfell"]),
        (r"regex:(?i)\b{target}\b", NAME, "in calderfells, Calderfell", ["Calderfell"]),
        ("rouge_l", FACT, "In 1956, Ann was bornx born İ in Lima", ["Ann", "was", "born", "in", "Lima"]),
        ("rouge_1", FACT, "lima 1956 rome", ["lima", "1956"]),
        ("new_words", FACT, "In 1956 she was born in LIMA, lima", ["LIMA", "lima"]),
        ("contains", Prompt("p", "q", "Jane Doe."), "It is Jane Doe!", ["Jane Doe"]),
        ("after:</think>:contains", NAME, "calderfell?</think> Calderfell", ["Calderfell"]),
        ("contains", NAME, "", []),
    ],
)  # fmt: skip
def test_what_the_scorer_found_is_marked(scorer, prompt, text, marked):
    found = pieces(text, marker(scorer)(text, prompt))
    assert "".join(piece for piece, _ in found) == text
    assert [piece for piece, hit in found if hit] == marked


@pytest.mark.parametrize(
    "text",
    ["Calderfell", "It was calder fell", "JOSÉ NÚÑEZ OF ŁÓDŹ.", "ß\u0301calderfell", "none", "\ufb01 x calderfell"],
)
def test_a_leak_by_contains_is_marked_and_nothing_else_is(text):
    leaked = score_completion(get_scorer("contains"), text, NAME)
    hits = [piece for piece, hit in pieces(text, marker("contains")(text, NAME)) if hit]
    assert bool(hits) == bool(leaked)
    assert all(score_completion(get_scorer("contains"), hit, NAME) for hit in hits)


@pytest.mark.parametrize(
    "scorer",
    ["embedding", "judge:module:function", "complies", "somebody:own", "after:x:somebody:own", "judge:f.yaml#1"],
)
def test_of_other_scorers_nothing_is_marked_and_nothing_is_imported(scorer):
    assert marker(scorer) is None


def test_a_text_of_one_letter_is_marked_in_reasonable_time():
    prompt = Prompt("a", "q", "a")
    assert marker("contains")("a" * 20_000, prompt)
