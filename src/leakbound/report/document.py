"""A document: plain data that says what is shown, and how each medium shows it: terminal, Markdown, a web page, CSV.

Every text in a document is plain text, and hostile: a renderer makes it visible and escapes it for its medium, so that
nothing that a model said acts. The web page stands alone: style and figures are inside it, it loads and runs nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

from leakbound import wording
from leakbound.report.style import NARROW, WIDE, svg
from leakbound.wording import brief, csv_cell, markdown_cell, plural, visible

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.table import Table as Grid

MARKDOWN_ROWS = 50
"""Rows that Markdown shows of a table that is cut."""
LONGEST = 4000
"""Characters of one text that are shown at most."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head, which may be empty. The columns in ``left`` hold words, the others numbers.

    ``shown``: how many rows a terminal shows where not all (Markdown: at least MARKDOWN_ROWS); a page and CSV show all.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    note: str = ""
    shown: int | None = None
    left: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Picture:
    """A figure, which ``draw`` makes for a width in pixels; ``title`` says what it shows to those who cannot see it.

    It is drawn when a page needs it, so that a terminal does not wait. In Markdown it is the file NAME.svg, if any.
    """

    name: str
    title: str
    draw: Callable[[int], Figure]
    caption: str = ""


@dataclass(frozen=True)
class Terms:
    """Names and what they mean."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Points:
    """Remarks, one below the other."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Small:
    """A paragraph in small print."""

    text: str


Part = str | Small | Points | Terms | Table | Picture
"""What a section is made of; a text is a paragraph."""


@dataclass(frozen=True)
class Section:
    """Parts under a heading. ``on`` names the media that show it."""

    title: str
    parts: tuple[Part, ...]
    on: tuple[Literal["terminal", "markdown", "page"], ...] = ("terminal", "markdown", "page")


@dataclass(frozen=True)
class Document:
    """A title, what is to be known first (``lead``: sentences, the verdict before all others), and sections.

    ``made`` says what made it and ``of`` of what, as "leakbound audit of" a model.
    """

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...] = field(default=())
    made: str = "leakbound"
    of: str = ""
    footer: str = ""

    def parts(self, medium: Literal["terminal", "markdown", "page"]) -> Iterator[tuple[str, str, Part]]:
        """The parts that a medium shows, each with the headings that stand above it: of its section, and its own."""
        for section in self.sections:
            for i, part in enumerate(section.parts if medium in section.on else ()):
                own = part.title if isinstance(part, Table) else ""
                yield (section.title if i == 0 else "", own, part) if section.title else (own, "", part)


def to_terminal(document: Document) -> Group:
    """For a terminal: pictures are left out, and nothing in a text is read as markup."""
    from rich.console import Group
    from rich.text import Text

    lead = " ".join(visible(text, LONGEST) for text in document.lead)
    head = Text(visible(document.title), style="bold")
    head.append(f". {lead}" if lead else "", "not bold")
    lines: list[RenderableType] = [head]
    for title, own, part in document.parts("terminal"):
        if isinstance(part, Table):
            lines += [Text(title, style="bold")] if title and own else []
            lines += [TerminalTable(part, own or title)]
            lines += [Text(visible(part.note, LONGEST), style="dim")] if part.note else []
        elif not isinstance(part, Picture):
            lines += [Text(title, style="bold")] if title else []
            dim = "dim" if isinstance(part, Small | Points) else ""
            lines += [Text(visible(text, LONGEST), style=dim) for text in _texts(part)]
    return Group(*lines)


def _texts(part: str | Small | Points | Terms) -> tuple[str, ...]:
    """The paragraphs of a part, as plain text."""
    if isinstance(part, Terms):
        return tuple(f"{name}: {meaning}" for name, meaning in part.items)
    return part.items if isinstance(part, Points) else (part.text if isinstance(part, Small) else part,)


