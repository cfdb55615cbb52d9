"""The settings of a training run: one dataclass per command, checked when it is made."""

import importlib.util
from dataclasses import dataclass, fields
from pathlib import Path

from leakbound.errors import InputError
from leakbound.records import check_choice, check_count, check_number
from leakbound.unlearning.forgetting import Forgetting
from leakbound.unlearning.published import OURS

SCHEDULES = ("constant", "linear", "cosine")
REPLAYED = ("model", "forget", "out", "resume", "device", "report_to", "trust_remote_code")
"""Settings of a replay; all others stand in the log."""
TRACKERS = ("none", "tensorboard", "wandb", "mlflow")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How weights are trained: what does not depend on where they come from and go to."""

    epochs: int = 5
    """How often the data are gone through."""
    max_steps: int | None = None
    """Stop after this many optimiser steps; goes before epochs. With leak rounds an equal share for each training."""
    batch_size: int = 16
    """Examples of each half in one forward pass."""
    accumulation: int = 1
    """Forward passes to one optimiser step; the loss equals that of the large batch."""
    learning_rate: float = 1e-5
    """The largest learning rate of the schedule (AdamW)."""
    schedule: str = "linear"
    """How the learning rate goes on after the warm-up: constant, linear or cosine (both to 0)."""
    warmup: float = 0.0
    """The share of all steps in which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """AdamW's weight decay, on matrices only."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to at most this norm; 0 leaves them."""
    max_length: int = 512
    """The largest number of tokens in a question and its answer; a longer row is an error."""
    bf16: bool = False
    """Compute in bfloat16; the weights, their updates and the losses stay in float32."""
    gradient_checkpointing: bool = False
    """Compute the activations again in the backward pass: less memory, more time, the same gradients."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank (peft) and merge them into the saved model; 0 trains all weights."""
    lora_alpha: int = 32
    """The adapters are scaled by lora_alpha / lora_rank."""
    save_every: int | None = None
    """Write a checkpoint after so many steps into OUT-checkpoints, which is removed when the run ends well."""
    report_to: str = "none"
    """Where the losses are also shown: none, tensorboard, wandb or mlflow."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "max_length"):
            check_count(name, getattr(self, name), least=1)
        check_count("max_steps", self.max_steps, least=1, needed=False)
        check_number("learning_rate", self.learning_rate, above=0.0)
        for name in ("weight_decay", "max_grad_norm"):
            check_number(name, getattr(self, name), least=0.0)
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup is {self.warmup!r}: give the share of the steps, a number in [0, 1)")
        check_choice("schedule", self.schedule, SCHEDULES)
        check_count("lora_rank", self.lora_rank, least=0)
        check_count("lora_alpha", self.lora_alpha, least=1)
        if self.lora_rank and importlib.util.find_spec("peft") is None:
            raise InputError(f"lora_rank is {self.lora_rank}, which needs peft: pip install 'leakbound[hf]'")
        check_count("save_every", self.save_every, least=1, needed=False)
        check_choice("report_to", self.report_to, TRACKERS)
        if self.report_to != "none" and importlib.util.find_spec(self.report_to) is None:
            raise InputError(f"report_to is {self.report_to!r}: first pip install {self.report_to}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Training):
    """What every training run has to settle."""

    out: Path
    """The folder for the trained model; must not hold anything yet."""
    template: str = "auto"
    """How a question becomes a prompt: auto, chat, raw, qa, or a text with {text}; audit with the same."""
    seed: int = 0
    """All randomness of the run: initial weights, order of the data, pairing."""
    device: str = "auto"
    """auto (what transformers picks) or cpu."""
    trust_remote_code: bool = False
    """Let the model's repository run its own Python code."""
    resume: bool = False
    """Go on where an interrupted run stopped (see save_every); start from the beginning where there is nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "out", Path(self.out))
        check_count("seed", self.seed, least=0)
        check_choice("device", self.device, ("auto", "cpu"))


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """Train a causal language model on question-answer pairs, from a given model or from scratch."""

    data: Path
    """JSON lines with question and answer."""
    model: str | None = None
    """The model to start from: a folder or a hub id."""
    from_scratch: str | None = None
    """Or the size of a new one: tiny (1 million parameters), mini (4 million) or small (9 million)."""
    tokenizer: str | None = None
    """From scratch: the folder or hub id of the tokenizer to use instead of training one on the data."""
    replayable: bool = False
    """Keep the checkpoints and a log of all steps in OUT-replay, for unlearn --method replay (with save_every)."""
    leave_out: Path | None = None
    """Rows of the data that no batch takes; all else as in the run with them: what a replay ends with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "data", Path(self.data))
        if (self.model is None) == (self.from_scratch is None):
            raise InputError(
                f"model is {self.model!r} and from_scratch is {self.from_scratch!r}: give one of the two, a model to "
                "start from or the size of a new one"
            )
        if self.from_scratch is not None:
            from leakbound.unlearning.scratch import find_size  # here, for a command line that starts without torch

            find_size(self.from_scratch)
        elif self.tokenizer is not None:
            raise InputError(f"tokenizer is {self.tokenizer!r}: leave it out, {self.model!r} brings its own")
        self._check_replay()

    def _check_replay(self) -> None:
        if self.leave_out is not None:
            object.__setattr__(self, "leave_out", Path(self.leave_out))
        elif not self.replayable:
            return
        if self.from_scratch is not None and self.tokenizer is None:
            raise InputError("tokenizer is None: one made of the data would know the rows left out: give another")
        if self.replayable and self.save_every is None:
            raise InputError("save_every is None: replayable keeps a checkpoint every so many steps: give their number")
        if self.replayable and (self.lora_rank or self.leave_out):
            given = f"lora_rank is {self.lora_rank}" if self.lora_rank else f"leave_out is {str(self.leave_out)!r}"
            raise InputError(f"{given}: leave it out with replayable, which trains all weights on all rows")


