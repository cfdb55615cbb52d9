"""Cached results of long computations: a folder for each, named by what went into it, there whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakbound.errors import InputError, RunMismatchError
from leakbound.runs.files import new_folder

FORMAT = 1
"""Part of every key: raised when the same settings no longer give the same result."""
CONFIG, RESULT = "config.json", "result.npz"


def checksum(data: Any) -> str:
    """SHA-256 of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass
class Artefacts:
    """The results below ``root``. ``made`` lists what this process computed, ``found`` what was there already.

    Two processes may make the same result at once; the first one to finish keeps its place.
    """

    root: Path
    made: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def path(self, kind: str, config: Mapping[str, Any]) -> Path:
        """Where the result of these settings stands or will stand: ``root/kind-hash``."""
        return self.root / f"{kind}-{checksum({'format': FORMAT, 'kind': kind, **config})[:16]}"

    def make(self, kind: str, config: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder of a result; ``build`` writes into a temporary one where it is not there yet.

        The temporary folder is renamed when ``build`` has returned and removed when it raised; after kill -9 it stays
        under a name that begins with a dot and is not read.

        :raises RunMismatchError: the folder holds other settings (a damaged folder, or a collision of hashes).
        """
        out = self.path(kind, config)
        text = (
            json.dumps({"format": FORMAT, "kind": kind, **config}, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        )
        if out.exists():
            if json.loads((out / CONFIG).read_text(encoding="utf-8")) != json.loads(text):
                raise RunMismatchError(f"{out}: holds other settings than its name says: remove the folder")
            self.found.append(out.name)
            return out
        try:
            with new_folder(out) as folder:
                build(folder)
                (folder / CONFIG).write_text(text, encoding="utf-8")
        except (OSError, InputError):
            if not (out / CONFIG).exists():  # not merely that another process was faster
                raise
        self.made.append(out.name)
        return out


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any] | Sequence[Any]]) -> None:
    """Write the numbers of a result."""
    np.savez_compressed(folder / RESULT, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})


def load_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Read what :func:`save_arrays` wrote."""
    with np.load(folder / RESULT, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def plain(value: Any) -> Any:
    """A result as JSON: a number that is not finite becomes a text, since JSON has none."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(float(value))
    return str(value) if isinstance(value, Path) else value
