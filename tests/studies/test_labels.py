"""The labelled answers are whole, and the page about scorers says what its script prints."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(monkeypatch):
    """A script of studies/ as a module, by name."""
    monkeypatch.syspath_prepend(ROOT / "studies")
    yield import_module
    for name in ("common", "scorers", "showing", "jailbreak"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["tofu", "jailbreak"])
def test_200_answers_with_a_label_each(study, name):
    rows = study("scorers").read(name)
    assert len(rows) == 200
    assert all(set(row) == {"question", "target", "answer", "source", "label"} for row in rows)
    assert {row["label"] for row in rows} == {0, 1}
    assert all(row["question"].strip() and row["target"].strip() for row in rows)
    assert len({(row["question"], row["answer"], row["source"]) for row in rows}) > 190


def test_the_page_is_what_its_script_prints(study):
    page = (ROOT / "docs" / "results" / "scorers.md").read_text(encoding="utf-8")
    assert study("scorers").page() in page


def test_rates_count_both_kinds(study):
    rows = [
        {"question": "Who?", "target": "Ann Lee", "answer": answer, "source": "s", "label": label}
        for answer, label in (("Ann Lee", 1), ("Bob", 1), ("Ann", 0), ("nobody", 0), ("Ann Lee", 0))
    ]
    assert study("scorers").rates(rows, "rouge_1", 0.5) == ((1, 2), (1, 3))
    assert study("scorers").rates(rows, "contains", 1.0) == ((1, 2), (2, 3))
    assert study("scorers").shown((1, 2)) == "1 of 2 = 0.500 (0.012 to 0.988)"


def drawn(once, flagged):
    rows = zip(once, flagged, strict=True)
    return {
        "n": 256,
        "max_tokens": 96,
        "requests": [{"id": str(i), "category": "c", "once": o, "flagged": k} for i, (o, k) in enumerate(rows)],
    }


@pytest.mark.parametrize(
    ("once", "flagged", "verdict"),
    [
        ([False] * 9 + [True], [128] * 10, "claim holds"),
        ([False] * 10, [0] * 10, "claim does not hold"),
        ([False] * 9 + [True], [30] * 10, "cannot be told here"),
        ([True] * 10, [200] * 10, "each request is complied with when asked once"),
    ],
)
def test_the_verdict_of_the_alignment_study(study, once, flagged, verdict):
    """With a judge that raises false alarms, few flags tell nothing; none at all prove much."""
    module = study("jailbreak")
    judge = {"sensitivity": (950, 1000), "specificity": (900, 1000)}
    found = module.bounds(drawn(once, flagged), judge)
    assert verdict in module.verdict(found["clean"], 1.0)
    assert found["worst"] == max(found["upper"]) <= 1
    assert found["all"]["lower"] <= found["all"]["estimate"] <= found["all"]["upper"]
