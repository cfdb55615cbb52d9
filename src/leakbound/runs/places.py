"""Where a run folder lies: on a disk, or in an object store (s3://bucket/run), where a path is a prefix of names.

The rest of the house asks a path what it asks of any; :class:`Place` answers it from a store, by fsspec, which is only
imported here. One object is put at once, whole or not at all: nothing is renamed, and there are no parts to
clear away. A request that fails is made again: all of them are such that twice is as good as once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, Self, TypeVar, cast

from leakbound.errors import InputError, StorageError

SCHEMES = ("s3", "s3a", "gs", "gcs", "memory")
"""Stores that put an object whole or not at all, list what was put at once, and can refuse to replace one."""
TRIES, WAIT = 6, 0.1
"""How often a request is made, and the seconds before the second one: each further wait is twice as long."""
LARGEST = 5 * 2**30
"""Bytes that S3 takes in one request; Google takes more."""
MARK = b"--==0=="
"""Where gcsfs tells a store that an object ends, after a line end, whatever the object is."""
SILENCE = 60.0
"""Seconds without a byte from Google after which a request has failed: gcsfs itself waits for ever."""
ANSWERS = (FileExistsError, IsADirectoryError, NotADirectoryError)

Found = TypeVar("Found")


def place(path: str | Path) -> Path:
    """A path of this machine, ~ spelled out; a :class:`Place` where it is the address of a store, also one that went
    through Path, which makes one slash of two. InputError for the address of anything else."""
    found = re.match(r"([a-z][a-z0-9+.-]+):(//?)", str(path), re.IGNORECASE)
    scheme = "" if found is None else found[1].lower()  # S3:// is the store, too, and no folder of this machine
    if found is None or (scheme not in SCHEMES and found[2] == "/"):
        return Path(path).expanduser()
    if scheme not in SCHEMES:
        raise InputError(f"path is {str(path)!r}: give a folder of this machine, or one of {', '.join(SCHEMES)}://")
    return cast(Path, Place(scheme + str(path)[found.end(1) :]))


class Place(PurePosixPath):
    """What a run folder asks of a path, answered by an object store."""

    def __str__(self) -> str:
        return re.sub(":/*", "://", super().__str__(), count=1)

    def _ask(self, name: str, *args: Any, **more: Any) -> Any:
        """A method of the file system, of this place."""
        try:
            system, path = _system(str(self), self._google)  # of an extra, which folders on a disk do without
        except ImportError as error:
            extra = "gs" if self._google else "storage"
            raise StorageError(f"{self} needs a package ({error}): pip install 'leakbound[{extra}]'") from error
        absent = () if name == "pipe_file" else (FileNotFoundError,)  # where something is put, an upload that is gone
        return _again(lambda: getattr(system, name)(path, *args, **more), str(self), (*ANSWERS, *absent))

    @property
    def _google(self) -> bool:
        return self.parts[0] in ("gs:", "gcs:")

    def read_bytes(self) -> bytes:
        """All of the object."""
        return cast(bytes, self._ask("cat_file"))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The same as text."""
        return self.read_bytes().decode(encoding)

    def put(self, data: bytes, *, new: bool = False) -> None:
        """Store the object whole or not at all. ``new``: FileExistsError where there is another one of this name."""
        if len(data) > LARGEST:
            raise InputError(f"{self} would have {len(data):,} bytes, more than one request takes: draw smaller shards")
        more: dict[str, Any] = {"mode": "create"} if new else {}
        if self._google:
            torn = MARK in data or data.endswith(b"\r")  # goes without a mark, by two requests; the sum tells what else
            more |= {"consistency": "md5", "chunksize": len(data) if torn else LARGEST}
            more["fixed_key_metadata"] = {"cache_control": "no-store"}  # else what is public is old for an hour
        elif str(self).startswith("s3"):
            more["chunksize"] = LARGEST
        try:
            self._ask("pipe_file", data, **more)
        except FileExistsError:
            if self.read_bytes() != data:  # else the answer to our own request was lost
                raise

    def unlink(self, missing_ok: bool = True) -> None:
        """Remove the object, if it is there: the answer to an earlier try may have been lost."""
        with suppress(FileNotFoundError):
            self._ask("rm_file")

    def _kind(self) -> str:
        try:
            return str(self._ask("info")["type"])
        except FileNotFoundError:
            return ""

    def exists(self) -> bool:
        """Whether there is an object of this name, or one below it."""
        return self._kind() != ""

    def is_dir(self) -> bool:
        """Whether there is an object below it."""
        return self._kind() == "directory"

    def stat(self) -> SimpleNamespace:
        """Something that changes when the object does, or which ones are below it, in place of its time."""
        found = self._ask("info")
        said = sorted(map(str, self._ask("ls", detail=True))) if found["type"] == "directory" else found
        return SimpleNamespace(st_size=found["size"], st_mtime_ns=str(said))

    def iterdir(self) -> Iterator[Self]:
        """What is directly below it; nothing where there is nothing."""
        try:
            names = self._ask("ls", detail=False)
        except FileNotFoundError:
            return
        for parts in sorted({tuple(str(name).strip("/").split("/")) for name in names}):
            if len(parts) == len(self.parts):  # not the empty object that some tools put where a folder would be
                yield self / parts[-1]

    def glob(self, pattern: str) -> Iterator[Self]:
        """The objects of these names; what the pattern spells out is asked for by its name, not looked up in a list."""
        first, _, rest = pattern.partition("/")
        some = (
            [p for p in self.iterdir() if fnmatchcase(p.name, first)] if re.search(r"[*?[]", first) else [self / first]
        )
        for one in some:
            if rest:
                yield from one.glob(rest)
            elif one.name != first or one.exists():
                yield one

    def rmdir(self) -> None:
        """Nothing: a prefix goes with its last object."""

    def expanduser(self) -> Self:
        """Itself, as it is already the whole address."""
        return self

    def resolve(self) -> Self:
        """Itself."""
        return self


def _system(address: str, google: bool) -> tuple[Any, str]:
    """The file system of an address, and its path there."""
    if not google:
        from fsspec.core import url_to_fs

        return cast(tuple[Any, str], url_to_fs(address, use_listings_cache=False))
    import logging

    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem  # the plain one: the other appends to the objects of some buckets

    if not (log := logging.getLogger("gcsfs")).handlers:
        log.addHandler(logging.NullHandler())  # each failure would be printed with its traceback
    patience = ClientTimeout(sock_connect=SILENCE, sock_read=SILENCE)
    return GCSFileSystem(use_listings_cache=False, requests_timeout=patience), address


def _again(request: Callable[[], Found], where: str, answers: tuple[type[Exception], ...]) -> Found:
    """What a request gives. What was not there, or is there already, is an answer; all else may pass, for a while."""
    for number in range(TRIES):
        try:
            return request()
        except answers:
            raise
        except Exception as error:  # each store has its own
            said = " ".join(str(error).split())[:200] or type(error).__name__
            said = "is there such a bucket?" if isinstance(error, FileNotFoundError) else said
            if number == TRIES - 1 or _refused(error):
                raise StorageError(
                    f"{where} cannot be reached ({said}): what is there is whole; run the same again"
                ) from error
            time.sleep(WAIT * 2**number)
    raise AssertionError


def _refused(error: Exception) -> bool:
    """Whether a store says who may do what: gcsfs has two errors of its own for that."""
    forbidden = isinstance(error, PermissionError) or str(error).startswith("Forbidden")
    return forbidden or getattr(error, "code", None) == 401
