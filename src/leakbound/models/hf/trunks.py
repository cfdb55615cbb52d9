"""Prompts that are read where they lie: all rows that go on from one prompt attend to its one copy of keys and values.

A row's attention is over two parts, its prompt and its own new tokens. Each part gives a softmax of its own and the
logarithm of its normaliser; weighted by these, the two are the softmax over both (Juravsky et al., arXiv 2402.05099).
Computed in float32 throughout, whatever the number type of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from leakbound.models.hf.prefixes import Ints

NAME = "leakbound_trunks"
"""How the attention is registered in transformers."""
TRUNKS = "trunks"
"""The attribute of keys by which it finds the prompts."""
SCORES = 2**21
"""Scores of new tokens with their prompt that are computed at once."""
FEWEST_ROWS = 4
"""With fewer rows to a prompt, reading it where it lies is slower than copying it."""
SAVED = 2**22
"""Nor is it worth while where fewer numbers would be copied."""


class Trunk:
    """One prompt in memory: its keys and values in all layers side by side, (tokens, numbers)."""

    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass
class Trunks:
    """The prompts of a batch's rows.

    ``order``: the rows, those of one prompt side by side, (rows,); ``back``: its inverse; ``sizes``: how many rows each
    of ``trunks`` has. ``own``: which tokens behind its prompt a row's new ones see, (rows, 1, 1, new, tokens); None for
    all.
    """

    trunks: list[Trunk]
    order: torch.Tensor
    back: torch.Tensor
    sizes: list[int]
    own: torch.Tensor | None = None

    @classmethod
    def of(cls, rows: Sequence[Trunk], device: torch.device) -> Trunks:
        """Of each row its prompt."""
        numbers: dict[int, int] = {}
        which = np.array([numbers.setdefault(id(trunk), len(numbers)) for trunk in rows])
        order = np.argsort(which, kind="stable")
        firsts = [rows[int(np.flatnonzero(which == i)[0])] for i in range(len(numbers))]
        back = np.argsort(order)
        return cls(
            firsts,
            torch.from_numpy(order).to(device),
            torch.from_numpy(back).to(device),
            np.bincount(which).tolist(),
        )

    def see(self, depth: Ints, width: int, fresh: int) -> torch.Tensor:
        """The last ``depth`` of ``width`` tokens behind its prompt are a row's own, the last ``fresh`` are read now.

        1 where one is a row's own, (rows, width).
        """
        mask = torch.from_numpy(np.arange(width) >= width - depth[:, None]).to(self.order.device)
        self.own = None if fresh == 1 and mask.all() else mask[:, None, None, None]
        if fresh > 1:
            past = torch.ones(fresh, width, dtype=torch.bool, device=mask.device).tril_(width - fresh)
            self.own = mask[:, None, None, None] & past
        return mask.long()


@dataclass(frozen=True)
class Layer:
    """The prompts' keys and values of one layer: where they begin among a token's numbers, heads and sizes."""

    trunks: Trunks
    keys: tuple[int, int, int]
    values: tuple[int, int, int]


def worth(rows: Sequence[Trunk], numbers: int) -> bool:
    """Whether a batch of rows of these prompts, ``numbers`` for a token, is faster where they are not copied."""
    if sum(map(len, rows)) * numbers < SAVED:  # cheap, and so of small models
        return False
    every = {id(trunk): trunk for trunk in rows}
    return len(rows) >= FEWEST_ROWS * len(every) and (
        sum(map(len, rows)) - sum(map(len, every.values())) >= SAVED / numbers
    )


ONE = RLock()
"""Held in every pass: how layers attend stands in a configuration, which threads and models may share."""


@contextmanager
def attending(model: Any) -> Iterator[None]:
    """In this block the model's layers attend as here; where keys are not those of trunks, as ``sdpa`` does."""
    config = model.config.get_text_config()
    with ONE:
        before = config._attn_implementation
        config._attn_implementation = NAME
        try:
            yield
        finally:
            config._attn_implementation = before


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of the new tokens of each row, (rows, heads, new, size), to its prompt and to its own tokens."""
    layer = vars(key).get(TRUNKS)
    if not isinstance(layer, Layer):
        whole, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
        return whole, None
    if odd := [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]:
        raise NotImplementedError(f"{', '.join(odd)}: not with a prompt that is read where it lies")
    if attention_mask is not None:  # none is made for NAME: one of the model's own says what cannot be told here
        raise NotImplementedError("an attention mask of its own: not with a prompt that is read where it lies")
    trunks, (rows, heads, new, size), groups = layer.trunks, query.shape, key.shape[1]
    asked = query.float() * (size**-0.5 if scaling is None else scaling)
    asked = asked.reshape(rows, groups, heads // groups * new, size)
    own, own_norm = _own(asked, key, value, trunks.own, new)
    means, norms = list[torch.Tensor](), list[torch.Tensor]()
    for trunk, some in zip(trunks.trunks, torch.split(asked[trunks.order], trunks.sizes), strict=True):
        keys, values = (
            trunk.tokens[:, at : at + count * width].view(len(trunk), count, width).transpose(0, 1).float().contiguous()
            for at, count, width in (layer.keys, layer.values)
        )
        flat = some.transpose(0, 1).flatten(1, 2)  # (groups, rows x heads of a group x new, size)
        parts = [
            _mean(few @ keys.transpose(-1, -2), values)
            for few in torch.split(flat, max(1, SCORES // (groups * len(trunk))), dim=1)
        ]
        for part, out in zip(zip(*parts, strict=True), (means, norms), strict=True):
            out.append(torch.cat(part, dim=1).view(groups, len(some), heads // groups * new, -1).transpose(0, 1))
    far, far_norm = torch.cat(means)[trunks.back], torch.cat(norms)[trunks.back]
    both = torch.lerp(own, far, torch.sigmoid(far_norm - own_norm))
    return both.view(rows, heads, new, -1).transpose(1, 2).to(query.dtype).contiguous(), None


def _own(
    asked: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor | None, new: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A row's attention to its own tokens, about ``SCORES`` of them at once: some rows, or some new tokens of one."""
    (rows, groups, several, size), width = asked.shape, key.shape[2]
    each = groups * several * width  # scores of a row
    few, some = max(1, SCORES // each), new if each <= SCORES else max(1, SCORES * new // each)
    found = []
    for first in range(0, rows, few):
        at = slice(first, first + few)
        here = asked[at].view(-1, groups, several // new, new, size)
        keys, values, parts = key[at].float().transpose(-1, -2), value[at].float(), []
        for start in range(0, new, some):
            part = here[:, :, :, start : start + some]
            scores = part.flatten(2, 3) @ keys
            if seen is not None:
                mask = seen[at, :, :, start : start + some] if seen.shape[3] > 1 else seen[at]
                scores.view(*part.shape[:-1], width).masked_fill_(~mask, -torch.inf)
            parts.append([x.view(*part.shape[:-1], -1) for x in _mean(scores, values)])
        found.append([torch.cat(part, dim=3).flatten(2, 3) for part in zip(*parts, strict=True)])
    mean, norm = (torch.cat(part) for part in zip(*found, strict=True))
    return mean, norm


def _mean(scores: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The values' mean under the softmax of the scores, and the logarithm of its normaliser, (..., 1)."""
    norm = scores.logsumexp(-1, keepdim=True)
    return (scores - norm).exp_() @ values, norm


AttentionInterface.register(NAME, attend)
