"""From question-answer pairs to batches: tokenising, pairing forget with retain, and padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from leakbound.errors import InputError, PromptsError
from leakbound.models.template import encode_pair
from leakbound.reading.pairs import Pair

IGNORED = -100
"""The label of a position that no loss looks at: question and padding."""

HALVES = ("forget", "retain")
ANSWERS = ("answer", "refusal", "mismatch", "sampled")
"""What can follow a question in one batch: its own answer, a refusal, another question's answer, the model's own."""


@dataclass(frozen=True)
class Example:
    """One tokenised pair: question then answer, and the labels, ``IGNORED`` on the question.

    ``ref_logp`` is the reference model's log-probability of the answer, where a loss needs it; ``refusal`` and
    ``mismatch`` are the same question with another answer.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    ref_logp: float | None = None
    source: str = ""
    question: str = ""
    refusal: Example | None = None
    mismatch: Example | None = None

    @property
    def prompt(self) -> tuple[int, ...]:
        """The tokens of the question: all before the first label."""
        scored = [i for i, label in enumerate(self.labels) if label != IGNORED]
        return self.input_ids[: scored[0]]

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens of the answer, its end included."""
        return self.input_ids[len(self.prompt) :]

    def answered(self, answer: Sequence[int]) -> Example:
        """The same question with these tokens as its answer."""
        return Example((*self.prompt, *answer), (*(IGNORED,) * len(self.prompt), *answer), source=self.source)


def encode(tokenizer: Any, pair: Pair, template: str, max_length: int) -> Example:
    """Tokenise one pair exactly as the audit does: the prompt, then the answer and, if it ended, the end-of-text token.

    :raises PromptsError: longer than ``max_length`` tokens: a cut answer would be another training objective.
    """
    prompt, answer = pair_tokens(tokenizer, pair, template)
    if len(prompt) + len(answer) > max_length:
        raise PromptsError(
            f"{pair.source}: question and answer have {len(prompt) + len(answer)} tokens, more than max_length "
            f"{max_length}: raise max_length or shorten the row"
        )
    return example_of(prompt, answer, pair)


def pair_tokens(tokenizer: Any, pair: Pair, template: str) -> tuple[list[int], list[int]]:
    """The tokens of a pair's question and answer; an answer that was cut has no end."""
    prompt, answer = encode_pair(tokenizer, pair.question, pair.answer, template)
    return prompt, answer[:-1] if pair.cut else answer


def example_of(prompt: Sequence[int], answer: Sequence[int], pair: Pair) -> Example:
    """The tokens of a question and of an answer to it as an example; ``pair`` says which question."""
    labels = (*(IGNORED,) * len(prompt), *answer)
    return Example((*prompt, *answer), labels, source=pair.source, question=pair.question)


def with_refusals(
    examples: Sequence[Example],
    pairs: Sequence[Pair],
    sentences: Sequence[str],
    tokenizer: Any,
    template: str,
    *,
    seed: int,
) -> list[Example]:
    """Each example, of the pair in its place, with one of the refusals, drawn from the seed and kept for the run."""
    rng = Random(f"{seed}/refusals")
    out = []
    for example, pair in zip(examples, pairs, strict=True):
        _, refusal = encode_pair(tokenizer, pair.question, rng.choice(sentences), template)
        out.append(replace(example, refusal=example.answered(refusal)))
    return out


def collate(examples: Sequence[Example], pad_id: int, least: int = 0) -> dict[str, Any]:
    """Pad on the right: input_ids, attention_mask, labels of shape (B, L), and ref_logps (B) where all have one.

    L is the longest example's length, and at least ``least``.
    ``sources`` says where the rows were read, ``questions`` what they ask.
    """
    length = max(least, *(len(example.input_ids) for example in examples))

    def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
        return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])

    batch: dict[str, Any] = {
        "input_ids": padded([e.input_ids for e in examples], pad_id),
        "attention_mask": padded([[1] * len(e.input_ids) for e in examples], 0),
        "labels": padded([e.labels for e in examples], IGNORED),
        "sources": [e.source for e in examples],
        "questions": [e.question for e in examples],
    }
    ref_logps = [e.ref_logp for e in examples if e.ref_logp is not None]
    if len(ref_logps) == len(examples):
        batch["ref_logps"] = torch.tensor(ref_logps, dtype=torch.float32)
    return batch


