"""Checksums inside the files that they cover: a file is as it was written and in its place, or it is refused.

A seal is SHA-256 of where the file belongs and of all of its bytes, with zeros where the seal itself stands: in the
metadata of a Parquet file, as the last key of a JSON object. It is looked at before anything else reads the file, so
that no parser meets damaged bytes. It finds accidents, files of other runs and careless changes; who writes a folder
anew can seal it too, and for that there is ``leakbound verify``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ZEROS = "0" * 64
NAME = "leakbound.seal"
MARKS = {".parquet": NAME.encode() + b"\x18\x40", ".json": b'"seal": "'}
"""What stands before the seal: in Parquet's Thrift a key, then a text of 64 bytes; the last such place counts."""
SEALED = 3
"""Folders of this format and later ones have seals."""


def _split(data: bytes, suffix: str) -> tuple[memoryview, str, memoryview]:
    """What stands before the seal, the seal, what stands after it: views, since a copy takes as long as the digest."""
    mark, view = MARKS[suffix], memoryview(data)
    at = data.rfind(mark) + len(mark)
    if at < len(mark):
        return view, "", view[:0]
    return view[:at], data[at : at + 64].decode("latin-1"), view[at + 64 :]


def _digest(before: memoryview, after: memoryview, where: str) -> str:
    found = hashlib.sha256(f"{where}\0".encode())
    for part in (before, ZEROS.encode(), after):
        found.update(part)
    return found.hexdigest()


def seal(data: bytes, suffix: str, where: str = "") -> tuple[bytes, str]:
    """The bytes, which have ZEROS where the seal goes, with the seal there; and the seal."""
    before, _, after = _split(data, suffix)
    found = _digest(before, after, where)
    return b"".join((before, found.encode(), after)), found


def unsealed(file: Path, where: str = "", *, needed: bool = True) -> tuple[bytes, str]:
    """A file's bytes and its seal, "" where it has none and none is ``needed``. ValueError where it does not fit."""
    data = file.read_bytes()
    before, there, after = _split(data, file.suffix)
    if not there and not needed:
        return data, ""
    if there != _digest(before, after, where):
        raise ValueError(
            "its checksum is missing"
            if not there
            else "its checksum does not fit: it was changed, or belongs to another run or to other draws"
        )
    return data, there


def has_seal(file: Path) -> bool:
    """Whether the file says that it has one."""
    return MARKS[file.suffix] in file.read_bytes()
