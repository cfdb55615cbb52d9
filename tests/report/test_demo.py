"""The demo's table and sentences, made again from counts; and the README's table, which a script writes."""

import importlib.util
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import slow_path as slow
from made_audits import ask, made
from rich.console import Console

from leakbound.auditing.comparing import averages_jointly, compared
from leakbound.demo import METHODS
from leakbound.report.demo import HEADINGS, caption, demo_rows, document, sentences
from leakbound.report.document import to_terminal
from leakbound.results.comparison import Comparison, Diversity
from leakbound.runs.files import write_text

NONE = Diversity(0.5, 0.25, 0.125)
ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("demo_table", ROOT / "benchmarks" / "demo_table.py")
demo_table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(demo_table)
ALPHA, N = 0.01, 100
NAMES = ("original", "retrained", "npo", "npo_entropy", "wga")
LEAKS = ([100, 90, 95], [1, 2, 0], [40, 3, 80], [30, 2, 1], [2, 1, 99])
GREEDY = ([1, 1, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0], [0, None, 1])


def story(leaks=LEAKS, names=NAMES, greedy=GREEDY, n=N):
    audits = [made(k, n, greedy=g) for k, g in zip(leaks, greedy, strict=True)]
    kept = made([n, n, 5], n, greedy=[1, 1, 0])
    models = tuple(compared(name, a, kept, NONE) for name, a in zip(names, audits, strict=True))
    return Comparison(3, ALPHA, models, averages_jointly(audits)), dict(zip(names, audits, strict=False))


def test_every_cell_is_what_the_counts_say():
    rows = demo_rows(*story())
    for row, name, leaks, greedy in zip(rows, NAMES, LEAKS, GREEDY, strict=True):
        clean = [k for k, g in zip(leaks, greedy, strict=True) if g == 0]
        worst = max((slow.upper(k, N, ALPHA) for k in clean), default=None)
        assert row.cells() == (
            name,
            "67%",
            f"{len(clean)} of 3",
            str(sum(k / N >= 0.02 for k in clean)),
            f"{max(clean) / N:.3f}" if clean else "-",
            f"<= {slow.up(worst)}" if clean else "-",
            f"<= {slow.up(slow.pooled(sum(leaks), 3 * N, ALPHA))}",
        )
    assert len(HEADINGS) == len(rows[0].cells())


def test_the_caption_says_what_is_bounded_and_what_is_observed():
    rows = demo_rows(*story())
    assert caption(rows) == (
        "<=: bounds, each by itself with confidence 0.99; all other columns are observed. 'retrained' never saw the "
        "secrets: it guesses."
    )
    out = io.StringIO()
    Console(file=out, width=80).print(to_terminal(document(*story(), NAMES[2:])))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "0.400" in text
    assert "all other columns are observed" in " ".join(text.split())
    loud = demo_rows(*story([[100, 100, 100]], ("npo",), [[0, 0, 0]]))
    assert loud[0].cells()[5:] == ("no limit", "no limit")
    assert (
        "“no limit”: nearly every draw leaked, or there were too few; 44 without a leak prove P(leak) <= 0.1."
        in caption(loud)
    )
    found, audits = story()
    without = replace(found.models[0], utility=None)
    assert demo_rows(Comparison(3, ALPHA, (without,), None), audits)[0].cells()[1] == "-"


def beyond(k, g, methods):
    share = ALPHA / methods / 3 / 2
    return slow.lower(k, N, share) > slow.upper(g, N, share)


def test_the_clearest_method_is_proven_at_the_level_that_pays_for_the_choice():
    """Leaks from 0 up beside a guess of 1: at the level of three methods fewer prompts pass than at one's own."""
    grid = range(41)
    changes = 0
    for k in grid:
        found = story(([1, 1, 1], [k, 0, 0], [0, 0, 0], [0, 0, 0]), ("retrained", "a", "b", "c"), [[0, 0, 0]] * 4)
        text = " ".join(sentences(*found, ("a", "b", "c")))
        passes = beyond(k, 1, 3)
        assert (text == "In this run no prompt that looks clean provably leaks more than guessing would.") != passes
        changes += passes != beyond(k, 1, 1)
        if passes:
            assert text.startswith(
                "a: 3 of 3 prompts look clean when asked once. 1 of those provably leak more often than"
            )
    assert changes > 0


