"""A document in its four media: nothing that a text says acts, and numbers stay whole."""

import csv
import io
import re

import pytest
from matplotlib.figure import Figure
from report_fixture import HOSTILE
from rich.console import Console

from leakbound import report
from leakbound.errors import InputError
from leakbound.report.document import to_csv, to_html, to_markdown, to_terminal
from leakbound.report.parts import (
    Card,
    Document,
    Gallery,
    Legend,
    Picture,
    Points,
    Said,
    Section,
    Small,
    Table,
    Terms,
    Tile,
)
from leakbound.results.calibration import Calibration

pytestmark = pytest.mark.renders
EVERYTHING = "\n".join(HOSTILE[:8])


def hostile():
    """Every text of every part is hostile."""
    x = EVERYTHING
    table = Table((x, x), ((x, Said(x, (x,), x)), (x, x)), x, x, left=(0, 1), tones=("hidden", "unseen"))
    picture = Picture("p", x, lambda width: Figure(figsize=(width / 72, 1)), x, "plain")
    parts = (x, Small(x), Points((x,)), Terms(((x, Said(x)),)), Legend((("seen", x, 1),)), table, picture)
    more = (Gallery((picture,)), Card(x, "plain", Terms(((x, x),)), table))
    sections = (Section(x, (*parts, *more)), Section("", (table,)))
    return Document(x, (x,), sections, x, x, x, "hidden", (Tile(x, x, x, True),))


def terminal(document, width=80):
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(to_terminal(document))
    return out.getvalue()


def test_hostile_text_does_nothing_in_any_medium():
    page, marked, shown = to_html(hostile()), to_markdown(hostile(), pictures=("p",)), terminal(hostile(), 200)
    for text in (page, marked, shown):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u200b\ud800]", text)
    assert not re.search(r"<(script|img)", page + marked)
    assert not re.search(r"[^&;]!\[(?!right|&#60;|⟨)", marked.replace("\n", " "))
    assert "http://evil" not in marked
    assert "[red]not markup[/red]" in shown
    colour = Console(width=200, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    colour.print(to_terminal(hostile()))
    assert "\x1b]8;" not in colour.file.getvalue()
    assert "\x1b[31m" not in colour.file.getvalue()
    rows = list(csv.reader(io.StringIO(to_csv(hostile().sections[1].parts[0]))))
    assert len(rows) == 3
    assert all(cell[:1] not in tuple("=+-@\t\r\n") for row in rows for cell in row)


@pytest.mark.parametrize("width", [80, 60, 50, 40, 30, 20, 12])
@pytest.mark.parametrize("tones", [(), ("seen", "unseen")])
def test_u08_every_number_is_whole_at_any_width(width, tones):
    """ "-0.0520 to 0.0" was printed for "-0.0520 to 0.0657" at 80 columns."""
    cells = ("-0.123456", "-0.0520 to 0.0657", "0.00000123", "1,234,567", "≤ 0.0987", "12.5 %")
    rows = (("a long name of a metric of many words", *cells), ("rouge_l_recall", *reversed(cells)))
    head = ("metric", *(f"{name} of the model" for name in "abcdef"))
    text = terminal(Document("T", (), (Section("", (Table(head, rows, tones=tones, shown=2),)),)), width)
    assert max(map(len, text.splitlines())) <= width
    words = text.replace("│", " ").split()
    for number in (part for cell in cells for part in cell.split() if any(c.isdigit() for c in part)):
        assert words.count(number) == 2, number


def test_numbers_stay_numbers_in_csv_and_formulas_do_not():
    text = to_csv(Table(("a", "b"), (("-0.5", "-1+1"), ("1e-09", "=1"))))
    assert text == "a,b\n-0.5,'-1+1\n1e-09,'=1\n"


@pytest.mark.parametrize("width", [40, 60, 100])
def test_a_narrow_terminal_cuts_words_and_never_numbers(width):
    rows = tuple((f"a long name of row {i} that no terminal has room for", f"≤ 0.{i}2345", "1,024") for i in range(5))
    text = terminal(Document("T", (), (Section("", (Table(("name", "bound", "draws"), rows, shown=3),)),)), width)
    assert max(map(len, text.splitlines())) <= width
    for _, bound, n in rows[:3]:
        assert re.search(rf"{bound}\s+{n}", text)
    assert rows[3][1] not in text
    assert "… and 2 more" in text


def test_markdown_shows_more_rows_than_a_terminal_and_a_page_all():
    document = Document(
        "T", ("Lead.",), (Section("S", (Table(("n",), tuple((str(i),) for i in range(60)), shown=2),)),)
    )
    assert to_markdown(document).startswith("# T\n\nLead.\n\n## S\n\n| n |\n| --- |\n| 0 |")
    assert "| 49 |\n\n… and 10 more" in to_markdown(document)
    assert "<bdi>59</bdi>" in to_html(document)
    assert terminal(document).startswith("T. Lead.\n")


def test_a_section_stands_where_it_belongs():
    sections = tuple(Section(m, (f"only on {m}",), on=(m,)) for m in ("terminal", "markdown", "page"))
    document = Document("T", (), sections)
    for m, text in (("terminal", terminal(document)), ("markdown", to_markdown(document)), ("page", to_html(document))):
        assert re.findall(r"only on (\w+)", text) == [m]


def test_headings_of_sections_and_of_tables():
    tables = Table(("a",), (("1",),), "One"), Table(("a",), (("2",),), "Two")
    assert re.findall(r"^#+ .*", to_markdown(Document("T", (), (Section("S", tables),))), re.M) == [
        "# T", "## S", "### One", "### Two",
    ]  # fmt: skip
    alone = Document("T", (), (Section("", tables),))
    assert re.findall(r"<h\d>(.*?)</h\d>", to_html(alone)) == ["T", "One", "Two"]
    assert re.findall(r"^#+ .*", to_markdown(alone), re.M) == ["# T", "## One", "## Two"]


def test_a_picture_is_drawn_for_pages_only():
    drawn = []
    picture = Picture("p", "what it shows", lambda width: drawn.append(width) or Figure(figsize=(width / 72, 1)))
    document = Document("T", (), (Section("S", (picture,)),))
    assert "![what it shows](p.svg)" in to_markdown(document, pictures=("p",))
    assert "p.svg" not in to_markdown(document)
    terminal(document)
    assert drawn == []
    assert to_html(document).count("<svg") == len(drawn) == 2


def test_a_result_without_a_document_is_refused_and_still_becomes_csv():
    found = Calibration(0.5, 0.05, 1, 20)
    with pytest.raises(InputError, match="result is a Calibration, which has no document here"):
        report.document_of(found)
    assert report.to_csv(found) == "threshold,share,greedy,num_prompts\n0.5,0.05,1,20\n"
