"""Benchmark runs for their readers: one of them, several side by side, and task after task."""

from collections.abc import Sequence

from leakbound.bounds import Bound
from leakbound.bounds.result import show_confidence
from leakbound.metrics.intervals import Metric
from leakbound.report.evaluation import cell, in_full, table
from leakbound.report.parts import Document, Section, Table
from leakbound.report.shown import limits
from leakbound.results.benchmark import BenchmarkRun, BenchmarkTable, ContinualRun
from leakbound.wording import about, brief

PICKED = (
    "A model that is picked from this table by its result needs bounds that hold for all models at once: "
    "`leakbound compare` on the audit folders makes them."
)
ABREAST = 5
"""Models beside each other in a terminal of 80 columns."""
TASK = (
    ("model utility", "model_utility", ""),
    ("forget efficacy", "forget_efficacy", "forget"),
    ("forget ROUGE-L", "rouge_l_recall", "forget"),
    ("forget probability", "probability", "forget"),
    ("forget truth ratio", "truth_ratio", "forget"),
    ("retain ROUGE-L", "rouge_l_recall", "retain"),
)
"""What is shown of each task."""


def run(found: BenchmarkRun) -> Document:
    """The metrics, what sampling proves, the verdict, the checksums of the data."""
    sections = [Section("", (table(found.lines),))]
    if found.statements:
        head = ("bound", "observed", "confidence", "statement", "method")
        rows = tuple(
            (limits(b), about(b.estimate), show_confidence(b.alpha), said, b.method) for said, b in found.statements
        )
        sections.append(Section("When it is sampled", (Table(head, rows, left=(3, 4)),)))
    sections += [Section("", (time_shares(found),)), in_full(found.lines)]
    if found.checksums:
        files = Table(("file", "checksum"), tuple(found.checksums.items()), left=(0, 1))
        sections.append(Section("Data", (files,), on=("markdown", "page")))
    return Document(f"{found.suite}: {brief(found.model)}", found.verdict, tuple(sections), made="leakbound benchmark")


def time_shares(found: BenchmarkRun) -> str:
    """Which kind of part took how much of the time, whenever it was computed."""
    total = sum(found.seconds.values())
    shares = ", ".join(f"{kind} {value:.1f} s ({value / total:.0%})" for kind, value in found.seconds.items())
    return f"Time: {shares}; together {total:.1f} s."


def side_by_side(found: BenchmarkTable) -> Document:
    """A line for each model with its intervals; in a terminal a column for each, without them."""
    whose = f"each alone, confidence {show_confidence(found.runs[0].alpha)}"
    lines = [(name, *(_cell(cells.get(title)) for title in found.head))
             for name, cells in zip(found.names, found.cells, strict=True)]  # fmt: skip
    groups = [lines[start : start + ABREAST] for start in range(0, len(lines), ABREAST)]
    head = ("model", *found.head)
    whole = Table(head, tuple(lines), note=f"Intervals and bounds: {whose}. {PICKED}")
    sections = (
        Section("", tuple(_turned(head, group) for group in groups), on=("terminal",)),
        Section("", (whole,), on=("markdown", "page")),
    )
    lead = f"P(leak) is bounded, {whose}; all other values are observed."
    return Document("Models on a suite", (lead,), sections, made="leakbound benchmark-table")


def tasks(found: ContinualRun) -> Document:
    """One line for each task; in a terminal without the intervals."""
    head = ("task", *(title for title, *_ in TASK), "P(leak), average prompt")
    rows = []
    for number, one in enumerate(found.runs, start=1):
        measured = [one.metric(name, of) for _, name, of in TASK]
        leak = one.bounds.get("mean_leak")
        proven = "not sampled" if leak is None else limits(leak)
        rows.append((str(number), *("not measured" if m is None else cell(m) for m in measured), proven))
    alone = f"Intervals and bounds: each alone, confidence {show_confidence(found.runs[0].alpha)}."
    short = tuple(tuple(map(_value, row)) for row in rows)
    sections = (
        Section("", (Table(head, short, note=alone, left=tuple(range(len(head)))),), on=("terminal",)),
        Section("", (Table(head, tuple(rows), note=alone),), on=("markdown", "page")),
    )
    return Document(found.name, (), sections, made="leakbound benchmark --continual")


def _cell(found: Metric | Bound | None) -> str:
    return "" if found is None else cell(found) if isinstance(found, Metric) else limits(found)


def _value(text: str) -> str:
    """What stands in a cell before its interval."""
    return text.partition(" (")[0]


def _turned(head: Sequence[str], lines: Sequence[tuple[str, ...]]) -> Table:
    """The models as columns."""
    first, *rest = zip(head, *(map(_value, line) for line in lines), strict=True)
    return Table(("", *first[1:]), tuple(rest))
