"""Commands that train, compare and show: several models."""

from pathlib import Path
from typing import Annotated

from rich.console import Console

from leakbound.cli.app import app, say, show
from leakbound.cli.options import Flat, Out
from leakbound.demo import DemoConfig
from leakbound.unlearning.config import FinetuneConfig, UnlearnConfig


@app.command
def demo(config: Annotated[DemoConfig, Flat] = DemoConfig()) -> None:  # noqa: B008 - frozen
    """Make a small world, train, unlearn and audit in it: what greedy evaluation misses, in minutes, on a CPU."""
    from leakbound.demo import run_demo

    run_demo(config, console=Console())


@app.command
def finetune(config: Annotated[FinetuneConfig, Flat]) -> None:
    """Train a causal language model on question-answer pairs, from a given model or from scratch."""
    from leakbound.unlearning import finetune as run_finetune

    say(f"model: {run_finetune(config)}")


@app.command
def unlearn(config: Annotated[UnlearnConfig, Flat]) -> None:
    """Make a model forget some answers and retain others."""
    from leakbound.unlearning import unlearn as run_unlearn

    say(f"model: {run_unlearn(config)}")


@app.command
def compare(
    runs: list[Path],
    *,
    retain: list[Path] | None = None,
    names: list[str] | None = None,
    out: Out = Path("runs/compare"),
) -> None:
    """Compare audited models: leakage asked once and sampled, utility, diversity, cost, and what is proven.

    :param runs: Run folders of audits on the same prompts, one for each model.
    :param retain: Run folders of audits of the same models, in the same order, on questions that they should still
        answer.
    :param names: What to call the models, in the same order; by default the folders' names.
    :param out: Folder for comparison.json, compare.html and compare.md.
    """
    from leakbound import report
    from leakbound.auditing.comparing import compare as run_compare
    from leakbound.runs.files import write_text

    found = run_compare(runs, retain=retain or (), names=names or ())
    found.save(out)
    write_text(out / "compare.md", report.to_markdown(found))
    page = report.write_html(found, out / "compare.html")
    show(found)
    say(f"report: {page}")
