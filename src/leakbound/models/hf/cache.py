"""Caches whose rows are chosen from other caches: cut, padded on the left, joined, with room for the next tokens."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from leakbound.models.hf.prefixes import Ints

ROOM = 16
"""How many more tokens a gathered cache can take before it is copied again."""

IDLE = 0.9
"""A cache stays in its place while this share of its rows is wanted."""

Parents = tuple[Cache, Ints]
"""A cache and the rows of it that are wanted."""


@dataclass
class Room:
    """Tensors that twins of a layer share, and up to which token they are written."""

    keys: torch.Tensor
    values: torch.Tensor
    written: int


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values at the beginning of larger tensors: a new token is written behind them, not joined on.

    Twins share the tensors. Only the one that is first to go on writes into them; the others find a token behind their
    own and take a copy.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.room = Room(keys, values, length)
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states behind the old ones, into a larger copy when the room is used up or taken."""
        start = self.keys.shape[-2]
        stop = start + key_states.shape[-2]
        if stop > self.room.keys.shape[-2] or self.room.written != start:
            self.room = Room(_larger(self.keys, stop + ROOM), _larger(self.values, stop + ROOM), start)
        self.room.keys[:, :, start:stop] = key_states
        self.room.values[:, :, start:stop] = value_states
        self.room.written = stop
        self.keys, self.values = self.room.keys[:, :, :stop], self.room.values[:, :, :stop]
        return self.keys, self.values


def kept_rows(parents: Sequence[Parents]) -> Ints | None:
    """If nearly all rows of one cache are wanted, each once and in their order: for each row of it, which wanted one.

    Rows that are not wanted are given to the first wanted one, to idle along. None where rows have to be moved.
    """
    if len(parents) != 1:
        return None
    cache, rows = parents[0]
    layer = cache.layers[0]
    size = len(layer.keys) if isinstance(layer, DynamicLayer) and layer.keys is not None else -1
    if not IDLE * size <= len(rows) <= size or (rows[1:] <= rows[:-1]).any():
        return None
    slots = np.zeros(size, dtype=np.int64)
    slots[rows] = np.arange(len(rows))
    return slots


def gather(parents: Sequence[Parents], length: int, device: torch.device) -> Cache:
    """A cache of the rows asked for, one part below the other, right-aligned to ``length`` tokens.

    The old caches stay as they are: what they show does not change, also where the new one shares their memory.
    """
    new = copy.copy(parents[0][0])
    new.layers = [_twin(layer) for layer in new.layers]
    chosen = [torch.from_numpy(rows).to(device) for _, rows in parents]
    if not all(type(layer) in (DynamicLayer, RoomyLayer) for layer in new.layers):
        new.reorder_cache(chosen[0])
        return new
    if kept_rows(parents) is not None:
        return new
    for i in range(len(new.layers)):
        keys, values = (
            _align([getattr(cache.layers[i], name) for cache, _ in parents], chosen, length)
            for name in ("keys", "values")
        )
        new.layers[i] = RoomyLayer(keys, values, length)
    return new


def cache_bytes(cache: Cache) -> int:
    """The bytes of all tensors that a cache shows."""
    return sum(
        value.numel() * value.element_size()
        for layer in cache.layers
        for value in vars(layer).values()
        if isinstance(value, torch.Tensor)
    )


def _align(tensors: list[torch.Tensor], chosen: list[torch.Tensor], length: int) -> torch.Tensor:
    """Chosen rows of (rows, heads, tokens, size) tensors, their last ``length`` tokens, with room behind them."""
    _, heads, _, size = tensors[0].shape
    out = tensors[0].new_empty((sum(map(len, chosen)), heads, length + ROOM, size))
    start = 0
    for tensor, rows in zip(tensors, chosen, strict=True):
        part = out[start : start + len(rows)]
        short = length - tensor.shape[-2]
        if short > 0:
            part[:, :, :short] = 0
        part[:, :, max(short, 0) : length] = tensor[:, :, max(-short, 0) :].index_select(0, rows)
        start += len(rows)
    return out


def _larger(tensor: torch.Tensor, length: int) -> torch.Tensor:
    rows, heads, old, size = tensor.shape
    out = tensor.new_empty((rows, heads, length, size))
    out[:, :, :old] = tensor
    return out


def _twin(layer: Any) -> Any:
    """A copy of a cache layer that shares its tensors and nothing else."""
    twin = copy.copy(layer)
    for name, value in vars(twin).items():
        if isinstance(value, dict | list):
            setattr(twin, name, copy.copy(value))
    return twin
