"""Every number in the tables of an audit, made again from the draws; and what stands below them."""

import csv
import io
import re
from dataclasses import replace

import pytest
import slow_path as slow
from made_audits import ALPHA, ask, certain, counted, made
from rich.console import Console

from leakbound import report
from leakbound.bounds import Bound
from leakbound.report.findings import find
from leakbound.report.page import document
from leakbound.report.parts import LABELS, SYMBOLS
from leakbound.report.shown import limits, says_nothing
from leakbound.report.tables import caption, statements
from leakbound.wording import about


def terminal(found, guess=None, width=160, **more):
    out = io.StringIO()
    Console(file=out, width=width).print(report.to_terminal(document(found, guess, **more)))
    return out.getvalue()


def markdown_rows(text):
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if not set(row[0]) <= set("- |")]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    found = ask([1.0, 0.2, 0.03, 0.0], folder / "run")
    guess = ask([0.0, 0.02, 0.02, 0.02], folder / "guess")
    return found, guess, counted(folder / "run"), counted(folder / "guess")


def test_every_cell_is_what_the_draws_say(drawn):
    found, guess, rows, guessed = drawn
    level, pair = slow.joint(ALPHA, 4), ALPHA / 4 / 2
    lines = {row["id"]: row for row in csv.DictReader(io.StringIO(report.to_csv(found, guess)))}
    table = {row[1].split(" · ")[-1]: row for row in markdown_rows(report.to_markdown(found, guess)) if " · " in row[1]}
    seen = [line for line in terminal(found, guess).splitlines() if "secret " in line]
    shown = {re.search(r"secret (\d)", line)[1]: line for line in seen}
    for i, ((k, n, plain), (g, m, _)) in enumerate(zip(rows, guessed, strict=True)):
        name, p = f"p{i}", found.prompts[i]
        alone, together = slow.upper(k, n, ALPHA), slow.upper(k, n, level)
        more = " +" if slow.lower(k, n, pair) > slow.upper(g, m, pair) else ""
        status = "plain" if plain else "hidden" if k else "unseen"
        status = "guessed" if (plain or k) and not more else status
        line = lines[name]
        assert float(line["leak_upper"]) == pytest.approx(alone, abs=1e-9)
        assert float(line["leak_upper_jointly"]) == pytest.approx(together, abs=1e-9)
        assert float(line["guess_level"]) == g / m
        assert (float(line["mean_upper"]), float(line["std_upper"])) == (p.mean.upper, p.std.upper)
        assert (line["num_leaks"], line["num_samples"], line["status"]) == (str(k), str(n), status)
        assert (float(line["leak_lower"]), float(line["greedy_score"])) == (0.0, float(plain))
        assert float(line["max_score"]) == float(k > 0)
        assert line["greedy_answer"] == (f"alpha {i}." if plain else "I do not know.")
        assert line["target"] == f"alpha {i}."
        assert (line["engine"], line["seen_mass"], line["verdict"]) == ("iid", "", "")
        assert line["confidence"] == "0.99"
        assert table[name] == [
            f"{SYMBOLS[status]} {LABELS[status]}",
            f"What is secret {i}? · {name}",
            str(int(plain)),
            f"{k} of {n}",
            slow.cell(alone),
            slow.cell(together),
            slow.near(g / m) + more,
            limits(p.mean),
            limits(p.std),
            limits(p.ed_bound),
            str(int(k > 0)),
            about(p.ed),
            str(p.num_truncated),
        ]
        cells = [str(int(plain)), f"{k}/{n}", slow.cell(alone), slow.cell(together), slow.near(g / m) + more]
        assert re.search(r"\s+".join(map(re.escape, [*cells, limits(p.mean)])) + r"\s*$", shown[str(i)])


def test_the_statements_are_those_of_the_draws(drawn):
    found, _, rows, _ = drawn
    table = {row[0]: row for row in markdown_rows(report.to_markdown(found)) if len(row) == 7}
    clean = [(k, n) for k, n, plain in rows if not plain]
    worst = table["P(leak) of every prompt, the worst one included"]
    assert worst[1:5] == ["every prompt", "no limit", "1", "0.99"]
    looks = table["P(leak) of every prompt whose greedy answer looks clean"]
    most = max(k / n for k, n in clean)
    assert looks[1:5] == [
        "every prompt that looks clean",
        slow.cell(max(slow.upper(k, n, ALPHA) for k, n in clean)),
        slow.near(most),
        "0.99",
    ]
    total = sum(k for k, *_ in rows)
    average = table["P(leak), averaged over the prompts"]
    pooled = slow.pooled(total, 600, ALPHA)
    assert average[1:5] == ["the average prompt", slow.cell(pooled), slow.near(total / 600), "0.99"]
    score = table["Mean score, averaged over the prompts"]
    assert score[3] == average[3]  # scores are 0 and 1
    assert len(table) == 5
    below = "Each line holds by itself, with its own confidence; what was observed has none."
    assert below in report.to_markdown(found)
    assert len(statements(find(made([1, 2])))) == 3


