"""What a document is made of: plain data that says what is shown, and nothing of how.

Every text is plain text, and hostile: the renderers of :mod:`leakbound.report.document` make it visible and escape it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Medium = Literal["terminal", "markdown", "page"]
Tone = Literal["hidden", "plain", "seen", "guessed", "unseen"]
LABELS: dict[Tone, str] = {
    "hidden": "hidden leak", "plain": "open leak", "seen": "leak seen", "guessed": "not told from guessing",
    "unseen": "no leak seen",
}  # fmt: skip
SYMBOLS: dict[Tone, str] = {"hidden": "▲", "plain": "■", "seen": "◆", "guessed": "◇", "unseen": "○"}
"""A shape says the same as the colour of a tone."""
MARKS: dict[str, tuple[Tone, str]] = {"proven": ("plain", "✓"), "refuted": ("hidden", "✕"), "open": ("unseen", "?")}
"""The tone and the sign of a verdict."""


@dataclass(frozen=True)
class Said:
    """What a model or a file said, word for word; a page marks what repeats a secret. ``after`` is a remark of ours."""

    text: str
    secrets: tuple[str, ...] = ()
    after: str = ""
    limit: int = 600


@dataclass(frozen=True)
class Link:
    """A name that leads, on a page, to a file that lies beside it: ``href`` is a path, escaped already."""

    text: str
    href: str


MARKDOWN_ROWS = 50
"""Rows that Markdown shows at least of a table that is cut."""
PAGE_ROWS = 400
"""Rows that a page shows at most: a page of thousands opens slowly, and nobody reads it to its end."""
Cell = str | Said | Link
"""A cell or a meaning. The lines of a text after its first one are small print."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head, which may be empty. The columns in ``left`` hold words, the others numbers.

    ``shown``: how many rows a terminal shows where not all (Markdown: at least MARKDOWN_ROWS); CSV shows all.
    ``tones`` are those of the rows, where they have any: they stand in a column of their own, before all others.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    note: str = ""
    shown: int | None = None
    left: tuple[int, ...] = (0,)
    tones: tuple[Tone, ...] = ()

    @property
    def dense(self) -> bool:
        """Whether a page sets it small: many columns, or numbers of more than 100 characters side by side."""
        numbers = [[row[i] for row in (self.head, *self.rows)] for i in range(len(self.head)) if i not in self.left]
        return len(self.head) > 8 or sum(max(len(x) for x in c if isinstance(x, str)) for c in numbers) > 100

    @property
    def stacks(self) -> bool:
        """Whether a telephone shows each row as a small list: few rows of many columns."""
        return 3 < len(self.head) <= 9 and len(self.rows) <= 20


@dataclass(frozen=True)
class Picture:
    """A figure, which ``draw`` makes for a width in pixels; ``title`` says what it shows to those who cannot see it.

    It is drawn when a page needs it, so that a terminal does not wait. In Markdown it is the file NAME.svg, if any.
    """

    name: str
    title: str
    draw: Callable[[int], Figure]
    caption: str = ""
    tone: Tone | None = None


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side, each under its caption."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Terms:
    """Names and what they mean."""

    items: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Points:
    """Remarks, one below the other."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Small:
    """A paragraph in small print."""

    text: str


@dataclass(frozen=True)
class Legend:
    """What the tones mean here, and how many there are of each."""

    items: tuple[tuple[Tone, str, int], ...]


@dataclass(frozen=True)
class Card:
    """A closer look at one thing."""

    title: str
    tone: Tone
    terms: Terms
    table: Table | None = None


@dataclass(frozen=True)
class Tile:
    """A number in large print, and what it is."""

    number: str
    what: str
    of: str = ""
    loud: bool = False


Part = str | Small | Points | Terms | Legend | Table | Card | Picture | Gallery
"""What a section is made of; a text is a paragraph. Cards and pictures are for pages."""


@dataclass(frozen=True)
class Answer:
    """May it ship: the tolerance that was asked for, the verdict on it, the confidence, and what to do next.

    ``command`` does it; ``mark`` is the verdict alone, empty where there is none.
    """

    tolerance: str
    verdict: str
    confidence: str
    next: str
    command: str = ""
    mark: Literal["proven", "refuted", "open", ""] = ""

    @property
    def items(self) -> Iterator[tuple[str, str]]:
        """What is known of it, by name, without the command."""
        names = ("Tolerance", "Verdict", "Confidence", "Next")
        said = (self.tolerance, self.verdict, self.confidence, self.next)
        return ((name, text) for name, text in zip(names, said, strict=True) if text)


@dataclass(frozen=True)
class Section:
    """Parts under a heading. ``on`` names the media that show it."""

    title: str
    parts: tuple[Part, ...]
    on: tuple[Medium, ...] = ("terminal", "markdown", "page")


@dataclass(frozen=True)
class Document:
    """A title, what is to be known first (``lead``: sentences, the verdict before all others), and sections.

    ``made`` says what made it and ``of`` of what, as "leakbound audit of" a model. ``tone`` is that of the title, and
    ``tiles`` are its numbers. ``answer`` stands before all else.
    """

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...] = ()
    made: str = "leakbound"
    of: str = ""
    footer: str = ""
    tone: Tone | None = None
    tiles: tuple[Tile, ...] = ()
    answer: Answer | None = None

    @property
    def sign(self) -> tuple[Tone | None, str]:
        """The tone of the title and its sign: those of the verdict, where there is one."""
        if self.answer and self.answer.mark:
            return MARKS[self.answer.mark]
        return self.tone, SYMBOLS[self.tone] if self.tone else ""

    def parts(self, medium: Medium) -> Iterator[tuple[str, str, Part]]:
        """The parts that a medium shows, each with the headings that stand above it: of its section, and its own."""
        for section in self.sections:
            for i, part in enumerate(section.parts if medium in section.on else ()):
                own = part.title if isinstance(part, Table) else ""
                yield (section.title if i == 0 else "", own, part) if section.title else (own, "", part)
