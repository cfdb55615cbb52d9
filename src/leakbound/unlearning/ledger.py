"""What a training leaves behind so that it can be replayed: the rows of each step, and all that its bytes depend on."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from leakbound import __version__
from leakbound.errors import InputError, TrainingError
from leakbound.models.hf.loading import weights_checksum
from leakbound.reading.pairs import Pair
from leakbound.runs.cache import checksum, read
from leakbound.runs.files import storing, write_text
from leakbound.unlearning.config import FinetuneConfig
from leakbound.unlearning.data import Example, draw_partners

STEP = struct.Struct("<QQdQ32s")
"""A step in the log, 64 bytes: number, seed of its epoch's order, learning rate, count of its rows, their checksum."""
LOG, FACTS = "steps.log", "replay.json"


def identity(pair: Pair) -> bytes:
    """What a row is: SHA-256 of its question and answer. Rows of one identity are forgotten together."""
    return hashlib.sha256(json.dumps([pair.question, pair.answer, *["cut"] * pair.cut]).encode()).digest()


def rows_of_steps(config: FinetuneConfig, count: int) -> Iterator[tuple[int, list[int]]]:
    """For each optimiser step, without end: the seed of its epoch's order, and the places of its rows in the data.

    The order of epoch e is that of its partners (:func:`draw_partners`), permuted by ``torch.randperm`` with the seed
    s + e, as accelerate's sampler does.
    """
    size = config.batch_size * config.accumulation
    for epoch in itertools.count():
        seed = config.seed + epoch
        partners = draw_partners(count, count, seed=config.seed, epoch=epoch)
        order = [partners[i] for i in torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()]
        yield from ((seed, order[start : start + size]) for start in range(0, count, size))


def packed(step: int, seed: int, rate: float, identities: Sequence[bytes]) -> bytes:
    """One step as it stands in the log."""
    return STEP.pack(step, seed, rate, len(identities), hashlib.sha256(b"".join(identities)).digest())


def facts(config: FinetuneConfig, pairs: Sequence[Pair], examples: Sequence[Example], model: Any) -> dict[str, Any]:
    """All that the bytes of a training depend on beside its settings, as checksums and names."""
    return {
        "rows": rows_checksum(pairs),
        "tokens": checksum([[e.input_ids, e.labels] for e in examples]),
        "start": weights_checksum(model),
        "environment": environment(model.device.type),
    }


def rows_checksum(pairs: Sequence[Pair]) -> str:
    """SHA-256 of all rows in their order."""
    return hashlib.sha256(b"".join(identity(pair) for pair in pairs)).hexdigest()


def environment(device: str) -> dict[str, Any]:
    """What else decides how numbers are rounded."""
    return {
        "leakbound": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "device": device,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(),
        "MKL_CBWR": os.environ.get("MKL_CBWR", ""),
    }


def check_facts(there: Mapping[str, Any], now: Mapping[str, Any], *, model: Path) -> None:
    """InputError where something is not as it was when ``model`` was trained; only what is in ``now`` is looked at."""
    again = "or train again without the rows (finetune --leave-out)"
    for name, here in now.get("environment", {}).items():
        was = there["environment"].get(name)
        if was != here:
            raise InputError(
                f"{name} is {here!r}, and {str(model)!r} was trained with {was!r}: other bytes would come out; "
                f"set it as it was{' (OMP_NUM_THREADS)' if name == 'threads' else ''}, {again}"
            )
    for name, said in (
        ("rows", "the data are not the rows that it was trained on, in their order: give back the file as it was"),
        ("tokens", "the rows become other tokens than when it was trained: give back the tokenizer as it was"),
        ("start", "the model that it was trained from has other weights now: give them back as they were"),
    ):
        if name in now and now[name] != there[name]:
            raise InputError(f"model is {str(model)!r}: {said}")


class Ledger:
    """The log of a training, in ``folder``: written while it runs; or, ``known``, compared with what a replay does."""

    def __init__(self, folder: Path, *, known: Sequence[bytes] | None = None) -> None:
        self.file, self.known = folder / LOG, known

    def begin(self, now: Mapping[str, Any], model: Path) -> None:
        """Write down what the bytes depend on; of a training that goes on, see that it is still so."""
        file = self.file.with_name(FACTS)
        if file.exists():
            check_facts(read(file), now, model=model)
        else:
            write_text(file, json.dumps(now, indent=1) + "\n")

    def note(self, step: int, seed: int, rate: float, identities: Sequence[bytes]) -> None:
        """Write one step in its place, also when it is done again after a kill.

        :raises TrainingError: a replay takes other rows, or another rate, than the log says.
        """
        record = packed(step, seed, rate, identities)
        if self.known is None:
            with storing(self.file), open(self.file, "r+b" if self.file.exists() else "wb") as log:
                log.seek(step * STEP.size)
                log.write(record)
        elif self.known[step : step + 1] != [record]:
            raise TrainingError(f"step {step + 1} is not the one in {self.file}: train again with finetune --leave-out")

    def steps(self) -> list[bytes]:
        """The records, one for each step."""
        with storing(self.file):
            whole = self.file.read_bytes()
        return [whole[start : start + STEP.size] for start in range(0, len(whole), STEP.size)]


def _processor() -> str:
    """The processor's name: libraries choose their code by it."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(errors="replace").splitlines() if cpus.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "") or (
        platform.processor() or platform.machine()
    )