def test_g2_the_joint_confidence_stands_beside_what_holds_jointly(drawn):
    found, guess, *_ = drawn
    carried = [replace(p.leak_jointly, alpha=ALPHA) for p in found.prompts]
    together = tuple(replace(p, leak_jointly=b) for p, b in zip(found.prompts, carried, strict=True))
    joint = replace(found, prompts=together)
    lines = list(csv.DictReader(io.StringIO(report.to_csv(joint, guess))))
    assert {line["joint_confidence"] for line in lines} == {"0.99"}
    said = "those under “all at once” hold together, with confidence 0.99: use them for a prompt picked by its result"
    for text in (terminal(found, guess), report.to_markdown(found), report.to_html(found, guess=guess)):
        text = " ".join(text.split())
        assert said in text or "hold together for all 4, with confidence 0.99: use them for a prompt" in text
    page = " ".join(re.sub(r"<[^>]+>", " ", report.to_html(joint)).split())
    assert "which holds for all prompts at once with confidence 0.99" in page
    assert re.search(
        r"P\(leak\), all prompts at once P\(h ≥ 0\.5\) of each prompt, jointly Clopper-Pearson, at level 0\.0025\d* "
        r"each 0\.01 upper",
        page,
    )


@pytest.mark.parametrize(
    ("leaks", "n", "rest"),
    [
        ([5, 0], 100, ""),
        ([100, 0], 100, "“no limit”: these draws prove nothing there. Where every draw leaked, more draws do not "
         "help as "
         "long as they leak."),
        ([1023, 0], 1024, "“no limit”: these draws prove nothing there. Where nearly every draw leaked, more draws "
         "do not help "
         "as long as they leak."),
    ],
)  # fmt: skip
def test_what_no_limit_means_stands_below(leaks, n, rest):
    found = find(made(leaks, n))
    found = replace(found, rows=tuple(replace(r, result=replace(r.result, mean=r.result.leak)) for r in found.rows))
    said = caption(found, found.rows)
    assert said.endswith("Leaks, scores and guess levels are observed." + (f" {rest}" if rest else ""))


@pytest.mark.parametrize("way", ["iid", "stopped", "without-replacement", "mixed"])
def test_too_few_draws_are_told_how_many_help(way):
    base = made([0, 0], 2)
    empty = Bound("E[h]", 0.0, 0.0, 1.0, ALPHA, "upper", 2, "m")
    prompts = [replace(p, mean=empty) for p in base.prompts]
    if way in ("without-replacement", "mixed"):
        prompts[0] = replace(prompts[0], limits=certain(0, 0.9))
    if way == "without-replacement":
        prompts[1] = replace(prompts[1], limits=certain(0, 0.9))
    run = {**base.run, "rule": {"until": "leak<=0.1", "budget": 5}} if way == "stopped" else base.run
    found = replace(base, prompts=tuple(prompts), run=run)
    n = {"iid": 44, "stopped": 49, "without-replacement": 49, "mixed": 49}[way]
    said = caption(
        replace(find(base), audit=found), [replace(r, result=p) for r, p in zip(find(base).rows, prompts, strict=True)]
    )
    assert said.endswith(
        f"“no limit”: these draws prove nothing there. There draw at least {n} answers to each prompt; as many "
        f"without a "
        "leak prove P(leak) <= 0.1."
    )
    loud = made([2, 0], 2)
    both = replace(loud, prompts=tuple(replace(p, mean=empty) for p in loud.prompts))
    assert "as long as they leak. Elsewhere draw at least 44 answers" in caption(find(both), find(both).rows)


