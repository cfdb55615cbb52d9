"""What a benchmark run found: classic metrics with intervals, what sampling proves, the verdict; shown and saved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakbound.bounds.result import show_confidence
from leakbound.bounds.shown import limits
from leakbound.evaluating import page
from leakbound.evaluating.page import Line
from leakbound.metrics.intervals import Metric
from leakbound.report.tables import statements, summary
from leakbound.results.audit import Audit
from leakbound.results.evaluation import Evaluation
from leakbound.runs.store import write_text
from leakbound.suites.base import Suite
from leakbound.wording import about, markdown_cell

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


@dataclass(frozen=True)
class BenchmarkRun:
    """One model on one suite; ``guess`` is the audit of the reference model, which never saw what is forgotten."""

    suite: Suite
    evaluation: Evaluation
    lines: tuple[Line, ...]
    """Every metric, the reference's beside it where there is one."""
    seconds: Mapping[str, float]
    settings: Mapping[str, Any]
    reference: Evaluation | None = None
    audit: Audit | None = None
    guess: Audit | None = None

    def metric(self, name: str, set: str | None = None) -> Metric | None:
        """The metric of this name (and set), or None where it was not measured."""
        return next((x.metric for x in self.lines if x.metric.name == name and set in (None, x.metric.set)), None)

    def verdict(self) -> tuple[str, ...]:
        """The run in a few plain sentences."""
        said = []
        quality = self.metric("forget_quality")
        if quality is not None:
            told = "differ from" if quality.value < 0.05 else "cannot be told, at 0.05, from"
            said.append(
                f"Truth ratios on the forget set {told} those of {self.reference.model if self.reference else ''}: "
                f"forget quality (p-value of a Kolmogorov-Smirnov test) {about(quality.value)}."
            )
        if self.audit is not None:
            said.append(summary(self.audit, self.guess))
        return tuple(said)

    def show(self) -> Group:
        """The tables and the verdict, for a terminal."""
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [page.table(self.evaluation, self.lines)]
        if self.audit is not None:
            parts.append(terminal_table("When it is sampled", STATEMENT_HEAD, self._statement_rows()))
        parts.append(Text(self.time_shares()))
        parts += [Text(sentence, style="bold") for sentence in self.verdict()]
        return Group(*parts)

    def to_markdown(self) -> str:
        """The same as Markdown, with each number's method and the checksums of the data."""
        parts = [page.to_markdown(self.evaluation, self.lines, notes=self.verdict())]
        if self.audit is not None:
            parts += [*markdown_table(STATEMENT_HEAD, self._statement_rows()), ""]
        parts += [self.time_shares(), "", *markdown_table(("file", "checksum"), self.suite.checksums.items())]
        return "\n".join(parts) + "\n"

    def time_shares(self) -> str:
        """Which kind of part took how much of the time, whenever it was computed."""
        total = sum(self.seconds.values())
        shares = ", ".join(f"{kind} {value:.1f} s ({value / total:.0%})" for kind, value in self.seconds.items())
        return f"Time: {shares}; together {total:.1f} s."

    def save(self, out: Path) -> None:
        """Write evaluation.json, benchmark.json and evaluation.md into the folder."""
        self.evaluation.save(out / "evaluation.json")
        data = {
            "suite": self.suite.name,
            "model": self.evaluation.model,
            "settings": self.settings,
            "checksums": dict(self.suite.checksums),
            "reference": self.reference.model if self.reference else None,
            "metrics": [asdict(line.metric) for line in self.lines],
            "differences": [asdict(line.gap) for line in self.lines if line.gap is not None],
            "bounds": {} if self.audit is None else {
                name: asdict(getattr(self.audit, name)) for name in ("worst_prompt", "mean_leak", "mean_score")
            },
            "seconds": dict(self.seconds),
            "verdict": list(self.verdict()),
        }  # fmt: skip
        write_text(out / "benchmark.json", json.dumps(data, indent=1, ensure_ascii=False) + "\n")
        write_text(out / "evaluation.md", self.to_markdown())

    def _statements(self) -> list[tuple[str, Any]]:
        assert self.audit is not None  # the callers have looked
        from leakbound.report.findings import find

        return statements(find(self.audit, self.guess))

    def _statement_rows(self) -> Iterator[tuple[str, ...]]:
        for said, bound in self._statements():
            yield said, about(bound.estimate), limits(bound), show_confidence(bound.alpha), bound.method


STATEMENT_HEAD = ("statement", "observed", "bound", "confidence", "method")


def cell(m: Metric) -> str:
    """A metric in a table: its value and, in brackets, its interval."""
    between = page.interval(m.lower, m.upper)
    return f"{about(m.value)} ({between})" if between else about(m.value)


def terminal_table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    """A table for the terminal; cells are plain text."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name in head:
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(markdown_cell(text, 400) for text in row) + " |"
