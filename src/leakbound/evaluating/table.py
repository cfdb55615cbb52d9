"""One line for each of several benchmark runs: what the classic metrics say beside what sampling proves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakbound.bounds import Bound
from leakbound.bounds.result import show_confidence
from leakbound.bounds.shown import limits
from leakbound.errors import InputError
from leakbound.evaluating.run import cell, markdown_table, terminal_table
from leakbound.metrics.intervals import Metric
from leakbound.runs.store import write_text

if TYPE_CHECKING:
    from rich.console import Group

COLUMNS = (
    ("model utility", "model_utility", ""),
    ("forget quality (p)", "forget_quality", "forget"),
    ("KS distance", "forget_distance", "forget"),
    ("forget efficacy", "forget_efficacy", "forget"),
    ("forget ROUGE-L", "rouge_l_recall", "forget"),
    ("forget probability", "probability", "forget"),
    ("forget truth ratio", "truth_ratio", "forget"),
    ("forget extraction strength", "extraction_strength", "forget"),
    ("retain ROUGE-L", "rouge_l_recall", "retain"),
)
STATEMENTS = (("P(leak), average prompt", "mean_leak"), ("P(leak), worst prompt", "worst_prompt"))


PICKED = (
    "A model that is picked from this table by its result needs bounds that hold for all models at once: "
    "`leakbound compare` on the audit folders makes them."
)
ABREAST = 5
"""Models beside each other in a terminal of 80 columns."""


@dataclass(frozen=True)
class BenchmarkTable:
    """The runs' numbers; a column that no run has is left out."""

    confidence: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def _whose(self) -> str:
        return f"each alone, confidence {self.confidence}"

    def show(self) -> Group:
        """The table for a terminal: a column for each model, ``ABREAST`` of them at once, without the intervals."""
        from rich.console import Group

        title = f"P(leak) is bounded, {self._whose}; all other rows are observed"
        groups = [self.rows[start : start + ABREAST] for start in range(0, len(self.rows), ABREAST)]
        return Group(*(terminal_table(title, *_turned(self.head, group)) for group in groups))

    def to_markdown(self) -> str:
        """The table as Markdown."""
        return (
            "\n".join([*markdown_table(self.head, self.rows), "", f"Intervals and bounds: {self._whose}. {PICKED}"])
            + "\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the table as Markdown."""
        write_text(Path(path), self.to_markdown())
        return Path(path)


def benchmark_table(runs: Sequence[str | Path]) -> BenchmarkTable:
    """The table of the runs in these folders, in this order. InputError where one has no benchmark.json."""
    if not runs:
        raise InputError("runs is empty: give the folders of benchmark runs")
    found = [_load(Path(run).expanduser()) for run in runs]
    lines = [_cells(data) for data in found]
    head = [name for name, *_ in (*COLUMNS, *STATEMENTS) if any(name in line for line in lines)]
    names = [Path(run).name.removeprefix("run-") for run in runs]
    rows = tuple((name, *(line.get(key, "") for key in head)) for name, line in zip(names, lines, strict=True))
    levels = {metric["alpha"] for data in found for metric in data["metrics"]}
    if len(levels) > 1:
        raise InputError(f"runs have different alpha ({sorted(levels)}): give runs with the same")
    return BenchmarkTable(show_confidence(levels.pop()), ("model", *head), rows)


def _turned(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows with the models as columns; of each cell what stands before its interval."""
    first, *rest = zip(head, *([text.partition(" (")[0] for text in row] for row in rows), strict=True)
    return ("", *first[1:]), rest


def _load(folder: Path) -> dict[str, Any]:
    file = folder / "benchmark.json"
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"runs has {str(folder)!r}: there is no benchmark.json; run `leakbound benchmark`") from error
    except ValueError as error:
        raise InputError(f"runs has {str(folder)!r}: its benchmark.json cannot be read ({error})") from error
    return data


def _cells(data: dict[str, Any]) -> dict[str, str]:
    metrics = {(m["name"], m["set"]): Metric.from_json(m) for m in data["metrics"]}
    cells = {title: cell(metrics[name, set]) for title, name, set in COLUMNS if (name, set) in metrics}
    bounds = {name: Bound.from_json(bound) for name, bound in data["bounds"].items()}
    return cells | {title: limits(bounds[name]) for title, name in STATEMENTS if name in bounds}
