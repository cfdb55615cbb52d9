"""Logs that other tools wrote, one file for each format: bounded and measured without their model.

A reader is ``read(path: Path) -> Imported | Log``. A format that holds one value for each question gives an
:class:`~leakbound.importing.imported.Imported` evaluation; one that holds repeated completions for each prompt gives a
:class:`~leakbound.importing.imported.Log`, which becomes a run folder that ``leakbound score``, ``bound`` and
``report`` work on. To add a format, write such a function and add a line to ``FORMATS``.
"""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path

from leakbound.errors import InputError, LeakboundError
from leakbound.importing.imported import Import, Imported, Log
from leakbound.importing.repeats import Repeats, write_run
from leakbound.records import check_choice
from leakbound.results.evaluation import Evaluation

FORMATS: dict[str, str] = {
    "tofu": "leakbound.importing.tofu:read",
    "open-unlearning": "leakbound.importing.open_unlearning:read",
    "lm-eval": "leakbound.importing.lm_eval:read",
    "inspect": "leakbound.importing.inspect:read",
    "leak-k": "leakbound.importing.leak_k:read",
    "garak": "leakbound.importing.garak:read",
    "promptfoo": "leakbound.importing.promptfoo:read",
    "pyrit": "leakbound.importing.pyrit:read",
    "deepeval": "leakbound.importing.deepeval:read",
}
"""Format -> module:function; imported only when it is asked for."""


def import_log(
    format: str, path: str | Path, *, out: str | Path, retain: str | Path | None = None, repeats: Repeats | None = None
) -> Import:
    """Read a log of another tool into the folder ``out``; ``retain`` is that of a model retrained without the secrets.

    ``repeats`` says what is asked of a format with repeated completions: the statement, and the log of greedy answers.

    :raises InputError: an unknown format; a log that is missing, broken or incomplete, named with file and place.
    """
    check_choice("format", format, FORMATS)
    folder = Path(out).expanduser()
    log = _read(format, Path(path), folder, repeats)
    if retain is None:
        return Import(folder, log)
    other = None if repeats is None else dataclasses.replace(repeats, greedy=repeats.retain_greedy)
    return Import(folder, log, _read(format, Path(retain), folder / "retain", other))


def _read(format: str, path: Path, out: Path, repeats: Repeats | None) -> Imported:
    found = _found(format, path)
    if isinstance(found, Log):
        asked = repeats or Repeats()
        greedy = None if asked.greedy is None else _found(format, asked.greedy)
        assert greedy is None or isinstance(greedy, Log)  # one format, one kind
        return write_run(found, out, asked, greedy)
    if repeats is not None:
        raise InputError(f"scorer, threshold, alpha or greedy is given, but the format {format} has no repeated draws")
    if isinstance(found.result, Evaluation):
        found.result.save(out)
    return found


def _found(format: str, path: Path) -> Imported | Log:
    """What the format's reader finds; what trips it is a log of another shape, and told as such."""
    module, _, function = FORMATS[format].partition(":")
    read: Callable[[Path], Imported | Log] = getattr(importlib.import_module(module), function)
    try:
        return read(path.expanduser())
    except LeakboundError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: this is no log of {format} in a shape that is known ({type(error).__name__}: {error}); give one "
            "as the tool wrote it"
        ) from error
