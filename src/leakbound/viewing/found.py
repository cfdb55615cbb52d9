"""Which run folders are meant: found before anything is read, so that the page is there at once."""

from pathlib import Path

from leakbound.errors import InputError
from leakbound.runs.places import place


def run_folders(paths: list[Path]) -> list[Path]:
    """Which folders are meant. InputError where there is no run in one of them."""
    found: list[Path] = []
    for path in map(place, paths):
        inner = [path] if (path / "run.json").exists() else sorted(file.parent for file in path.glob("*/run.json"))
        if not inner:
            raise InputError(
                f"run is {str(path)!r}: there is no run.json in it, nor in a folder of it; give a run folder"
            )
        found += inner
    if not found:
        raise InputError("runs is empty: give one run folder or more")
    return list(dict.fromkeys(found))
