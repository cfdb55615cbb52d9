"""Files that exist whole or not at all, and the one boundary between us and the disk."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leakbound.errors import IncompleteRunError, InputError, LeakboundError, StorageError
from leakbound.runs.places import Place, place
from leakbound.runs.seals import NAME, SEALED, ZEROS, seal, unsealed

CODE = "leakbound.code"
"""The key of a Parquet file under which it says by which code its values were made, where that is not ours."""


@contextlib.contextmanager
def storing(file: Path) -> Iterator[None]:
    """What the system says where something cannot be stored, as a StorageError."""
    try:
        yield
    except LeakboundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise StorageError(
            f"{file} cannot be stored ({getattr(error, 'strerror', None) or error}): what was there before is whole; "
            "make room, or give another folder, and run the same again, which goes on"
        ) from error


@contextlib.contextmanager
def loading(file: Path, remedy: str) -> Iterator[None]:
    """Whatever is raised where a file is read, as an IncompleteRunError: parsers of foreign bytes raise anything."""
    try:
        yield
    except LeakboundError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise IncompleteRunError(f"{file} is damaged ({said}): {remedy}") from error


@contextlib.contextmanager
def reading(file: Path, remedy: str) -> Iterator[None]:
    """:func:`loading` of a file that must be there; ``remedy`` is the command that makes it."""
    if not file.exists():
        raise IncompleteRunError(f"{file} is missing: the run is not complete; run `{remedy}` on the folder first")
    with loading(file, f"delete the file and run `{remedy}` again"):
        yield


def file_sum(file: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def read_yaml(file: Path, *, spelled: bool = False) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file (JSON is YAML): ``no`` and ``off`` are texts, 010 is ten, no key stands twice.

    ``spelled``: all values but null as the texts that stand there. InputError, with the line, for anything else;
    FileNotFoundError where there is no file.
    """
    from ruamel.yaml import YAML  # here, because most commands read none
    from ruamel.yaml.error import YAMLError

    try:
        text = file.read_text(encoding="utf-8")
        found = YAML(typ="safe", pure=True).load(text)
        if spelled:
            found = _spelled(found, YAML(typ="base", pure=True).load(text))
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


def _spelled(value: Any, text: Any) -> Any:
    """The value with its texts."""
    if isinstance(value, dict):
        return {key: _spelled(value[name], text[key]) for name, key in zip(value, text, strict=True)}
    if isinstance(value, list):
        return [_spelled(*pair) for pair in zip(value, text, strict=True)]
    return value if value is None else text


def write_text(file: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    _write(file, text.encode())


def json_bytes(data: Mapping[str, Any], where: str = "", *, ascii: bool = False) -> tuple[bytes, str]:
    """A JSON object as a sealed file has it, and its seal."""
    text = json.dumps({**data, "seal": ZEROS}, indent=1, ensure_ascii=ascii) + "\n"
    return seal(text.encode(), ".json", where)


def write_json(file: Path, data: Mapping[str, Any], where: str = "", *, ascii: bool = False, new: bool = False) -> None:
    """Write a sealed JSON object whole or not at all; ``where`` it belongs is part of the seal.

    ``new``: in a store StorageError where another process has put another one there.
    """
    _write(file, json_bytes(data, where, ascii=ascii)[0], new=new)


def read_json(file: Path, where: str = "", *, needed: bool = False) -> tuple[dict[str, Any], str]:
    """The JSON object in a file without its seal, and the seal, which must fit; "" where an older version wrote it.

    :raises ValueError: it does not fit, or there is none although one is ``needed``, or what is told of the run says
        that there must be.
    """
    data, found = unsealed(file, where, needed=needed)
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    run = value.get("run")
    if not found and isinstance(run, dict) and run.get("format", 0) >= SEALED:
        raise ValueError("its checksum is missing")
    if found:
        del value["seal"]
    return value, found


def write_table(
    file: Path, table: pa.Table, *, ascending: Sequence[str] = (), where: str | None = None, code: str = ""
) -> None:
    """Write a Parquet file whole or not at all. ``ascending``: columns of ascending numbers, stored as differences.

    ``where`` the file belongs is part of its seal; None for a file without one. ``code`` that made it, if any, is
    written down in it (:func:`code_in`). Its folder, which may hold thousands, is not looked through: who begins to
    write tables sweeps first.
    """
    others = [path for path in _leaves(table.schema) if path not in ascending]
    coded = dict.fromkeys(ascending, "DELTA_BINARY_PACKED")
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", use_dictionary=others, column_encoding=coded or None
    ) as writer:
        writer.write_table(table)
        if code:
            writer.add_key_value_metadata({CODE: code})
        if where is not None:
            writer.add_key_value_metadata({NAME: ZEROS})
    data = sink.getvalue().to_pybytes()
    _write(file, data if where is None else seal(data, ".parquet", where)[0], swept=True)


def read_table(file: Path, schema: pa.Schema, where: str | None = None) -> tuple[list[dict[str, Any]], str]:
    """The rows of a Parquet file, and its seal, which must fit; "" where the file is from before there were seals."""
    table, found = read_columns(file, schema, where)
    return table.to_pylist(), found


