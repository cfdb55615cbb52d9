"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leakbound.errors import InputError


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file (JSON is YAML): ``no`` and ``off`` are texts, 010 is ten, no key stands twice.

    InputError, with the line, for anything else; FileNotFoundError where there is no file.
    """
    from ruamel.yaml import YAML  # here, because most commands read none
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    except YAMLError as error:
        mark, said = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        place = "" if mark is None else f", line {mark.line + 1}"
        raise InputError(f"{file}{place}: no YAML 1.2: {said}") from error
    if not isinstance(found, dict | None):
        raise InputError(f"{file} must be a mapping; it holds a {type(found).__name__}")
    return found or {}


def write_text(file: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with _whole(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(file: Path, table: pa.Table, *, ascending: Sequence[str] = ()) -> None:
    """Write a Parquet file whole or not at all. ``ascending``: columns of ascending numbers, stored as differences."""
    others = [path for path in _leaves(table.schema) if path not in ascending]
    coded = dict.fromkeys(ascending, "DELTA_BINARY_PACKED")
    with _whole(file) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=others, column_encoding=coded or None)


def _leaves(schema: pa.Schema) -> list[str]:
    """The columns as Parquet names them: a list's values are NAME.list.element."""
    return [f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name for field in schema]


@contextlib.contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A temporary name beside ``file``, renamed to it once it is written and synced."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a process of this machine that is no more has left half-written."""
    for file in folder.rglob(f".*.{socket.gethostname()}.*.tmp"):
        pid = int(file.name.split(".")[-2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:
            pass


def num_processes() -> int:
    """How many processes were launched together (accelerate, torchrun)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that takes the name ``out`` when all went well and is removed when not.

    Of several processes the main one makes and names it; the others get the same path.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out is {str(out)!r}, which exists already: give a new folder, or remove that one")
    out.parent.mkdir(parents=True, exist_ok=True)
    if num_processes() > 1:
        folder = out.parent / f".{out.name}-launch-{os.environ.get('MASTER_PORT', '0')}"
        folder.mkdir(exist_ok=True)
    else:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield folder
        if is_main():
            folder.chmod(0o755)
            folder.replace(out)
    finally:
        if is_main():
            shutil.rmtree(folder, ignore_errors=True)
