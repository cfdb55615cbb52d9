"""The pieces of a run folder: what is kept of parts that are not complete, so that a kill loses little."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from leakbound.records import Branch, Draw
from leakbound.runs.columns import ASCENDING, DRAWS, OPEN, draw_of, storable
from leakbound.runs.files import read_table, reading, write_table
from leakbound.runs.layout import Part


class Pieces:
    """Files of draws, numbered within their part; those of counted draws leave prefixes open, where the next goes on.

    ``names``: what lies in the folder. Pieces of counted draws behind one that is gone go on from it, and are of no use
    without it: they are not read, and :meth:`drop` removes them.
    """

    def __init__(self, folder: Path, names: Collection[str], where: Callable[[str, str], str | None]) -> None:
        self.folder, self._where = folder, where
        self._kept: defaultdict[str, list[Path]] = defaultdict(list)
        self._useless: list[Path] = []
        for name in sorted(names):
            if (piece := re.fullmatch(r"(.+)\.(\d{5})\.parquet", name)) is not None:
                before = self._kept[piece[1]]
                gone = piece[1].startswith("counted-") and int(piece[2]) != len(before)
                (self._useless if gone else before).append(folder / name)

    def __bool__(self) -> bool:
        return bool(self._kept or self._useless)

    def draws(self, part: Part) -> list[Draw]:
        """The draws that are kept of a part."""
        files = self._kept[part.name] = [f for f in self._kept[part.name] if f.exists()]  # two may draw a run
        return [draw_of(row) for file in files for row in self._read(part, file) if row["tokens"] is None]

    def open(self, part: Part) -> list[Branch] | None:
        """The prefixes that the last piece of counted draws left open; None where there is no piece."""
        if not (files := self._kept.get(part.name)):
            return None
        return [
            Branch(row["prompt_id"], tuple(row["tokens"]), row["count"], row["logprob"], row["certainty"])
            for row in self._read(part, files[-1])
            if row["tokens"] is not None
        ]

    def write(self, part: Part, draws: Sequence[Draw], open: Sequence[Branch] = ()) -> None:
        """Keep some draws of a part until it is complete; of counted draws also the prefixes that are ``open``."""
        kept = self._kept[part.name]
        number = 1 + int(kept[-1].stem.rpartition(".")[2]) if kept else 0
        file = self.folder / f"{part.name}.{number:05d}.parquet"
        rows, schema = storable(draws), DRAWS
        if part.kind == "counted":
            rows, schema = [*rows, *map(vars, open)], pa.schema([*DRAWS, *OPEN])
        table = pa.Table.from_pylist(rows, schema=schema)
        write_table(file, table, ascending=ASCENDING, where=self._where("pieces", file.stem))
        kept.append(file)

    def drop(self, parts: Sequence[Part]) -> None:
        """The pieces of parts that are complete go, and those that are of no use."""
        complete = [piece for part in parts for piece in self._kept.pop(part.name, ())]
        for piece in [*complete, *self._useless]:
            piece.unlink(missing_ok=True)  # another process may draw the same
        self._useless.clear()
        with contextlib.suppress(OSError):  # others are kept, or there is none
            self.folder.rmdir()

    def _read(self, part: Part, file: Path) -> list[dict[str, Any]]:
        schema = DRAWS if part.kind != "counted" else pa.schema([*DRAWS, *OPEN])
        with reading(file, "leakbound sample"):
            return [{"tokens": None, **row} for row in read_table(file, schema, self._where("pieces", file.stem))[0]]