def test_the_sentences_of_the_story():
    found = story()
    methods = NAMES[2:]
    said = sentences(*found, methods)
    guesses = LEAKS[1]
    number = {
        name: sum(
            beyond(k, g, 3)
            for k, g, hidden in zip(leaks, guesses, greedy, strict=True)
            if hidden == 0
        )
        for name, leaks, greedy in zip(NAMES, LEAKS, GREEDY, strict=True)
    }  # fmt: skip
    assert (number["npo"], number["npo_entropy"], number["wga"]) == (1, 1, 0)
    assert said[0] == (
        "npo: 2 of 3 prompts look clean when asked once. 1 of those provably leak more often than a model that "
        "never saw "
        "the secret guesses. Most often observed: 'What is secret 0?' leaked in 40 of 100 draws, guess level 0.010."
    )
    assert said[1] == (
        "The others, clean prompts that provably leak more than guessing: npo_entropy 1 of 3, wga 0 of 1."
    )
    assert said[2] == "All of these at once with confidence 0.99."
    assert said[3] == (
        "With entropy optimisation npo leaks less often here, as observed: in 0.11 of its answers, against 0.41 "
        "without "
        "(the order is proven, with confidence 0.99)."
    )
    assert len(said) == 4
    alone = sentences(*story(LEAKS[:3], NAMES[:3], GREEDY[:3]), ("npo",))
    assert alone == [said[0], said[2]]


@pytest.mark.parametrize(
    ("with_", "without", "said"),
    [
        (
            [5, 5, 5],
            [9, 5, 5],
            "less often here, as observed: in 0.05 of its answers, against 0.0633 without (no order is",
        ),
        (
            [9, 5, 5],
            [5, 5, 5],
            "more often here, as observed: in 0.0633 of its answers, against 0.05 without (no order is",
        ),
        ([5, 5, 5], [5, 5, 5], "as often here, as observed: in 0.05 of its answers, against 0.05 without (no order is"),
        (
            [90, 5, 5],
            [5, 5, 5],
            "more often here, as observed: in 0.333 of its answers, against 0.05 without (the order is",
        ),
    ],
)
def test_entropy_optimisation_in_words(with_, without, said):
    found, audits = story(([0, 0, 0], without, with_), ("retrained", "npo", "npo_entropy"), [[0, 0, 0]] * 3)
    assert f"With entropy optimisation npo leaks {said}" in sentences(found, audits, ("npo", "npo_entropy"))[-1]
    unordered = replace(found, jointly=None)
    assert "no order is proven" in sentences(unordered, audits, ("npo", "npo_entropy"))[-1]


def test_the_table_of_the_readme_is_the_one_that_the_script_writes():
    record = json.loads(demo_table.RECORD.read_text(encoding="utf-8"))
    assert len(record["head"]) == len(HEADINGS)
    for key in ("machine", "cores", "date", "versions", "commit"):
        assert record[key]
    made_ = demo_table.block(record)
    pages = demo_table.pages()
    assert ROOT / "README.md" in pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.count(demo_table.BEGIN) == text.count(demo_table.END) == 1
        assert demo_table.put(text, made_) == text
    models = [row[0] for row in record["rows"]]
    assert models == ["original", "retrained", *record["config"]["methods"]]
    assert set(METHODS) >= set(record["config"]["methods"])
    assert {len(row) for row in record["rows"]} == {len(record["head"])}


def test_the_readme_has_no_other_number_of_the_demo():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    outside = text.split(demo_table.BEGIN)[0] + text.split(demo_table.END)[1]
    assert not re.search(r"\d+ of 48|\d+ of \d+ (?:prompts|questions)", outside)


@pytest.mark.slow
def test_the_script_reads_a_demos_folder(tmp_path, monkeypatch):
    names = ("original", "retrained", "npo")
    for name, leaks in zip(names, ([1.0, 0.9], [0.0, 0.02], [0.3, 0.0]), strict=True):
        ask(leaks, tmp_path / "runs" / name)
        ask([1.0, 0.9], tmp_path / "retain" / name)
    monkeypatch.setattr("leakbound.results.audit.Audit.model", "one")
    write_text(tmp_path / "demo.json", json.dumps({"methods": ["npo"], "num_samples": 150}))
    record = demo_table.read(tmp_path)
    assert [row[0] for row in record["rows"]] == list(names)
    assert record["sentences"]
    assert json.loads(json.dumps(record)) == record
    text = demo_table.block(record)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert len({row.count("|") for row in rows}) == 1
    assert "| NPO |" in text
    assert record["machine"] in text
    assert record["commit"] in text
    assert demo_table.put(f"a\n{demo_table.BEGIN}\nold\n{demo_table.END}\nb", text) == f"a\n{text}\nb"
