"""Where a run writes: a folder that appears whole or not at all, and the checkpoints of a run that goes on later."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leakbound.errors import InputError
from leakbound.unlearning.callbacks import newest_checkpoint

NOT_COMPARED = ("resume", "report_to", "device")
"""Settings that an interrupted run may change when it goes on."""


def num_processes() -> int:
    """How many processes were launched together (accelerate, torchrun)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
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


def checkpoint_folder(out: Path, settings: dict[str, Any], *, resume: bool) -> tuple[Path, Path | None]:
    """The folder of a run's checkpoints and, to go on, the newest whole one of them.

    :raises InputError: it holds checkpoints and ``resume`` is not set, or those of a run with other settings.
    """
    folder = out.parent / f"{out.name}-checkpoints"
    newest = newest_checkpoint(folder)
    if newest is not None and not resume:
        raise InputError(
            f"out is {str(out)!r}: {folder} holds checkpoints of an interrupted run: give resume, or remove it"
        )
    mine = {name: value for name, value in settings.items() if name not in NOT_COMPARED}
    file = folder / "config.json"
    if newest is not None and file.exists():
        theirs = json.loads(file.read_text(encoding="utf-8"))
        if different := sorted(name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)):
            raise InputError(
                f"resume: the checkpoints in {folder} are of a run with other settings ({', '.join(different)}): give "
                "the same, or remove the folder"
            )
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")
    return folder, newest
