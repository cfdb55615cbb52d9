"""What happens beside the steps of a training: partners drawn anew, a guard against collapse, the progress."""

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from leakbound.errors import TrainingError
from leakbound.runs.cache import read
from leakbound.runs.files import file_sum, write_text
from leakbound.runs.progress import Progress
from leakbound.unlearning.data import PairedData

FLOOR = 0.1
"""Nats per token: a start below this counts as this, so that a model that knows its data by heart has some room."""
LAST_GOOD = "last-good"
STATES = "checkpoint-*/trainer_state.json"
SUMS = "sha256.json"
"""The checksums of a checkpoint's files, where a replay may start from it."""


@dataclass
class CollapseGuard:
    """Watches the loss on retain examples (nats per answer token) against its value before the training.

    The model counts as collapsed above ``factor * max(start, 0.1)``. ``action`` "stop" raises, "warn" warns once and
    keeps the newest checkpoint from before under the name ``last-good``.
    """

    start: float
    factor: float
    action: str
    checkpoints: Path | None = None
    warned: bool = False

    def check(self, value: float, step: int) -> None:
        """Judge the loss of the steps since the last log. Raises TrainingError where the run shall stop."""
        limit = self.factor * max(self.start, FLOOR)
        if value <= limit or self.warned:
            return
        good = newest_checkpoint(self.checkpoints)
        said = (
            f"the model is collapsing: the loss on retain examples is {value:.3g} nats per token in step {step}, more "
            f"than {limit:.3g} (collapse_factor {self.factor:g} times its start {self.start:.3g}): lower learning_rate "
            "or forget_weight, raise retain_weight, or train for fewer steps"
        )
        if self.action == "stop":
            raise TrainingError(said + (f"; the last good checkpoint is {good}" if good else ""))
        warnings.warn(said, stacklevel=2)
        self.warned = True
        if good is not None and self.checkpoints is not None:
            shutil.copytree(good, self.checkpoints / LAST_GOOD, dirs_exist_ok=True)


def newest_checkpoint(folder: Path | None) -> Path | None:
    """The newest checkpoint in a folder that was written to its end: the trainer's state, JSON, is written last."""
    return next((place for _, place in whole_checkpoints(folder)), None)


def whole_checkpoints(folder: Path | None) -> Iterator[tuple[int, Path]]:
    """Step and place of each checkpoint that was written to its end, the newest first."""
    found = [(int(file.parent.name.split("-")[1]), file) for file in (folder or Path()).glob(STATES)] if folder else []
    return ((step, file.parent) for step, file in sorted(found, reverse=True) if _whole(file))


def _whole(file: Path) -> bool:
    with contextlib.suppress(ValueError):
        json.loads(file.read_bytes())
        return True
    return False


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Writes the checksums of a checkpoint's files beside them."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The checkpoint is there."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_text(folder / SUMS, json.dumps(_sums(folder), indent=1) + "\n")


def is_as_written(checkpoint: Path) -> bool:
    """Whether a checkpoint has checksums and its files have them."""
    return (checkpoint / SUMS).exists() and read(checkpoint / SUMS) == _sums(checkpoint)


def _sums(folder: Path) -> dict[str, str]:
    return {file.name: file_sum(file) for file in sorted(folder.iterdir()) if file.name != SUMS}


class DrawPartners(TrainerCallback):  # type: ignore[misc]
    """Draws the retain partners anew at the start of each epoch."""

    def __init__(self, data: PairedData) -> None:
        self.data = data

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before it goes through the data."""
        self.data.set_epoch(int((state.epoch or 0) + 1e-6))  # epoch counts in fractions of steps


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """Counts the steps of a training, with the last loss."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """From here on: what came before is no step, and steps before a checkpoint took another run's time."""
        self.progress.begin(state.max_steps, done=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step further."""
        self.progress.advance()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """Show the newest loss."""
        if "loss" in logs:
            self.progress.say(f"loss {logs['loss']:.3g}")
