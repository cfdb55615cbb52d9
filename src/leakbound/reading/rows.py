"""The one reader of rows: JSON lines, JSON, CSV, TSV, Parquet, or a data set of the hub; and the one writer.

Prompts, training pairs, suites and logs are all read here, so that what one of them can read, all can, and alike. Every
defect is named with the file and the line, the item of a JSON list, or the row of a Parquet file; all count from 1.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leakbound.errors import PromptsError
from leakbound.reading.parsing import parse, read_bytes, read_text
from leakbound.runs.files import write_text

QUESTION = ("text", "question", "prompt")
"""The columns that may hold a question."""


@dataclass(frozen=True)
class Row:
    """One row: its columns, its number (from 1), and where it stands, for messages."""

    values: Mapping[str, Any]
    number: int
    where: str

    def text(self, *columns: str, optional: bool = False) -> str:
        """The text in the first of the columns that the row has; "" where none has one and it is optional."""
        value, column = next(((self.values[c], c) for c in columns if self.values.get(c) is not None), (None, ""))
        if optional and _absent(value):
            return ""
        if value is None:
            wanted = " or ".join(map(repr, columns[:2]))
            has = ", ".join(f"{c} (null)" if v is None else str(c) for c, v in self.values.items()) or "none"
            raise PromptsError(f"{self.where}: the row has no {wanted}; its columns are {has:.200}")
        return filled(value, self.where, column)

    def check_names(self, *columns: str) -> None:
        """PromptsError where a column that is not empty is one of these but for its spelling: nobody would read it."""
        for name, value in self.values.items():
            if name not in columns and spelled(name) in columns and not _absent(value):
                raise PromptsError(f"{self.where}: the column {name!r} would not be read: name it {spelled(name)!r}")

    def question(self) -> str:
        """The question; PromptsError where several columns hold one each."""
        given = {column: self.values[column] for column in QUESTION if not _absent(self.values.get(column))}
        if len(set(map(str, given.values()))) > 1:
            said = " and ".join(f"{column} is {value!r:.60}" for column, value in given.items())
            raise PromptsError(f"{self.where}: {said}: leave the one that is asked")
        return self.text(*given or QUESTION)

    def texts(self, column: str, count: int | None = None, *, optional: bool = False) -> tuple[str, ...]:
        """The texts in a column that holds a list (in CSV a JSON list), ``count`` of them where that is given."""
        found = self.values.get(column)
        if optional and _absent(found):
            return ()
        if found is None:
            self.text(column)
        if isinstance(found, str) and found.lstrip().startswith("["):
            found = parse(found, f"{self.where}: {column}")
        if not isinstance(found, list | tuple) or not all(isinstance(t, str) and t.strip() for t in found):
            raise PromptsError(f"{self.where}: {column} is {found!r:.60}: give a list of non-empty texts")
        if count is not None and len(found) != count:
            raise PromptsError(f"{self.where}: {column} has {len(found)} texts: give {count}")
        return tuple(filled(text, self.where, column) for text in found)

    def aliases(self) -> tuple[str, ...]:
        """Other spellings of the target: a list of texts, or, for CSV has no lists, texts with | between them."""
        near = (name for name in self.values if name != "aliases" and spelled(name) in ("alias", "aliases"))
        if (other := next((name for name in near if not _absent(self.values[name])), None)) is not None:
            raise PromptsError(f"{self.where}: the column {other!r} would not be read: name it 'aliases'")
        given = self.values.get("aliases")
        if not isinstance(given, str) or given.lstrip().startswith("["):
            return self.texts("aliases", optional=True)
        return tuple(filled(text, self.where, "aliases") for text in given.split("|") if text)

    def id(self, default: str) -> str:
        """The row's id, a text or a whole number; ``default`` where it has none."""
        value = self.values.get("id")
        whole = isinstance(value, int) and not isinstance(value, bool)
        return default if _absent(value) else str(value) if whole else filled(value, self.where, "id")


def spelled(column: object) -> str:
    """A column's name as it was meant: small letters, no space around it, _ within it."""
    return str(column).strip().lower().replace(" ", "_")


def _absent(value: Any) -> bool:
    """Nothing, or what stands for nothing in CSV and in lists."""
    return value is None or (isinstance(value, str | list | tuple) and not value)


def filled(value: Any, where: str, what: str) -> str:
    """A text that is not empty and can be written as UTF-8; PromptsError names the place of anything else."""
    if not isinstance(value, str) or not value.strip():
        raise PromptsError(f"{where}: {what} is {value!r:.60}: give a non-empty text")
    return encodable(value, where, what)


