"""The one trainer: a forward pass for each half of a batch, shared by all the terms of the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from leakbound.errors import TrainingError
from leakbound.unlearning import losses
from leakbound.unlearning.data import HALVES, IGNORED, Example, PairCollator, PairedData, collate
from leakbound.unlearning.objectives import Objective


@dataclass(frozen=True)
class Weights:
    """The factors of the terms of the loss, and what the loss functions take by keyword."""

    forget_weight: float = 1.0
    retain_weight: float = 1.0
    entropy_forget: float = 0.0
    entropy_retain: float = 0.0
    entropy_mask: str = "answer"
    beta: float = 0.1

    def term(self, half: str) -> float:
        """The weight of the term of one half."""
        return self.forget_weight if half == "forget" else self.retain_weight

    def entropy(self, half: str) -> float:
        """The weight of the entropy on one half."""
        return self.entropy_forget if half == "forget" else self.entropy_retain


@dataclass(frozen=True)
class Half:
    """One half of a batch after its forward pass: everything a loss term can ask for, each computed at most once."""

    logits: Tensor
    labels: Tensor
    attention_mask: Tensor
    ref_logps: Tensor | None = None
    ref_logits: Tensor | None = None

    @cached_property
    def logps(self) -> Tensor:
        """Log-probabilities of the answers, (B,)."""
        return losses.sequence_logps(self.logits, self.labels)

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of the answers, (B,)."""
        return losses.answer_lengths(self.labels)

    @cached_property
    def answer_mask(self) -> Tensor:
        """Positions that predict an answer token, (B, L)."""
        return torch.nn.functional.pad(self.labels[:, 1:] != IGNORED, (0, 1))

    @cached_property
    def text_mask(self) -> Tensor:
        """Positions of question and answer tokens, (B, L)."""
        return self.attention_mask.bool()

    @cached_property
    def all_mask(self) -> Tensor:
        """Every position, padding included, (B, L)."""
        return torch.ones_like(self.attention_mask, dtype=torch.bool)


class UnlearningTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with the loss of an :class:`Objective` and weighted entropies.

    The loss of a step is the mean over its examples of
    ``w_f F + w_r R + h_f H_forget + h_r H_retain``, whatever the number of accumulated batches and of processes.
    ``ref_model`` is called on the retain half where a term needs ``ref_logits``.

    :raises TrainingError: from ``train``, before the weights change, when the loss of a batch is not finite.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        data: PairedData,
        objective: Objective,
        weights: Weights,
        *,
        pad_id: int,
        ref_model: Any = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=PairCollator(pad_id),
            train_dataset=data,
            callbacks=[DrawPartners(data), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.objective, self.weights, self.ref_model = objective, weights, ref_model
        self.loss_is_scaled_for_ga = True
        self.parts: dict[str, list[float]] = {}

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimiser step and the number of examples by which this process divides its loss."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = sum(len(next(iter(batch.values()))["labels"]) for batch in batches)
        if self.args.world_size > 1:  # gradients are averaged over processes, so divide by the mean count
            total = self.accelerator.gather(torch.tensor([count], device=device)).sum().item()
            return batches, total / self.args.world_size
        return batches, count

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The batch's share of the step's loss: its examples' losses, summed and divided by the step's count."""
        total: Tensor | None = None
        parts: dict[str, float] = {}
        for half in (half for half in HALVES if half in inputs and self._matters(half)):
            outputs = self._forward(model, half, inputs[half])
            for name, weight, value_B in self._terms(half, outputs):
                parts[name] = value_B.detach().mean().item()
                term = weight * value_B.sum() / (num_items_in_batch or len(value_B))
                total = term if total is None else total + term
        if total is None:
            raise TrainingError("every term of the loss has weight 0: give at least one of them a weight")
        if not math.isfinite(total.item()):
            shown = ", ".join(f"{name} {value:g}" for name, value in parts.items())
            raise TrainingError(
                f"the loss is {total.item()} in step {self.state.global_step + 1} ({shown}): lower learning_rate or "
                "forget_weight, or train for fewer steps"
            )
        for name, value in parts.items():
            self.parts.setdefault(name, []).append(value)
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every term since the last log."""
        means = {name: sum(values) / len(values) for name, values in self.parts.items() if values}
        self.parts.clear()
        super().log({**logs, **means}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """The operations of the forward and backward passes of all halves."""
        return sum(int(super(UnlearningTrainer, self).floating_point_ops(half)) for half in inputs.values())

    def _matters(self, half: str) -> bool:
        term = getattr(self.objective, half)
        return bool((term and self.weights.term(half)) or self.weights.entropy(half))

    def _forward(self, model: Any, half: str, batch: dict[str, Tensor]) -> Half:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        ref_logits = None
        if "ref_logits" in self.objective.needs(half):
            with torch.no_grad():
                ref_logits = self.ref_model(**inputs, use_cache=False).logits
        logits = model(**inputs, use_cache=False).logits
        return Half(logits, batch["labels"], batch["attention_mask"], batch.get("ref_logps"), ref_logits)

    def _terms(self, half: str, outputs: Half) -> Iterator[tuple[str, float, Tensor]]:
        """Name, weight and per-example values of the terms on one half."""
        term = getattr(self.objective, half)
        if term is not None and self.weights.term(half):
            settings = {name: getattr(self.weights, name) for name in term.settings}
            value_B = term.loss(*(getattr(outputs, name) for name in term.needs), **settings)
            yield f"{half}_loss", self.weights.term(half), value_B
        if self.weights.entropy(half):
            mask_BL = getattr(outputs, f"{self.weights.entropy_mask}_mask")
            yield f"{half}_entropy", self.weights.entropy(half), losses.entropy(outputs.logits, mask_BL)


@torch.no_grad()
def reference_logps(model: Any, examples: Sequence[Example], *, pad_id: int, batch_size: int) -> list[float]:
    """Log-probability of each example's answer under ``model``, nats: a constant of the data, computed once."""
    was_training = model.training
    model.eval()
    logps: list[float] = []
    for start in range(0, len(examples), batch_size):
        batch = {k: v.to(model.device) for k, v in collate(examples[start : start + batch_size], pad_id).items()}
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        logps += losses.sequence_logps(logits, batch["labels"]).tolist()
    model.train(was_training)
    return logps


class DrawPartners(TrainerCallback):  # type: ignore[misc]
    """Draws the retain partners anew at the start of each epoch."""

    def __init__(self, data: PairedData) -> None:
        self.data = data

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before it goes through the data."""
        self.data.set_epoch(int((state.epoch or 0) + 1e-6))  # epoch counts in fractions of steps


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """A progress bar with the last loss."""

    def __init__(self, title: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[note]}"))
        self.title = title

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the bar on the main process."""
        self.task = self.bar.add_task(self.title, total=state.max_steps, note="")
        if state.is_world_process_zero:
            self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step further."""
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """Show the newest loss."""
        if "loss" in logs:
            self.bar.update(self.task, note=f"loss {logs['loss']:.3g}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the full bar on the screen."""
        self.bar.stop()