@dataclass(frozen=True)
class TerminalTable:
    """A table alone. Where there is little room words are cut; numbers are not, but break at a space if they must."""

    table: Table
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Grid]:
        """Called by rich, which knows how much room there is."""
        from rich.segment import Segment

        lines = Segment.split_lines(console.render(whole := self.grid(), options))
        fits = max(map(Segment.get_line_length, lines), default=0) <= options.max_width
        yield whole if fits else self.grid(broken=True)

    def grid(self, *, broken: bool = False) -> Grid:
        """The table for rich; ``broken``: a number with spaces may take several lines."""
        from rich.box import SIMPLE, SIMPLE_HEAD
        from rich.table import Table as Grid
        from rich.text import Text

        table, title = self.table, self.title or self.table.title
        rows = [tuple(visible(cell, LONGEST) for cell in row) for row in table.rows[: table.shown]]
        heading = Text(visible(title), style="bold") if title else None
        box = SIMPLE_HEAD if table.head else SIMPLE
        grid = Grid(title=heading, title_justify="left", box=box, pad_edge=False, padding=(0, 1, 0, 0))
        grid.show_header = bool(table.head)
        for i in range(max(map(len, (table.head, *rows)), default=0)):
            name = table.head[i] if i < len(table.head) else ""
            words = [len(word) for word in name.split()]
            if i in table.left:
                grid.add_column(name, min_width=max([4, *words]), overflow="ellipsis")
            else:
                cells = [len(part) for row in rows for part in (row[i].split() if broken else row[i : i + 1])]
                grid.add_column(name, justify="right", min_width=max([*words, *cells], default=1))
        for row in rows:
            whole = (not broken and (i == 0 or i not in table.left) for i in range(len(row)))
            grid.add_row(*(Text(cell, no_wrap=no_wrap) for cell, no_wrap in zip(row, whole, strict=True)))
        if rest := len(table.rows) - len(rows):
            grid.add_row(Text(f"… and {rest:,} more", style="dim"))
        return grid


def to_markdown(document: Document, *, pictures: tuple[str, ...] = ()) -> str:
    """As Markdown; ``pictures`` are the names of those that lie beside it as NAME.svg."""
    blocks = [f"# {markdown_cell(document.title, LONGEST)}"]
    blocks += [f"{document.made} {markdown_cell(document.of)}"] if document.of else []
    blocks += [markdown_cell(text, LONGEST) for text in document.lead]
    for title, own, part in document.parts("markdown"):
        heading = [f"{mark} {markdown_cell(text)}" for mark, text in (("##", title), ("###", own)) if text]
        if isinstance(part, Table):
            blocks += [*heading, *([markdown_cell(part.note, LONGEST)] if part.note else []), markdown_table(part)]
        elif isinstance(part, Picture):
            if part.name in pictures:
                caption = [markdown_cell(part.caption, LONGEST)] if part.caption else []
                blocks += [*heading, *caption, f"![{markdown_cell(part.title)}]({part.name}.svg)"]
        else:
            texts = [markdown_cell(text, LONGEST) for text in _texts(part)]
            listed = isinstance(part, Points | Terms)
            blocks += [*heading, *(["\n".join(f"- {text}" for text in texts)] if listed else texts)]
    return "\n\n".join(blocks) + "\n"


def markdown_table(table: Table) -> str:
    """The table alone: its head, a line of dashes, its rows."""
    rows = table.rows if table.shown is None else table.rows[: max(table.shown, MARKDOWN_ROWS)]
    head = table.head or ("",) * max(map(len, rows), default=1)
    lines = ["| " + " | ".join(markdown_cell(cell, 400) for cell in head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(markdown_cell(cell, 400) for cell in row) + " |" for row in rows]
    if rest := len(table.rows) - len(rows):
        lines += ["", f"… and {rest:,} more"]
    return "\n".join(lines)


def to_csv(table: Table) -> str:
    """The table as CSV that no spreadsheet runs; numbers stay numbers."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerows([[_csv_cell(cell) for cell in row] for row in (table.head, *table.rows) if row])
    return out.getvalue()


def _csv_cell(cell: str) -> str:
    try:
        float(cell)
    except ValueError:
        return csv_cell(cell)
    return cell


def to_html(document: Document) -> str:
    """The document as one self-contained page."""
    return template("page.html.j2").render(document=document)


@cache
def template(name: str) -> Template:
    """One of the pages in templates/, everything escaped that is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("leakbound.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(brief=brief, visible=lambda text, limit=LONGEST: visible(text, limit), svg=_svg)
    env.globals.update(marked=wording.marked, plural=plural, kind=lambda part: type(part).__name__)
    return env.get_template(name)


def _svg(picture: Picture, width: Literal["wide", "narrow"]) -> str:
    figure = picture.draw(WIDE if width == "wide" else NARROW)
    return svg(figure, f"{picture.name}-{width}", picture.title)
