"""What a model answered, question by question: sets of per-question values, saved as evaluation.json.

Everything that is printed about a model is a function of this record; :mod:`leakbound.evaluating.conventions` says
which.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leakbound.errors import InputError
from leakbound.metrics.checks import check_losses, check_shares, check_values
from leakbound.metrics.intervals import Metric
from leakbound.runs import store

FILE = "evaluation.json"

LOSSES = ("answer_loss", "paraphrase_loss", "perturbed_loss", "answer_tokens")
"""Mean negative log-likelihood per token in nats, end token included; ``perturbed_loss`` has shape (n, k)."""
SHARES = (
    "rouge1_recall",
    "rouge_l_recall",
    "rouge_l_f1",
    "token_entropy",
    "cosine_similarity",
    "entailment",
    "extraction_strength",
    "exact_memorization",
    "verbatim_memorization",
    "knowledge_memorization",
    "accuracy",
    "harmful",
    "leak_rate",
)
"""Values in [0, 1]."""
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


@dataclass(frozen=True)
class Evaluation:
    """All evaluated sets of one model."""

    model: str
    benchmark: str
    sets: Mapping[str, QuestionSet]

    def __post_init__(self) -> None:
        if not self.sets:
            raise InputError(f"the evaluation of {self.model!r} has no sets: give at least one")
        for name, questions in self.sets.items():
            if name != questions.name:
                raise InputError(f"set {questions.name!r} stands under {name!r}: give both the same name")
        object.__setattr__(self, "sets", dict(self.sets))

    def questions(self, name: str) -> QuestionSet:
        """The set of that name; InputError where there is none."""
        if name not in self.sets:
            raise InputError(f"the evaluation of {self.model!r} has no set {name!r}; it has {', '.join(self.sets)}")
        return self.sets[name]

    def metrics(
        self, *, reference: Evaluation | None = None, convention: str = "tofu", alpha: float = 0.01
    ) -> tuple[Metric, ...]:
        """Every metric that the values allow, each with its interval at level ``alpha``.

        ``convention``: tofu or closer_look, see docs/methods.md. ``reference``: the evaluation of a model that was
        retrained without the forget set, for forget quality and PrivLeak.
        """
        from leakbound.evaluating.conventions import summarise  # here, because it reads this module's records

        return summarise(self, reference=reference, convention=convention, alpha=alpha)

    def to_json(self) -> dict[str, Any]:
        """The evaluation as a JSON object."""
        sets = {name: questions.to_json() for name, questions in self.sets.items()}
        return {"model": self.model, "benchmark": self.benchmark, "sets": sets}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Evaluation:
        """The evaluation that :meth:`to_json` wrote."""
        sets = {name: QuestionSet(name=name, **questions) for name, questions in data["sets"].items()}
        return cls(data["model"], data["benchmark"], sets)

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, whole or not at all: evaluation.json in a folder, or a file whose name ends in .json."""
        file = Path(path).expanduser()
        file = file if file.suffix == ".json" else file / FILE
        store.write_text(file, json.dumps(self.to_json(), indent=1) + "\n")  # ASCII: a log's lone surrogates too
        return file

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """The evaluation in a folder or an evaluation.json. Raises InputError where there is none."""
        file = Path(path).expanduser()
        file = file / FILE if file.is_dir() else file
        try:
            return cls.from_json(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise InputError(
                f"evaluation is {str(path)!r}: no {FILE} there; run `leakbound benchmark` or `leakbound import` first"
            ) from error
        except InputError as error:
            raise InputError(f"evaluation is {str(file)!r}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"evaluation is {str(file)!r}: it cannot be read ({error}); make it again") from error
