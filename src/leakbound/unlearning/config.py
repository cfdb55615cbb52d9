"""The settings of a training run: one dataclass per command, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from leakbound.errors import InputError

SCHEDULES = ("constant", "linear", "cosine")
MASKS = ("answer", "all")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every training run has to settle."""

    out: Path
    """The folder for the trained model; must not hold anything yet."""
    epochs: int = 5
    """How often the data are gone through."""
    max_steps: int | None = None
    """Stop after this many optimiser steps; goes before epochs."""
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
    template: str = "auto"
    """How a question becomes a prompt: auto, chat, raw, qa, or a text with {text}; audit with the same."""
    seed: int = 0
    """All randomness of the run: initial weights, order of the data, pairing."""
    device: str = "auto"
    """auto (what transformers picks) or cpu."""
    trust_remote_code: bool = False
    """Let the model's repository run its own Python code."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        for name in ("epochs", "batch_size", "accumulation", "max_length"):
            _check_whole(name, getattr(self, name), least=1)
        if self.max_steps is not None:
            _check_whole("max_steps", self.max_steps, least=1)
        _check_whole("seed", self.seed, least=0)
        _check_number("learning_rate", self.learning_rate, above=0.0)
        for name in ("weight_decay", "max_grad_norm"):
            _check_number(name, getattr(self, name), least=0.0)
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup is {self.warmup!r}: give the share of the steps, a number in [0, 1)")
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_choice("device", self.device, ("auto", "cpu"))


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """Train a causal language model on question-answer pairs, from a given model or from scratch."""

    data: Path
    """JSON lines with question and answer."""
    model: str | None = None
    """The model to start from: a folder or a hub id."""
    from_scratch: str | None = None
    """Or the size of a new one: tiny (1 million parameters) or small (9 million)."""
    tokenizer: str | None = None
    """From scratch: the folder or hub id of the tokenizer to use instead of training one on the data."""

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


@dataclass(frozen=True, kw_only=True)
class UnlearnConfig(TrainingConfig):
    """Make a model forget some answers and retain others.

    The loss is ``forget_weight * F + retain_weight * R + entropy_forget * H_forget + entropy_retain * H_retain``,
    where F and R are the terms of ``method`` and H the mean entropy of the next-token distribution.
    """

    model: str
    """The model to start from, which is also the reference model: a folder or a hub id."""
    forget: Path
    """JSON lines with question and answer: what to forget."""
    retain: Path | None = None
    """JSON lines with question and answer: what to retain."""
    method: str = "npo_gd"
    """A named method (grad_diff, npo_gd, ...) or a pair forget:retain of terms (npo:kl, ga:none, ...)."""
    beta: float = 0.1
    """NPO: how soon the forgetting of an example fades."""
    forget_weight: float = 1.0
    """Weight of the forget term."""
    retain_weight: float = 1.0
    """Weight of the retain term."""
    entropy_forget: float = 0.0
    """Weight of the entropy on forget examples; the paper's entropy optimisation takes 1."""
    entropy_retain: float = 0.0
    """Weight of the entropy on retain examples; the paper's entropy optimisation takes -0.25."""
    entropy_mask: str = "answer"
    """Positions of the entropy: answer, or all (padding included, as in the paper's code)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "forget", Path(self.forget))
        object.__setattr__(self, "retain", None if self.retain is None else Path(self.retain))
        _check_number("beta", self.beta, above=0.0)
        for name in ("forget_weight", "retain_weight"):
            _check_number(name, getattr(self, name), least=0.0)
        for name in ("entropy_forget", "entropy_retain"):
            _check_number(name, getattr(self, name))
        _check_choice("entropy_mask", self.entropy_mask, MASKS)
        from leakbound.unlearning.objectives import find_objective  # here, as above

        objective = find_objective(self.method)
        if self.retain is None and (objective.retain is not None or self.entropy_retain):
            raise InputError(f"retain is None: method {self.method!r} needs a file of questions to retain")


def _check_whole(name: str, value: int, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}: give a whole number >= {least}")


def _check_number(name: str, value: float, *, least: float | None = None, above: float | None = None) -> None:
    if not math.isfinite(value) or (least is not None and value < least) or (above is not None and value <= above):
        bound = f" >= {least:g}" if least is not None else f" > {above:g}" if above is not None else ""
        raise InputError(f"{name} is {value!r}: give a finite number{bound}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}: give one of {', '.join(choices)}")
