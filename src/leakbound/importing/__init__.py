"""Logs that other tools wrote, one file for each format: bounded and measured without their model.

A reader is ``read(path: Path, out: Path) -> Imported``. A format that holds one value for each question gives an
:class:`~leakbound.results.evaluation.Evaluation`; one that holds repeated completions for each prompt has a third
argument (:class:`~leakbound.importing.repeats.Repeats`) and writes a run folder at ``out``, which ``leakbound score``,
``bound`` and ``report`` then work on. To add a format, write such a function and add a line to ``FORMATS``, or to
``REPEATED`` for the second kind.
"""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leakbound.errors import InputError
from leakbound.results.evaluation import Evaluation
from leakbound.runs.store import Run

if TYPE_CHECKING:
    from rich.console import Group

    from leakbound.importing.repeats import Repeats

FORMATS: dict[str, str] = {
    "tofu": "leakbound.importing.tofu:read",
    "open-unlearning": "leakbound.importing.open_unlearning:read",
}
"""Format -> module:function; imported only when it is asked for."""
REPEATED: dict[str, str] = {
    "lm-eval": "leakbound.importing.lm_eval:read",
    "inspect": "leakbound.importing.inspect:read",
    "leak-k": "leakbound.importing.leak_k:read",
}
"""The formats with repeated completions."""


@dataclass(frozen=True)
class Imported:
    """What a log gave: an evaluation or a run folder, and what was checked while it was read."""

    result: Evaluation | Run
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Import:
    """One log in ``out``, and where one was given the log of a retrained model in ``out``/retain."""

    out: Path
    log: Imported
    retain: Imported | None = None

    def table(self, *, alpha: float = 0.01) -> Group:
        """For the terminal: the metrics of an evaluation, intervals at ``alpha``, or what a run folder holds."""
        from leakbound.importing import showing

        return showing.table(self, alpha)


def import_log(
    format: str,
    path: str | Path,
    *,
    out: str | Path,
    retain: str | Path | None = None,
    repeats: Repeats | None = None,
) -> Import:
    """Read a log of another tool into the folder ``out``; ``retain`` is that of a model retrained without the secrets.

    ``repeats`` says what is asked of a format with repeated completions: the statement, and the log of greedy answers.

    :raises InputError: an unknown format; a log that is missing, broken or incomplete, named with file and place.
    """
    if format not in {**FORMATS, **REPEATED}:
        raise InputError(f"format is {format!r}: give one of {', '.join([*FORMATS, *REPEATED])}")
    if repeats is not None and format in FORMATS:
        raise InputError(f"scorer, threshold, alpha or greedy is given, but the format {format} has no repeated draws")
    folder = Path(out).expanduser()
    log = _read(format, Path(path), folder, repeats)
    if retain is None:
        return Import(folder, log)
    other = None if repeats is None else dataclasses.replace(repeats, greedy=repeats.retain_greedy)
    return Import(folder, log, _read(format, Path(retain), folder / "retain", other))


def _read(format: str, path: Path, out: Path, repeats: Repeats | None) -> Imported:
    module, _, function = {**FORMATS, **REPEATED}[format].partition(":")
    read = getattr(importlib.import_module(module), function)
    if format in REPEATED:
        from leakbound.importing.repeats import Repeats

        repeated: Imported = read(path.expanduser(), out, repeats or Repeats())
        return repeated
    found: Imported = read(path.expanduser(), out)
    if isinstance(found.result, Evaluation):
        found.result.save(out)
    return found
