"""Reading prompts: JSON lines, CSV, Parquet, or a data set of the hub. Every defect is named with file and line."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from leakbound.errors import PromptsError
from leakbound.records import Prompt

TEXT_COLUMNS = ("text", "question", "prompt")
TARGET_COLUMNS = ("target", "answer")


def load_prompts(source: str | Path, *, split: str | None = None) -> tuple[Prompt, ...]:
    """Prompts from a .jsonl / .json, .csv or .parquet file, or from a hub data set (``split`` defaults to "train").

    A row has ``text`` (or ``question``), ``target`` (or ``answer``) and optionally ``id`` and ``aliases``. Where both
    ``target`` and ``answer`` stand, ``target`` counts. Rows without an id are numbered from 0. Raises PromptsError.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _collect(read_rows(path), str(path))
    if path.exists() or path.suffix or str(source).startswith((".", "/", "~")):
        raise PromptsError(f"prompts is {str(source)!r}: there is no such file")
    return _collect(_hub_rows(str(source), split or "train"), str(source))


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each row of a .jsonl / .json, .csv or .parquet file stands (file and line, for messages), and the row."""
    readers = {".jsonl": _json_lines, ".json": _json_lines, ".csv": _csv_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(readers)
        raise PromptsError(f"prompts is {str(path)!r}: a file of unknown kind {path.suffix!r}; give {known}")
    return reader(path)


def as_prompts(rows: Iterable[Prompt | dict[str, Any]]) -> tuple[Prompt, ...]:
    """Prompts from Prompt objects or from mappings with the keys of :func:`load_prompts`."""
    numbered = ((f"row {i}", row) for i, row in enumerate(rows))
    return _collect(((where, r.to_json() if isinstance(r, Prompt) else r) for where, r in numbered), "prompts")


def checksum(prompts: Sequence[Prompt]) -> str:
    """SHA-256 over the prompts in order."""
    text = json.dumps([p.to_json() for p in prompts], ensure_ascii=False, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _collect(rows: Iterator[tuple[str, Any]], name: str) -> tuple[Prompt, ...]:
    prompts: dict[str, Prompt] = {}
    seen: dict[str, str] = {}
    for number, (where, row) in enumerate(rows):
        prompt = _prompt(row, where, number)
        if prompt.id in seen:
            raise PromptsError(f"{where}: id {prompt.id!r} was used before ({seen[prompt.id]}): give every row its own")
        seen[prompt.id] = where
        prompts[prompt.id] = prompt
    if not prompts:
        raise PromptsError(f"{name}: there are no prompts in it; give at least one row with text and target")
    return tuple(prompts.values())


def _prompt(row: Any, where: str, number: int) -> Prompt:
    if not isinstance(row, dict):
        raise PromptsError(f"{where}: the row is a {type(row).__name__}, not an object with text and target")

    def pick(names: tuple[str, ...]) -> str:
        for name in names:
            value = row.get(name)
            if value is not None:
                if not isinstance(value, str):
                    raise PromptsError(f"{where}: {name} is {value!r}: give a text")
                if not value.strip():
                    raise PromptsError(f"{where}: {name} is empty: give a text")
                return value
        wanted = " or ".join(repr(name) for name in names[:2])
        raise PromptsError(f"{where}: the row has no {wanted}; its columns are {', '.join(map(str, row)) or 'none'}")

    aliases = row.get("aliases")
    if isinstance(aliases, str):  # CSV has no lists: JSON, or texts with | between them
        try:
            aliases = json.loads(aliases) if aliases.lstrip().startswith("[") else aliases.split("|")
        except json.JSONDecodeError as error:
            raise PromptsError(f"{where}: aliases is {aliases!r}: not a JSON list") from error
        aliases = [alias for alias in aliases if alias != ""]
    aliases = [] if aliases is None else aliases
    if not isinstance(aliases, list) or not all(isinstance(a, str) and a.strip() for a in aliases):
        raise PromptsError(f"{where}: aliases is {aliases!r}: give a list of non-empty texts")
    identity = row.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int | None):
        raise PromptsError(f"{where}: id is {identity!r}: give a text or a whole number")
    identity = str(number) if identity in (None, "") else str(identity)
    return Prompt(identity, pick(TEXT_COLUMNS), pick(TARGET_COLUMNS), tuple(aliases))


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptsError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise PromptsError(f"{path}, line {error.lineno}: broken JSON: {error.msg}") from error
        yield from ((f"{path}, item {i + 1}", row) for i, row in enumerate(rows))
        return
    for i, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path}, line {i}", json.loads(line)
            except json.JSONDecodeError as error:
                raise PromptsError(f"{path}, line {i}: broken JSON: {error.msg} (column {error.colno})") from error


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise PromptsError(f"{path}, line {reader.line_num}: the row does not fit the header; check quotes")
                yield f"{path}, line {reader.line_num}", row
    except (csv.Error, UnicodeDecodeError) as error:
        raise PromptsError(f"{path}: broken CSV: {error}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        raise PromptsError(f"{path}: cannot be read as Parquet: {error}") from error
    yield from ((f"{path}, row {i}", row) for i, row in enumerate(rows))


def _hub_rows(name: str, split: str) -> Iterator[tuple[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise PromptsError(
            f"prompts is {name!r}: no such file, and hub data sets need the datasets package: "
            "pip install 'leakbound[hf]'"
        ) from error
    try:
        rows = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub client raises many kinds; all mean that there is nothing to read
        raise PromptsError(f"prompts is {name!r}: no such file, and no such data set on the hub: {error}") from error
    yield from ((f"{name} ({split}), row {i}", dict(row)) for i, row in enumerate(rows))
