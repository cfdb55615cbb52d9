"""Results that are kept: a file or a folder named by the checksum of what went into it, there whole or not at all.

What is there is not computed again; other inputs are another name, so that no two experiments mix. A result that is
damaged, or that holds other settings than it should, is refused.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakbound.errors import InputError, RunMismatchError, StorageError
from leakbound.runs.files import loading, new_folder, read_json, storing, write_json, write_text

FORMAT = 1
"""Part of every folder's key: raised when the same settings no longer give the same result."""
SETTINGS, NUMBERS = "config.json", "result.npz"
AGAIN = "remove it and run the same again, which makes it anew"


def checksum(data: Any) -> str:
    """SHA-256 of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read(file: Path, *, remedy: str = AGAIN) -> Any:
    """The JSON value in a file. :raises IncompleteRunError: the file is missing or damaged."""
    with loading(file, remedy):
        return json.loads(file.read_text(encoding="utf-8"))


def check_same(where: str, there: Any, mine: Any, *, but: Collection[str] = ()) -> None:
    """RunMismatchError where two mappings of settings differ, but for the names ``but``; None is as not there."""
    mine, there = json.loads(json.dumps(mine)), there if isinstance(there, dict) else {}
    if names := sorted(name for name in {*mine, *there} if name not in but and mine.get(name) != there.get(name)):
        names[0] = _difference(there.get(names[0]), mine.get(names[0]), names[0])
        raise RunMismatchError(
            f"{where} holds a run with other settings ({'; '.join(names)}): give the same, or a new folder"
        )


def _difference(there: Any, mine: Any, name: str) -> str:
    """The first differing entry of two values, short."""
    if isinstance(there, dict) and isinstance(mine, dict):
        for key in sorted({*there, *mine}):
            if there.get(key) != mine.get(key):
                return _difference(there.get(key), mine.get(key), f"{name}.{key}")
    return f"{name}: there {str(there)[:60]}, now {str(mine)[:60]}"


def settle(file: Path, mine: Mapping[str, Any]) -> None:
    """Write the settings of a folder down in ``file``, or see that they are those that stand there (RunMismatchError).

    For folders whose results have fixed names, so that only their settings say what they are.
    """
    with storing(file):
        there = file.exists()
    if there:
        check_same(f"out is {str(file.parent)!r}, which", read(file, remedy="give a new folder"), mine)
    else:
        write_text(file, json.dumps(mine, indent=1) + "\n")


@dataclass
class Cache:
    """The results below ``root``, or in memory only. ``made`` names what this process computed, ``found`` what was
    there; ``seconds`` is what each kind of value took, now or before.

    Two processes may make the same result at once; the first one to finish keeps its place.
    """

    root: Path | None
    made: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def get(self, name: str, kind: str, inputs: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """The JSON value of this kind for these inputs, in the file ``name-kind-hash.json``."""
        file = None if self.root is None else self.root / f"{name}-{kind}-{checksum([kind, inputs])[:16]}.json"
        if file is not None and file.exists():
            with loading(file, AGAIN):
                data, _ = read_json(file)
                part, seconds = data["part"], float(data["seconds"])
            self.found.append(file.name)
        else:
            start = time.perf_counter()
            part = compute()
            seconds = time.perf_counter() - start
            if file is not None:
                write_json(file, {"part": part, "seconds": seconds})
                self.made.append(file.name)
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        return part

    def make(self, kind: str, inputs: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder ``kind-hash`` of this kind for these inputs; where it is missing ``build`` fills a temporary one.

        That one is renamed when ``build`` has returned and removed when it raised; after kill -9 it stays, under a name
        that begins with a dot and is not read, until the same is made again.
        """
        assert self.root is not None  # folders are for results too large for memory
        settings = {"format": FORMAT, "kind": kind, **inputs}
        out = self.root / f"{kind}-{checksum(settings)[:16]}"
        with storing(out):
            there = out.exists()
        if there:
            check_same(str(out), read(out / SETTINGS, remedy="remove its folder"), settings)
            self.found.append(out.name)
            return out
        try:
            with new_folder(out) as folder:
                build(folder)
                text = json.dumps(settings, sort_keys=True, indent=1, ensure_ascii=False)
                (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")
        except (StorageError, InputError):
            if not (out / SETTINGS).exists():  # not merely that another process was faster
                raise
        self.made.append(out.name)
        return out


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any] | Sequence[Any]]) -> None:
    """Write the numbers of a result's folder."""
    np.savez_compressed(folder / NUMBERS, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})


def load_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """What :func:`save_arrays` wrote. :raises IncompleteRunError: it is missing or damaged."""
    with loading(folder, AGAIN), np.load(folder / NUMBERS, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}
