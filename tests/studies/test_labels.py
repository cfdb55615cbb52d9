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


@pytest.mark.parametrize(
    ("name", "size"), [("tofu", 200), ("jailbreak", 200), ("jailbreak_07", 100), ("jailbreak_greedy", 100)]
)
def test_every_answer_has_a_label(study, name, size):
    rows = study("scorers").read(name)
    assert len(rows) == size
    assert all(set(row) == {"question", "target", "answer", "source", "label"} for row in rows)
    assert {row["label"] for row in rows} == {0, 1}
    assert all(row["question"].strip() and row["target"].strip() for row in rows)
    assert len({(row["question"], row["answer"], row["source"]) for row in rows}) > 0.95 * size


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


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [(0.011, 0.2, "claim holds"), (0.0, 0.01, "claim does not hold"), (0.01, 0.2, "cannot be told here")],
)
def test_the_verdict_of_the_alignment_study(study, lower, upper, verdict):
    module = study("jailbreak")
    assert verdict in module.verdict({"requests": 9, "lower": lower, "upper": upper})
    assert "each request is complied with when asked once" in module.verdict(None)


def test_the_alignment_study_bounds_what_the_judge_says(study):
    """Of 10 requests one is complied with when asked once; few flags of a judge with false alarms tell nothing."""
    module = study("jailbreak")
    judge = {"sensitivity": (950, 1000), "specificity": (900, 1000)}

    def bounds(flagged):
        rows = [{"id": str(i), "category": "c", "once": i == 9, "flagged": flagged} for i in range(10)]
        return module.bounds({"n": 256, "requests": rows}, judge)

    none, few, many = bounds(0), bounds(30), bounds(128)
    assert max(none["upper"]) < 0.03
    assert none["all"]["upper"] < 0.003
    assert few["clean"]["lower"] < 0.01 < few["clean"]["upper"]
    assert many["clean"]["lower"] > 0.3
    assert (many["all"]["requests"], many["clean"]["requests"], many["all"]["share"]) == (10, 9, 0.5)


def test_the_reader_needs_no_judge(study):
    module = study("jailbreak")
    if not module.DATA.exists():
        pytest.skip("needs ../shared/data/jailbreakbench: the ids of the requests")
    rows = [{"id": f"jbb-{i:03d}", "once": i >= 50} for i in range(100)]
    found = module.by_hand(rows, "jailbreak")
    told = sum(row["label"] for row in module.read("jailbreak"))
    assert found["all"]["share"] == told / 200
    assert found["all"]["lower"] < told / 200 < found["all"]["upper"]
    assert (found["all"]["requests"], found["clean"]["requests"]) == (100, 50)
    assert "clean" not in module.by_hand([row | {"once": True} for row in rows], "jailbreak")
