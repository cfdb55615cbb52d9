"""The continual setting: TOFU's tasks are unlearned one after another, and each result is evaluated on its own task.

Task t starts from the model of task t - 1, which is also its reference model, and retains what is never forgotten and
the tasks after t. Model utility and forget efficacy are measured after each task on that task's forget set; earlier
tasks are not asked again, as in the published script. arXiv 2410.08109.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakbound.bounds.result import show_confidence
from leakbound.bounds.shown import limits
from leakbound.errors import InputError
from leakbound.evaluating.config import BenchmarkConfig
from leakbound.evaluating.run import BenchmarkRun, cell, markdown_table, terminal_table
from leakbound.evaluating.running import run_on
from leakbound.runs.cache import settle
from leakbound.runs.files import write_text
from leakbound.suites.base import Benchmark
from leakbound.suites.tofu import tofu_tasks

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class ContinualRun:
    """The benchmark runs after each task, in order."""

    name: str
    runs: tuple[BenchmarkRun, ...]

    def show(self) -> Table:
        """One line for each task, for a terminal, without the intervals."""
        rows = [tuple(text.partition(" (")[0] for text in row) for row in self._rows()]
        return terminal_table(self.name, HEAD, rows)

    def to_markdown(self) -> str:
        """The same as Markdown, intervals included."""
        alone = f"Intervals and bounds: each alone, confidence {show_confidence(self.runs[0].settings['alpha'])}."
        return "\n".join([f"# {self.name}", "", *markdown_table(HEAD, self._rows()), "", alone]) + "\n"

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for number, run in enumerate(self.runs, start=1):
            measured = [run.metric(*name) for name in SHOWN]
            proven = limits(run.audit.mean_leak) if run.audit is not None else "not sampled"
            rows.append((str(number), *("not measured" if m is None else cell(m) for m in measured), proven))
        return rows


SHOWN = (
    ("model_utility",),
    ("forget_efficacy",),
    ("rouge_l_recall", "forget"),
    ("probability", "forget"),
    ("truth_ratio", "forget"),
    ("rouge_l_recall", "retain"),
)
HEAD = (
    "task",
    "model utility",
    "forget efficacy",
    "forget ROUGE-L",
    "forget probability",
    "forget truth ratio",
    "retain ROUGE-L",
    "P(leak), average prompt",
)


def run_continual(suite: str, config: BenchmarkConfig, *, progress: bool = True) -> ContinualRun:
    """Unlearn and evaluate task after task in ``config.out``/task-01, task-02, ...; what is there is not done again.

    :raises InputError: a suite without tasks. :raises RunMismatchError: the folder holds a run with other settings.
    """
    if suite != "tofu":
        raise InputError(f"suite is {suite!r}: only tofu has the continual setting")
    tasks = tofu_tasks(config.split or "forget01", config.data, revision=config.revision)
    chosen = tasks[: config.unlearning.num_tasks]
    if config.unlearning.num_tasks is not None and len(chosen) < config.unlearning.num_tasks:
        raise InputError(f"num_tasks is {config.unlearning.num_tasks}: {tasks[0].name} belongs to {len(tasks)} tasks")
    settle(config.out / "continual.json", _settings(config, chosen))
    model, runs = config.model, []
    for number, task in enumerate(chosen, start=1):
        folder = config.out / f"task-{number:02d}"
        model = _unlearned(model, task, folder, config, progress)
        runs.append(run_on(task, replace(config, model=model, out=folder), progress=progress))
    found = ContinualRun(f"{config.split or 'forget01'}, {len(runs)} tasks by {config.unlearning.method}", tuple(runs))
    write_text(config.out / "continual.md", found.to_markdown())
    return found


def _unlearned(model: str, task: Benchmark, folder: Path, config: BenchmarkConfig, progress: bool) -> str:
    """The folder of the model that has forgotten one more task."""
    out = folder / "model"
    if out.exists():  # it appears whole or not at all
        return str(out)
    from leakbound.unlearning import UnlearnConfig, unlearn

    files = task.write(folder / "data")
    how = {name: value for name, value in asdict(config.unlearning).items() if name not in ("continual", "num_tasks")}
    settings = UnlearnConfig(
        model=model, forget=(files["forget"],), retain=files["retain"], template=config.template, seed=config.seed,
        device="cpu" if config.loading.device == "cpu" else "auto",
        trust_remote_code=config.loading.trust_remote_code, out=out, **how,
    )  # fmt: skip
    return str(unlearn(settings, progress=progress))


def _settings(config: BenchmarkConfig, tasks: Sequence[Benchmark]) -> dict[str, Any]:
    """What the models depend on."""
    return {
        "model": config.model,
        "template": config.template,
        "seed": config.seed,
        "checksums": dict(tasks[0].checksums),
        **{name: value for name, value in asdict(config.unlearning).items() if name != "num_tasks"},
    }
