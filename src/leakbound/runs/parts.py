"""What an evaluation has computed so far: one file for each part, keyed by everything that the part depends on."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from leakbound.errors import InputError
from leakbound.runs.store import write_text

Item = TypeVar("Item")


@dataclass
class Parts:
    """Computed parts in a folder, or in memory only; ``seconds`` is what each kind of part took, now or before.

    A part is a JSON object. Its file is named by the SHA-256 of its inputs: other inputs are another file, so that no
    two experiments mix, and a part that is there is not computed again.
    """

    folder: Path | None
    seconds: dict[str, float] = field(default_factory=dict)

    def get(self, name: str, kind: str, inputs: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> Any:
        """The part ``name`` of this kind for these inputs: read where it is there, else computed and written."""
        text = json.dumps([kind, inputs], ensure_ascii=False, sort_keys=True)
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        file = None if self.folder is None else self.folder / f"{name}-{kind}-{key[:16]}.json"
        if file is not None and file.exists():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
                part, seconds = found["part"], float(found["seconds"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{file}: cannot be read ({error}): remove it, it will be computed again") from error
        else:
            start = time.perf_counter()
            part = compute()
            seconds = time.perf_counter() - start
            if file is not None:
                write_text(file, json.dumps({"part": part, "seconds": seconds}, ensure_ascii=False) + "\n")
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        return part


@contextmanager
def advancing(items: Sequence[Item], title: str, *, progress: bool) -> Iterator[Iterator[Item]]:
    """The items, with a progress bar on standard error where one is wanted."""
    if not progress:
        yield iter(items)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=len(items))

        def advance() -> Iterator[Item]:
            for item in items:
                yield item
                bar.advance(task)

        yield advance()


@contextmanager
def folder_or_temporary(out: str | Path | None) -> Iterator[Path]:
    """``out``, or a folder that is gone afterwards."""
    if out is not None:
        yield Path(out).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="leakbound-") as temporary:
        yield Path(temporary)
