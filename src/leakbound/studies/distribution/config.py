"""The settings of the distribution study: one dataclass, checked when it is made. Loads without torch."""

import math
from dataclasses import dataclass
from pathlib import Path

from leakbound.errors import InputError
from leakbound.records import check_choice, check_count, check_texts
from leakbound.studies.distribution.corpora import QUESTION_KINDS, TRANSLATION_KINDS, Sizes
from leakbound.studies.distribution.learners import Learning, Unlearning

TASKS = ("questions", "translation")


@dataclass(frozen=True, kw_only=True)
class DistributionConfig:
    """How unlearning differs for examples inside and outside the distribution of the training data.

    For each seed, a retrained model learns the base corpus, and for each kind of example an original model learns the
    base corpus and a forget set of that kind, which it then unlearns step by step. Every training is kept in OUT and
    not repeated: the same command goes on after an interruption, and more seeds or kinds add to what is there.
    """

    out: Path = Path("runs/distribution")
    """The folder of all results; the models and measurements stand in OUT/artefacts."""
    task: str = "questions"
    """questions (causal models) or translation (encoder-decoder models, T5 class)."""
    seeds: int = 5
    """Independent repetitions, each with models of its own."""
    kinds: tuple[str, ...] = ("random", "shuffled")
    """Kinds outside the distribution: random, shuffled, foreign; for translation random, pairs."""
    own: Path | None = None
    """A further kind: JSON lines with question and answer, more than twice as many as forget-size."""
    corpus: Path | None = None
    """Base corpus: JSON lines with question and answer; by default a fictional population (made-up sentences)."""
    corpus_size: int = 120
    """People in the fictional population (2 questions each); for translation the number of sentences."""
    forget_size: int = 10
    """Examples in a forget set: half of the examples of its kind; which half, changes from seed to seed."""
    heldout: int = 20
    """Examples of each kind that no model sees."""
    validation: int = 20
    """Examples of the corpus that no model sees, for the validation loss."""
    model: str | None = None
    """A model to start every training from; by default new models of the size."""
    size: str = "tiny"
    """Size of a new model: tiny, mini or small; for translation nano or tiny."""
    template: str = "auto"
    """How a question becomes a prompt: auto, chat, raw, qa, or a text with {text}."""
    epochs: int = 30
    """Epochs of the originals and the retrained models."""
    batch_size: int = 16
    """Examples in one step of these."""
    learning_rate: float = 1.5e-3
    """Largest learning rate of these (cosine schedule)."""
    method: str = "grad_ascent"
    """How to unlearn: any method of leakbound unlearn; for translation those of log-probabilities."""
    unlearn_steps: int = 100
    """Steps of unlearning."""
    every: int = 5
    """Steps between two measurements."""
    unlearn_batch_size: int = 10
    """Forget examples in one step of unlearning."""
    unlearn_learning_rate: float = 5e-5
    """Its learning rate (constant)."""
    forget_weight: float = 1.0
    """Weight of the forget term."""
    retain_weight: float = 1.0
    """Weight of the retain term, where the method has one."""
    alpha: float = 0.05
    """The probability that one of the exact intervals is wrong, each taken alone."""
    seed: int = 0
    """Which corpus, pools and halves; the models' own seeds follow from it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "kinds", check_texts("kinds", self.kinds))
        for name in ("own", "corpus"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        check_choice("task", self.task, TASKS)
        for name in ("corpus_size", "forget_size", "heldout", "validation", "epochs", "batch_size", "unlearn_steps",
                     "every", "unlearn_batch_size"):  # fmt: skip
            check_count(name, getattr(self, name), least=1)
        check_count("seeds", self.seeds, least=4)
        check_count("seed", self.seed, least=0)
        for name in ("learning_rate", "unlearn_learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} is {getattr(self, name)!r}: give a positive number")
        for name in ("forget_weight", "retain_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{name} is {getattr(self, name)!r}: give a number >= 0")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha!r}: give a number strictly between 0 and 1")
        makers = TRANSLATION_KINDS if self.task == "translation" else QUESTION_KINDS
        if not set(self.kinds) <= set(makers) or len(set(self.kinds)) < len(self.kinds):
            raise InputError(f"kinds is {list(self.kinds)}: give different names from {', '.join(makers)}")
        if not self.kinds and self.own is None:
            raise InputError("kinds is empty: give at least one kind outside the distribution, or a file with own")

    @property
    def sizes(self) -> Sizes:
        """The sizes of the sets."""
        return Sizes(pool=2 * self.forget_size, heldout=self.heldout, validation=self.validation)

    @property
    def learning(self) -> Learning:
        """How models are trained."""
        return Learning(
            model=self.model, size=self.size, template=self.template, epochs=self.epochs, batch_size=self.batch_size,
            learning_rate=self.learning_rate, max_tokens=32,
        )  # fmt: skip

    @property
    def unlearning(self) -> Unlearning:
        """How they unlearn."""
        return Unlearning(
            method=self.method, steps=self.unlearn_steps, every=self.every, batch_size=self.unlearn_batch_size,
            learning_rate=self.unlearn_learning_rate, forget_weight=self.forget_weight,
            retain_weight=self.retain_weight,
        )  # fmt: skip