@dataclass(frozen=True, kw_only=True)
class UnlearnConfig(Forgetting, TrainingConfig):
    """Make a model forget some answers and retain others."""

    model: str
    """The model to start from: a folder or a hub id."""
    forget: tuple[Path, ...]
    """JSON lines with question and answer: what to forget. Several files are requests that come one after another."""
    retain: Path | None = None
    """JSON lines with question and answer: what to retain."""

    def __post_init__(self) -> None:
        Forgetting.__post_init__(self)
        TrainingConfig.__post_init__(self)
        files = (self.forget,) if isinstance(self.forget, str | Path) else tuple(self.forget)
        object.__setattr__(self, "forget", tuple(Path(file) for file in files))
        object.__setattr__(self, "retain", None if self.retain is None else Path(self.retain))
        if not self.forget or len(set(self.forget)) < len(self.forget):
            raise InputError(f"forget is {[str(f) for f in self.forget]}: give one file or several different ones")
        if self.is_replay:
            self._check_replay()
            return
        from leakbound.unlearning.objectives import find_objective  # here, for a command line that starts without torch

        objective = find_objective(self.method)
        needs_retain = objective.retain is not None or self.entropy_retain or objective.uses("mismatch")
        if self.retain is None and needs_retain:
            raise InputError(f"retain is None: method {self.method!r} needs a file of questions to retain")
        if self.max_steps is not None and self.max_steps <= self.leak_rounds:
            raise InputError(
                f"max_steps is {self.max_steps} and leak_rounds is {self.leak_rounds}: give each training a step"
            )
        if self.save_every is not None and (self.leak_rounds or objective.uses("sampled") or objective.uses("group")):
            raise InputError(
                f"save_every is {self.save_every}: a run that samples its own training data cannot be resumed exactly; "
                "leave it out with leak_rounds, and with methods that sample"
            )

    @property
    def other_reference(self) -> str | None:
        """The reference model where it is not the model that the training starts from."""
        return None if self.reference in (None, "initial", "last", self.model) else self.reference

    @property
    def is_replay(self) -> bool:
        """Whether the model's training is done again, rather than another one added."""
        return self.method.strip().lower() == "replay"

    def _check_replay(self) -> None:
        if len(self.forget) > 1:
            raise InputError(f"forget is {[str(f) for f in self.forget]}: a replay takes one file, with all the rows")
        for each in fields(self):
            name, value = each.name, getattr(self, each.name)
            if name not in ("method", "like", *REPLAYED) and value != OURS.get(name, each.default):
                raise InputError(f"{name} is {value!r}: leave it out, a replay does what the model's log says")
