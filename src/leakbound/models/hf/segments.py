"""Prefixes that wait for a forward pass, and what the pass gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from leakbound.models.hf.cache import Kept, Past
from leakbound.models.hf.prefixes import Ints, Prefixes


@dataclass
class Segment:
    """Prefixes whose newest token the model has not seen.

    ``cache`` is what the model remembers of the parents, shared with other segments, and ``parents`` the parent of each
    row in it. Without it all tokens go through the model; where it holds prompts, all behind them, equally many in all
    rows.
    """

    prefixes: Prefixes
    cache: Kept | None = None
    parents: Ints | None = None

    def __len__(self) -> int:
        return len(self.prefixes)

    @property
    def width(self) -> int:
        """How many tokens the longest row has."""
        return int(self.prefixes.length.max())

    @property
    def again(self) -> bool:
        """Whether only the prompts are remembered, so that all tokens behind them are to be read."""
        return isinstance(self.cache, Past) and self.cache.root

    @property
    def fresh(self) -> int:
        """How many tokens of each row the model has not seen."""
        if self.cache is None:
            return self.width
        return max(1, int(self.prefixes.depth[0])) if self.again else 1

    @property
    def root(self) -> bool:
        """Whether these are prompts that have not begun. They go through the model as they are, alone: see begun."""
        return self.cache is None and not self.prefixes.depth.any()

    def forget(self) -> None:
        """Remember nothing: the tokens go through the model again."""
        self.cache = self.parents = None

    def back(self) -> list[Segment]:
        """The same rows, with only their prompts remembered, one depth apart from the other; none where prompts are not
        remembered on their own."""
        if not isinstance(self.cache, Past) or self.parents is None or self.cache.trunks is None:
            return []
        found = []
        for root, rows, places in self.cache.origins(self.parents):
            depth = self.prefixes.depth[places]
            for some in (np.flatnonzero(depth == d) for d in np.unique(depth)):
                found.append(Segment(self.prefixes.take(places[some]), root, rows[some]))
        return found

    def split(self, rows: int) -> tuple[Segment, Segment]:
        """The first ``rows`` rows, and the others."""
        first, rest = np.arange(rows), np.arange(rows, len(self))
        return self.take(first), self.take(rest)

    def take(self, rows: Ints) -> Segment:
        """Some rows."""
        parents = None if self.parents is None else self.parents[rows]
        return Segment(self.prefixes.take(rows), self.cache, parents)


@dataclass(frozen=True)
class Pass:
    """What one forward pass gave.

    ``logits``: (rows, vocabulary), of the next tokens; ``cache``: after the pass, where there is one, and ``slots``:
    the row in it of each prefix.
    """

    prefixes: Prefixes
    logits: torch.Tensor
    cache: Kept | None
    slots: Ints

    def segment(self, children: Prefixes, parents: Ints) -> Segment:
        """Children of the rows ``parents``, as what waits next."""
        return Segment(children, self.cache, None if self.cache is None else self.slots[parents])
