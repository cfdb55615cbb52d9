"""Where completions end: end tokens, stop strings, max_tokens; and what a finished one is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leakbound.errors import ModelError
from leakbound.models.base import Generation
from leakbound.models.hf.law import NextToken, certainty, is_sure
from leakbound.models.hf.prefixes import Prefixes
from leakbound.records import SamplingParams


@dataclass(frozen=True)
class Leaf:
    """A finished completion: its prompt's place, the new tokens, and what they say.

    ``logprob``: log P of the tokens under the deployed law, in nats; ``count``: how many draws gave it, none in a
    search; ``draws``: their numbers within the shard, ascending, where they have any; ``value``: its rank in a search.
    """

    prompt: int
    tokens: tuple[int, ...]
    text: str
    finish_reason: str
    num_tokens: int
    logprob: float
    count: int
    draws: tuple[int, ...]
    value: float

    def places(self, first: int) -> tuple[int, ...]:
        """The numbers of its draws within the prompt's draws of the run, those of the shard beginning at ``first``."""
        return tuple(first + i for i in self.draws)

    def generation(self, first: int = 0) -> Generation:
        """The same with its tokens, as it leaves the model; it stands for itself where it was not drawn."""
        places, said = self.places(first) or None, (self.tokens, self.text, self.finish_reason, self.num_tokens)
        return Generation(*said, self.logprob, max(self.count, 1), places)


class Leaves:
    """Reads completions with the tokenizer of the model."""

    def __init__(self, tokenizer: Any, ends: list[int], name: str) -> None:
        self.tokenizer = tokenizer
        self.ends = np.array(ends, dtype=np.int64)
        self.name = name

    def laws(
        self, prefixes: Prefixes, logits: torch.Tensor, params: SamplingParams, at_once: int
    ) -> Iterator[tuple[Prefixes, NextToken, int]]:
        """The next tokens' laws, few rows at a time: the prefixes, with what they know about their certainty by then,
        their laws, and the number of the first of them.

        With ``adaptive_mode`` "sequence" and "token" a prefix's law depends on the mean certainty of its positions,
        this one included: a function of its tokens alone. ModelError names the prompt for which there is no law.
        """
        for start in range(0, len(prefixes), at_once):
            some = np.arange(start, min(start + at_once, len(prefixes)))
            known = prefixes if len(some) == len(prefixes) else prefixes.take(some)
            numbers, sure = logits[start : start + at_once].float(), None
            if params.adaptive_mode != "prompt":
                total = known.certainty + certainty(numbers)
                sure = is_sure(total, known.depth + 1, params)
                lasts = sure & (params.adaptive_mode == "sequence")
                known = replace(known, certainty=np.where(lasts, np.inf, total))
            law = NextToken.from_logits(numbers, params, sure)
            if law.broken.any():
                row = int(law.broken.int().argmax())
                head = known.ids[row, known.ids.shape[1] - known.length[row] :]
                raise self.lawless(head[: len(head) - known.depth[row]].tolist(), params)
            yield known, law, start

    def lawless(self, head: Sequence[int], params: SamplingParams) -> ModelError:
        """The error for a prompt, given by its tokens, with a next token that has no law."""
        text = self.texts([list(head)])[0]
        shown = text if len(text) <= 200 else "…" + text[-200:]
        return ModelError(
            f"model {self.name!r}, prompt {shown!r}: the logits, or what temperature {params.temperature:g} makes of "
            "them, are not finite, so there is no law to sample from: check the weights and the number type, or give a "
            "larger temperature"
        )

    def texts(self, sequences: list[list[int]]) -> list[str]:
        """Token sequences as texts, special tokens left out."""
        return [str(text) for text in self.tokenizer.batch_decode(sequences, skip_special_tokens=True)]

    def find(self, prefixes: Prefixes, params: SamplingParams) -> tuple[NDArray[np.bool_], list[Leaf]]:
        """Which rows are finished, and the completions of those. Texts are decoded only where they are needed."""
        ended = np.isin(prefixes.ids[:, -1], self.ends)
        done = ended | (prefixes.depth >= params.max_tokens)
        rows = np.arange(len(prefixes)) if params.stop else np.flatnonzero(done)
        if not len(rows):
            return done, []
        tokens = {int(row): prefixes.new_tokens(int(row)).tolist() for row in rows}
        spoken = [tokens[row][:-1] if ended[row] else tokens[row] for row in tokens]
        firsts = np.cumsum(prefixes.sizes) - prefixes.sizes
        leaves = []
        for row, text, said in zip(tokens, self.texts(spoken), spoken, strict=True):
            cuts = [at for at in (text.find(stop) for stop in params.stop) if at >= 0]
            done[row] |= bool(cuts)
            if not done[row]:
                continue
            start, size = int(firsts[row]), int(prefixes.sizes[row])
            draws = () if prefixes.draws is None else tuple(prefixes.draws[start : start + size].tolist())
            leaves.append(
                Leaf(
                    int(prefixes.prompt[row]),
                    tuple(tokens[row]),
                    text[: min(cuts)] if cuts else text,
                    "stop" if cuts or ended[row] else "length",
                    len(said),
                    float(prefixes.logprob[row]),
                    size,
                    draws,
                    float(prefixes.value[row]),
                )
            )
        return done, leaves
