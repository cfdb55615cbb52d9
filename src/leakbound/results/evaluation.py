"""What a model answered, question by question: sets of per-question values, saved as evaluation.json.

Everything that is printed about a model is a function of this record; :mod:`leakbound.metrics.conventions` says which.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakbound.errors import InputError
from leakbound.metrics.conventions import summarise
from leakbound.metrics.intervals import Metric
from leakbound.metrics.questions import QuestionSet
from leakbound.runs import store

FILE = "evaluation.json"


@dataclass(frozen=True)
class Evaluation:
    """All evaluated sets of one model."""

    model: str
    suite: str
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
        return summarise(self, reference=reference, convention=convention, alpha=alpha)

    def to_json(self) -> dict[str, Any]:
        """The evaluation as a JSON object."""
        sets = {name: questions.to_json() for name, questions in self.sets.items()}
        return {"model": self.model, "benchmark": self.suite, "sets": sets}

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