def in_pieces(
    half: Mapping[str, Any], tokens: int, *, trim: bool, sizes: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """The rows of one half of a batch in pieces of about ``tokens`` tokens: short rows with short ones.

    Each row is in one piece, with all the answers to its question. ``trim`` leaves out padding that no row of a piece
    needs. ``sizes``: tokens that are read beside each row.
    """
    lengths_B = torch.stack([rows["attention_mask"].sum(dim=1) for rows in half.values()]).amax(dim=0)
    lengths_B = lengths_B if sizes is None else lengths_B + torch.tensor(sizes).to(lengths_B)
    shortest, ordered = lengths_B.argsort(stable=True), lengths_B.sort().values.tolist()
    cuts, first = [], 0
    for last, size in enumerate(ordered):
        if (last + 1 - first) * size * len(half) > tokens and last > first:
            cuts.append(last)
            first = last
    return [{kind: _rows(rows, some, trim) for kind, rows in half.items()} for some in shortest.tensor_split(cuts)]


def _rows(rows: Mapping[str, Any], some: Tensor, trim: bool) -> dict[str, Any]:
    """Some rows of what :func:`collate` made."""
    places = some.tolist()
    out = {
        name: value[some] if isinstance(value, Tensor) else [value[place] for place in places]
        for name, value in rows.items()
    }
    length = int(rows["attention_mask"][some].sum(dim=1).max())
    return {
        name: value[:, :length] if trim and isinstance(value, Tensor) and value.dim() == 2 else value
        for name, value in out.items()
    }


class PairedData(Dataset[dict[str, Example]]):
    """Forget examples, each with a retain partner that :meth:`set_epoch` draws anew; or one of the two alone.

    An epoch goes once through the forget examples (through retain where there is no forget). The partners of an epoch
    go on in the retain examples where the epoch before ended, without repetition until all were used; they depend on
    (seed, epoch) only.
    ``leaks`` are, of one question each, answers that the model gave, with weights: an epoch has one of each, drawn in
    proportion to these. ``mismatch`` is the forget question with the partner's answer.
    """

    def __init__(
        self, forget: Sequence[Example], retain: Sequence[Example], *, seed: int,
        leaks: Sequence[Sequence[tuple[Example, float]]] = (),
    ) -> None:  # fmt: skip
        if not forget and not retain:
            raise InputError("forget and retain are both empty: give at least one example")
        self.forget, self.retain, self.seed = tuple(forget), tuple(retain), seed
        self.leaks = tuple(leaks)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the partners of one epoch, and its leaks."""
        leaks = Random(f"{self.seed}/{epoch}/leaks")
        self.drawn = [leaks.choices(*zip(*some, strict=True))[0] for some in self.leaks]
        self.partners = draw_partners(len(self), len(self.retain), seed=self.seed, epoch=epoch)

    def __len__(self) -> int:
        return len(self.forget) + len(self.leaks) or len(self.retain)

    def __getitem__(self, index: int) -> dict[str, Example]:
        partner = self.retain[self.partners[index]] if self.retain else None
        retain = {"retain": partner} if partner else {}
        if not self.forget:
            return retain
        forget = (*self.forget, *self.drawn)[index]
        mismatch = forget.answered(partner.answer) if partner else None
        return {"forget": replace(forget, mismatch=mismatch), **retain}


def draw_partners(count: int, retain: int, *, seed: int, epoch: int) -> list[int]:
    """The places of an epoch's ``count`` partners among ``retain`` examples: a function of the seed and the epoch.

    Each epoch goes on where the one before ended, in one order of them all after another: after any number of epochs
    the numbers of uses differ by one at most.
    """
    if not retain:
        return []
    first, last = epoch * count, (epoch + 1) * count
    rounds = range(first // retain, -(-last // retain))
    order = [i for k in rounds for i in Random(f"{seed}/{k}/pairing").sample(range(retain), k=retain)]
    skipped = first - rounds.start * retain
    return order[skipped : skipped + count]


@dataclass(frozen=True)
class PairCollator:
    """A list of :class:`PairedData` items to one batch: half -> kind of answer -> the tensors of :func:`collate`.

    ``answers`` are the kinds that are wanted beside the example's own answer; one that some example lacks is left out.
    ``least`` is the shortest length that the rows of a half are padded to.
    """

    pad_id: int
    answers: Sequence[str] = ANSWERS[1:]
    least: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, items: Sequence[dict[str, Example]]) -> dict[str, dict[str, Any]]:
        """Collate each half on its own, so that neither is padded to the length of the other."""
        return {half: self._collate([item[half] for item in items], half) for half in HALVES if half in items[0]}

    def _collate(self, examples: list[Example], half: str) -> dict[str, Any]:
        batch = {"answer": collate(examples, self.pad_id, self.least.get(half, 0))}
        for kind in self.answers:
            others = [other for e in examples if (other := getattr(e, kind, None)) is not None]
            if len(others) == len(examples):
                batch[kind] = collate(others, self.pad_id)
        return batch
