"""The settings of forgetting: what is minimised, and what is watched; those of the method's authors by default."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from leakbound.errors import InputError
from leakbound.records import SamplingParams, check_choice, check_count, check_number
from leakbound.unlearning.published import settings_of, source_of

REDUCTIONS = ("rows", "tokens")
MASKS = ("answer", "all")
ENTROPY_MASKS = (*MASKS, "unsaid", "clean")

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
    reference: str | None = None
    """The reference model of losses that compare (NPO, DPO, KL, ...): last, the model before this request or round of
    until (default); initial, the one before the first; or a folder or hub id."""
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
    """Gradients are scaled down to at most this norm, 0 leaves them (published, mostly 0; ours 1)."""
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
    """Positions of the entropy: answer; all, padding included; on forget examples also unsaid, an answer's tokens that
    are not the likeliest, or clean, an answer's once most are not (published all; ours answer)."""
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
        check_choice("like", self.like, ("published", "ours"))
        for name, value in self._usual(epochs=self.epochs).items():
            if getattr(self, name, None) is None:
                object.__setattr__(self, name, value)
        object.__setattr__(self, "idk", None if self.idk is None else Path(self.idk))
        for name in ("beta", "undial_strength", "rmu_scale", "grpo_clip"):
            check_number(name, getattr(self, name), above=0.0)
        for name in (
            "forget_weight",
            "retain_weight",
            "mismatch_weight",
            "wga_power",
            "saturation",
            "importance",
            "grpo_kl",
        ):
            check_number(name, getattr(self, name), least=0.0)
        for name in ("entropy_forget", "entropy_retain", "gamma"):
            check_number(name, getattr(self, name))
        check_choice("entropy_mask", self.entropy_mask, ENTROPY_MASKS)
        for name in ("me_mask", "kl_mask"):
            check_choice(name, getattr(self, name), (*MASKS, "text"))
        check_choice("reduction", self.reduction, REDUCTIONS)
        check_count("pad_to", self.pad_to, least=0)
        if self.me_direction is not None:
            check_choice("me_direction", self.me_direction, ("uniform", "model"))
        check_count("rmu_layer", self.rmu_layer, least=1, needed=False)
        if not 0 < self.rmu_depth < 1:
            raise InputError(f"rmu_depth is {self.rmu_depth!r}: give the share of the layers, a number in (0, 1)")
        check_choice("rmu_part", self.rmu_part, ("layer", "down_proj"))
        check_count("ce_u_skip", self.ce_u_skip, least=0)
        for name, least in (("pmc_samples", 1), ("leak_samples", 1), ("max_tokens", 1), ("leak_rounds", 0)):
            check_count(name, getattr(self, name), least=least)
        for name, least in (("leak_search", 0), ("leak_every", 1), ("leak_kept", 1), ("grpo_samples", 2)):
            check_count(name, getattr(self, name), least=least, needed=False)
        SamplingParams(temperature=self.pmc_temperature, top_p=self.pmc_top_p)  # refuses what cannot be drawn
        if not 0 < self.leak_threshold <= 1:
            raise InputError(f"leak_threshold is {self.leak_threshold!r}: give a number in (0, 1]")
        check_number("collapse_factor", self.collapse_factor, above=1.0)
        check_choice("on_collapse", self.on_collapse, ("warn", "stop", "ignore"))

    def _usual(self, *, epochs: int | None = None) -> dict[str, Any]:
        """The settings by method where none are given but epochs."""
        entropy = bool(self.entropy_forget or self.entropy_retain)
        return settings_of(self.method, self.like, entropy=entropy, epochs=epochs)

    def reference_of(self, first: str) -> str | None:
        """The reference model that is meant where the first of several trainings starts from ``first``."""
        return first if self.reference == "initial" else self.reference

    def changed(self) -> dict[str, Any]:
        """The settings by method that differ from the usual ones: name -> the usual value."""
        return {name: value for name, value in self._usual().items() if getattr(self, name) != value}

    def origin(self) -> dict[str, Any]:
        """Whose settings stand where the run gives none, and the values there of those that are others here."""
        return {"from": source_of(self.method, self.like) or "ours", "there": self.changed()}
