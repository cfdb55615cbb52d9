"""What a suite is: questions in three splits, each with the secret that its answer must not reveal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leakbound.errors import InputError
from leakbound.metrics.conventions import CLASSIC, Column
from leakbound.metrics.questions import QuestionSet
from leakbound.reading.rows import write_rows
from leakbound.records import Prompt, check_choice, check_texts

SPLITS = ("forget", "retain", "holdout", "full")


@dataclass(frozen=True)
class QuestionAnswer:
    """One question with its right answer, its secret, and wrong answers of the same form.

    ``answer`` is what a model is trained to say, a sentence; ``target`` is the part of it that identifies a leak, so
    that a completion is judged by the secret alone and not by the wording around it. ``aliases`` are other spellings
    of the target. ``perturbed_answers`` are ``answer`` with other values of the same attribute in place of the target.
    ``original_answer`` is what the model said before unlearning, where that is not ``answer``: the text that a
    generation is compared with by meaning.
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
    original_answer: str = ""

    def __post_init__(self) -> None:
        for name in ("aliases", "perturbed_answers"):
            object.__setattr__(self, name, check_texts(f"question {self.id!r}: {name}", getattr(self, name)))

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
            **({"original_answer": self.original_answer} if self.original_answer else {}),
        }


@dataclass(frozen=True)
class Asking:
    """How a set of questions is asked, where the suite prescribes it.

    ``max_tokens``: the longest greedy answer; 0 where only likelihoods are wanted, None where the run decides.
    ``stop``: texts that end it. ``score``: under which name ROUGE-L F1 of answer and truth is known in this suite.
    """

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    score: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", check_texts("stop", self.stop))


@dataclass(frozen=True)
class Suite:
    """Questions to forget, to retain, and held out (never trained on); no id appears twice.

    ``evaluated`` names the sets of questions that the suite's own metrics are about, where these are not the splits
    themselves; ``asking`` says how, where the suite prescribes that. ``checksums`` say which files were read:
    name -> SHA-256.
    """

    name: str
    forget: tuple[QuestionAnswer, ...]
    retain: tuple[QuestionAnswer, ...]
    holdout: tuple[QuestionAnswer, ...] = ()
    evaluated: Mapping[str, tuple[QuestionAnswer, ...]] = field(default_factory=dict)
    asking: Mapping[str, Asking] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)

    @property
    def sets(self) -> dict[str, tuple[QuestionAnswer, ...]]:
        """The sets of questions to evaluate: ``evaluated``, else the splits that hold questions."""
        splits = {name: self.rows(name) for name in ("forget", "retain", "holdout")}
        return dict(self.evaluated) or {name: rows for name, rows in splits.items() if rows}

    @property
    def full(self) -> tuple[QuestionAnswer, ...]:
        """What the original model is trained on: forget and retain, without holdout."""
        return self.forget + self.retain

    def rows(self, split: str) -> tuple[QuestionAnswer, ...]:
        """The questions of one split: forget, retain, holdout or full."""
        check_choice("split", split, SPLITS)
        rows: tuple[QuestionAnswer, ...] = getattr(self, split)
        return rows

    def prompts(self, split: str) -> tuple[Prompt, ...]:
        """The prompts of one split, ready to be audited."""
        return tuple(row.to_prompt() for row in self.rows(split))

    def write(self, folder: str | Path) -> dict[str, Path]:
        """Write ``forget.jsonl``, ``retain.jsonl``, ``holdout.jsonl`` and ``full.jsonl``; return split -> path."""
        folder = Path(folder)
        return {
            split: write_rows(folder / f"{split}.jsonl", (row.to_json() for row in self.rows(split)))
            for split in SPLITS
        }


@dataclass(frozen=True)
class SuiteKind:
    """A suite as it is known by name: how it is read, and how it is asked where nobody says."""

    read: Callable[[str | None, Path | None, str | None], Suite]
    """(split, data, revision) -> its questions; without data from the hub, at that revision."""
    splits: tuple[str, ...] = ()
    """The names of its splits, the one that is meant by None first."""
    template: str = "auto"
    scorer: str = "rouge_l"
    rubric: str = ""
    """What a judge of its sampled answers is asked; a suite with one has no answers to compare with, only a judge."""
    ask: Callable[[str, int | None], Mapping[str, QuestionSet]] | None = None
    """(model, max_questions) -> its values, where another package asks the questions."""
    tasks: Callable[[str | None, Path | None, str | None], tuple[Suite, ...]] | None = None
    """As ``read``, cut into tasks that are forgotten one after another: the continual setting."""
    columns: tuple[Column, ...] = CLASSIC
    """What the table of several runs says of it."""

    def open(self, split: str | None, data: Path | None, revision: str | None) -> Suite:
        """Its questions. InputError for a split that it has not."""
        if split is not None and split not in self.splits:
            wanted = f"give one of {', '.join(self.splits)}" if self.splits else "the suite has none, leave it out"
            raise InputError(f"split is {split!r}: {wanted}")
        return self.read(split, data, revision)
