"""The command that writes audits in the formats of others."""

from pathlib import Path
from typing import Annotated

from leakbound.cli.app import say
from leakbound.cli.options import Flat, Out
from leakbound.errors import InputError
from leakbound.exporting.every_eval_ever import Source

NOTHING_KNOWN = Source()


def export(format: str, run: Path, *, source: Annotated[Source, Flat] = NOTHING_KNOWN, out: Out) -> None:
    """Write the audit of a run folder for others to read.

    :param format: every-eval-ever: the bounds as confidence intervals, no texts. inspect: a log of inspect_ai with all
        prompts and draws, for inspect view.
    :param run: The run folder, bounded before.
    :param out: The JSON file, or for inspect NAME.eval.
    """
    from leakbound.exporting import every_eval_ever, inspect
    from leakbound.results.audit import Audit
    from leakbound.runs.store import Run

    if format == "inspect":
        if source != NOTHING_KNOWN:
            raise InputError("format is 'inspect', whose logs have no source: leave it out")
        path = inspect.write(Run.open(run), Audit.load(run, "run"), out)
    elif format == "every-eval-ever":
        path = every_eval_ever.write(Audit.load(run, "run"), out, source)
    else:
        raise InputError(f"format is {format!r}: give every-eval-ever or inspect")
    say(f"written to: {path}")


def card(
    run: Path,
    *,
    guess: Path | None = None,
    name: str = "",
    dataset: str = "unnamed prompts",
    out: Out,
) -> None:
    """Write the audit of a run folder into a model card of Hugging Face: bounds in its head, a section in plain words.

    What a card holds already stays; an earlier audit in it is replaced. No prompt, target or answer is written.

    :param run: The run folder, bounded before.
    :param guess: Run folder of a model that never saw the secrets.
    :param name: The model's name in the card; by default as run.json names it.
    :param dataset: What the prompts are called there.
    :param out: The card, or the model's folder, whose README.md it is.
    """
    from leakbound.exporting.card import write
    from leakbound.results.audit import Audit

    level = None if guess is None else Audit.load(guess, "guess")
    audit = Audit.load(run, "run")
    say(f"written to: {write(audit, out, level, name=name, dataset=dataset)}")
