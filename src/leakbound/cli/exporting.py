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


@app.command
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

    level = None if guess is None else Audit.load(guess)
    say(f"written to: {write(Audit.load(run), out, level, name=name, dataset=dataset)}")
