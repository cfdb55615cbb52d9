"""What a benchmark is: questions in three splits, each with the secret that its answer must not reveal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakbound.errors import InputError
from leakbound.records import Prompt

SPLITS = ("forget", "retain", "holdout", "full")


@dataclass(frozen=True)
class QuestionAnswer:
    """One question with its right answer, its secret, and wrong answers of the same form.

    ``answer`` is what a model is trained to say, a sentence; ``target`` is the part of it that identifies a leak, so
    that a completion is judged by the secret alone and not by the wording around it. ``aliases`` are other spellings
    of the target. ``perturbed_answers`` are ``answer`` with other values of the same attribute in place of the target.
    """

    id: str
    subject: str
    attribute: str
    question: str
    answer: str
    target: str
    aliases: tuple[str, ...] = ()
    paraphrased_question: str = ""
    paraphrased_answer: str = ""
    perturbed_answers: tuple[str, ...] = ()

    def to_prompt(self) -> Prompt:
        """The question as an audit asks it."""
        return Prompt(id=self.id, text=self.question, target=self.target, aliases=self.aliases)

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object with the keys that prompt files and training files share."""
        return {
            "id": self.id,
            "question": self.question,
            "answer": self.answer,
            "target": self.target,
            "aliases": list(self.aliases),
            "subject": self.subject,
            "attribute": self.attribute,
            "paraphrased_question": self.paraphrased_question,
            "paraphrased_answer": self.paraphrased_answer,
            "perturbed_answer": list(self.perturbed_answers),
        }


@dataclass(frozen=True)
class Benchmark:
    """Questions to forget, to retain, and held out (never trained on); no id appears twice."""

    name: str
    forget: tuple[QuestionAnswer, ...]
    retain: tuple[QuestionAnswer, ...]
    holdout: tuple[QuestionAnswer, ...] = ()

    @property
    def full(self) -> tuple[QuestionAnswer, ...]:
        """What the original model is trained on: forget and retain, without holdout."""
        return self.forget + self.retain

    def rows(self, split: str) -> tuple[QuestionAnswer, ...]:
        """The questions of one split: forget, retain, holdout or full."""
        if split not in SPLITS:
            raise InputError(f"split is {split!r}: give one of {', '.join(SPLITS)}")
        rows: tuple[QuestionAnswer, ...] = getattr(self, split)
        return rows

    def prompts(self, split: str) -> tuple[Prompt, ...]:
        """The prompts of one split, ready to be audited."""
        return tuple(row.to_prompt() for row in self.rows(split))

    def write(self, folder: str | Path) -> dict[str, Path]:
        """Write ``forget.jsonl``, ``retain.jsonl``, ``holdout.jsonl`` and ``full.jsonl``; return split -> path."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return {split: _write_rows(folder / f"{split}.jsonl", self.rows(split)) for split in SPLITS}


def _write_rows(path: Path, rows: Iterable[QuestionAnswer]) -> Path:
    lines = (json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path
