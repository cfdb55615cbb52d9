"""Several answers to each forget question, read in one pass with gradients: what a loss of samples looks at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leakbound.models.hf.prefixes import Floats
from leakbound.models.hf.trees import plan, tree_inputs, tree_laws
from leakbound.unlearning.adapters import inner
from leakbound.unlearning.heads import laws_of
from leakbound.unlearning.losses.blocks import Laws, per_position
from leakbound.unlearning.losses.tensors import next_logps

NEVER = -1e30
"""A logit so low that its token is never said, and still a number."""


@dataclass(frozen=True)
class Graded:
    """What is known of each answer of a group that was drawn: its share of the draws and its advantage, (K,) each, and
    log p of its tokens when it was drawn and under the reference model, (T,) each; nats."""

    shares: Floats
    advantages: Floats
    drawn: Sequence[Floats]
    first: Sequence[Floats]


@dataclass(frozen=True)
class Group:
    """A question and answers to it, as tokens; an answer may be the beginning of one."""

    head: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]
    graded: Graded | None = None

    @property
    def size(self) -> int:
        """About how many tokens are read of it."""
        return len(self.head) + sum(map(len, self.tails))


@dataclass(frozen=True)
class Parting:
    """What leaving the answers of a batch is read from: its groups, the (b, k) of each answer in the order of the laws,
    and the laws of their tokens, one answer after the other."""

    groups: Sequence[Group]
    answers: Sequence[tuple[int, int]]
    laws: Laws

    def logps(self, spoken_BKT: Tensor, wanted_B: Sequence[bool]) -> Tensor:
        """log P(another token than the answers') behind each distinct beginning, of the groups that are wanted."""
        nodes: dict[tuple[int, int], int] = {}
        nexts: list[dict[int, None]] = []
        firsts: list[tuple[int, int, int, int]] = []
        start = 0
        for b, k in self.answers:
            tail = self.groups[b].tails[k]
            behind = -1 - b, -1  # no token yet; then the beginning so far, and the token behind it
            for t, token in enumerate(tail if wanted_B[b] else ()):
                node = nodes.setdefault(behind, len(nexts))
                if node == len(nexts):
                    nexts.append({})
                    firsts.append((start + t, b, k, t))
                nexts[node][token] = None
                behind = node, token
            start += len(tail)
        if not nexts:
            return torch.full_like(spoken_BKT, -torch.inf, dtype=torch.float32)
        most, device = max(map(len, nexts)), spoken_BKT.device
        next_NM = torch.tensor([[*some, *[next(iter(some))] * (most - len(some))] for some in nexts], device=device)
        order, *where = torch.tensor(firsts, device=device).T
        laws = replace(self.laws, states_BLD=self.laws.states_BLD[:, order])
        inside_1N = torch.ones_like(order, dtype=torch.bool)[None]
        left_N = per_position(_other_logps, laws, inside_1N, *(t[None] for t in next_NM.unbind(1)))[0]
        return left_N.new_full(spoken_BKT.shape, -torch.inf).index_put(tuple(where), left_N)


def _other_logps(logits_nV: Tensor, *tokens_n: Tensor) -> Tensor:
    """log P(none of the tokens) under each law: exact also where they have all but 1e-30 of it; nats, (n,)."""
    others_nV = logits_nV.scatter(1, torch.stack(tokens_n, dim=1), NEVER)
    return others_nV.logsumexp(dim=1) - logits_nV.logsumexp(dim=1)


@dataclass(frozen=True)
class Several:
    """The groups of a batch after their pass.

    ``token_logps``: log p of each token given question and tokens before it, 0 where ``spoken`` is False; nats, with
    gradient; both (B, K, T). ``parting``: what ``leaving_logps`` is read from. Of answers that were drawn also
    ``drawn_logps`` and ``first_logps``, those when they were drawn and under the reference model, (B, K, T), ``shares``
    and ``advantages``, (B, K); 0 where there is no answer.
    """

    token_logps: Tensor
    spoken: Tensor
    parting: Parting
    shares: Tensor | None = None
    advantages: Tensor | None = None
    drawn_logps: Tensor | None = None
    first_logps: Tensor | None = None

    @cached_property
    def logps(self) -> Tensor:
        """log p(y_k|x), -inf where there is no such answer; nats, (B, K)."""
        return self.token_logps.sum(dim=2).masked_fill(~self.spoken.any(dim=2), -torch.inf)

    @cached_property
    def leaving_logps(self) -> Tensor:
        """log P(the next token is that of no answer | y_k,<t), at the first answer that begins so; nats, with gradient,
        (B, K, T). -inf elsewhere, where nothing is spoken, and for questions whose answers weigh less than about 1/2
        together, of which it is not needed: it costs as much as ``token_logps``."""
        heavy_B = self.logps.detach().logsumexp(dim=1) > -math.log(2) - 0.01
        return self.parting.logps(self.spoken, heavy_B.tolist())


@dataclass
class Groups:
    """The groups of all forget questions, by question; ``trees``: whether the model reads the answers to a question
    as one tree, or each as a row of its own."""

    fill: int
    trees: bool = True
    groups: dict[str, Group] = field(default_factory=dict)

    def read(self, model: Any, questions: Sequence[str]) -> Several:
        """One pass over the groups of these questions: exact, each distinct beginning of a question's answers once."""
        some = [self.groups[question] for question in questions]
        planned = [(b, tree) for b, group in enumerate(some) for tree in plan(group.head, group.tails, self.trees)]
        rows = [tree for _, tree in planned]
        first = min(tree.trunk for tree in rows) - 1
        kept = max(len(tree.ids) for tree in rows) - first
        inputs = tree_inputs(rows, inner(model), fill=self.fill)
        found, _ = laws_of(model, inputs, skipped=first)
        device = found.states_BLD.device
        answers = [(b, k) for b, tree in planned for k, _ in tree.laws]
        tokens_N = torch.tensor([token for b, k in answers for token in some[b].tails[k]], device=device)
        laws = torch.from_numpy(tree_laws(rows, kept, first)).to(device)
        each = replace(found, states_BLD=found.states_BLD.flatten(0, 1)[laws].unsqueeze(0))
        logps = per_position(next_logps, each, torch.ones_like(tokens_N[None], dtype=torch.bool), tokens_N[None])[0]
        shape = len(some), max(len(g.tails) for g in some), max(len(tail) for g in some for tail in g.tails)
        spoken = np.zeros(shape, dtype=bool)
        for b, group in enumerate(some):
            for k, tail in enumerate(group.tails):
                spoken[b, k, : len(tail)] = True
        where = np.array([(b, k, t) for b, k in answers for t in range(len(some[b].tails[k]))]).T
        index = tuple(torch.from_numpy(axis).to(device) for axis in where)
        token_logps = logps.new_zeros(shape).index_put(index, logps)
        known = _known([group.graded for group in some if group.graded is not None], shape)
        constants = {name: torch.from_numpy(values).to(token_logps) for name, values in known.items()}
        spoken_BKT = torch.from_numpy(spoken).to(device)
        return Several(token_logps, spoken_BKT, Parting(some, answers, each), **constants)


def _known(some: Sequence[Graded], shape: tuple[int, int, int]) -> dict[str, Floats]:
    """What is known of the answers of a batch, in arrays of its shape; nothing where they were not drawn."""
    if not some:
        return {}
    names = {"shares": 2, "advantages": 2, "drawn_logps": 3, "first_logps": 3}
    out = {name: np.zeros(shape[:dims]) for name, dims in names.items()}
    for b, graded in enumerate(some):
        out["shares"][b, : len(graded.shares)] = graded.shares
        out["advantages"][b, : len(graded.shares)] = graded.advantages
        for k, (drawn, first) in enumerate(zip(graded.drawn, graded.first, strict=True)):
            out["drawn_logps"][b, k, : len(drawn)] = drawn
            out["first_logps"][b, k, : len(first)] = first
    return out
