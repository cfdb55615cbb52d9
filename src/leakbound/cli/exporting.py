"""The command that writes audits in the formats of others."""

from pathlib import Path
from typing import Annotated

from leakbound.cli.app import app, say
from leakbound.cli.options import Flat, Out
from leakbound.errors import InputError
from leakbound.exporting.every_eval_ever import Source

NOTHING_KNOWN = Source()


@app.command
def export(format: str, run: Path, *, source: Annotated[Source, Flat] = NOTHING_KNOWN, out: Out) -> None:
    """Write the audit of a run folder for others to read: the bounds as confidence intervals, no texts.

    :param format: every-eval-ever.
    :param run: The run folder, bounded before.
    :param out: The JSON file.
    """
    from leakbound.exporting import every_eval_ever
    from leakbound.results.audit import Audit

    if format != "every-eval-ever":
        raise InputError(f"format is {format!r}: give every-eval-ever")
    path = every_eval_ever.write(Audit.load(run), out, source)
    say(f"written to: {path}")
