"""The continual setting: TOFU's tasks are unlearned one after another, and each result is evaluated on its own task.

Task t starts from the model of task t - 1, which is also its reference model, and retains what is never forgotten and
the tasks after t. Model utility and forget efficacy are measured after each task on that task's forget set; earlier
tasks are not asked again, as in the published script. arXiv 2410.08109.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from leakbound import report
from leakbound.errors import InputError
from leakbound.evaluating.config import BenchmarkConfig
from leakbound.evaluating.running import run_on, settled
from leakbound.results.benchmark import ContinualRun
from leakbound.runs.cache import settle
from leakbound.runs.files import write_text
from leakbound.suites.base import Suite
from leakbound.suites.table import SUITES
from leakbound.unlearning.config import UnlearnConfig
from leakbound.wording import plural

NOT_COMPARED = ("num_tasks", "save_every", "report_to")
"""Settings on which the models do not depend."""


def run_continual(suite: str, config: BenchmarkConfig, *, progress: bool = True) -> ContinualRun:
    """Unlearn and evaluate task after task in ``config.out``/task-01, task-02, ...; what is there is not done again.

    :raises InputError: a suite without tasks. :raises RunMismatchError: the folder holds a run with other settings.
    """
    kind = SUITES.find(suite)
    if kind.tasks is None:
        raise InputError(f"suite is {suite!r}: it has no tasks for the continual setting, as tofu has")
    if config.how.loading.revision is not None:
        raise InputError(f"model_revision is {config.how.loading.revision!r}: give the folder of the model to unlearn")
    config = settled(suite, kind, config)
    tasks = kind.tasks(config.split, config.data, config.revision)
    chosen = tasks[: config.unlearning.num_tasks]
    if config.unlearning.num_tasks is not None and len(chosen) < config.unlearning.num_tasks:
        raise InputError(f"num_tasks is {config.unlearning.num_tasks}: {tasks[0].name} belongs to {len(tasks)} tasks")
    _settings(config.model, config.out, config)  # what it refuses is refused before anything is written
    settle(config.out / "continual.json", _fixed(config, chosen))
    model, runs = config.model, []
    for number, task in enumerate(chosen, start=1):
        folder = config.out / f"task-{number:02d}"
        model = _unlearned(task, _settings(model, folder, config), progress)
        runs.append(run_on(task, kind, replace(config, model=model, out=folder), progress=progress))
    name = tasks[0].name.rpartition("-")[0]
    found = ContinualRun(f"{name}, {plural(len(runs), 'task')} by {config.unlearning.method}", tuple(runs))
    found.save(config.out)
    write_text(config.out / "continual.md", report.to_markdown(found))
    return found


def _settings(model: str, folder: Path, config: BenchmarkConfig) -> UnlearnConfig:
    """How one more task is unlearned, whose questions are in the folder."""
    how = config.how
    settings = config.unlearning.settings() | {"reference": config.unlearning.reference_of(config.model)}
    return UnlearnConfig(
        model=model, forget=(folder / "data" / "forget.jsonl",), retain=folder / "data" / "retain.jsonl",
        out=folder / "model", template=how.template, seed=how.seed, resume=config.unlearning.save_every is not None,
        device="cpu" if how.loading.device == "cpu" else "auto", trust_remote_code=how.loading.trust_remote_code,
        **settings,
    )  # fmt: skip


def _unlearned(task: Suite, settings: UnlearnConfig, progress: bool) -> str:
    """The folder of the model that has forgotten one more task."""
    if not settings.out.exists():  # it appears whole or not at all
        from leakbound.unlearning import unlearn

        task.write(settings.out.parent / "data")
        unlearn(settings, progress=progress)
    return str(settings.out)


def _fixed(config: BenchmarkConfig, tasks: Sequence[Suite]) -> dict[str, Any]:
    """What the models depend on."""
    return {
        "model": config.model,
        "template": config.how.template,
        "seed": config.how.seed,
        "checksums": dict(tasks[0].checksums),
        **{name: value for name, value in config.unlearning.to_json().items() if name not in NOT_COMPARED},
    }
