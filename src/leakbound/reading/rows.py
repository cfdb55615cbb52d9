"""Reading the tables of a suite: files of a local folder, or a data set of the hub. Defects are named with their line.

Nothing is shipped with leakbound. What was read is recorded by its SHA-256: of the file's bytes, or for the hub of its
rows as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leakbound.errors import InputError, PromptsError
from leakbound.reading.prompts import read_rows

KINDS = (".json", ".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row of a table: its columns, its number in the table (from 1), and where it stands, for messages."""

    values: Mapping[str, Any]
    number: int
    where: str

    def text(self, column: str, *, optional: bool = False) -> str:
        """The text in a column. PromptsError if it is missing or empty, unless it is optional: then ""."""
        value = self.values.get(column)
        if optional and value in (None, ""):
            return ""
        if value is None:
            raise PromptsError(
                f"{self.where}: the row has no {column!r}; its columns are {', '.join(map(str, self.values)) or 'none'}"
            )
        if not isinstance(value, str) or not value.strip():
            raise PromptsError(f"{self.where}: {column} is {value!r}: give a non-empty text")
        return value

    def texts(self, column: str, count: int | None = None) -> tuple[str, ...]:
        """The texts in a column that holds a list, ``count`` of them where that is given."""
        if column not in self.values:
            self.text(column)
        found = self.values[column]
        if not isinstance(found, list | tuple) or not all(isinstance(t, str) and t.strip() for t in found):
            raise PromptsError(f"{self.where}: {column} is {found!r}: give a list of non-empty texts")
        if count is not None and len(found) != count:
            raise PromptsError(f"{self.where}: {column} has {len(found)} texts: give {count}")
        return tuple(found)


@dataclass
class Tables:
    """The tables of a suite by name, from a folder or from the hub, and the checksums of those that were read.

    A table called ``a/b`` is the file ``a/b.json`` (.jsonl, .csv, .parquet, or ``a/b-*.parquet``) of the folder
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
        return name.partition("/")[0] in _hub_configs(self.hub, self.revision)

    def rows(self, name: str) -> tuple[Row, ...]:
        """The rows of a table. PromptsError if there is none, or for a row that is not an object."""
        if self.data is None:
            found = _hub_rows(self.hub, name, self.revision)
            text = json.dumps([row for _, row in found], ensure_ascii=False, sort_keys=True, default=str)
            self.checksums[f"{self.hub}/{name}"] = _sha256(text.encode("utf-8", "surrogatepass"))
        else:
            file = self._file(name)
            if file is None:
                raise PromptsError(
                    f"data is {str(self.data)!r}: there is no {name} in it ({', '.join(name + kind for kind in KINDS)})"
                )
            found = list(read_rows(file))
            self.checksums[str(file.relative_to(self.data))] = _sha256(file.read_bytes())
        if not found:
            raise PromptsError(f"{name}: the table holds no rows")
        return tuple(_row(row, number, where) for number, (where, row) in enumerate(found, start=1))

    def _file(self, name: str) -> Path | None:
        assert self.data is not None  # both callers have looked
        folder, _, stem = name.rpartition("/")
        shards = sorted((self.data / folder).glob(f"{stem}-*-of-*.parquet"))
        if len(shards) > 1:
            raise PromptsError(f"{shards[0]}: the table {name} lies in {len(shards)} files: join them into one")
        named = [self.data / f"{name}{kind}" for kind in KINDS]
        return next((file for file in [*named, *shards] if file.is_file()), None)


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


def _row(values: Any, number: int, where: str) -> Row:
    if isinstance(values, str):  # a JSON list of plain texts
        values = {"text": values}
    if not isinstance(values, dict):
        raise PromptsError(f"{where}: the row is a {type(values).__name__}, not an object with columns")
    return Row(values, number, where)


def _hub_rows(hub: str, name: str, revision: str | None) -> list[tuple[str, Any]]:
    config, _, split = name.partition("/")
    rows = _from_hub(
        hub, name, lambda datasets: datasets.load_dataset(hub, config, split=split or "train", revision=revision)
    )
    return [(f"{hub} ({name}), row {number}", dict(row)) for number, row in enumerate(rows, start=1)]


def _hub_configs(hub: str, revision: str | None) -> list[str]:
    return list(
        _from_hub(hub, "the list of tables", lambda datasets: datasets.get_dataset_config_names(hub, revision=revision))
    )


def _from_hub(hub: str, what: str, ask: Callable[[Any], Any]) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise PromptsError(
            f"data is None: reading {hub} needs the datasets package: pip install 'leakbound[hf]', or give data, a "
            "folder with its files"
        ) from error
    try:
        return ask(datasets)
    except Exception as error:  # the hub client raises many kinds; all mean that there is nothing to read
        raise PromptsError(
            f"data is None, and {what} of {hub} cannot be read from the hub ({error}): give data, a folder with it"
        ) from error


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