def encodable(text: str, where: str, what: str) -> str:
    """The text itself, unless half of a surrogate pair stands in it alone: no file and no tokenizer takes that."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = f"\\u{ord(text[error.start]):04x}"
        raise PromptsError(
            f"{where}: {what} has the lone surrogate {code} at character {error.start + 1}, which is half a character: "
            "give it whole, or leave it out"
        ) from None
    return text


def as_row(values: Any, number: int, where: str) -> Row:
    """A row of these columns; PromptsError unless they are an object."""
    if not isinstance(values, Mapping):
        raise PromptsError(f"{where}: the row is a {type(values).__name__}: give an object with columns")
    return Row(values, number, where)


def read_rows(path: Path, *, what: str = "rows", foreign: bool = False) -> tuple[Row, ...]:
    """The rows of a file, at least one. ``foreign``: another tool's log, which may hold NaN."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        read_bytes(path, 0)  # a missing file or a folder says so first
        raise PromptsError(f"{path}: a file of unknown kind {path.suffix!r}; give {', '.join(READERS)}")
    rows = tuple(as_row(values, i, where) for i, (where, values) in enumerate(reader(path, foreign), start=1))
    if not rows:
        raise PromptsError(f"{path}: there are no {what} in it; give at least one row")
    return rows


def open_rows(
    source: str | Path, *, what: str = "rows", argument: str | None = None, split: str | None = None
) -> tuple[Row, ...]:
    """The rows of a file, or of a data set of the hub: ``NAME``, or ``hub:NAME[:SPLIT]``; the split train by default.

    :raises PromptsError: nothing there, no row, or a defect of one.
    """
    path, name = Path(source).expanduser(), str(source)
    if _is_there(path) or (not name.startswith("hub:") and (path.suffix or name.startswith((".", "/", "~")))):
        return read_rows(path, what=what)
    name, _, named = name.removeprefix("hub:").partition(":")
    split = split or named or "train"
    problem = f"{argument or what} is {str(source)!r}: no such file, and no such data set on the hub"
    rows = from_hub(lambda datasets: datasets.load_dataset(name, split=split), problem, "give a file of rows")
    if not rows:
        raise PromptsError(f"{name} ({split}): there are no {what} in it; give at least one row")
    return rows_of_hub(rows, f"{name} ({split})")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no file can have this name
        return False


def rows_of_hub(rows: Iterable[Mapping[str, Any]], place: str) -> tuple[Row, ...]:
    """The rows of a data set of the hub; ``place`` is its name in messages."""
    return tuple(Row(dict(row), i, f"{place}, row {i}") for i, row in enumerate(rows, start=1))


def from_hub(ask: Callable[[Any], Any], problem: str, remedy: str) -> Any:
    """What the package datasets answers. PromptsError says the problem, its reason, and the remedy."""
    try:
        import datasets
    except ImportError as error:
        reason = "the package datasets is missing: pip install 'leakbound[hf]'"
        raise PromptsError(f"{problem} ({reason}): {remedy}") from error
    try:
        return ask(datasets)
    except Exception as error:  # the hub client raises many kinds; all mean that there is nothing to read
        raise PromptsError(f"{problem} ({error}): {remedy}") from error


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSON lines, one object each, whole or not at all: what :func:`read_rows` gives back."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_text(path, "".join(lines))
    return path


def _json(path: Path, foreign: bool) -> Iterator[tuple[str, Any]]:
    text = read_text(path)
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        for i, value in enumerate(parse(text, path, foreign=foreign), start=1):
            yield f"{path}, item {i}", {"text": value} if isinstance(value, str) else value
        return
    for i, line in enumerate(text.split("\n"), start=1):
        if line.strip(" \t\r"):
            yield f"{path}, line {i}", parse(line, path, i, foreign=foreign)


def _cells(path: Path, delimiter: str) -> Iterator[tuple[str, Any]]:
    text = read_text(path)
    usual = csv.field_size_limit(len(text) + 1)  # a cell may hold a whole book
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        _each_once(header, f"{path}, line 1")
        first = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise PromptsError(
                    f"{path}, line {first}: the row does not fit the header, {len(cells)} cells to {len(header)} "
                    "columns: check quotes and separators"
                )
            if cells:
                yield f"{path}, line {first}", dict(zip(header, cells, strict=True))
            first = reader.line_num + 1
    except csv.Error as error:
        raise PromptsError(f"{path}, line {reader.line_num}: broken CSV: {error}") from error
    finally:
        csv.field_size_limit(usual)


def _parquet(path: Path, foreign: bool) -> Iterator[tuple[str, Any]]:
    try:
        with pq.ParquetFile(pa.BufferReader(read_bytes(path))) as file:
            _each_once(file.schema_arrow.names, str(path))
            rows = file.read().to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PromptsError(f"{path}: cannot be read as Parquet: {error}") from error
    yield from ((f"{path}, row {i}", row) for i, row in enumerate(rows, start=1))


def _each_once(columns: list[str], where: str) -> None:
    twice = next((name for i, name in enumerate(columns) if name in columns[:i]), None)
    if twice is not None:
        raise PromptsError(f"{where}: the column {twice!r} stands twice: give each its own name")


READERS: dict[str, Callable[[Path, bool], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _json,
    ".json": _json,
    ".csv": lambda path, _: _cells(path, ","),
    ".tsv": lambda path, _: _cells(path, "\t"),
    ".parquet": _parquet,
}
"""The ending of a file -> its reader, which yields the place and the columns of each row."""
