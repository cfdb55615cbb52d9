"""The settings of a training run: one dataclass per command, checked when it is made."""

import importlib.util
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from leakbound.errors import InputError
from leakbound.records import SamplingParams, check_count
from leakbound.unlearning.published import OURS, settings_of, source_of

SCHEDULES = ("constant", "linear", "cosine")
REDUCTIONS = ("rows", "tokens")
MASKS = ("answer", "all")
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
        if self.max_steps is not None:
            check_count("max_steps", self.max_steps, least=1)
        _check_number("learning_rate", self.learning_rate, above=0.0)
        for name in ("weight_decay", "max_grad_norm"):
            _check_number(name, getattr(self, name), least=0.0)
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup is {self.warmup!r}: give the share of the steps, a number in [0, 1)")
        _check_choice("schedule", self.schedule, SCHEDULES)
        check_count("lora_rank", self.lora_rank, least=0)
        check_count("lora_alpha", self.lora_alpha, least=1)
        if self.lora_rank and importlib.util.find_spec("peft") is None:
            raise InputError(f"lora_rank is {self.lora_rank}, which needs peft: pip install 'leakbound[hf]'")
        if self.save_every is not None:
            check_count("save_every", self.save_every, least=1)
        _check_choice("report_to", self.report_to, TRACKERS)
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
        _check_choice("device", self.device, ("auto", "cpu"))


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


if TYPE_CHECKING:  # what they are once they are settled
    Whole: TypeAlias = int
    Number: TypeAlias = float
    Text: TypeAlias = str
else:
    Whole, Number, Text = int | None, float | None, str | None
