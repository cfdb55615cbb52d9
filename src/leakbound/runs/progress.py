"""How far a long computation has come: a bar on a terminal's standard error, elsewhere a plain line every 30 seconds.

In a notebook one line stands below its cell while it takes longer than a second, and is gone at the end.

::

    drawing demo: 12,288 of 65,536 draws, 18 %, 410/s, 0:02:10 left
    drawing demo: 65,536 of 65,536 draws, 100 %, 405/s, took 0:02:42
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import Any, Self, TypeVar

from leakbound.errors import Interrupted
from leakbound.runs.files import is_main
from leakbound.wording import brief

Item = TypeVar("Item")

EVERY = 30.0
"""Seconds between two plain lines."""
IN_NOTEBOOK = 1.0
"""The same in a notebook, whose line is written over."""
BEAT = 1.0
"""Seconds between two looks at whether a line is due while no unit is done."""


class Progress:
    """``total`` units of work, shown from ``with`` to its end on the main process, whatever ends it.

    Rate and time left count from the last :meth:`begin`, and no unit that was done before. A unit that takes longer
    than the time between two lines is waited for by lines that say since when.
    """

    def __init__(self, title: str, total: int, unit: str, *, show: bool = True) -> None:
        self.title, self.total, self.unit = brief(title, 40), total, unit
        self.show = show and is_main()
        self.note = ""
        """What is or was just done, or how it goes; stands at the end of the line."""
        self.bar: Any = None
        self.notebook = False
        self.place: Any = None
        self.lock, self.over = threading.Lock(), threading.Event()
        self.begin(total)

    def begin(self, total: int, done: int = 0) -> None:
        """Count ``total`` units from now on, of which ``done`` are there already."""
        self.total, self.done, self.before = total, done, done
        self.start = self.last = monotonic()

    def advance(self, amount: int = 1) -> None:
        """Some more units are done."""
        self.done += amount
        self._show()

    def skip(self, amount: int) -> int:
        """Some units were done before this began: they count as done, and not for the rate."""
        self.done += amount
        self.before += amount
        return amount

    def say(self, note: str) -> None:
        """Change the note."""
        self.note = note
        if self.bar is not None:
            self._draw()

    def __enter__(self) -> Self:
        from rich.console import Console  # a third of a second that a command without a bar does not take
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        console = Console(stderr=True)
        self.notebook = console.is_jupyter
        if self.show and console.is_interactive and not self.notebook:
            title = TextColumn("{task.description}", markup=False)
            line = TextColumn("{task.fields[line]}", markup=False, table_column=Column(ratio=1, no_wrap=True))
            self.bar = Bar(title, BarColumn(bar_width=10), line, console=console, expand=True)
            self.task = self.bar.add_task(self.title, total=self.total, line="")
            self._draw()
            self.bar.start()
        if self.show and not self.notebook:
            threading.Thread(target=self._wait, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        ended = "took" if self.done >= self.total else "stopped after"
        with self.lock:
            self.over.set()
        if self.bar is not None:
            self._draw(ended)
            self.bar.stop()
        elif self.show:
            self._print(ended)

    def _wait(self) -> None:
        while not self.over.wait(BEAT):
            self._show()

    def _show(self) -> None:
        """Draw the bar anew, or print a line where one is due."""
        with self.lock:
            if self.over.is_set():
                return
            if self.bar is not None:
                self._draw()
            elif self.show and monotonic() - self.last >= (IN_NOTEBOOK if self.notebook else EVERY):
                self.last = monotonic()
                self._print()

    def _draw(self, ended: str = "") -> None:
        self.bar.update(self.task, completed=self.done, total=self.total, line=self._line(ended))

    def _print(self, ended: str = "") -> None:
        said = f"{self.title}: {self._line(ended)}"
        if self.notebook:
            self._place({} if ended else {"text/plain": said})
        else:
            print(said, file=sys.stderr, flush=True)

    def _place(self, shown: dict[str, str]) -> None:
        """Write over the line in the notebook."""
        from IPython.display import display

        if self.place is not None:
            self.place.update(shown, raw=True)
        elif shown:
            self.place = display(shown, raw=True, display_id=True)

    def _line(self, ended: str) -> str:
        """Done of total, share, units per second, and the time left or taken."""
        seconds = monotonic() - self.start
        share = 100 * self.done // max(1, self.total)  # rounded down: 100 only when all is done
        words = [f"{self.done:,} of {self.total:,} {self.unit}", *([] if self.bar else [f"{share} %"])]
        rate = (self.done - self.before) / seconds if seconds > 0 else 0.0
        if rate:
            words.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
        if ended:
            words.append(f"{ended} {timedelta(seconds=round(seconds))}")
        elif rate:
            words.append(f"{timedelta(seconds=round((self.total - self.done) / rate))} left")
        elif seconds >= EVERY:
            words.append(f"since {timedelta(seconds=round(seconds))}")
        return ", ".join([*words, *([self.note] if self.note else [])])


@contextmanager
def keeping(said: Callable[[], str], more: str = "") -> Iterator[None]:
    """An interruption says what is kept, as Interrupted does; ``more``: the option to go on with."""
    try:
        yield
    except KeyboardInterrupt as stop:
        inner = [stop.kept] if isinstance(stop, Interrupted) else []
        raise Interrupted("; ".join([*inner, said()]), more) from stop


@contextmanager
def steps(
    items: Sequence[Item], title: str, *, unit: str, weight: Callable[[Item], int] = lambda _: 1, show: bool = True
) -> Iterator[Iterator[Item]]:
    """The items; each one counts ``weight(item)`` units, once the next one is asked for."""
    weights = [weight(item) for item in items]
    with Progress(title, sum(weights), unit, show=show and len(items) > 0) as progress:

        def each() -> Iterator[Item]:
            for item, size in zip(items, weights, strict=True):
                yield item
                progress.advance(size)

        yield each()
