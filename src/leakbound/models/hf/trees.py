"""Answers to one question as one row of tokens: the question is the trunk, and answers that begin alike share a branch.

An attention mask lets each token see its own past and nothing else, so one pass gives the laws behind all beginnings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leakbound.models.hf.prefixes import Ints

TREE_TOKENS = 512
"""The longest tree, unless its trunk is long: attention compares all its tokens with each other, which costs more than
branches of a larger one would share."""


@dataclass
class Tree:
    """A question and answers to it as one row of tokens.

    ``runs``: (start, stop, parent) of tokens that follow one another; the first follows ``parent``, -1 for nothing.
    ``laws``: for each answer (its place in the list, the tokens whose next-token laws it is read from).
    """

    ids: list[int]
    trunk: int
    runs: list[tuple[int, int, int]]
    laws: list[tuple[int, Ints]] = field(default_factory=list)

    @classmethod
    def of(cls, head: Sequence[int]) -> Tree:
        """A question alone."""
        return cls(list(head), len(head), [(0, len(head), -1)])

    def add(self, place: int, fed: Sequence[int], shared: int) -> None:
        """One more answer, all but its last token, of which the first ``shared`` are those of the answer added last."""
        start, before = len(self.ids), self.laws[-1][1][1 : shared + 1] if shared else np.zeros(0, dtype=np.int64)
        self.ids += fed[shared:]
        parent = int(before[-1]) if shared else self.trunk - 1
        if len(self.ids) > start:
            self.runs.append((start, len(self.ids), parent))
        self.laws.append((place, np.concatenate([[self.trunk - 1], before, np.arange(start, len(self.ids))])))

    @property
    def chain(self) -> bool:
        """Whether every token follows the one before it, so that an ordinary mask will do."""
        return all(parent == start - 1 for start, _, parent in self.runs)

    def fill(self, sees: NDArray[np.bool_], places: Ints) -> None:
        """Mark for each token what it sees, and its place in its text; (tokens, tokens) and (tokens,)."""
        for start, stop, parent in self.runs:
            if parent >= 0:
                sees[start:stop] = sees[parent]
            sees[start:stop, start:stop] = np.tri(stop - start, dtype=bool)
            places[start:stop] = np.arange(stop - start) + (places[parent] + 1 if parent >= 0 else 0)


def plan(head: Sequence[int], tails: Sequence[Sequence[int]], share: bool) -> list[Tree]:
    """A question and its answers as trees that are not too long; without ``share`` a tree for each answer."""
    trees: list[Tree] = []
    before: list[int] = []
    most = max(TREE_TOKENS, 2 * len(head))
    for place in sorted(range(len(tails)), key=lambda j: list(tails[j][:-1])):  # neighbours share the most
        fed = list(tails[place][:-1])
        shared = next(
            (k for k, (a, b) in enumerate(zip(before, fed, strict=False)) if a != b), min(map(len, (before, fed)))
        )
        if not trees or not share or len(trees[-1].ids) + len(fed) - shared > most:
            trees.append(Tree.of(head))
            shared = 0
        trees[-1].add(place, fed, shared)
        before = fed
    return trees


def tree_inputs(trees: Sequence[Tree], model: Any, *, fill: int, masks: bool = True) -> dict[str, Any]:
    """What a model takes to read trees as the rows of a batch; where one branches also who sees whom, and positions."""
    rows, width, device = len(trees), max(len(t.ids) for t in trees), model.device
    ids = np.full((rows, width), fill)
    for row, tree in enumerate(trees):
        ids[row, : len(tree.ids)] = tree.ids
    inputs: dict[str, Any] = {"input_ids": torch.from_numpy(ids).to(device)}
    if all(tree.chain for tree in trees):
        if masks:
            mask = np.arange(width) < np.array([[len(tree.ids)] for tree in trees])
            inputs["attention_mask"] = torch.from_numpy(mask).to(device, torch.int64)
        return inputs
    sees = np.tile(np.eye(width, dtype=bool), (rows, 1, 1))  # a row that sees nothing gives NaN
    places = np.zeros((rows, width), dtype=np.int64)
    for row, tree in enumerate(trees):
        tree.fill(sees[row], places[row])
    blind = torch.from_numpy(~sees[:, None]).to(device)
    least = torch.finfo(model.dtype).min
    inputs["attention_mask"] = torch.zeros(blind.shape, dtype=model.dtype, device=device).masked_fill_(blind, least)
    inputs["position_ids"] = torch.from_numpy(places).to(device)
    return inputs


def tree_laws(trees: Sequence[Tree], kept: int, first: int) -> Ints:
    """The laws that the answers' tokens are read from, one answer after the other: places in the rows' last ``kept``
    positions, which begin at ``first``, one row after the other."""
    return np.concatenate([law + row * kept - first for row, t in enumerate(trees) for _, law in t.laws])
