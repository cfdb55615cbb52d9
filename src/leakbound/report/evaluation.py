"""An evaluation for its readers: its metrics set by set, those of a retrained model beside them."""

import math
from collections.abc import Iterator, Sequence

from leakbound.bounds.result import show_confidence, show_number
from leakbound.metrics.intervals import Metric
from leakbound.metrics.questions import OTHERS, SHARES
from leakbound.report.parts import Document, Points, Section, Table
from leakbound.report.shown import NOTHING
from leakbound.results.benchmark import Line
from leakbound.results.evaluation import Evaluation
from leakbound.wording import about, at_least, at_most, brief

GREEDY = (
    "These numbers come from likelihoods and from one greedy answer to each question. How often a sampled answer "
    "leaks they cannot show: `leakbound audit` bounds that."
)
ALONE = ("metric", "value", "interval", "n")
MEANS = ("probability", "truth_ratio", *SHARES, *OTHERS)
"""Metrics that are a mean over the questions of their set."""
BESIDE = ("metric", "value", "interval", "retrained", "difference")


def document(evaluation: Evaluation, lines: Sequence[Line] | None = None, notes: Sequence[str] = ()) -> Document:
    """The whole evaluation; ``lines`` where a retrained model stands beside it, else its metrics at alpha 0.01."""
    lines = [Line(metric) for metric in evaluation.metrics()] if lines is None else lines
    remarks = (Points(tuple(notes)),) if notes else ()
    title = f"{evaluation.suite}: {brief(evaluation.model)}"
    return Document(title, (), (Section("", (table(lines), *remarks)), in_full(lines)))


def table(lines: Sequence[Line]) -> Table:
    """The metrics of each set under its name."""
    against = any(line.other for line in lines)
    head = BESIDE if against else ALONE
    rows: list[tuple[str, ...]] = []
    before = None
    for line in lines:
        m = line.metric
        if m.set != before:
            before = m.set
            size = f"n = {m.n:,}" if m.name in MEANS else ""
            rows.append((brief(m.set.replace("_", " ") or "all sets", 30), size, *[""] * (len(head) - 2)))
        rows.append(_cells(line, against))
    return Table(head, tuple(rows), note=legend(lines))


def in_full(lines: Sequence[Line]) -> Section:
    """Every number with six digits and its method, where there is room."""
    rows = tuple(
        (m.set or "all sets", m.name, show_number(m.value), _between(m), f"{m.n:,}", m.method)
        for m in (line.metric for line in lines)
    )
    head = ("set", "metric", "value", "interval", "n", "method")
    return Section("How each number was found", (Table(head, rows, left=(0, 1, 5)),), on=("markdown", "page"))


def interval(low: float | None, high: float | None) -> str:
    """``0.1 to 0.2``, rounded outward; empty where there is none."""
    return "" if low is None or high is None else f"{at_least(low)} to {at_most(high)}"


def cell(m: Metric) -> str:
    """A metric in a table of several models: its value and, in brackets, its interval."""
    between = interval(m.lower, m.upper)
    return f"{about(m.value)} ({between})" if between else about(m.value)


def _between(metric: Metric) -> str:
    """The interval of a metric; that of a share which runs from 0 to 1 says nothing."""
    low, high = metric.lower, metric.upper
    if metric.guaranteed and low is not None and high is not None and low <= 0 and at_most(high) == "1":
        return NOTHING
    return interval(low, high)


def _cells(line: Line, against: bool) -> tuple[str, ...]:
    m = line.metric
    name = m.name if m.guaranteed or m.lower is None else f"{m.name} *"
    last = (f"{m.n:,}",) if not against else ("" if line.other is None else about(line.other.value), _gap(line))
    return (f"  {name}", about(m.value), _between(m), *last)


def _gap(line: Line) -> str:
    """The interval of the difference, marked where it is more than noise."""
    gap = line.gap
    if gap is None:
        return ""
    if (gap.lower <= -1 and gap.upper >= 1) or not math.isfinite(gap.upper - gap.lower):
        return NOTHING
    return ("" if gap.noise else "≠ ") + interval(gap.lower, gap.upper)


def legend(lines: Sequence[Line]) -> str:
    """What the intervals say, and what no number here says."""
    return " ".join(_legend(lines))


def _legend(lines: Sequence[Line]) -> Iterator[str]:
    confidence = show_confidence(lines[0].metric.alpha)
    yield (
        f"Intervals: for questions of this kind, each with confidence {confidence} if these "
        "are a random sample of them, in random order; *: bootstrap, no guarantee. Values are observed."
    )
    if any(NOTHING in (_between(line.metric), _gap(line)) for line in lines):
        yield f"“{NOTHING}”: so few questions say nothing of others."
    if any(line.gap for line in lines):
        yield (
            "Difference: this model minus the retrained one on the same questions; ≠: more than noise, each line by "
            "itself: among many lines some differ by chance; never of a bootstrap (*)."
        )
    quality = next((line.metric for line in lines if line.metric.name == "forget_quality"), None)
    if quality is not None:
        yield f"Forget quality: {quality.method}."
    yield GREEDY
