"""What the distribution study asks of a kind of model: to be trained, to unlearn step by step, and to be measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from leakbound.scoring.lexical import rouge_l
from leakbound.studies.distribution.corpora import Item


@dataclass(frozen=True)
class Said:
    """One answer under a model: log p in nats, its tokens (end included), whether each was the likeliest one."""

    logp: float
    tokens: int
    reproduced: bool


class Speaker(Protocol):
    """A model that can be measured."""

    def likelihoods(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> list[list[Said]]:
        """The given answers to each question, by teacher forcing."""

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The greedy answer to each question."""


Judge = Callable[[list[str], list[str]], float]
"""(answers, references) -> a number, larger is better."""
Watch = Callable[[Speaker, int], None]
"""Called with the model and the number of steps so far."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How the originals and the retrained models are trained; part of the key of their cache."""

    model: str | None
    size: str
    template: str
    epochs: int
    batch_size: int
    learning_rate: float
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Unlearning:
    """How the originals unlearn; part of the key of that cache."""

    method: str
    steps: int
    every: int
    batch_size: int
    learning_rate: float
    forget_weight: float
    retain_weight: float


class Learner(Protocol):
    """A kind of model: causal (questions and answers) or encoder-decoder (translation)."""

    def make_tokenizer(self, items: Sequence[Item], folder: Path) -> None:
        """Save the tokenizer that all models of the study share."""

    def train(
        self, items: Sequence[Item], watched: Sequence[Item], *, seed: int, tokenizer: Path, folder: Path
    ) -> NDArray[np.bool_]:
        """Train and save a model; whether each watched item was reproduced after each epoch, (epochs, len(watched))."""

    def unlearn(
        self, model: Path, forget: Sequence[Item], retain: Sequence[Item], how: Unlearning, *, seed: int, watch: Watch
    ) -> None:
        """Unlearn and call ``watch`` before the first step, after each ``how.every`` steps and after the last one."""

    def load(self, model: Path) -> Speaker:
        """A saved model."""


@dataclass(frozen=True)
class Sets:
    """What a model is measured on: ``asked`` are retained or unseen items whose greedy answer is judged."""

    forget: tuple[Item, ...]
    heldout: tuple[Item, ...]
    retain: tuple[Item, ...]
    validation: tuple[Item, ...]
    asked: tuple[Item, ...]


def measure(speaker: Speaker, sets: Sets, judges: Mapping[str, Judge]) -> dict[str, Any]:
    """One model's numbers: log-likelihoods and tokens of forget and held-out items, losses in nats a token, quality."""
    found: dict[str, Any] = {}
    for name in ("forget", "heldout", "retain", "validation"):
        said = likelihoods(speaker, getattr(sets, name))
        if name in ("forget", "heldout"):
            found[f"{name}_logps"] = [x.logp for x in said]
            found[f"{name}_tokens"] = [x.tokens for x in said]
        else:
            found[f"{name}_loss"] = float(np.mean([-x.logp / x.tokens for x in said]))
    answers = speaker.answer([item.question for item in sets.asked])
    references = [item.answer for item in sets.asked]
    return found | {name: judge(answers, references) for name, judge in judges.items()}


def likelihoods(speaker: Speaker, items: Sequence[Item]) -> list[Said]:
    """Each item's own answer under a model."""
    rows = speaker.likelihoods([x.question for x in items], [[x.answer] for x in items]) if items else []
    return [row[0] for row in rows]


def candidate_logps(speaker: Speaker, items: Sequence[Item]) -> NDArray[np.float64]:
    """Log-likelihoods of each item's candidates, (len(items), most candidates); NaN where an item has fewer."""
    rows = speaker.likelihoods([x.question for x in items], [x.candidates for x in items])
    table = np.full((len(items), max((len(x.candidates) for x in items), default=0)), np.nan)
    for i, row in enumerate(rows):
        table[i, : len(row)] = [x.logp for x in row]
    return table


def mean_rouge(answers: list[str], references: list[str]) -> float:
    """Mean ROUGE-L recall."""
    return float(np.mean([rouge_l(a, r) for a, r in zip(answers, references, strict=True)]))


def bleu(answers: list[str], references: list[str]) -> float:
    """Corpus BLEU through sacrebleu, 0 to 100."""
    return float(_sacrebleu().corpus_bleu(answers, [references]).score)


def chrf(answers: list[str], references: list[str]) -> float:
    """Corpus chrF through sacrebleu, 0 to 100."""
    return float(_sacrebleu().corpus_chrf(answers, [references]).score)


JUDGES: dict[str, dict[str, Judge]] = {
    "questions": {"rouge_l": mean_rouge},
    "translation": {"bleu": bleu, "chrf": chrf},
}
"""How greedy answers are judged, by task."""


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        from leakbound.errors import InputError

        raise InputError("task is 'translation', which needs sacrebleu: pip install 'leakbound[study]'") from error
    return sacrebleu
