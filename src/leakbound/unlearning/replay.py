"""Exact unlearning: the rest of a training again, from a checkpoint, as if some rows had never been in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leakbound.errors import InputError
from leakbound.models.hf.loading import pick_device
from leakbound.reading.pairs import Pair, read_pairs
from leakbound.runs.cache import check_same, read
from leakbound.runs.files import num_processes
from leakbound.unlearning import ledger
from leakbound.unlearning.callbacks import SealCheckpoints, is_as_written, whole_checkpoints
from leakbound.unlearning.config import FinetuneConfig, UnlearnConfig
from leakbound.unlearning.data import Example
from leakbound.unlearning.folders import NOT_COMPARED, SETTINGS, checkpoints_of
from leakbound.unlearning.ledger import Ledger, identity
from leakbound.unlearning.running import RECORD
from leakbound.unlearning.trainer import UnlearningTrainer


@dataclasses.dataclass(frozen=True)
class Replay:
    """What is done again: the training of ``model`` without some rows, from ``checkpoint`` (None: its beginning)."""

    model: Path
    config: FinetuneConfig
    checkpoint: Path | None
    ledger: Ledger


class ReplayedTrainer(UnlearningTrainer):
    """Training in which some rows are left out, and whose steps are logged.

    The loss of a step is the sum over the rows that stay, divided by the number of rows that the step has with those
    left out: these weigh nothing, the others what they weighed. A step of which no row stays changes neither weights
    nor moments; the schedule goes on. Batches are padded to the longest row that stays.
    """

    def __init__(
        self,
        *args: Any,
        identities: Mapping[str, bytes],
        left_out: Set[bytes],
        log: Ledger | None,
        seed: int,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.data_collator: Any
        self.identities, self.left_out, self.ledger, self.seed = identities, left_out, log, seed
        self.collate, self.data_collator = self.data_collator, list
        if log is not None and log.known is None:
            self.add_callback(SealCheckpoints())

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimiser step without the rows left out, and the number of its rows with them."""
        batches = list(islice(epoch_iterator, num_batches))
        rows = [[self.identities[item["retain"].source] for item in batch] for batch in batches]
        every = [row for batch in rows for row in batch]
        if self.ledger is not None:
            seed = self.seed + int((self.state.epoch or 0) + 1e-6)  # epoch counts in fractions of steps
            self.ledger.note(self.state.global_step, seed, self.lr_scheduler.get_last_lr()[0], every)
        kept = [
            [item for item, row in zip(batch, some, strict=True) if row not in self.left_out]
            for batch, some in zip(batches, rows, strict=True)
        ]
        return [self.collate(batch) if batch else {} for batch in kept], len(every)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One batch; of which no row stays: nothing."""
        if not inputs:
            return torch.zeros((), device=self.args.device)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss


def trainer_for(
    config: FinetuneConfig,
    pairs: Sequence[Pair],
    examples: Sequence[Example],
    model: Any,
    folder: Path | None,
    replay: Replay | None,
) -> Callable[..., UnlearningTrainer]:
    """The trainer that a run wants: one that logs its steps, or leaves rows out, or the usual one.

    :raises InputError: it could not be replayed, or is not the training that it replays.
    """
    if not config.replayable and config.leave_out is None:
        return UnlearningTrainer
    log = None if replay is None else replay.ledger
    if config.replayable or replay is not None:
        now = ledger.facts(config, pairs, examples, model)
        if now["environment"]["device"] != "cpu" or num_processes() > 1:
            raise InputError("replayable needs one process on a CPU, where bytes repeat: give --device cpu")
        if replay is not None:
            replay.ledger.begin(now, replay.model)
        elif folder is not None:
            log = Ledger(folder)
            log.begin(now, config.out)
    rows = {pair.source: identity(pair) for pair in pairs}
    left_out = (
        _among(read_pairs(config.leave_out, "leave_out"), pairs, "leave_out") if config.leave_out else frozenset()
    )
    return partial(ReplayedTrainer, identities=rows, left_out=left_out, log=log, seed=config.seed)


def find_replay(config: UnlearnConfig) -> Replay:
    """What ``unlearn --method replay`` has to do: from the last checkpoint before the first use of a row to forget.

    :raises InputError: the model has no log, something is not as it was, or a row to forget was not in the data.
    """
    model = Path(config.model)
    folder = checkpoints_of(model, replayable=True)
    if not (folder / ledger.FACTS).exists():
        raise InputError(
            f"model is {config.model!r}: there is no replay log {folder}: train it with finetune --replayable "
            "--save-every N"
        )
    settings = read(folder / SETTINGS)
    check_same(str(folder), settings, read(model / RECORD)["config"], but=NOT_COMPARED)
    learned = FinetuneConfig(**settings)
    there = read(folder / ledger.FACTS)
    device = "cpu" if config.device == "cpu" else pick_device().type
    pairs = read_pairs(learned.data)
    now = {"rows": ledger.rows_checksum(pairs), "environment": ledger.environment(device)}
    ledger.check_facts(there, now, model=model)
    forgotten = _among(read_pairs(config.forget[0], "forget"), pairs, "forget")
    known = Ledger(folder).steps()
    if len(known) != (count := read(model / RECORD)["steps"]):
        raise InputError(
            f"{folder / ledger.LOG} has {len(known)} steps, and the training had {count}: give it as it was"
        )
    first = _first_use(known, learned, [identity(pair) for pair in pairs], forgotten, folder)
    last = min(first, len(known) - 1)
    start = next((at for step, at in whole_checkpoints(folder) if step <= last and is_as_written(at)), None)
    again = dataclasses.replace(
        learned,
        out=config.out,
        leave_out=config.forget[0],
        replayable=False,
        resume=config.resume,
        report_to=config.report_to,
        device=config.device,
        trust_remote_code=config.trust_remote_code,
    )
    return Replay(model, again, start, Ledger(folder, known=known))


def _first_use(
    known: Sequence[bytes], config: FinetuneConfig, rows: Sequence[bytes], forgotten: Set[bytes], folder: Path
) -> int:
    """The first step, counted from 0, that takes a row to forget; the number of steps where none does."""
    first = len(known)
    for step, (record, (seed, places)) in enumerate(zip(known, ledger.rows_of_steps(config, len(rows)), strict=False)):
        taken = [rows[place] for place in places]
        rate = ledger.STEP.unpack(record)[2] if len(record) == ledger.STEP.size else 0.0
        if record != ledger.packed(step, seed, rate, taken):
            raise InputError(f"{folder / ledger.LOG}, step {step + 1}: damaged, or of other data: give it as it was")
        if not forgotten.isdisjoint(taken):
            first = min(first, step)
    return first


def _among(rows: Sequence[Pair], pairs: Sequence[Pair], name: str) -> frozenset[bytes]:
    """The identities of rows that all are in the data."""
    there = {identity(pair) for pair in pairs}
    if odd := [pair.source for pair in rows if identity(pair) not in there]:
        raise InputError(
            f"{name}: {len(odd)} of {len(rows)} rows are not in the data ({'; '.join(odd[:3])}"
            f"{'; ...' if len(odd) > 3 else ''}): give question and answer as they were trained on"
        )
    left_out = frozenset(identity(pair) for pair in rows)
    if left_out == there:
        raise InputError(f"{name} holds all rows of the data: leave some to train on")
    return left_out
