"""How each medium shows a document: terminal, Markdown, a web page, CSV.

Whatever a text says, it does nothing: it is made visible and escaped for its medium. The web page stands alone: style
and figures are inside it, it loads and runs nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from leakbound.report.parts import (
    LABELS,
    MARKDOWN_ROWS,
    PAGE_ROWS,
    SYMBOLS,
    Card,
    Cell,
    Document,
    Gallery,
    Legend,
    Link,
    Part,
    Picture,
    Points,
    Said,
    Small,
    Table,
    Terms,
)
from leakbound.report.style import NARROW, WIDE, svg
from leakbound.wording import brief, csv_cell, markdown_cell, marked, visible

if TYPE_CHECKING:
    from jinja2 import Template
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.table import Table as Grid
    from rich.text import Text

LONGEST = 4000
"""Characters of one text that are shown at most."""
NAME = 16
"""Names of rows that are no longer stand whole in a terminal, where there is room for that at all."""
STYLES = {
    "hidden": "bold yellow",
    "plain": "bold blue",
    "seen": "bold yellow",
    "guessed": "bold",
    "unseen": "bold",
    None: "bold",
}


def _words(cell: Cell) -> str:
    """A cell on one line, without what would act."""
    if isinstance(cell, Said):
        return visible(cell.text, cell.limit) + (f" ({visible(cell.after)})" if cell.after else "")
    text = cell.text if isinstance(cell, Link) else cell
    return " · ".join(visible(line, LONGEST) for line in text.split("\n"))


def _texts(part: Part) -> tuple[str, ...]:
    """What a part other than a table says where there are only lines of words."""
    match part:
        case str():
            return (part,)
        case Small():
            return (part.text,)
        case Points():
            return part.items
        case Terms():
            return tuple(f"{name}: {_words(meaning)}" for name, meaning in part.items)
        case Legend():
            return tuple(f"{SYMBOLS[t]} {LABELS[t]} ({meaning}): {number:,}" for t, meaning, number in part.items)
    return ()


def to_terminal(document: Document) -> Group:
    """For a terminal: cards and pictures are left out, and nothing in a text is read as markup."""
    from rich.console import Group
    from rich.text import Text

    lead = " ".join(visible(text, LONGEST) for text in document.lead)
    tone, symbol = document.sign
    head = Text(f"{symbol} {visible(document.title)}" if symbol else visible(document.title), style=STYLES[tone])
    lines: list[RenderableType] = [head]
    if document.answer is None:
        head.append(f". {lead}" if lead else "", "default not bold")
    else:
        lines += [Text(visible(f"{name}: {text}", LONGEST)) for name, text in document.answer.items]
        if document.answer.command:  # whole on its line, to be copied
            lines.append(Text(f"  {visible(document.answer.command, LONGEST)}", no_wrap=True, overflow="ignore"))
        lines += [Text(lead)] if lead else []
    for title, own, part in document.parts("terminal"):
        if title and (own or not isinstance(part, Table)):
            lines.append(Text(visible(title), style="bold"))
        if isinstance(part, Table):
            lines.append(TerminalTable(part, own or title))
        style = "dim" if isinstance(part, Small | Points | Legend | Table) else ""
        lines += [Text(visible(text, LONGEST), style=style) for text in _notes(part)]
    return Group(*lines)


def _notes(part: Part) -> Sequence[str]:
    return ([part.note] if part.note else []) if isinstance(part, Table) else _texts(part)


@dataclass(frozen=True)
class TerminalTable:
    """A table alone. Where there is little room words are cut; numbers are not: they break at a space, then stand one
    below the other."""

    table: Table
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Grid | Text]:
        """Called by rich, which knows how much room there is."""
        from rich.segment import Segment

        for grid in (self.grid(), self.grid(broken=True)):
            lines = Segment.split_lines(console.render(grid, options))
            if max(map(Segment.get_line_length, lines), default=0) <= options.max_width:
                yield grid
                return
        yield from self.listed()

    def listed(self) -> Iterator[Text]:
        """The rows with each cell on a line of its own: where not even the longest words fit abreast."""
        from rich.text import Text

        table, title = self.table, self.title or self.table.title
        if title:
            yield Text(visible(title), style="bold")
        for i, row in enumerate(table.rows[: table.shown]):
            for j, cell in enumerate(map(_words, row)):
                before = f"{SYMBOLS[table.tones[i]]} " if table.tones else ""
                if j:
                    before = f"  {visible(table.head[j], LONGEST)}: " if table.head else "  "
                if cell.strip():
                    yield Text(before + cell, overflow="fold")
        if table.shown is not None and len(table.rows) > table.shown:
            yield Text(f"… and {len(table.rows) - table.shown:,} more", style="dim")

    def grid(self, *, broken: bool = False) -> Grid:
        """The table for rich; ``broken``: what has spaces may take several lines."""
        from rich.box import SIMPLE, SIMPLE_HEAD
        from rich.table import Table as Grid
        from rich.text import Text

        table, title = self.table, self.title or self.table.title
        rows = [tuple(map(_words, row)) for row in table.rows[: table.shown]]
        heading = Text(visible(title), style="bold") if title else None
        box = SIMPLE_HEAD if table.head else SIMPLE
        grid = Grid(title=heading, title_justify="left", box=box, pad_edge=False, padding=(0, 1, 0, 0))
        grid.show_header = bool(table.head)
        if table.tones:
            grid.add_column("", no_wrap=True, min_width=1)
        for i in range(max(map(len, (table.head, *rows)), default=0)):
            name = visible(table.head[i], LONGEST) if i < len(table.head) else ""
            words = [len(word) for word in name.split()]
            if i in table.left:
                short = i == 0 and not broken and all(len(row[i]) <= NAME for row in rows)
                grid.add_column(Text(name), no_wrap=short, min_width=max([4, *words]), overflow="ellipsis")
            else:
                cells = [len(part) for row in rows for part in (row[i].split() if broken else row[i : i + 1])]
                grid.add_column(Text(name), justify="right", min_width=max([1, *words, *cells]))
        marks = [[Text(SYMBOLS[tone], style=STYLES[tone])] for tone in table.tones] or [[]] * len(rows)
        for mark, row in zip(marks, rows, strict=False):
            whole = (not broken and (i == 0 or i not in table.left) for i in range(len(row)))
            grid.add_row(*mark, *(Text(cell, no_wrap=no_wrap) for cell, no_wrap in zip(row, whole, strict=True)))
        if rest := len(table.rows) - len(rows):
            grid.add_row(*([""] if table.tones else []), Text(f"… and {rest:,} more", style="dim"))
        return grid


def to_markdown(document: Document, *, pictures: tuple[str, ...] = ()) -> str:
    """As Markdown; ``pictures`` are the names of those that lie beside it as NAME.svg."""
    blocks = [f"# {_markdown(document.title)}"]
    blocks += [_markdown(f"{document.made} {document.of}")] if document.of else []
    if document.answer:
        said = [*document.answer.items, *([("Command", document.answer.command)] if document.answer.command else [])]
        blocks += ["\n".join(f"- **{name}**: {_markdown(text)}" for name, text in said)]
    blocks += map(_markdown, document.lead)
    for title, own, part in document.parts("markdown"):
        if isinstance(part, Card | Gallery) or (isinstance(part, Picture) and part.name not in pictures):
            continue
        blocks += [f"{mark} {_markdown(text)}" for mark, text in (("##", title), ("###", own)) if text]
        match part:
            case Table():
                blocks += [*map(_markdown, _notes(part)), markdown_table(part)]
            case Picture():
                blocks += [_markdown(part.caption)] if part.caption else []
                blocks += [f"![{_markdown(part.title)}]({part.name}.svg)"]
            case Points() | Terms() | Legend():
                blocks += ["\n".join(f"- {_markdown(text)}" for text in _texts(part))]
            case _:
                blocks += map(_markdown, _texts(part))
    return "\n\n".join(blocks) + "\n"


def _markdown(text: str) -> str:
    return markdown_cell(text, LONGEST)


def markdown_table(table: Table) -> str:
    """The table alone: its head, a line of dashes, its rows."""
    rows = [tuple(map(_words, row)) for row in table.rows]
    head = table.head or ("",) * max(map(len, rows), default=1)
    if table.tones:
        head = ("status", *head)
        rows = [(f"{SYMBOLS[t]} {LABELS[t]}", *row) for t, row in zip(table.tones, rows, strict=True)]
    shown = rows if table.shown is None else rows[: max(table.shown, MARKDOWN_ROWS)]
    lines = ["| " + " | ".join(map(_markdown, head)) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(markdown_cell(cell, 400) for cell in row) + " |" for row in shown]
    if rest := len(rows) - len(shown):
        lines += ["", f"… and {rest:,} more"]
    return "\n".join(lines)


def to_csv(table: Table) -> str:
    """The table as CSV that no spreadsheet runs; numbers stay numbers."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerows([_csv_cell(cell) for cell in row] for row in (table.head, *table.rows) if row)
    return out.getvalue()


def _csv_cell(cell: Cell) -> str:
    text = cell if isinstance(cell, str) else cell.text
    try:
        float(text)
    except ValueError:
        return csv_cell(text)
    return text


def to_html(document: Document) -> str:
    """The document as one self-contained page."""
    return _template().render(document=document)


@cache
def _template() -> Template:
    """The page, everything escaped that is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("leakbound.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(brief=brief, visible=_on_page, svg=_svg, kind=lambda part: type(part).__name__)
    env.globals.update(marked=marked, labels=LABELS, symbols=SYMBOLS, page_rows=PAGE_ROWS)
    return env.get_template("page.html.j2")


def _on_page(text: str, limit: int = LONGEST) -> str:
    """Visible, and no line ends between ≤ and its number."""
    return visible(text, limit).replace("≤ ", "≤\u00a0").replace("≥ ", "≥\u00a0")


def _svg(picture: Picture, width: str) -> str:
    figure = picture.draw(WIDE if width == "wide" else NARROW)
    return svg(figure, f"{picture.name}-{width}", picture.title)
