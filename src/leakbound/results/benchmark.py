"""What a benchmark found: one model on one suite, several of them side by side, and task after task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR
from functools import cached_property
from typing import Any

from leakbound.bounds import Bound
from leakbound.bounds.result import show_number
from leakbound.metrics.conventions import CLASSIC, Column
from leakbound.metrics.intervals import Metric
from leakbound.results.base import Result
from leakbound.wording import level

STATEMENTS = {"mean_leak": "P(leak), average prompt", "worst_prompt": "P(leak), worst prompt"}
"""The bounds of a run that stand in a table of several, and their headings."""


@dataclass(frozen=True)
class Difference:
    """Metric of the first model minus that of the second, with an interval and, where questions are counted, a test."""

    metric: str
    set: str
    first: str
    second: str
    value: float
    lower: float
    upper: float
    alpha: float
    n: int
    method: str
    p_value: float | None = None
    """Exact two-sided sign test that as many questions go up as down; for 0/1 values this is McNemar's exact test."""
    test: str = ""

    @property
    def noise(self) -> bool:
        """Whether the gap may be noise of the choice of questions: its interval holds 0, or is a bootstrap's, which is
        often too narrow where questions are few."""
        return self.lower <= 0 <= self.upper or not self.method.startswith("exact")

    def __str__(self) -> str:
        said = "may be noise" if self.noise else f"is {'larger' if self.value > 0 else 'smaller'} than noise explains"
        where = f" on {self.set}" if self.set else ""
        return (
            f"{self.metric}{where}: {self.first} minus {self.second} is {show_number(self.value)}, between "
            f"{show_number(self.lower, ROUND_FLOOR)} and {show_number(self.upper, ROUND_CEILING)} "
            f"(alpha {level(self.alpha)}, {self.method}): it {said}"
        )


@dataclass(frozen=True)
class Line:
    """One metric of the model and, where there is a retrained one on the same questions, how far it is from it."""

    metric: Metric
    other: Metric | None = None
    gap: Difference | None = None


@dataclass(frozen=True)
class BenchmarkRun(Result, file="benchmark.json", command="leakbound benchmark"):
    """One model on one suite: the classic metrics, what sampling proves, and the verdict.

    The per-question values stand in evaluation.json beside it, the audit in the run folder ``audit``.
    """

    suite: str
    model: str
    settings: Mapping[str, Any]
    checksums: Mapping[str, str]
    """File of the suite -> its SHA-256."""
    reference: str | None
    """The model that never knew what is to be forgotten."""
    metrics: tuple[Metric, ...]
    differences: tuple[Difference, ...]
    """From the reference, of the metrics that have one."""
    bounds: Mapping[str, Bound]
    """worst_prompt, mean_leak and mean_score of the audit; empty where nothing was sampled."""
    seconds: Mapping[str, float]
    """Kind of part -> the time it took, whenever it was computed."""
    verdict: tuple[str, ...]
    """The run in a few plain sentences."""
    beside: tuple[Metric, ...] = ()
    """The reference's metrics."""
    statements: tuple[tuple[str, Bound], ...] = ()
    """What the audit says across prompts: each sentence and its bound."""
    columns: tuple[Column, ...] = CLASSIC
    """What a table of several runs says of this suite."""

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Every metric, the reference's and the difference beside it where there is one."""
        others = {(m.name, m.set): m for m in self.beside}
        gaps = {(d.metric, d.set): d for d in self.differences}
        return tuple(Line(m, others.get((m.name, m.set)), gaps.get((m.name, m.set))) for m in self.metrics)

    def metric(self, name: str, set: str = "") -> Metric | None:
        """The metric of this name and set, or None where it was not measured."""
        return next((m for m in self.metrics if (m.name, m.set) == (name, set)), None)

    @property
    def alpha(self) -> float:
        """The level of every interval and bound."""
        return self.metrics[0].alpha

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each metric."""
        for m, other, gap in ((x.metric, x.other, x.gap) for x in self.lines):
            yield {
                **m.to_json(),
                "reference": None if other is None else other.value,
                "difference": None if gap is None else gap.value,
                "difference_lower": None if gap is None else gap.lower,
                "difference_upper": None if gap is None else gap.upper,
            }

    def __str__(self) -> str:
        return f"{self.suite}: {self.model}. " + " ".join(self.verdict or (f"{len(self.metrics)} metrics.",))


@dataclass(frozen=True)
class BenchmarkTable(Result, file="table.json", command="leakbound benchmark-table"):
    """Several runs side by side; a column that no run has is left out."""

    names: tuple[str, ...]
    runs: tuple[BenchmarkRun, ...]

    @cached_property
    def cells(self) -> tuple[dict[str, Metric | Bound], ...]:
        """For each run: heading of a column -> its metric or bound, in the order of the suites' columns."""
        columns = dict.fromkeys(column for run in self.runs for column in run.columns)
        found = []
        for run in self.runs:
            metrics = {title: run.metric(name, of) for title, name, of in columns}
            bounds = {title: run.bounds.get(name) for name, title in STATEMENTS.items()}
            found.append({title: cell for title, cell in {**metrics, **bounds}.items() if cell is not None})
        return tuple(found)

    @property
    def head(self) -> tuple[str, ...]:
        """The headings of the columns that some run has."""
        columns = dict.fromkeys(title for run in self.runs for title, *_ in run.columns)
        return tuple(t for t in (*columns, *STATEMENTS.values()) if any(t in line for line in self.cells))

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each run: of each column what was observed, and its limits."""
        for name, line in zip(self.names, self.cells, strict=True):
            row: dict[str, Any] = {"model": name}
            for title in self.head:
                cell = line.get(title)
                value = cell.value if isinstance(cell, Metric) else None if cell is None else cell.estimate
                lower, upper = (None, None) if cell is None else (cell.lower, cell.upper)
                row |= {title: value, f"{title}, lower": lower, f"{title}, upper": upper}
            yield row

    def __str__(self) -> str:
        return f"{len(self.runs)} runs: {', '.join(self.names)}"


@dataclass(frozen=True)
class ContinualRun(Result, file="tasks.json", command="leakbound benchmark --continual"):
    """The benchmark runs after each task, in order."""

    name: str
    runs: tuple[BenchmarkRun, ...]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each task and metric."""
        for number, run in enumerate(self.runs, start=1):
            yield from ({"task": number, **row} for row in run.rows())

    def __str__(self) -> str:
        return "\n".join([self.name, *map(str, self.runs)])
