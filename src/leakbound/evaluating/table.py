"""Several benchmark runs side by side: what the classic metrics say beside what sampling proves."""

from collections.abc import Sequence
from pathlib import Path

from leakbound.errors import InputError
from leakbound.results.benchmark import BenchmarkRun, BenchmarkTable


def benchmark_table(runs: Sequence[str | Path]) -> BenchmarkTable:
    """The table of the runs in these folders, in this order. InputError where one has no benchmark.json."""
    if not runs:
        raise InputError("runs is empty: give the folders of benchmark runs")
    found = tuple(BenchmarkRun.load(run, "runs") for run in runs)
    levels = {metric.alpha for run in found for metric in run.metrics}
    if len(levels) > 1:
        raise InputError(f"runs have different alpha ({sorted(levels)}): give runs with the same")
    return BenchmarkTable(tuple(Path(run).name.removeprefix("run-") for run in runs), found)
