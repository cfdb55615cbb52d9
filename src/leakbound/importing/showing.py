"""What an import gave, for the terminal: the metrics of an evaluation, or what a run folder holds and what is next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakbound.evaluating.differences import compared
from leakbound.importing import Import
from leakbound.report.document import to_markdown, to_terminal
from leakbound.report.evaluation import document
from leakbound.results.evaluation import Evaluation
from leakbound.runs.store import Run, write_text
from leakbound.wording import brief, plural

if TYPE_CHECKING:
    from rich.console import Group


def table(found: Import, alpha: float = 0.01) -> Group:
    """The table of an evaluation, also written to evaluation.md; for a run folder its size and the next command."""
    result = found.log.result
    if isinstance(result, Evaluation):
        other = found.retain.result if found.retain is not None else None
        reference = other if isinstance(other, Evaluation) else None
        whole = document(result, compared(result, reference, alpha=alpha), found.log.notes)
        write_text(found.out / "evaluation.md", to_markdown(whole))
        return to_terminal(whole)
    return _run(found, result)


def _run(found: Import, run: Run) -> Group:
    from rich.console import Group
    from rich.text import Text

    draws = run.info["num_samples"]
    head = f"{plural(len(run.prompts), 'prompt')} with {plural(draws, 'completion')} each, in {run.path}"
    following = f"next: leakbound bound {run.path}"
    if found.retain is not None:
        guess = found.out / "retain"
        following += f"; leakbound bound {guess}; leakbound report {run.path} --guess {guess}"
    return Group(*(Text(brief(line, 400)) for line in (head, *found.log.notes, following)))
