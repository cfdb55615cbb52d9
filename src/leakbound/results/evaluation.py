"""What a model answered, question by question: sets of per-question values, saved as evaluation.json.

Everything that is printed about a model is a function of this record; :mod:`leakbound.metrics.conventions` says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leakbound.errors import InputError
from leakbound.metrics.conventions import summarise
from leakbound.metrics.intervals import Metric
from leakbound.metrics.questions import QuestionSet
from leakbound.results.base import Result


@dataclass(frozen=True)
class Evaluation(Result, file="evaluation.json", command="leakbound benchmark", ascii=True):
    """All evaluated sets of one model; a log's lone surrogates are kept, as codes."""

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

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each question: its set, its id, its values, and what was asked and answered."""
        for questions in self.sets.values():
            texts = questions.generations or [("", "", "")] * len(questions.ids)
            for i, (id, said) in enumerate(zip(questions.ids, texts, strict=True)):
                values = {name: column[i].tolist() for name, column in questions.values.items()}
                asked = dict(zip(("prompt", "generation", "target"), said, strict=True))
                yield {"set": questions.name, "id": id, **values, **asked}

    def __str__(self) -> str:
        return f"{self.suite}: {self.model}, {', '.join(f'{len(q.ids)} {name}' for name, q in self.sets.items())}"
