"""An evaluation for its readers: a table for the terminal and Markdown, with a retrained model beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from leakbound.bounds.result import show_confidence, show_number
from leakbound.bounds.shown import NOTHING
from leakbound.evaluating.differences import Difference, difference
from leakbound.metrics.conventions import FORGET, HOLDOUT, available
from leakbound.metrics.intervals import Metric
from leakbound.metrics.questions import OTHERS
from leakbound.results.evaluation import Evaluation
from leakbound.wording import about, at_least, at_most, brief, markdown_cell, visible

if TYPE_CHECKING:
    from rich.console import Group

GREEDY = (
    "These numbers come from likelihoods and from one greedy answer to each question. How often a sampled answer "
    "leaks they cannot show: `leakbound audit` bounds that."
)
ALONE = ("metric", "value", "interval", "n")
BESIDE = ("metric", "value", "interval", "retrained", "difference")


@dataclass(frozen=True)
class Line:
    """One metric of the model and, where there is a retrained one on the same questions, how far it is from it."""

    metric: Metric
    other: Metric | None = None
    gap: Difference | None = None


def compared(
    evaluation: Evaluation, reference: Evaluation | None = None, *, convention: str = "tofu", alpha: float = 0.01
) -> tuple[Line, ...]:
    """Every metric of :meth:`Evaluation.metrics`, with the retrained model's and their difference where both exist."""
    own = evaluation.metrics(reference=reference, convention=convention, alpha=alpha)
    if reference is None:
        return tuple(Line(metric) for metric in own)
    own = tuple(sorted(own, key=lambda m: [*evaluation.sets, ""].index(m.set)))
    theirs = {(m.name, m.set): m for m in reference.metrics(convention=convention, alpha=alpha)}
    return tuple(Line(m, theirs.get((m.name, m.set)), _gap(m, evaluation, reference, convention, alpha)) for m in own)


def _gap(
    metric: Metric, evaluation: Evaluation, reference: Evaluation, convention: str, alpha: float
) -> Difference | None:
    """None where the two models did not answer the same questions, or the metric has no difference."""
    if metric.set:
        names = {metric.set}
        known = metric.name in (*available(evaluation.questions(metric.set)), *OTHERS, "forget_efficacy")
    else:
        names = set(evaluation.sets) - {HOLDOUT, *(() if metric.name == "average" else (FORGET,))}
        known = metric.name in ("model_utility", "average")
    if not known or any(_ids(evaluation, name) != _ids(reference, name) for name in names):
        return None
    return difference(evaluation, reference, metric.name, set=metric.set, convention=convention, alpha=alpha)


def _ids(evaluation: Evaluation, name: str) -> tuple[str, ...] | None:
    return evaluation.sets[name].ids if name in evaluation.sets else None


def interval(low: float | None, high: float | None) -> str:
    """``0.1 to 0.2``, rounded outward; empty where there is none."""
    return "" if low is None or high is None else f"{at_least(low)} to {at_most(high)}"


def _between(metric: Metric) -> str:
    """The interval of a metric; that of a share which runs from 0 to 1 says nothing."""
    low, high = metric.lower, metric.upper
    if metric.guaranteed and low is not None and high is not None and low <= 0 and at_most(high) == "1":
        return NOTHING
    return interval(low, high)


def _cells(line: Line, against: bool, number: Callable[[float], str] = about) -> tuple[str, ...]:
    m, gap = line.metric, line.gap
    name = m.name if m.guaranteed or m.lower is None else f"{m.name} *"
    cells = (name, number(m.value), _between(m))
    if not against:
        return (*cells, f"{m.n:,}")
    other = "" if line.other is None else number(line.other.value)
    if gap is None:
        return (*cells, other, "")
    if (gap.lower <= -1 and gap.upper >= 1) or not math.isfinite(gap.upper - gap.lower):
        return (*cells, other, NOTHING)
    return (*cells, other, ("" if gap.noise else "≠ ") + interval(gap.lower, gap.upper))


def legend(lines: Sequence[Line]) -> str:
    """What the intervals say, and what no number here says."""
    confidence = show_confidence(lines[0].metric.alpha)
    text = (
        f"Intervals: for questions of this kind, each with confidence {confidence} if these are a random sample of "
        "them, in random order; *: bootstrap, no guarantee. Values are observed."
    )
    if any(NOTHING in _cells(line, against=line.gap is not None) for line in lines):
        text += f" “{NOTHING}”: so few questions say nothing of others."
    if any(line.gap for line in lines):
        text += " Difference: this model minus the retrained one on the same questions; ≠: more than noise, each "
        text += "line by itself: among many lines some differ by chance."
    quality = next((line.metric for line in lines if line.metric.name == "forget_quality"), None)
    if quality is not None:
        text += f" Forget quality: {quality.method}."
    return f"{text} {GREEDY}"


def table(evaluation: Evaluation, lines: Sequence[Line], notes: Sequence[str] = ()) -> Group:
    """For the terminal; nothing that a log says is read as markup."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    against = any(line.other for line in lines)
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [_cells(line, against) for line in lines]
    for i, name in enumerate(BESIDE if against else ALONE):
        width = 12 if i == 0 else max([len(name), *(len(cells[i]) for cells in shown)])
        side: Literal["left", "right"] = "right" if i else "left"
        grid.add_column(
            name, justify=side, no_wrap=True, overflow="ellipsis", min_width=width, max_width=None if i else 22
        )
    before = ""
    for line, cells in zip(lines, shown, strict=True):
        if line.metric.set != before:
            before = line.metric.set
            size = f"{len(evaluation.sets[before].ids):,}" if before in evaluation.sets else ""
            grid.add_row(
                Text(brief(before.replace("_", " ") or "all sets", 30), style="bold"), Text(size and f"n = {size}")
            )
        grid.add_row(*(Text(f"  {cell}" if i == 0 else cell) for i, cell in enumerate(cells)))
    title = Text(f"{evaluation.suite}: {brief(evaluation.model, 60)}", style="bold")
    said = [visible(note, 2000) for note in notes]
    return Group(title, grid, *(Text(note, style="dim") for note in [*said, legend(lines)]))


def to_markdown(evaluation: Evaluation, lines: Sequence[Line], notes: Sequence[str] = ()) -> str:
    """The same as Markdown, with six digits and each number's method."""
    against = any(line.other for line in lines)
    head = ("set", *(BESIDE if against else ALONE), "method")

    def rows() -> Iterator[str]:
        yield "| " + " | ".join(head) + " |"
        yield "|" + " --- |" * len(head)
        for line in lines:
            cells = (markdown_cell(line.metric.set), *_cells(line, against, show_number), line.metric.method)
            yield "| " + " | ".join(cells) + " |"

    said = [f"- {markdown_cell(note, 400)}" for note in notes]
    title = f"# {markdown_cell(evaluation.suite)}: {markdown_cell(evaluation.model)}"
    return "\n".join([title, "", *rows(), "", *said, *([""] if said else []), legend(lines)]) + "\n"