def read_columns(file: Path, schema: pa.Schema, where: str | None = None) -> tuple[pa.Table, str]:
    """The same as columns, those of the schema; one that the file does not have is all null."""
    data, found = (file.read_bytes(), "") if where is None else unsealed(file, where)
    with pq.ParquetFile(pa.BufferReader(data)) as parquet:  # pq.read_table imports pandas, which takes longer than this
        there = parquet.read([name for name in schema.names if name in parquet.schema_arrow.names])
    columns = {f.name: there[f.name] if f.name in there.schema.names else pa.nulls(len(there), f.type) for f in schema}
    table = pa.table(columns)
    return table if table.schema.equals(schema) else table.cast(schema), found


def code_in(file: Path) -> str:
    """What :func:`write_table` wrote down as the code that made the table."""
    with pq.ParquetFile(pa.BufferReader(file.read_bytes())) as parquet:
        return ((parquet.metadata.metadata or {}).get(CODE.encode()) or b"").decode()


def _leaves(schema: pa.Schema) -> list[str]:
    """The columns as Parquet names them: a list's values are NAME.list.element, of objects NAME.list.element.KEY."""
    names: list[str] = []
    for field in schema:
        of_list = pa.types.is_list(field.type)
        name, kind = (f"{field.name}.list.element", field.type.value_type) if of_list else (field.name, field.type)
        names += [f"{name}.{key.name}" for key in kind] if pa.types.is_struct(kind) else [name]
    return names


def _write(file: Path, data: bytes, *, new: bool = False, swept: bool = False) -> None:
    """Under a temporary name beside ``file``, synced and renamed to it; its folder, which holds the name, is synced.
    What a killed process left of it goes first, if it is not ``swept``. In a store by one request."""
    with storing(file):
        if isinstance(file, Place):
            file.put(data, new=new)
            return
        on_disk(file)
        fresh = [folder for folder in file.parents if not folder.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        if not swept:
            sweep(file.parent, file.name)
        temporary = file.with_name(f".{_unfinished(file.name)}.tmp")
        try:
            with temporary.open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
        for folder in (file.parent, *(made.parent for made in fresh)):
            _sync(folder)


def on_disk(path: str | Path) -> Path:
    """A path of this machine; InputError for the address of a store."""
    if isinstance(place(path), Place):
        raise InputError(f"out is {str(place(path))!r}: this is only written to a disk; give a folder of this machine")
    return Path(path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unfinished(name: str) -> str:
    """What something is called, after a dot, while it is written: its name, the machine's and this process's."""
    return f"{name}.{socket.gethostname()}.{os.getpid()}"


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what a process of this machine that is no more has left half-written below a folder; with a ``name``
    only what was to get that name in the folder itself."""
    if isinstance(folder, Place):
        return
    known = r".+" if name is None else re.escape(name)
    wanted = re.compile(rf"\.{known}\.{re.escape(socket.gethostname())}\.(\d+)(-\w+)?\.tmp")
    for left in folder.rglob(".*.tmp") if name is None else [folder / entry for entry in os.listdir(folder)]:
        if (found := wanted.fullmatch(left.name)) is None or _is_written(left, int(found[1])):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _is_written(left: Path, pid: int) -> bool:
    """Whether a process of this number is there; in a container that starts again, this one has the number of the one
    before, and knows its own folders."""
    if pid == os.getpid() and left.is_dir():
        return left.name in _OWN
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


_OWN: set[str] = set()
"""The unfinished folders of this process."""


def num_processes() -> int:
    """How many processes were launched together (accelerate, torchrun)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def sharing() -> str:
    """What shares the weights or their moments out over processes: "fsdp", "deepspeed", or "" (accelerate sets it)."""
    return next((n for n in ("fsdp", "deepspeed") if os.environ.get(f"ACCELERATE_USE_{n.upper()}") == "true"), "")


def is_main() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that takes the name ``out`` when all went well and is removed when not; what a killed
    process left of the same ``out`` goes first.

    Of several processes the main one makes and names it; the others get the same path.
    """
    with storing(out):
        on_disk(out)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"out is {str(out)!r}, which exists already: give a new folder, or remove that one")
        out.parent.mkdir(parents=True, exist_ok=True)
        if num_processes() > 1:
            folder = out.parent / f".{out.name}-launch-{os.environ.get('MASTER_PORT', '0')}"
            if is_main():  # what launches that were killed left
                for left in out.parent.glob(f".{glob.escape(out.name)}-launch-*"):
                    shutil.rmtree(left, ignore_errors=True)
            folder.mkdir(exist_ok=True)
        else:
            folder = _made(out)
    try:
        yield folder
        if is_main():
            with storing(out):
                for path in folder.rglob("*"):
                    _sync(path)
                folder.chmod(0o755)
                folder.replace(out)
                _sync(out.parent)
    finally:
        if is_main():
            _unmade(folder)


@contextlib.contextmanager
def kept(out: str | Path | None) -> Iterator[Path]:
    """``out``; where nobody asked to keep anything a folder of the system's, for as long as it is used."""
    if out is not None:
        yield place(out)
        return
    folder = _made(Path(tempfile.gettempdir()) / "leakbound")
    try:
        yield folder / "run"
    finally:
        _unmade(folder)


def _made(out: Path) -> Path:
    """A new folder beside ``out``, whose name says who writes it; those of killed processes go."""
    sweep(out.parent, out.name)
    folder = Path(tempfile.mkdtemp(prefix=f".{_unfinished(out.name)}-", suffix=".tmp", dir=out.parent))
    _OWN.add(folder.name)
    return folder


def _unmade(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _OWN.discard(folder.name)
