"""Several answers to each forget question, read in one pass with gradients: what a loss of samples looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leakbound.models.hf.trees import plan, tree_inputs, tree_laws
from leakbound.unlearning.adapters import inner
from leakbound.unlearning.losses.tensors import at_least_float32


@dataclass(frozen=True)
class Group:
    """A question and answers to it, as tokens; an answer may be the beginning of one."""

    head: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Several:
    """The groups of a batch after their pass.

    ``token_logps``: log p of each token given question and tokens before it, 0 where ``spoken`` is False; nats, with
    gradient; both (B, K, T).
    """

    token_logps: Tensor
    spoken: Tensor

    @cached_property
    def logps(self) -> Tensor:
        """log p(y_k|x), -inf where there is no such answer; nats, (B, K)."""
        return self.token_logps.sum(dim=2).masked_fill(~self.spoken.any(dim=2), -torch.inf)


@dataclass
class Groups:
    """The groups of all forget questions, in their order; ``trees``: whether the model reads the answers to a question
    as one tree, or each as a row of its own."""

    fill: int
    trees: bool = True
    groups: list[Group] = field(default_factory=list)

    def read(self, model: Any, places: Sequence[int], *, trims: bool) -> Several:
        """One pass over the groups in these places: exact, each distinct beginning of a question's answers once.

        ``trims``: the model can leave out the logits of the first positions.
        """
        some = [self.groups[place] for place in places]
        planned = [(b, tree) for b, group in enumerate(some) for tree in plan(group.head, group.tails, self.trees)]
        rows = [tree for _, tree in planned]
        first = min(tree.trunk for tree in rows) - 1
        kept = max(len(tree.ids) for tree in rows) - first
        inputs = tree_inputs(rows, inner(model), fill=self.fill)
        logits = model(**inputs, use_cache=False, **({"logits_to_keep": kept} if trims else {})).logits[:, -kept:]
        logits_NV = at_least_float32(logits.flatten(0, 1))
        answers = [(b, k) for b, tree in planned for k, _ in tree.laws]
        tokens = torch.tensor([token for b, k in answers for token in some[b].tails[k]], device=logits.device)
        laws = torch.from_numpy(tree_laws(rows, kept, first)).to(logits.device)
        logps = logits_NV[laws, tokens] - logits_NV.logsumexp(dim=-1)[laws]
        shape = len(some), max(len(g.tails) for g in some), max(len(tail) for g in some for tail in g.tails)
        spoken = np.zeros(shape, dtype=bool)
        for b, group in enumerate(some):
            for k, tail in enumerate(group.tails):
                spoken[b, k, : len(tail)] = True
        where = np.array([(b, k, t) for b, k in answers for t in range(len(some[b].tails[k]))]).T
        index = tuple(torch.from_numpy(axis).to(logits.device) for axis in where)
        token_logps = logps.new_zeros(shape).index_put(index, logps)
        return Several(token_logps, torch.from_numpy(spoken).to(logits.device))