BY_METHOD: Any = None
"""The default of a setting that follows from the method and ``like``: it is settled when the configuration is made."""


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """What is minimised so that a model forgets, and what is watched while it does.

    The loss is ``forget_weight * F + retain_weight * R + entropy_forget * H_forget + entropy_retain * H_retain``,
    where F and R are the terms of ``method`` and H the mean entropy of the next-token distribution. A setting with two
    numbers in brackets, or none, is by default that of the method's authors (:mod:`leakbound.unlearning.published`).
    """

    method: str = "npo_gd"
    """A named method (NPO+GD, IDK+AP, SimNPO, RMU, ...), a pair forget:retain of terms (npo:kl, ga:none, ...), or
    replay: the training of MODEL again without the rows (finetune --replayable)."""
    like: str = "published"
    """Whose settings stand where none are given: published (those of a named method's authors), or ours (as for a
    pair, the same for all)."""
    epochs: Whole = BY_METHOD
    """How often the data are gone through (published; ours 5)."""
    batch_size: Whole = BY_METHOD
    """Examples of each half in one forward pass (published; ours 16)."""
    accumulation: Whole = BY_METHOD
    """Forward passes to one optimiser step (published; ours 1)."""
    learning_rate: Number = BY_METHOD
    """The largest learning rate of the schedule, AdamW (published; ours 1e-5)."""
    schedule: Text = BY_METHOD
    """How the learning rate goes on after the warm-up: constant, linear, cosine (published; ours linear)."""
    warmup: Number = BY_METHOD
    """The share of all steps in which the learning rate rises from 0 (published, mostly one epoch; ours 0)."""
    weight_decay: Number = BY_METHOD
    """AdamW's weight decay, on matrices only (published; ours 0.01)."""
    max_grad_norm: Number = BY_METHOD
    """Gradients are scaled down to at most this norm, 0 leaves them (published, mostly 1; ours 1)."""
    forget_weight: Number = BY_METHOD
    """Weight of the forget term (published; ours 1)."""
    retain_weight: Number = BY_METHOD
    """Weight of the retain term (published; ours 1)."""
    reduction: Text = BY_METHOD
    """rows: the mean over the step's rows; tokens: over the tokens of each batch, then over the step's batches
    (published, mostly tokens; ours rows)."""
    pad_to: Whole = BY_METHOD
    """Pad rows to so many tokens where a mask is all (published 500, with entropies 256; ours 0: to the longest)."""
    entropy_forget: float = 0.0
    """Weight of the entropy on forget examples; the paper's entropy optimisation takes 1."""
    entropy_retain: float = 0.0
    """Weight of the entropy on retain examples; the paper's entropy optimisation takes -0.25."""
    entropy_mask: Text = BY_METHOD
    """Positions of the entropy: answer, or all, padding included (published all; ours answer)."""
    beta: float | None = None
    """NPO, DPO, AP (0.1), SimNPO (2.5): how soon the pull on an example fades; by default the number in brackets."""
    gamma: float | None = None
    """SimNPO: the margin in nats per token (0)."""
    me_direction: str | None = None
    """ME: uniform, KL(U||P) as in the paper's code, or model, KL(P||U) as in its text (uniform)."""
    me_mask: Text = BY_METHOD
    """ME: positions, answer, text (question and answer) or all, padding included (published all; ours text)."""
    kl_mask: Text = BY_METHOD
    """KL: positions, as for ME (published all; ours text)."""
    mismatch_weight: float | None = None
    """LLMU: weight of the wrong answer beside the ascent (published 2; ours 1)."""
    rmu_layer: int | None = None
    """RMU: the layer whose states are turned, counted from 1; by default by rmu_depth."""
    rmu_depth: Number = BY_METHOD
    """RMU: or how far up it lies, as a share of the layers (published 1/4; ours 1/3)."""
    rmu_part: Text = BY_METHOD
    """RMU: what is trained of the three layers that end there: layer, all of it, or down_proj (published)."""
    rmu_scale: float | None = None
    """RMU: the length of the vector that the states are turned to (6.5)."""
    undial_strength: float | None = None
    """UNDIAL: by how much the answer's logit is lowered (10)."""
    wga_power: float | None = None
    """WGA: the power of the token's probability in its weight (published 5, with GD 1; ours 1)."""
    saturation: float | None = None
    """SatImp: the power of the token's probability in its weight (5)."""
    importance: float | None = None
    """SatImp: the power of one minus that probability (published 0.1; ours 1)."""
    ce_u_skip: Whole = BY_METHOD
    """CE-U: so many first tokens of each answer are left out (published 1; ours 0)."""
    idk: Path | None = None
    """IDK, DPO, AP: a file of refusals, one on each line, instead of the ones that come with leakbound."""
    jensun_target: Text = BY_METHOD
    """JensUn: the text whose tokens take the place of the answer's, over and over (No idea)."""
    pmc_samples: Whole = BY_METHOD
    """PMC: answers to each forget question of a step, of which one is chosen (published 5; ours 8)."""
    pmc_temperature: Number = BY_METHOD
    """PMC: the temperature of these answers (1.25)."""
    pmc_top_p: Number = BY_METHOD
    """PMC: these answers are drawn from the likeliest tokens that make up this probability (0.95)."""
    leak_rounds: int = 0
    """After training, so often: sample the forget questions (rephrased ones too, where rows have them), add the
    answers that leak, and train again."""
    leak_samples: int = 64
    """Answers sampled for each forget question to find leaks (leak_rounds; leak_mass, each time)."""
    leak_scorer: str = "contains"
    """The scorer that judges them, as for audit."""
    leak_threshold: float = 0.5
    """An answer leaks when it scores this or more."""
    leak_search: int = 16
    """leak_mass: further answers to each forget question, drawn without replacement."""
    leak_every: int | None = None
    """leak_mass, GRPO: draw anew after so many steps; by default at the start of each epoch."""
    leak_kept: int = 16
    """leak_mass: the most answers of a question that are known to leak; the likeliest, and what the rows say."""
    grpo_samples: int = 16
    """GRPO: answers to each forget question that are compared with each other, rewarded by 1 - leak_scorer."""
    grpo_clip: float | None = None
    """GRPO: how far a token's probability goes from the one it was drawn with before more is worth nothing (0.2)."""
    grpo_kl: float | None = None
    """GRPO: weight of the divergence from the model before the training (0.04)."""
    max_tokens: Whole = BY_METHOD
    """The longest sampled answer, in tokens: PMC (published 200), others (64)."""
    collapse_factor: float = 10.0
    """The model counts as collapsed when its loss on retain examples is this many times its start (0.1 at least)."""
    on_collapse: str = "warn"
    """What to do then: warn (once), stop (an error), or ignore."""

    def __post_init__(self) -> None:
        _check_choice("like", self.like, ("published", "ours"))
        for name, value in self._usual(epochs=self.epochs).items():
            if getattr(self, name, None) is None:
                object.__setattr__(self, name, value)
        object.__setattr__(self, "idk", None if self.idk is None else Path(self.idk))
        for name in ("beta", "undial_strength", "rmu_scale", "grpo_clip"):
            _check_number(name, getattr(self, name), above=0.0)
        for name in (
            "forget_weight",
            "retain_weight",
            "mismatch_weight",
            "wga_power",
            "saturation",
            "importance",
            "grpo_kl",
        ):
            _check_number(name, getattr(self, name), least=0.0)
        for name in ("entropy_forget", "entropy_retain", "gamma"):
            _check_number(name, getattr(self, name))
        _check_choice("entropy_mask", self.entropy_mask, MASKS)
        for name in ("me_mask", "kl_mask"):
            _check_choice(name, getattr(self, name), (*MASKS, "text"))
        _check_choice("reduction", self.reduction, REDUCTIONS)
        check_count("pad_to", self.pad_to, least=0)
        if self.me_direction is not None:
            _check_choice("me_direction", self.me_direction, ("uniform", "model"))
        if self.rmu_layer is not None:
            check_count("rmu_layer", self.rmu_layer, least=1)
        if not 0 < self.rmu_depth < 1:
            raise InputError(f"rmu_depth is {self.rmu_depth!r}: give the share of the layers, a number in (0, 1)")
        _check_choice("rmu_part", self.rmu_part, ("layer", "down_proj"))
        check_count("ce_u_skip", self.ce_u_skip, least=0)
        for name, least in (("pmc_samples", 1), ("leak_samples", 1), ("max_tokens", 1), ("leak_rounds", 0)):
            check_count(name, getattr(self, name), least=least)
        for name, least in (("leak_search", 0), ("leak_every", 1), ("leak_kept", 1), ("grpo_samples", 2)):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), least=least)
        SamplingParams(temperature=self.pmc_temperature, top_p=self.pmc_top_p)  # refuses what cannot be drawn
        if not 0 < self.leak_threshold <= 1:
            raise InputError(f"leak_threshold is {self.leak_threshold!r}: give a number in (0, 1]")
        _check_number("collapse_factor", self.collapse_factor, above=1.0)
        _check_choice("on_collapse", self.on_collapse, ("warn", "stop", "ignore"))

    def _usual(self, *, epochs: int | None = None) -> dict[str, Any]:
        """The settings by method where none are given but epochs."""
        entropy = bool(self.entropy_forget or self.entropy_retain)
        return settings_of(self.method, self.like, entropy=entropy, epochs=epochs)

    def changed(self) -> dict[str, Any]:
        """The settings by method that differ from the usual ones: name -> the usual value."""
        return {name: value for name, value in self._usual().items() if getattr(self, name) != value}

    def origin(self) -> dict[str, Any]:
        """Whose settings stand where the run gives none, and the values there of those that are others here."""
        return {"from": source_of(self.method, self.like) or "ours", "there": self.changed()}


@dataclass(frozen=True, kw_only=True)
class UnlearnConfig(Forgetting, TrainingConfig):
    """Make a model forget some answers and retain others."""

    model: str
    """The model to start from, which is also the reference model: a folder or a hub id."""
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


def _check_number(name: str, value: float | None, *, least: float | None = None, above: float | None = None) -> None:
    if value is None:
        return
    if not math.isfinite(value) or (least is not None and value < least) or (above is not None and value <= above):
        bound = f" >= {least:g}" if least is not None else f" > {above:g}" if above is not None else ""
        raise InputError(f"{name} is {value!r}: give a finite number{bound}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}: give one of {', '.join(choices)}")
