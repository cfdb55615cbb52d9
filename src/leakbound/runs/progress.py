"""A progress bar around the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from leakbound.runs.store import Run


@contextmanager
def steps(what: str, run: Run, items: Sequence[Any], progress: bool) -> Iterator[Iterator[Any]]:
    """The items, with a progress bar around them where one is wanted and there is something to do."""
    if not progress or not items:
        yield iter(items)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{what} {run.path.name}", total=len(items))

        def advance() -> Iterator[Any]:
            for item in items:
                yield item
                bar.advance(task)

        yield advance()
