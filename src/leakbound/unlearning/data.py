"""From question-answer files to batches: reading, tokenising, pairing forget with retain, and padding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from leakbound.errors import InputError, PromptsError
from leakbound.models.template import encode_answer, encode_prompt

IGNORED = -100
"""The label of a position that no loss looks at: question and padding."""

HALVES = ("forget", "retain")


@dataclass(frozen=True)
class Pair:
    """One question and the answer to train on; ``source`` says where it was read, for error messages."""

    question: str
    answer: str
    source: str


@dataclass(frozen=True)
class Example:
    """One tokenised pair: question then answer, and the labels, ``IGNORED`` on the question.

    ``ref_logp`` is the reference model's log-probability of the answer, where a loss needs it.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    ref_logp: float | None = None


def read_pairs(path: str | Path) -> list[Pair]:
    """The pairs of a JSON-lines file: ``question`` (or ``text``) and ``answer`` (or ``target``), other keys ignored.

    :raises PromptsError: a missing or empty file, or a line that is not such a pair; names the file and the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise PromptsError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PromptsError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    pairs = [_parse(line, f"{path} line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not pairs:
        raise PromptsError(f"{path}: holds no questions; give one JSON object with question and answer on each line")
    return pairs


def _parse(line: str, source: str) -> Pair:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise PromptsError(f"{source}: not valid JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(row, dict):
        raise PromptsError(f"{source}: is a JSON {type(row).__name__}; give an object with question and answer")
    return Pair(_text(row, ("question", "text"), source), _text(row, ("answer", "target"), source), source)


def _text(row: dict[str, Any], keys: tuple[str, str], source: str) -> str:
    value = next((row[key] for key in keys if row.get(key) is not None), None)
    if not isinstance(value, str) or not value.strip():
        raise PromptsError(f"{source}: {keys[0]} is {value!r}; give a non-empty text under {keys[0]!r} or {keys[1]!r}")
    return value


def encode(tokenizer: Any, pair: Pair, template: str, max_length: int) -> Example:
    """Tokenise one pair exactly as the audit does: the prompt, then the answer and the end-of-text token.

    :raises PromptsError: longer than ``max_length`` tokens: a cut answer would be another training objective.
    """
    prompt = encode_prompt(tokenizer, pair.question, template)
    answer = encode_answer(tokenizer, pair.answer, template)
    if len(prompt) + len(answer) > max_length:
        raise PromptsError(
            f"{pair.source}: question and answer have {len(prompt) + len(answer)} tokens, more than max_length "
            f"{max_length}: raise max_length or shorten the row"
        )
    return Example(tuple(prompt + answer), (IGNORED,) * len(prompt) + tuple(answer))


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Pad on the right: input_ids, attention_mask, labels of shape (B, L), and ref_logps (B) where all have one."""
    length = max(len(example.input_ids) for example in examples)

    def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
        return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])

    batch = {
        "input_ids": padded([e.input_ids for e in examples], pad_id),
        "attention_mask": padded([[1] * len(e.input_ids) for e in examples], 0),
        "labels": padded([e.labels for e in examples], IGNORED),
    }
    ref_logps = [e.ref_logp for e in examples if e.ref_logp is not None]
    if len(ref_logps) == len(examples):
        batch["ref_logps"] = torch.tensor(ref_logps, dtype=torch.float32)
    return batch


class PairedData(Dataset[dict[str, Example]]):
    """Forget examples, each with a retain partner that :meth:`set_epoch` draws anew; or one of the two alone.

    An epoch goes once through the forget examples (through retain where there is no forget). The partners of an epoch
    are the retain examples in an order that depends on (seed, epoch) only, without repetition until all were used.
    """

    def __init__(self, forget: Sequence[Example], retain: Sequence[Example], *, seed: int) -> None:
        if not forget and not retain:
            raise InputError("forget and retain are both empty: give at least one example")
        self.forget, self.retain, self.seed = tuple(forget), tuple(retain), seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the partners of one epoch."""
        rng = Random(f"{self.seed}/{epoch}/pairing")
        partners: list[int] = []
        while self.retain and len(partners) < len(self):
            partners += rng.sample(range(len(self.retain)), k=len(self.retain))
        self.partners = partners[: len(self)]

    def __len__(self) -> int:
        return len(self.forget) or len(self.retain)

    def __getitem__(self, index: int) -> dict[str, Example]:
        item = {"forget": self.forget[index]} if self.forget else {}
        return item | {"retain": self.retain[self.partners[index]]} if self.retain else item


@dataclass(frozen=True)
class PairCollator:
    """A list of :class:`PairedData` items to one batch: half -> the tensors of :func:`collate`."""

    pad_id: int

    def __call__(self, items: Sequence[dict[str, Example]]) -> dict[str, dict[str, Tensor]]:
        """Collate each half on its own, so that neither is padded to the length of the other."""
        return {half: collate([item[half] for item in items], self.pad_id) for half in HALVES if half in items[0]}