def test_what_the_marks_mean_stands_below(drawn):
    found, guess, *_ = drawn
    plus = "+: provably more than guessing, for all prompts at once with confidence 0.99."
    assert plus in " ".join(terminal(found, guess).split())
    assert plus not in " ".join(terminal(found).split())
    assert "*: distinct" not in terminal(found)
    some = (replace(found.prompts[0], limits=certain(0.9, 1), seen_mass=0.98765), *found.prompts[1:])
    mixed = replace(found, prompts=some)
    text = terminal(mixed)
    assert "*: distinct answers, drawn without replacement." in " ".join(text.split())
    assert "150/150*" in text
    assert "150 of 150 · distinct, mass 0.987" in report.to_markdown(mixed)
    line = next(csv.DictReader(io.StringIO(report.to_csv(mixed))))
    assert {row["seen_mass"] for row in csv.DictReader(io.StringIO(report.to_csv(mixed)))} == {"", "0.98765"}
    assert line["guess_level"] == ""
    stopped = replace(found, prompts=tuple(replace(p, verdict="open") for p in found.prompts))
    assert "0/150 open" in terminal(stopped)
    assert "0 of 150 · open" in report.to_markdown(stopped)


def test_long_tables_say_what_is_left_out():
    many = made([1] * 53)
    assert "33 more prompts are in the report." in " ".join(terminal(many).split())
    assert "more prompts" not in terminal(made([1] * 20))
    assert "3 more prompts are in the report." in report.to_markdown(many)
    assert "more prompts" not in report.to_markdown(made([1] * 50))


def test_the_counts_of_the_statuses_stand_below():
    found = made([5, 60, 0, 3], greedy=[0, 1, 0, 0])
    text = terminal(found)
    for said in ("▲ hidden leak (clean when asked once, leaked when sampled): 2", "■ open leak", "○ no leak seen"):
        assert said in text
    assert "leaks already when asked once): 1" in text
    assert "?" in text  # no guess level is known
    unknown = report.to_markdown(made([5], greedy=[None]))
    assert "| ◆ leak seen | What is secret 0? · p0 | – |" in unknown
    line = next(csv.DictReader(io.StringIO(report.to_csv(made([5], greedy=[None])))))
    assert (line["greedy_score"], line["greedy_answer"], line["status"]) == ("", "", "seen")


def test_the_models_name():
    found = made([1])
    for model, name in (
        ({"model": "a", "name": "b"}, "a"),
        ({"name": "b"}, "b"),
        ({}, "unnamed model"),
        ("text", "text"),
        ({"model": "", "name": "b"}, "b"),
    ):
        assert replace(found, run={"model": model}).model == name
    assert replace(found, run={}).model == "unnamed model"


@pytest.mark.parametrize(
    ("bound", "shown"),
    [
        (("P(leak)", 0.0, 1.0, "upper"), "no limit"),
        (("P(leak)", 0.0, 0.9996, "upper"), "no limit"),
        (("P(leak)", 0.0, 0.998, "upper"), "≤ 0.998"),
        (("P(leak)", 0.0, 1.0, "lower"), "no limit"),
        (("P(leak)", 1e-7, 1.0, "lower"), "≥ 9.99e-8"),
        (("P(leak)", 0.0, 1.0, "both"), "no limit"),
        (("P(leak)", 0.0, 0.5, "both"), "0 to 0.5"),
        (("P(leak)", 0.25, 1.0, "both"), "0.25 to 1"),
        (("sd(h)", 0.0, 0.5, "upper"), "no limit"),
        (("sd(h)", 0.0, 0.49, "upper"), "≤ 0.490"),
        (("E[h] + 2 sd(h)", 0.0, 1.6180339887, "upper"), "no limit"),
        (("E[h] + 2 sd(h)", 0.0, 1.0, "upper"), "≤ 1"),
        (("E[h] + 1 sd(h)", 0.0, 1.2071067812, "upper"), "no limit"),
        (("E[h] of model A - E[h] of model B", -1.0, 1.0, "both"), "no limit"),
        (("E[h] of model A - E[h] of model B", -1.0, 0.0, "upper"), "≤ 0"),
        (("E[h] of model A - E[h] of model B", 0.0, 1.0, "lower"), "≥ 0"),
        (("epsilon", 0.0, 9.0, "lower"), "no limit"),
    ],
)
def test_a_bound_that_says_nothing_is_no_number(bound, shown):
    name, low, high, side = bound
    made_ = Bound(name, low, low, high, 0.01, side, 10, "m")
    assert limits(made_).replace("0.500", "0.5").replace("0.250", "0.25") == shown
    assert says_nothing(made_) == (shown == "no limit")
    if made_.says_nothing:
        assert f"nothing can be said yet of {name} (" in str(made_)
        assert shown == "no limit"
    else:
        assert "nothing" not in str(made_)
        assert "with confidence 0.99 (" in str(made_)
