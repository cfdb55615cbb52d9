"""The tables of a suite: files of a local folder, or a data set of the hub.

Nothing is shipped with leakbound. What was read is recorded by its SHA-256: of the file's bytes, or for the hub of its
rows as JSON.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leakbound.errors import InputError, PromptsError
from leakbound.reading.parsing import read_bytes
from leakbound.reading.rows import READERS, Row, from_hub, read_rows, rows_of_hub


@dataclass
class Tables:
    """The tables of a suite by name, from a folder or from the hub, and the checksums of those that were read.

    A table called ``a/b`` is the file ``a/b.json`` (.jsonl, .csv, .tsv, .parquet, or ``a/b-*.parquet``) of the folder
    ``data``; without a folder it is the split ``b`` of the configuration ``a`` of the hub's data set ``hub`` (a name
    without a slash: the configuration's split train).
    """

    data: Path | None
    hub: str
    revision: str | None = None
    checksums: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data is not None and not Path(self.data).expanduser().is_dir():
            raise InputError(f"data is {str(self.data)!r}: there is no such folder; leave it out to read {self.hub}")
        self.data = None if self.data is None else Path(self.data).expanduser()

    def has(self, name: str) -> bool:
        """Whether the folder holds the table, or the hub's data set the configuration."""
        if self.data is not None:
            return self._file(name) is not None
        configs = self._ask(
            lambda datasets: datasets.get_dataset_config_names(self.hub, revision=self.revision), "the list of tables"
        )
        return name.partition("/")[0] in configs

    def rows(self, name: str) -> tuple[Row, ...]:
        """The rows of a table. PromptsError if there is none, or for a row that is not an object."""
        if self.data is None:
            return self._from_hub(name)
        file = self._file(name)
        if file is None:
            kinds = ", ".join(name + kind for kind in READERS)
            raise PromptsError(f"data is {str(self.data)!r}: there is no {name} in it ({kinds})")
        return self.read(file)

    def read(self, file: Path) -> tuple[Row, ...]:
        """The rows of one file of the folder."""
        rows = read_rows(file)
        self.checksums[str(file.relative_to(self.data or "."))] = _sha256(read_bytes(file))
        return rows

    def _file(self, name: str) -> Path | None:
        assert self.data is not None  # both callers have looked
        folder, _, stem = name.rpartition("/")
        shards = sorted((self.data / folder).glob(f"{stem}-*-of-*.parquet"))
        if len(shards) > 1:
            raise PromptsError(f"{shards[0]}: the table {name} lies in {len(shards)} files: join them into one")
        named = [self.data / f"{name}{kind}" for kind in READERS]
        return next((file for file in [*named, *shards] if file.is_file()), None)

    def _from_hub(self, name: str) -> tuple[Row, ...]:
        config, _, split = name.partition("/")
        found = self._ask(
            lambda datasets: datasets.load_dataset(self.hub, config, split=split or "train", revision=self.revision),
            name,
        )
        rows = rows_of_hub(found, f"{self.hub} ({name})")
        if not rows:
            raise PromptsError(f"{self.hub} ({name}): the table holds no rows")
        text = json.dumps([row.values for row in rows], ensure_ascii=False, sort_keys=True, default=str)
        self.checksums[f"{self.hub}/{name}"] = _sha256(text.encode("utf-8", "surrogatepass"))
        return rows

    def _ask(self, ask: Any, what: str) -> Any:
        problem = f"data is None, and {what} of {self.hub} cannot be read from the hub"
        return from_hub(ask, problem, "give data, a folder with it")


def unique(rows: Sequence[Row], *columns: str) -> None:
    """PromptsError for a row whose columns repeat those of a row before it."""
    seen: dict[tuple[Any, ...], str] = {}
    for row in rows:
        key = tuple(row.text(column) for column in columns)
        if key in seen:
            raise PromptsError(
                f"{row.where}: the {' and '.join(columns)} {key[0]!r} stood before ({seen[key]}): give each once"
            )
        seen[key] = row.where


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
