"""Commands that train, compare and show: several models."""

from pathlib import Path
from typing import Annotated

from rich.console import Console

from leakbound.cli.app import say, show
from leakbound.cli.options import Flat, Out
from leakbound.demo import DemoConfig
from leakbound.errors import InputError
from leakbound.proving.goal import Goal
from leakbound.unlearning.config import FinetuneConfig, UnlearnConfig
from leakbound.workers import Workers


def demo(config: Annotated[DemoConfig, Flat] = DemoConfig()) -> None:  # noqa: B008 - frozen
    """Make a small world, train, unlearn and audit in it: what greedy evaluation misses, in minutes, on a CPU."""
    from leakbound.demo import run_demo

    run_demo(config, console=Console())


def finetune(config: Annotated[FinetuneConfig, Flat]) -> None:
    """Train a causal language model on question-answer pairs, from a given model or from scratch."""
    from leakbound.unlearning import finetune as run_finetune

    say(f"model: {run_finetune(config)}")


def unlearn(
    config: Annotated[UnlearnConfig, Flat],
    goal: Annotated[Goal, Flat] = Goal(),  # noqa: B008 - frozen
    workers: Annotated[Workers, Flat] = Workers(),  # noqa: B008 - frozen
) -> None:
    """Make a model forget some answers and retain others; with --until, until that is proven.

    With --until the exit code is 0 where the claim is proven, 1 where it is refuted, 3 where it stayed open.
    """
    if goal.until is not None:
        from leakbound.proving.rounds import unlearn_until

        found = unlearn_until(config, goal, workers=workers)
        show(found)
        say(f"model: {config.out}")
        say(f"page: {config.out / 'proof.html'}")
        raise SystemExit(found.exit_code)
    for given in (goal, workers):
        for name, value in vars(given).items():
            if value != getattr(type(given), name):
                raise InputError(f"{name} is {value!r} and until is None: give what shall be proven, or leave it")
    from leakbound.unlearning import unlearn as run_unlearn

    say(f"model: {run_unlearn(config)}")


def compare(
    runs: list[Path],
    *,
    retain: list[Path] | None = None,
    names: list[str] | None = None,
    guess: Path | None = None,
    workers: Annotated[Workers, Flat] = Workers(),  # noqa: B008 - frozen
    out: Out = Path("runs/compare"),
) -> None:
    """Compare audited models: leakage asked once and sampled, utility, diversity, cost, and what is proven.

    :param runs: Run folders of audits on the same prompts, one for each model.
    :param retain: Run folders of audits of the same models, in the same order, on questions that they should still
        answer.
    :param names: What to call the models, in the same order; by default the folders' names.
    :param guess: Run folder of a model that never saw the secrets, one of the runs or another.
    :param out: Folder for comparison.json, compare.html and compare.md.
    """
    from leakbound import report
    from leakbound.auditing.comparing import compare as run_compare
    from leakbound.runs.files import write_text

    found = run_compare(runs, retain=retain or (), names=names or (), guess=guess, workers=workers)
    found.save(out)
    write_text(out / "compare.md", report.to_markdown(found))
    reports = dict(zip((m.name for m in found.models), runs, strict=True))
    page = report.write_html(found, out / "compare.html", links=report.links_to(reports, out))
    show(found)
    say(f"report: {page}")
