"""One set of questions that a model was asked: every per-question value by name, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leakbound.errors import InputError
from leakbound.metrics.checks import check_losses, check_shares, check_values
from leakbound.records import check_texts

LOSSES = ("answer_loss", "paraphrase_loss", "perturbed_loss", "answer_tokens")
"""Mean negative log-likelihood per token in nats, end token included; ``perturbed_loss`` has shape (n, k)."""
SHARES = (
    "rouge1_recall", "rouge_l_recall", "rouge_l_f1", "token_entropy", "cosine_similarity", "entailment",
    "extraction_strength", "exact_memorization", "verbatim_memorization", "knowledge_memorization", "accuracy",
    "harmful", "leak_rate", "cut",
)  # fmt: skip
"""Values in [0, 1]; ``cut`` is 1 where the greedy answer did not end by itself."""
ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus", "mia_reference", "mia_gradient_norm")
"""Membership scores, low for members."""
OTHERS = ("fluency",)


@dataclass(frozen=True)
class QuestionSet:
    """One evaluated set of questions of one model; every value is there, for every question, in the order of ``ids``.

    ``values`` are named as in LOSSES, SHARES, ATTACKS, OTHERS. ``generations`` are (prompt, greedy answer, target).
    """

    name: str
    ids: tuple[str, ...]
    values: Mapping[str, npt.NDArray[np.float64]]
    generations: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        where = f"set {self.name!r}"
        if not self.name or not self.ids:
            raise InputError(f"{where} has {len(self.ids)} ids: give a name and at least one question")
        if isinstance(self.ids, str):
            check_texts(f"{where}: ids", self.ids)
        object.__setattr__(self, "ids", tuple(self.ids))
        seen: set[str] = set()
        for key in self.ids:
            if not isinstance(key, str) or key in seen:
                raise InputError(f"{where}: id {key!r} is not a text or appears twice: give every question its own id")
            seen.add(key)
        object.__setattr__(self, "values", {k: _checked(where, k, v, len(self.ids)) for k, v in self.values.items()})
        object.__setattr__(self, "generations", tuple(tuple(texts) for texts in self.generations))
        if self.generations and len(self.generations) != len(self.ids):
            raise InputError(
                f"{where} has {len(self.generations)} generations and {len(self.ids)} questions: give each"
            )
        for i, texts in enumerate(self.generations):
            if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
                raise InputError(f"{where}: generations[{i}] is {texts!r:.80}: give (prompt, generation, target) texts")

    def value(self, name: str) -> npt.NDArray[np.float64]:
        """The values of that name; InputError where the set has none."""
        if name not in self.values:
            raise InputError(
                f"set {self.name!r} has no {name}; it has {', '.join(self.values) or 'no values'}: measure it as well"
            )
        return self.values[name]

    def to_json(self) -> dict[str, Any]:
        """The set as a JSON object."""
        return {
            "ids": list(self.ids),
            "values": {name: values.tolist() for name, values in self.values.items()},
            "generations": [list(texts) for texts in self.generations],
        }


def _checked(where: str, name: str, values: npt.ArrayLike, length: int) -> npt.NDArray[np.float64]:
    known = (*LOSSES, *SHARES, *ATTACKS, *OTHERS)
    if name not in known:
        raise InputError(f"{where}: value {name!r} is unknown: give one of {', '.join(known)}")
    label = f"{where}: {name}"
    if name in SHARES:
        array = check_shares(label, values, length)
    elif name in LOSSES:
        array = check_losses(label, values, ndim=2 if name == "perturbed_loss" else 1, length=length)
    else:
        array = check_values(label, values, length=length)
    array = array.copy()
    array.flags.writeable = False
    return array
