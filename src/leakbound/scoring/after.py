"""The answer of a model that thinks aloud: what it says after a mark, judged by another scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leakbound.errors import InputError
from leakbound.records import Prompt


@dataclass(frozen=True)
class After:
    """What ``scorer`` gives the text behind the first ``mark``: ``</think>`` leaves a reasoning model's thinking out.

    A completion without the mark is judged whole: thinking that was cut off is no clean answer. So P(leak) is that of
    what a reader sees who is shown everything behind the first mark, or everything where there is none.
    """

    mark: str
    scorer: Callable[..., float]

    @property
    def binary(self) -> Any:
        """As the scorer says of itself."""
        return getattr(self.scorer, "binary", False)

    @property
    def with_question(self) -> bool:
        """As the scorer says of itself."""
        return bool(getattr(self.scorer, "with_question", False))

    @property
    def __name__(self) -> str:
        """For messages."""
        return f"after:{self.mark}:{getattr(self.scorer, '__name__', None) or repr(self.scorer)}"

    def __call__(self, completion: str, target: str, *question: str) -> float:
        """The score of one completion and one target, with the question where the scorer asks for it."""
        return self.scorer(self.answer(completion), target, *question)

    def answer(self, completion: str) -> str:
        """What is judged of a completion."""
        before, found, after = completion.partition(self.mark)
        return after if found else before

    def check(self, prompt: Prompt) -> None:
        """InputError where the mark stands in what is looked for."""
        for text in (prompt.target, *prompt.aliases):
            if self.mark in text:
                raise InputError(f"prompt {prompt.id!r}: {text!r} holds {self.mark!r}, after which the answer begins")


class AfterMany(After):
    """The same of a scorer that reads many at once."""

    def score_many(self, pairs: Sequence[tuple[str, Prompt]]) -> list[float]:
        """For each (completion, prompt) what the scorer gives the answer."""
        many: Any = self.scorer
        return list(many.score_many([(self.answer(text), prompt) for text, prompt in pairs]))

    def ready(self) -> None:
        """As the scorer."""
        many: Any = self.scorer
        many.ready()
