"""Which run folders are meant: found before anything is read, so that the page is there at once."""

from collections.abc import Iterable
from pathlib import Path

from leakbound.errors import InputError
from leakbound.runs.places import place


def run_folders(paths: Iterable[Path], retain: Iterable[Path] = ()) -> dict[Path, bool]:
    """Which folders are meant, and whether they are of ``retain``; a folder that is no run stands for all runs in it.

    InputError where there is no run in one of them.
    """
    found: dict[Path, bool] = {}
    for given, of_retain in ((paths, False), (retain, True)):
        for path in map(place, given):
            inner = [path] if (path / "run.json").exists() else sorted(file.parent for file in path.glob("*/run.json"))
            if not inner:
                raise InputError(
                    f"run is {str(path)!r}: there is no run.json in it, nor in a folder of it; give a run folder"
                )
            found |= dict.fromkeys(inner, of_retain)
    if not found:
        raise InputError("runs is empty: give one run folder or more")
    return found
