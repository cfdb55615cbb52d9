"""What an import gave, for the terminal: the metrics of an evaluation, or what a run folder holds and what is next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from leakbound.evaluating.differences import compared
from leakbound.importing.imported import Import
from leakbound.report.document import to_markdown, to_terminal
from leakbound.report.evaluation import document
from leakbound.report.parts import Document, Points, Section
from leakbound.results.evaluation import Evaluation
from leakbound.runs.files import write_text
from leakbound.runs.store import Run
from leakbound.scoring import is_built_in
from leakbound.wording import plural

if TYPE_CHECKING:
    from rich.console import Group


def table(found: Import, alpha: float = 0.01) -> Group:
    """The table of an evaluation, also written to evaluation.md; for a run folder its size and the next command."""
    result = found.log.result
    if isinstance(result, Run):
        return to_terminal(_run(found, result))
    other = found.retain.result if found.retain is not None else None
    reference = other if isinstance(other, Evaluation) else None
    whole = document(result, compared(result, reference, alpha=alpha), found.log.notes)
    write_text(found.out / "evaluation.md", to_markdown(whole))
    return to_terminal(whole)


def _run(found: Import, run: Run) -> Document:
    most = "at most " if run.rule else ""
    size = f"{plural(len(run.prompts), 'prompt')} with {most}{plural(run.info['num_samples'], 'completion')} each."
    scorer = run.info["statement"]["scorer"]
    named = "" if is_built_in(scorer) else f" --scorer {shlex.quote(scorer)}"
    todo = ("bound",) if run.rule else ("score", "bound")
    path = shlex.quote(str(run.path))
    steps = [f"leakbound {step} {path}{named}" for step in todo]
    if found.retain is not None:
        guess = shlex.quote(str(found.out / "retain"))
        steps += [f"leakbound {step} {guess}{named}" for step in todo]
        steps += [f"leakbound report {path} --guess {guess}"]
    following = f"next: {'; '.join(steps)}"
    return Document(f"Run folder {run.path}", (size,), (Section("", (Points(found.log.notes), following)),))
