import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_fixture import HOSTILE, combine, make_audit, prompt, prompt_audit
from rich.console import Console

from leakbound import report
from leakbound.bounds import worst_prompt_bound
from leakbound.errors import InputError
from leakbound.report import asking
from leakbound.report.findings import find
from leakbound.report.page import document
from leakbound.report.tables import statements
from leakbound.wording import at_most, visible

pytestmark = pytest.mark.renders


class Page(HTMLParser):
    """Collects the tags, their attributes and the text of a page; checks that tags nest."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open, self.style = [], [], [], ""
        self.feed(text)
        assert not self.open
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th", "span"):
            self.words.append(" ")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)


@pytest.fixture(scope="module")
def audit():
    return make_audit(48)


@pytest.fixture(scope="module")
def guess():
    return make_audit(48, kind="guess", seed=5)


@pytest.fixture(scope="module")
def page(audit, guess):
    return Page(report.to_html(audit, guess=guess))


def terminal(audit, guess=None, width=100, **options):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(report.to_terminal(document(audit, guess, **options)))
    return console.file.getvalue()


def test_the_summary_says_the_audits_numbers(audit):
    text = report.summary(audit)
    start = f"{audit.num_clean} of 48 prompts look clean when the model is asked once (greedy); {len(audit.hidden)} of "
    assert text.startswith(start + f"these {audit.num_clean} leaked in at least one of 1,024 sampled answers.")
    assert f"With confidence 0.99, no prompt leaks with probability above {at_most(audit.worst_prompt.upper)}." in text
    clean = worst_prompt_bound([p.leak for p in audit.prompts if p.greedy_score < audit.threshold])
    assert f"no prompt that looks clean leaks with probability above {at_most(clean.upper)}." in text
    assert f"the average prompt leaks with probability at most {at_most(audit.mean_leak.upper)}." in text
    assert "Guessing and remembering cannot be told apart here" in text


def test_the_guess_level_is_beside_every_leak(audit, guess, page):
    found = find(audit, guess)
    assert all(row.guess is not None for row in found.rows)
    more = [row for row in found.rows if row.more_than_guess]
    assert 0 < len(more) < 48
    assert (
        f"{len([row for row in more if row.result.num_leaks])} of the 39 prompts that leaked when sampled" in page.text
    )
    assert "confidence 0.99 for all 48 comparisons at once" in page.text
    assert "guess level" in terminal(audit, guess) or "guess" in terminal(audit, guess)
    assert "cannot be told apart here" not in page.text


def test_more_than_guessing_needs_proof():
    import numpy as np

    rng = np.random.default_rng(0)
    one, scores = prompt_audit(prompt(1), 0.05, rng)
    two = replace(one, num_leaks=0, leak=replace(one.leak, estimate=0.0))
    small = replace(one, num_leaks=1, leak=replace(one.leak, estimate=1 / 1024))
    known = combine([(two, scores)], "never saw")
    assert find(combine([(one, scores)], "m"), known).rows[0].more_than_guess is True
    assert find(combine([(small, scores)], "m"), known).rows[0].more_than_guess is False
    assert find(combine([(small, scores)], "m"), known).title == "No leak beyond guessing was found"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"scorer": "contains"}, "judged by contains at 0.5"),
        ({"threshold": 0.25}, "at 0.25"),
        ({"prompts": ()}, "shares no prompt id"),
    ],
)
def test_a_guess_that_cannot_be_compared_is_refused(audit, guess, change, problem):
    with pytest.raises(InputError, match=problem):
        report.to_html(audit, guess=replace(guess, **change))


def test_another_prompt_under_the_same_id_is_refused(audit, guess):
    first = guess.prompts[0]
    other = replace(first, prompt=replace(first.prompt, target="another"))
    with pytest.raises(InputError, match="another prompt under the id 'forget-000'"):
        report.summary(audit, replace(guess, prompts=(other, *guess.prompts[1:])))


@pytest.mark.parametrize("kind", ["clean", "plain"])
def test_no_hidden_prompt_is_said_plainly(kind):
    few = make_audit(4, kind=kind)
    for text in (Page(report.to_html(few)).text, report.to_markdown(few), " ".join(terminal(few).split())):
        assert "No prompt is hidden in this run" in text
    assert find(few).title == {"clean": "No leak was seen", "plain": "Leaks in plain sight, none hidden"}[kind]


def test_a_worst_prompt_that_always_leaks_gets_no_number():
    import numpy as np

    always = combine([prompt_audit(prompt(0), 1.0, np.random.default_rng(0), greedy=1.0)], "m")
    said = report.summary(always)
    assert "forget-000 leaked in every draw: as long as that is so, no number of draws gives a limit below 1" in said
    assert "Every draw leaked, so that there is no limit below 1 for the average prompt." in said
    assert "probability above 1" not in said
    assert "0 of 1 prompt look clean" in report.summary(always)


def test_a_statement_chosen_afterwards_is_marked(audit):
    assert "Caution" not in report.summary(audit)
    assert "Caution: the scorer, the threshold or alpha was chosen after the draws" in report.summary(
        replace(audit, planned=False)
    )


def test_the_page_holds_what_a_reader_asks_for(audit, page):
    total = sum(p.num_truncated for p in audit.prompts)
    for fact in (
        "runs/models/unlearned-npo",
        f"Cut at max_tokens {total}",
        "Failed or unscored 0",
        "every prompt that looks clean",
        "the average prompt",
        "Clopper-Pearson",
        audit.prompts[0].mean.method,
        "docs/methods.md",
        "9f2c" * 16,
        "params.temperature 1.0",
        "seed 20410",
        "versions.torch 2.13.0",
        "49,152",
    ):
        assert fact in page.text, fact
    for p in audit.prompts:
        assert p.prompt.id in page.text
        assert f"{p.num_leaks:,} of {p.num_samples:,}" in page.text
        assert f"≤ {at_most(p.leak.upper)}" in page.text
        assert f"≤ {at_most(p.leak_jointly.upper)}" in page.text
    first = page.text.index(f"{audit.num_clean} of 48 prompts look clean")
    order = [
        "Asked once, and asked",
        "How much of the secret",
        "The worst prompts",
        "What was drawn",
        "Statements across",
    ]
    places = [first, *(page.text.index(title) for title in order), page.text.index("How every number was obtained")]
    assert places == sorted(places)


def test_the_page_loads_and_runs_nothing(page):
    for tag, attributes in page.tags:
        assert tag not in {"script", "img", "link", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
                assert value.startswith("#")
            if name == "style":
                assert not re.search(r"url\((?!#)", value)
    assert "@import" not in page.style
    assert "url(" not in page.style
    policy = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


@pytest.fixture(scope="module")
def hostile():
    """Every hostile text as prompt, id, target, alias, greedy answer and completion, and in run.json."""
    few = make_audit(len(HOSTILE) // 2 * 2 * 5)
    prompts = []
    for i, p in enumerate(few.prompts):
        text = HOSTILE[i // 5 % len(HOSTILE)]
        item = replace(p.prompt, id=f"{text[:2000]}{i}", text=text, target=text, aliases=(text,))
        worst = tuple(replace(c, text=text) for c in p.worst)
        prompts.append(replace(p, prompt=item, greedy_text=text, worst=worst))
    run = {**few.run, "model": {"model": HOSTILE[0], HOSTILE[1]: HOSTILE[2]}, "versions": {HOSTILE[0]: HOSTILE[3]}}
    return replace(few, prompts=tuple(prompts), run=run, scorer="regex:" + HOSTILE[0])


@pytest.fixture(scope="module")
def hostile_page(hostile):
    text = report.to_html(hostile)
    assert text.encode()
    return Page(text)


def test_hostile_text_is_text_on_the_page(hostile_page):
    page = hostile_page
    test_the_page_loads_and_runs_nothing(page)
    assert "<script>alert('x')</script>" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b]", page.text)
    assert "{{ 7 * 7 }}" in page.text


def test_completions_are_shown_escaped_and_cut(hostile, hostile_page):
    for row in find(hostile).of("hidden")[:5]:
        assert " ".join(visible(row.result.worst[0].text, 600).split()) in hostile_page.text
    long = replace(hostile, prompts=tuple(replace(p, greedy_text="W" * 3000) for p in hostile.prompts))
    assert "W" * 300 + " … [cut: 2,700 more characters]" in Page(report.to_html(long)).text


def test_hostile_text_is_text_in_the_terminal(hostile):
    text = terminal(hostile, rows=50, width=400)
    assert "[red]not markup[/red]" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    colour = Console(width=200, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    colour.print(report.to_terminal(document(hostile, rows=50)))
    assert "\x1b]8;" not in colour.file.getvalue()  # no link
    assert "\x1b[31m" not in colour.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_table_keeps_its_numbers(audit, guess, width):
    text = terminal(audit, guess, width=width)
    assert max(map(len, text.splitlines())) <= width
    worst = find(audit).of("hidden")[0].result
    assert f"{worst.num_leaks}/{worst.num_samples}" in text
    assert f"≤ {at_most(worst.leak.upper)}" in text
    assert "28 more prompts are in the report" in " ".join(text.split())


def test_markdown_tables_stay_tables(hostile):
    text = report.to_markdown(hostile)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    asked = 2 + len(asking.ASKED)
    assert len(rows) == 2 + len(statements(find(hostile))) + 2 + len(hostile.prompts) + asked
    assert {line.count("|") for line in rows} == {6, 9, 14}
    assert "<script" not in text
    assert "![" not in text
    assert "\x1b" not in text


def test_csv_runs_nothing_and_keeps_numbers_in_full(hostile):
    rows = list(csv.DictReader(io.StringIO(report.to_csv(hostile))))
    assert len(rows) == len(hostile.prompts)
    for row in rows:
        assert all(cell[:1] not in tuple("=+-@\t\r\n") for cell in row.values())
    numbers = {float(row["leak_upper"]) for row in rows}
    assert numbers == {p.leak.upper for p in hostile.prompts}


def test_write_is_whole_or_not_at_all(tmp_path, audit):
    report.write_html(audit, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(InputError):
        report.write_html(audit, tmp_path / "report.html", guess=replace(audit, prompts=()))
    assert (tmp_path / "report.html").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_notebook_gets_a_sealed_frame(hostile):
    text = report.fragment(hostile)
    page = Page(text)
    assert [tag for tag, _ in page.tags] == ["iframe"]
    assert "sandbox" in page.tags[0][1]


@pytest.mark.slow
def test_a_page_of_400_prompts_stays_small():
    assert len(report.to_html(make_audit(400))) < 3_000_000
