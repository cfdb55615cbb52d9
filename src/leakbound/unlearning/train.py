"""The two commands that train: ``finetune`` and ``unlearn``. Each writes a model folder that an audit can load."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import TrainingArguments

from leakbound.errors import InputError, ModelError
from leakbound.models.loading import load_model, load_tokenizer, without_bars
from leakbound.unlearning.config import FinetuneConfig, TrainingConfig, UnlearnConfig
from leakbound.unlearning.data import Example, Pair, PairedData, encode, read_pairs
from leakbound.unlearning.objectives import LEARN, find_objective
from leakbound.unlearning.scratch import find_size, new_model, train_tokenizer
from leakbound.unlearning.trainer import ShowProgress, UnlearningTrainer, Weights, reference_logps

RECORD = "training.json"
"""The file beside the weights that says how they were made."""


def finetune(config: FinetuneConfig, *, progress: bool = True) -> Path:
    """Train a causal language model to answer the questions of ``config.data``; return the folder it is saved in.

    Minimises the negative log-likelihood per answer token, averaged over the examples, question tokens left out. The
    weights are a function of the configuration and the data on one kind of device. Nothing is left behind on failure.

    :raises InputError: data, model or folder cannot be used. :raises TrainingError: the loss is not finite.
    """
    with _new_folder(config.out) as folder, _own_randomness():
        pairs = read_pairs(config.data)
        if config.from_scratch is None:
            tokenizer = load_tokenizer(str(config.model), trust_remote_code=config.trust_remote_code)
            model = _load(str(config.model), config)
        else:
            tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else _learn_tokenizer(pairs, config)
            model = new_model(config.from_scratch, tokenizer, seed=config.seed, max_length=config.max_length)
        data = PairedData((), _encode_all(tokenizer, pairs, config), seed=config.seed)
        trainer = UnlearningTrainer(
            model,
            _arguments(config, folder),
            data,
            LEARN,
            Weights(),
            pad_id=_pad_id(tokenizer),
            callbacks=[ShowProgress(f"finetune {config.out.name}")] if progress else [],
        )
        _train_and_save(trainer, tokenizer, config, folder)
    return config.out


def unlearn(config: UnlearnConfig, *, progress: bool = True) -> Path:
    """Make a model forget the answers of ``config.forget``; return the folder it is saved in.

    The reference model is the model before the first step. Its log-probabilities are computed once; it is kept in
    memory only for a term that needs its logits. Nothing is left behind on failure.

    :raises InputError: data, model or folder cannot be used. :raises TrainingError: the loss is not finite.
    """
    objective = find_objective(config.method)
    with _new_folder(config.out) as folder, _own_randomness():
        forget_pairs = read_pairs(config.forget)
        retain_pairs = read_pairs(config.retain) if config.retain else []
        tokenizer = load_tokenizer(config.model, trust_remote_code=config.trust_remote_code)
        model = _load(config.model, config)
        pad_id = _pad_id(tokenizer)
        forget = _encode_all(tokenizer, forget_pairs, config)
        if "ref_logps" in objective.needs("forget"):
            logps = reference_logps(model, forget, pad_id=pad_id, batch_size=config.batch_size)
            forget = [dataclasses.replace(e, ref_logp=logp) for e, logp in zip(forget, logps, strict=True)]
        ref_model = copy.deepcopy(model).eval() if "ref_logits" in objective.needs("retain") else None
        trainer = UnlearningTrainer(
            model,
            _arguments(config, folder),
            PairedData(forget, _encode_all(tokenizer, retain_pairs, config), seed=config.seed),
            objective,
            Weights(**{field.name: getattr(config, field.name) for field in dataclasses.fields(Weights)}),
            pad_id=pad_id,
            ref_model=ref_model,
            callbacks=[ShowProgress(f"{config.method} {config.out.name}")] if progress else [],
        )
        _train_and_save(trainer, tokenizer, config, folder)
    return config.out


def _learn_tokenizer(pairs: list[Pair], config: FinetuneConfig) -> Any:
    texts = [text for pair in pairs for text in (f" {pair.question}", f" {pair.answer}")]
    return train_tokenizer(texts, find_size(str(config.from_scratch)).vocabulary)


def _load(name: str, config: TrainingConfig) -> Any:
    device = "cpu" if config.device == "cpu" else "auto"
    return load_model(name, dtype="float32", device=device, trust_remote_code=config.trust_remote_code)


def _pad_id(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end-of-text token, so that no answer could end: set its eos_token")
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _encode_all(tokenizer: Any, pairs: list[Pair], config: TrainingConfig) -> list[Example]:
    return [encode(tokenizer, pair, config.template, config.max_length) for pair in pairs]


def _arguments(config: TrainingConfig, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        use_cpu=config.device == "cpu",
        dataloader_pin_memory=torch.cuda.is_available() and config.device != "cpu",
        remove_unused_columns=False,
        save_strategy="no",
        logging_steps=5,
        report_to="none",
        disable_tqdm=True,
    )


def _train_and_save(trainer: UnlearningTrainer, tokenizer: Any, config: TrainingConfig, folder: Path) -> None:
    start = time.perf_counter()
    trainer.train()
    with without_bars():
        trainer.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {
        "config": {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(config).items()},
        "steps": trainer.state.global_step,
        "seconds": round(time.perf_counter() - start, 3),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "log": trainer.state.log_history,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that takes the name ``out`` when all went well and is removed when not."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out is {str(out)!r}, which exists already: give a new folder, or remove that one")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Give back the caller's global random state, which transformers' Trainer seeds."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
