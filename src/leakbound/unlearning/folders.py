"""Where a run writes: a folder that appears whole or not at all, and the checkpoints of a run that goes on later."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from leakbound.errors import InputError
from leakbound.runs.cache import check_same, read
from leakbound.runs.files import is_main, num_processes, sharing, write_text
from leakbound.unlearning.callbacks import LAST_GOOD, newest_checkpoint
from leakbound.unlearning.config import FinetuneConfig, TrainingConfig, UnlearnConfig
from leakbound.unlearning.published import OURS

SETTINGS = "config.json"
"""The settings of the run whose checkpoints a folder holds."""
INPUTS = "inputs"
"""The checksums of what a run learns from: the rows it was given, the weights it starts from."""
NOT_COMPARED = ("resume", "report_to", "device", "like")
"""Settings that an interrupted run may change when it goes on, and the one that says where others come from."""


def of_one(settings: dict[str, Any], processes: int) -> dict[str, Any]:
    """The settings with which one process takes the rows in each step that these processes take together."""
    together = {"accumulation": settings["accumulation"] * processes} if "accumulation" in settings else {}
    return {**settings, **together}


def check_settings(where: str, there: dict[str, Any], mine: dict[str, Any]) -> None:
    """RunMismatchError where a run goes on with other settings or from other rows or weights.

    What older records do not name had our default; of rows and weights what both name is compared.
    """
    known = {each.name: each.default for kind in (FinetuneConfig, UnlearnConfig) for each in fields(kind)} | OURS
    older = {name: known[name] for name in mine if known.get(name, MISSING) is not MISSING}
    was, now = there.get(INPUTS) or {}, mine.get(INPUTS) or {}
    mine = mine | {INPUTS: {name: now[name] for name in now if name in was}}
    there = there | {INPUTS: {name: was[name] for name in was if name in now}}
    check_same(where, {**older, **there}, mine, but=NOT_COMPARED)


def checkpoint_folder(
    out: Path,
    settings: dict[str, Any],
    *,
    resume: bool,
    replayable: bool = False,
    inputs: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Path, Path | None]:
    """The folder of a run's checkpoints and, to go on, the newest whole one of them.

    :raises InputError: it holds checkpoints and ``resume`` is not set, or those of a run with other settings or
        ``inputs``, the checksums of what it learns from.
    """
    folder = checkpoints_of(out, replayable=replayable)
    newest = newest_checkpoint(folder)
    if newest is not None and not resume:
        raise InputError(
            f"out is {str(out)!r}: {folder} holds checkpoints of an interrupted run: give resume, or remove it"
        )
    mine = of_one({name: value for name, value in settings.items() if name not in NOT_COMPARED}, num_processes())
    file, beside = folder / SETTINGS, folder / f"{INPUTS}.json"
    if newest is not None:
        _check_shares(newest)
        if file.exists():
            there = {**read(file), INPUTS: read(beside) if beside.exists() else None}
            check_settings(f"resume: {folder}", there, {**mine, INPUTS: dict(inputs)})
    if is_main():
        write_text(file, json.dumps(mine, indent=1) + "\n")
        write_text(beside, json.dumps(dict(inputs), indent=1) + "\n")
    return folder, newest


def _check_shares(checkpoint: Path) -> None:
    """InputError where this launch cannot read the optimiser's moments: transformers would go on without them."""
    shares = len(list(checkpoint.glob("global_step*/*_optim_states.pt")))
    wrote = (
        "deepspeed" if shares else "fsdp" if {f.name for f in checkpoint.glob("optimizer*")} - {"optimizer.pt"} else ""
    )
    if wrote != sharing() or shares not in (0, num_processes()):
        there = f"recipes/{wrote}.yaml" if wrote else "one process or recipes/ddp.yaml"
        raise InputError(
            f"resume: {checkpoint} was written by {there}{f' with {shares} processes' if shares else ''}: go on so"
        )


def drop_checkpoints(config: TrainingConfig) -> None:
    """Remove the checkpoints of a run whose model is in its place, but for those that a collapse left behind."""
    folder = checkpoints_of(config.out)
    if config.save_every and is_main() and not (folder / LAST_GOOD).exists():
        shutil.rmtree(folder, ignore_errors=True)


def is_kept(config: TrainingConfig) -> bool:
    """Whether a run's checkpoints stay, so that it can be replayed."""
    return isinstance(config, FinetuneConfig) and config.replayable


def checkpoints_of(out: Path, *, replayable: bool = False) -> Path:
    """Where a run's checkpoints are: until it ends, or, replayable, for good."""
    return out.parent / f"{out.name}-{'replay' if replayable else 'checkpoints'}"
