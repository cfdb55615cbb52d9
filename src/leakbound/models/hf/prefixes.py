"""Token prefixes as arrays: one row for each distinct prefix of some prompt's completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prefixes:
    """Distinct prefixes: prompt tokens and new tokens.

    ``prompt``: whose it is; ``depth``: how many new tokens; ``length``: all tokens; ``logprob``: log P of the new
    tokens in nats; ``value``: its rank in a search; ``certainty``: the sum over its positions of the likeliest tokens'
    probabilities, where these decide; all of shape (rows,). ``ids``: (rows, width), right-aligned.
    ``sizes``: how many draws share each row, and ``draws`` their numbers, row after row, ascending within a row; None
    where draws are counted and have no numbers.
    """

    prompt: Ints
    depth: Ints
    length: Ints
    logprob: Floats
    value: Floats
    certainty: Floats
    ids: Ints
    sizes: Ints
    draws: Ints | None

    def __len__(self) -> int:
        return len(self.prompt)

    @classmethod
    def roots(
        cls,
        encoded: Sequence[Sequence[int]],
        prompts: Sequence[int],
        num_draws: int,
        fill: int,
        draws: Sequence[Ints] | None = None,
    ) -> Prefixes:
        """The prompts themselves, each shared by the draws 0, 1, ..., or by those given for it."""
        rows = len(encoded)
        draws = draws if draws is not None else [np.arange(num_draws, dtype=np.int64)] * rows
        length = np.array([len(ids) for ids in encoded], dtype=np.int64)
        ids = np.full((rows, int(length.max())), fill, dtype=np.int64)
        for row, tokens in enumerate(encoded):
            ids[row, ids.shape[1] - len(tokens) :] = tokens
        return cls(
            np.array(prompts, dtype=np.int64),
            np.zeros(rows, dtype=np.int64),
            length,
            np.zeros(rows),
            np.zeros(rows),
            np.zeros(rows),
            ids,
            np.array([len(some) for some in draws], dtype=np.int64),
            np.concatenate(draws),
        )

    @property
    def mask(self) -> Ints:
        """1 where a token stands, 0 left of it; (rows, width)."""
        width = self.ids.shape[1]
        return np.asarray(np.arange(width) >= width - self.length[:, None], dtype=np.int64)

    @property
    def owner(self) -> Ints:
        """The row of each draw."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def new_tokens(self, row: int) -> Ints:
        """The new tokens of one row."""
        return self.ids[row, self.ids.shape[1] - self.depth[row] :]

    def take(self, rows: Ints) -> Prefixes:
        """Some rows, in the order given."""
        sizes, draws = self.sizes[rows], None
        if self.draws is not None:
            starts = (np.cumsum(self.sizes) - self.sizes)[rows]
            offsets = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
            draws = self.draws[offsets + np.arange(len(offsets))]
        return Prefixes(
            self.prompt[rows],
            self.depth[rows],
            self.length[rows],
            self.logprob[rows],
            self.value[rows],
            self.certainty[rows],
            self.ids[rows],
            sizes,
            draws,
        )

    def children(
        self, parents: Ints, tokens: Ints, logps: Floats, values: Floats, sizes: Ints, draws: Ints | None
    ) -> Prefixes:
        """One row for each pair of parent and next token."""
        return Prefixes(
            self.prompt[parents],
            self.depth[parents] + 1,
            self.length[parents] + 1,
            self.logprob[parents] + logps,
            values,
            self.certainty[parents],
            np.concatenate([self.ids[parents], tokens[:, None]], axis=1),
            sizes,
            draws,
        )

    @classmethod
    def join(cls, parts: Sequence[Prefixes], *, trim: bool) -> Prefixes:
        """Rows of several parts, right-aligned; with ``trim`` no wider than the longest row."""
        widths = [int(part.length.max()) if trim else part.ids.shape[1] for part in parts]
        width = max(widths)
        if len(parts) == 1 and width == parts[0].ids.shape[1]:
            return parts[0]
        ids = []
        for part in parts:
            excess = part.ids.shape[1] - width
            ids.append(part.ids[:, excess:] if excess >= 0 else np.pad(part.ids, ((0, 0), (-excess, 0))))

        def column(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(part, name) for part in parts])

        return cls(
            column("prompt"),
            column("depth"),
            column("length"),
            column("logprob"),
            column("value"),
            column("certainty"),
            np.concatenate(ids),
            column("sizes"),
            None if parts[0].draws is None else column("draws"),
        )
