"""The one trainer: a forward pass for each half of a batch, shared by all the terms of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from leakbound.errors import TrainingError
from leakbound.runs.files import sharing
from leakbound.runs.progress import steps
from leakbound.unlearning import losses
from leakbound.unlearning.adapters import inner
from leakbound.unlearning.callbacks import CollapseGuard, DrawPartners
from leakbound.unlearning.config import UnlearnConfig
from leakbound.unlearning.data import ANSWERS, HALVES, Example, PairCollator, PairedData, collate, in_pieces
from leakbound.unlearning.heads import laws_of
from leakbound.unlearning.objectives import KEYWORDS, Objective, Term
from leakbound.unlearning.passes import Half, Passes, attention_of

LEAST_STATES = 2**26
"""Bytes of states below which cutting a batch saves nothing worth its time."""


def piece_tokens(model: Any, bf16: bool = False) -> int:
    """How many tokens to train on in one pass: about those whose states take half of what the weights take.

    A token leaves about 20 numbers of the hidden size in each layer, and one where layers are computed again. With bf16
    two thirds of their bytes, and each pass copies all weights in half their size, and their gradients back: states of
    up to 4/3 of the weights' size.
    """
    base = inner(model)
    text, weight = base.config.get_text_config(), next(base.parameters())
    kept = 1 if any(getattr(module, "gradient_checkpointing", False) for module in base.modules()) else 20
    token = kept * text.num_hidden_layers * text.hidden_size * weight.element_size()
    weights = sum(p.numel() * p.element_size() for p in base.parameters())
    return int(max(weights / 2, LEAST_STATES) * (4 if bf16 else 1) / token)


def num_rows(batch: Mapping[str, Any]) -> int:
    """How many rows of a batch count: all, or those that :class:`UnlearningTrainer` noted."""
    rows = next(iter(batch.values()))["answer"]
    return int(rows.get("num_rows", len(rows["labels"])))


@dataclass(frozen=True)
class Weights:
    """The factors of the terms of the loss, and the settings of a run, which go before the published ones."""

    forget_weight: float = 1.0
    retain_weight: float = 1.0
    entropy_forget: float = 0.0
    entropy_retain: float = 0.0
    entropy_mask: str = "answer"
    reduction: str = "rows"
    pad_to: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: UnlearnConfig) -> Weights:
        """Those of a run."""
        given = {name: value for name, value in vars(config).items() if value is not None}
        return cls(settings=given, **{f.name: getattr(config, f.name) for f in fields(cls) if f.name != "settings"})

    def term(self, half: str) -> float:
        """The weight of the term of one half."""
        return self.forget_weight if half == "forget" else self.retain_weight

    def entropy(self, half: str) -> float:
        """The weight of the entropy on one half."""
        return self.entropy_forget if half == "forget" else self.entropy_retain

    def keywords(self, term: Term) -> dict[str, Any]:
        """What a term's loss takes by keyword."""
        return {KEYWORDS.get(name, name): self.settings.get(name, value) for name, value in term.settings.items()}


class UnlearningTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with the loss of an :class:`Objective` and weighted entropies.

    The loss of a step is the mean over its examples of
    ``w_f F + w_r R + h_f H_forget + h_r H_retain``, whatever the number of accumulated batches and of processes: rows
    that accelerate repeats, where an epoch does not fill the last batches of all processes, weigh nothing. With
    the reduction ``tokens`` each term is the mean over the tokens of a batch instead (over its rows, where a term has
    one value for a row), and the step's the mean over its batches: what most published code minimises.
    ``passes`` says how the model is called and what the reference model is; ``anew`` gives the model's own answers to
    the forget questions of a step, with which it is called before each step.

    :raises TrainingError: from ``train``: before the weights change, when the loss of a batch is not finite; when
        ``guard`` stops a model that collapses.
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
        passes: Passes | None = None,
        guard: CollapseGuard | None = None,
        anew: Callable[[Sequence[str], int], Mapping[str, Example]] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.objective, self.weights, self.guard = objective, weights, guard
        self.passes = replace(passes or Passes(), adds=True)
        kinds = [kind for kind in ANSWERS[1:] if objective.uses(kind)]
        super().__init__(
            model=model,
            args=args,
            data_collator=PairCollator(pad_id, kinds, {half: weights.pad_to for half in HALVES if self._whole(half)}),
            train_dataset=data,
            callbacks=[DrawPartners(data), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.anew, self.pad_id = anew, pad_id
        self.loss_is_scaled_for_ga = True
        self.parts: dict[str, list[tuple[float, int]]] = {}

    def create_accelerator_and_postprocess(self) -> None:
        """transformers' own; on CPUs also FSDP, for which accelerate would give DDP without a word."""
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if sharing() == "fsdp" and state.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin()  # as the launcher's environment says
            if state.mixed_precision != "no":
                state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
            state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
            self.is_fsdp_enabled = True

    def go_to_end(self, checkpoint: Path) -> bool:
        """Take a checkpoint of the last step as the end of the training, if it is one: going on would add a step."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step < state.max_steps or sharing():
            return False
        self._load_from_checkpoint(str(checkpoint))
        self.state = state
        return True

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimiser step, and by how many examples or batches this process divides its loss."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.anew is not None:  # here, since batches are read ahead, and the model of this step shall answer
            asked = [batch["forget"]["answer"]["questions"] for batch in batches]
            answers = self.anew([question for some in asked for question in some], self.state.global_step)
            for batch, some in zip(batches, asked, strict=True):
                batch["forget"]["sampled"] = collate([answers[question] for question in some], self.pad_id)
        if self.args.world_size > 1:
            self._count_rows(batches)
        counts = [num_rows(batch) for batch in batches]
        count = sum(counts if self.weights.reduction == "rows" else map(bool, counts))
        if self.args.world_size > 1:  # gradients are averaged over processes, so divide by the mean count
            total = self.accelerator.gather(torch.tensor([count], device=device)).sum().item()
            return batches, total / self.args.world_size
        return batches, count

    def _count_rows(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Note in each batch of this step how many of its rows are no repetitions.

        The batches of an epoch go round the processes; rows after the last example begin again with the first.
        """
        size, rows = self.args.per_device_train_batch_size, len(self.train_dataset)
        rounds = math.ceil(math.ceil(rows / size) / self.args.world_size)
        step = self.state.global_step % math.ceil(rounds / self.args.gradient_accumulation_steps)
        for turn, batch in enumerate(batches, step * self.args.gradient_accumulation_steps):
            before = (turn * self.args.world_size + self.args.process_index) * size
            for half in batch.values():
                half["answer"]["num_rows"] = min(max(rows - before, 0), size)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """The gradients of a batch, piece by piece: the states of one are all that is kept for a backward pass."""
        step, found = super().training_step, []
        for piece in self.pieces(inputs):
            with attention_of(self.model.device, self.args.bf16, piece):
                found.append(step(model, piece, num_items_in_batch))
        return torch.stack(found).sum()

    def pieces(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What adds up to a batch: each half apart, some rows at a time where the loss is a sum over rows.

        The whole of it where gradients are shared between processes, or made steps of, once for a batch.
        """
        halves = [half for half in HALVES if half in batch and self._matters(half)]
        if self.args.world_size > 1 or self.is_deepspeed_enabled or not halves:
            return [dict(batch)]
        if self.weights.reduction == "tokens":
            return [{half: batch[half]} for half in halves]
        return [
            {half: piece}
            for half in halves
            for piece in in_pieces(
                batch[half], self._tokens, trim=not self._whole(half), sizes=self._beside(half, batch[half])
            )
        ]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The batch's share of the step's loss: its examples' losses, summed and divided by the step's count.

        With the reduction tokens: its mean over tokens, divided by the step's count of batches.
        """
        total: Tensor | None = None
        parts: dict[str, float] = {}
        count = num_rows(inputs)
        for half in (half for half in HALVES if half in inputs and self._matters(half)):
            needs = self.objective.needs(half) if self.weights.term(half) else ()
            watched = half == "retain" and self.guard is not None
            outputs = self.passes.run(
                model,
                inputs[half],
                needs,
                own=watched or bool(self.weights.entropy(half)),
                whole=self._whole(half),
            )
            for name, weight, every_B, counted in self._terms(half, outputs):
                value_B = every_B[:count]
                mean, share = value_B.sum() / max(count, 1), value_B.sum() / (num_items_in_batch or count)
                if self.weights.reduction == "tokens":
                    counts_B = outputs.counts(counted)[:count] if counted else torch.ones_like(value_B)
                    mean = (counts_B * value_B).sum() / counts_B.sum().clamp(min=1)
                    share = mean / (num_items_in_batch or 1)
                parts[name] = mean.item()
                term = weight * share
                total = term if total is None else total + term
            if watched:
                nll_B = losses.nll(outputs.logps.detach(), outputs.lengths)[:count]
                parts["retain_nll"] = nll_B.sum().item() / max(count, 1)
        if total is None:
            raise TrainingError("every term of the loss has weight 0: give at least one of them a weight")
        if not math.isfinite(total.item()):
            shown = ", ".join(f"{name} {value:g}" for name, value in parts.items())
            rows = [source for half in inputs.values() for source in half["answer"]["sources"] if source]
            raise TrainingError(
                f"the loss is {total.item()} in step {self.state.global_step + 1} ({shown}"
                f"{'; batch: ' + '; '.join(rows) if rows else ''}): lower learning_rate or forget_weight, or train "
                "for fewer steps"
            )
        for name, value in parts.items():
            self.parts.setdefault(name, []).append((value, count))
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every term since the last log, over all processes, and let the guard see them."""
        if "train_loss" in logs and self.args.logging_steps == 1:  # of all steps, not only those since the checkpoint
            every = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
            logs = {**logs, "train_loss": sum(every) / len(every)}
        sums = [[sum(v * rows for v, rows in some), sum(rows for _, rows in some)] for some in self.parts.values()]
        if sums and self.args.world_size > 1:
            sums = self.accelerator.reduce(torch.tensor(sums, device=self.args.device), "sum").tolist()
        means = {name: value / rows for name, (value, rows) in zip(self.parts, sums, strict=True)}
        self.parts.clear()
        super().log({**logs, **means}, start_time)
        if self.guard is not None and "retain_nll" in means:
            self.guard.check(means["retain_nll"], self.state.global_step)

    def floating_point_ops(self, inputs: Any) -> int:
        """The operations of the forward and backward passes of all halves."""
        tokens = sum(rows["input_ids"].numel() for half in inputs.values() for rows in half.values())
        return 6 * int(tokens) * self._size  # transformers', which counts the parameters anew for every batch

    def _beside(self, half: str, rows: Mapping[str, Any]) -> list[int] | None:
        """The tokens of the groups that are read beside each row."""
        groups = self.passes.groups
        if groups is None or not any(need.startswith("group.") for need in self.objective.needs(half)):
            return None
        return [groups.groups[question].size for question in rows["answer"]["questions"]]

    @cached_property
    def _size(self) -> int:
        return int(self.model.num_parameters(exclude_embeddings=True))

    @cached_property
    def _tokens(self) -> int:
        return piece_tokens(self.model, self.args.bf16)

    def _matters(self, half: str) -> bool:
        term = getattr(self.objective, half)
        return bool((term and self.weights.term(half)) or self.weights.entropy(half))

    def _whole(self, half: str) -> bool:
        """Whether something looks at the padding of one half."""
        entropy = bool(self.weights.entropy(half)) and self.weights.entropy_mask == "all"
        needs = self.objective.needs(half) if self.weights.term(half) else ()
        return entropy or "all" in self.passes.masks(needs)

    def _terms(self, half: str, outputs: Half) -> Iterator[tuple[str, float, Tensor, str]]:
        """Name, weight, per-example values and counted tokens of the terms on one half."""
        term = getattr(self.objective, half)
        if term is not None and self.weights.term(half):
            value_B = term.loss(*outputs.take(term.needs), **self.weights.keywords(term))
            yield f"{half}_loss", self.weights.term(half), value_B, term.counted
        if self.weights.entropy(half):
            mask = self.weights.entropy_mask
            counted = "answer_mask" if half == "retain" and mask in ("unsaid", "clean") else f"{mask}_mask"
            value_B = losses.entropy(outputs.laws, getattr(outputs, counted))
            yield f"{half}_entropy", self.weights.entropy(half), value_B, counted


@torch.no_grad()
def reference_logps(
    model: Any, examples: Sequence[Example], *, pad_id: int, batch_size: int, bf16: bool = False, show: bool = False
) -> list[float]:
    """Log-probability of each example's answer under ``model``, nats: a constant of the data, computed once."""
    was_training = model.training
    model.eval()
    logps: list[float] = []
    batches = [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
    with steps(batches, "before the training", unit="answers", weight=len, show=show) as some:
        for few in some:
            batch = collate(few, pad_id)
            inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                laws, _ = laws_of(model, inputs)
                logps += losses.sequence_logps(laws, batch["labels"].to(model.device)).tolist()
    model.train(was_training)
    return logps
