"""The command that reads logs of other tools."""

from pathlib import Path
from typing import Annotated

from leakbound.cli.app import say, tell
from leakbound.cli.options import Flat, Out
from leakbound.importing.repeats import Repeats

NOTHING_ASKED = Repeats()


def import_(
    format: str,
    path: Path,
    *,
    retain: Path | None = None,
    repeats: Annotated[Repeats, Flat] = NOTHING_ASKED,
    out: Out = Path("runs/import"),
) -> None:
    """Read the log of another tool, without its model: metrics with intervals, or a run folder to be bounded.

    :param format: tofu, open-unlearning: metrics. lm-eval, inspect, leak-k, garak, promptfoo, pyrit, deepeval: repeated
        completions, as a run folder.
    :param path: The log, or the folder that holds it.
    :param retain: The same kind of log of a model that was retrained without what is to be forgotten.
    :param out: Folder for evaluation.json and evaluation.md, or the run folder.
    """
    from leakbound.importing import import_log, showing

    asked = None if repeats == NOTHING_ASKED else repeats
    found = import_log(format, path, out=out, retain=retain, repeats=asked)
    tell(showing.table(found))
    say(f"written to: {out}")
