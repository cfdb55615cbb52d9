"""The command that runs a benchmark suite on a model."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from leakbound.cli.app import say, show
from leakbound.cli.options import Flat
from leakbound.evaluating.config import BenchmarkConfig
from leakbound.suites.table import SUITES

SuiteName = Annotated[str, Parameter(help=f"One of {', '.join(SUITES)}; own: a file of your questions.")]


def benchmark(suite: SuiteName, *, config: Annotated[BenchmarkConfig, Flat]) -> None:
    """Evaluate a model on a suite: the field's metrics with intervals, what sampling proves, and the verdict."""
    from leakbound.evaluating.continual import run_continual
    from leakbound.evaluating.running import benchmark as run_benchmark

    if config.unlearning.continual:
        show(run_continual(suite, config))
        return
    show(run_benchmark(suite, config))
    say(f"evaluation: {config.out / 'evaluation.md'}")


def benchmark_table(runs: list[Path], *, out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None) -> None:
    """Put several benchmark runs side by side: one line for each model.

    :param runs: Folders of benchmark runs.
    :param out: A file for the table as Markdown.
    """
    from leakbound import report
    from leakbound.evaluating.table import benchmark_table as table
    from leakbound.runs.files import write_text

    found = table(runs)
    show(found)
    if out is not None:
        write_text(out, report.to_markdown(found))
        say(f"table: {out}")
