"""What both commands share: loading, transformers' arguments, training, and saving with a record of how."""

import dataclasses
import json
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers
from transformers import TrainingArguments

from leakbound.errors import LeakboundError, ModelError
from leakbound.models.hf.loading import load_model, pick_device, without_bars
from leakbound.reading.pairs import Pair
from leakbound.runs.files import is_main, num_processes, sharing
from leakbound.unlearning.adapters import add_lora, checkpoint_activations, is_adapted
from leakbound.unlearning.config import TrainingConfig
from leakbound.unlearning.data import Example, encode
from leakbound.unlearning.folders import is_kept
from leakbound.unlearning.forgetting import Forgetting
from leakbound.unlearning.trainer import UnlearningTrainer

RECORD = "training.json"
"""The file beside the weights that says how they were made and what that cost."""
LONGEST = 7 * 24 * 3600
"""Seconds that processes wait for the main one, which may draw for long; one that dies is noticed by the launcher."""
ADAPTER = "adapter"
"""The folder beside merged weights that holds the adapter alone."""


Found = TypeVar("Found")


def plain(config: TrainingConfig) -> dict[str, Any]:
    """The settings of a run as a JSON object."""

    def show(value: Any) -> Any:
        return (
            [show(v) for v in value] if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        )

    return {name: show(value) for name, value in dataclasses.asdict(config).items()}


def load(name: str, config: TrainingConfig) -> Any:
    """The model to train, in float32 on this process's device."""
    device = "cpu" if config.device == "cpu" else "auto"
    if device == "auto" and num_processes() > 1 and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if sharing() == "deepspeed":  # all of it in each process: after a training ZeRO 3 would share it out as it loads
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()
    return load_model(name, dtype="float32", device=device, trust_remote_code=config.trust_remote_code)


def prepare(model: Any, config: TrainingConfig) -> Any:
    """The model with adapters and recomputed activations, where the run wants them."""
    if config.lora_rank:
        with torch.random.fork_rng(devices=[]):  # the same adapter in each process
            torch.manual_seed(config.seed)
            model = add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha)
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    return model


def find_pad_id(tokenizer: Any) -> int:
    """The token to pad with: that of the end, whether or not there is one for padding.

    Published losses that look at padding (ME, KL, mask all) look at what follows it.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end-of-text token, so that no answer could end: set its eos_token")
    return int(tokenizer.eos_token_id)


def encode_all(tokenizer: Any, pairs: list[Pair], config: TrainingConfig) -> list[Example]:
    """The pairs as tokens."""
    return [encode(tokenizer, pair, config.template, config.max_length) for pair in pairs]


def arguments(config: TrainingConfig, folder: Path, *, max_steps: int | None) -> TrainingArguments:
    """The settings as transformers' Trainer takes them, but for the steps; checkpoints go to ``folder``."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        max_steps=max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        bf16=config.bf16,
        use_cpu=config.device == "cpu" or pick_device().type == "cpu",
        dataloader_pin_memory=torch.cuda.is_available() and config.device != "cpu",
        remove_unused_columns=False,
        save_strategy="steps" if config.save_every else "no",
        save_steps=config.save_every or 500,
        save_total_limit=None if is_kept(config) else 2,
        logging_steps=1 if config.save_every else 5,  # no checkpoint before the guard saw its step
        report_to=config.report_to,
        disable_tqdm=True,
        ddp_timeout=LONGEST,
    )


def on_main(config: TrainingConfig, work: Callable[[], Found]) -> Found:
    """What ``work`` gives in the main process, or the error it raises, in every process; the others wait.

    The bytes that are drawn then do not depend on what memory the others have, and none waits for one that failed.
    """
    if num_processes() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    if not torch.distributed.is_initialized():  # else it would take away what a trainer still needs to save
        _ = arguments(config, config.out, max_steps=None).device
    box: list[Any] = [None, None]
    if is_main():
        try:
            with loading_alone():
                box[0] = work()
        except LeakboundError as error:
            box[1] = error
    broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    found: Found = box[0]
    return found


@contextmanager
def loading_alone() -> Iterator[None]:
    """A model that is loaded inside lies whole in this process.

    Under ZeRO 3 transformers shares out whatever is loaded, by messages that all processes must exchange.
    """
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, unset_hf_deepspeed_config

    if not is_deepspeed_zero3_enabled():
        yield
        return
    from accelerate.state import AcceleratorState

    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        AcceleratorState().deepspeed_plugin.set_deepspeed_weakref()


def whole(trainer: UnlearningTrainer, config: TrainingConfig, folder: Path) -> Any:
    """The trained model with all its weights in this process: itself, or where they are shared out, a copy of it."""
    if not sharing():
        return trainer.model
    place = folder / "whole"
    trainer.save_model(str(place))
    trainer.accelerator.wait_for_everyone()
    model = load(str(place), config)
    for mine, shared in zip(model.parameters(), trainer.model.parameters(), strict=True):
        mine.requires_grad_(shared.requires_grad)
    trainer.accelerator.wait_for_everyone()
    if is_main():
        shutil.rmtree(place)
    return model


class Cost:
    """What training took: steps, seconds, and the peak of memory (the device's, on a CPU the process's)."""

    def __init__(self) -> None:
        self.start, self.steps = time.perf_counter(), 0
        self.log: list[dict[str, Any]] = []
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def add(self, trainer: UnlearningTrainer) -> None:
        """Count a training that has ended."""
        self.steps += trainer.state.global_step
        self.log += trainer.state.log_history

    def to_json(self) -> dict[str, Any]:
        """As it stands in training.json."""
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        return {
            "steps": self.steps,
            "seconds": round(time.perf_counter() - self.start, 3),
            "peak_memory_bytes": int(peak),
            "log": self.log,
        }


def save(
    trainer: UnlearningTrainer, tokenizer: Any, config: TrainingConfig, folder: Path, cost: Cost, inputs: dict[str, str]
) -> None:
    """Write weights, tokenizer and training.json; adapters are merged, and also kept alone in ``adapter/``."""
    taken = cost.to_json()
    with without_bars():
        if is_adapted(trainer.model):
            _save_merged(trainer, config, folder)
        else:
            trainer.save_model(str(folder))  # all processes: with FSDP or DeepSpeed the weights are gathered
    trainer.accelerator.wait_for_everyone()
    if not is_main():
        return
    (folder / "training_args.bin").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    origin = {"settings": config.origin()} if isinstance(config, Forgetting) else {}
    made = {"config": plain(config), **origin, "inputs": inputs}
    record = {**made, **taken, "processes": num_processes(), "versions": versions}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _save_merged(trainer: UnlearningTrainer, config: TrainingConfig, folder: Path) -> None:
    model = trainer.model
    if sharing():  # what was gathered goes into a model that is not shared out
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if is_main():
            model = prepare(load(str(vars(config)["model"]), config), config)
            model.load_state_dict(state)
    if is_main():
        model.save_pretrained(folder / ADAPTER)
        model.merge_and_unload().save_pretrained(folder)


@contextmanager
def own_randomness() -> Iterator[None]:
    """Give back the caller's global random state, which transformers' Trainer seeds."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
