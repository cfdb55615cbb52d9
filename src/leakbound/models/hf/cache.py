"""What a model remembers of the tokens of a prefix tree: once for each token, and laid out for one batch at a time.

A pass leaves a :class:`Past`: keys and values of the tokens it read, and which rows of which earlier pasts came before
them. A :class:`Bench` lays all tokens of a batch's rows out as the model wants them; it is the only copy, and the next
batch takes its place. Caches of other kinds (sliding windows, recurrent states) stay whole: :func:`chosen`.
"""

from __future__ import annotations

import copy
import heapq
import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicLayer

from leakbound.models.hf.prefixes import Ints

ROOM = 16
"""How many more tokens a bench can take before it is laid out again."""

AT_ONCE, CPU_AT_ONCE = 2**25, 2**20
"""How many numbers are copied at once, on a GPU and on a CPU."""

IDLE = 0.9
"""Rows stay in their place on the bench while this share of them is wanted."""


_NUMBERS = itertools.count()


class Past:
    """Keys and values of the newest tokens of some rows, all layers side by side, and where those before them are.

    ``tokens``: (rows, new tokens, numbers); ``before``: earlier pasts with the parents of these rows in them, one part
    below the other; none where these are all the tokens of the rows, aligned at the right. ``number``: later ones have
    larger ones.
    """

    def __init__(self, tokens: torch.Tensor, before: Sequence[Parents] = ()) -> None:
        self.tokens, self.before = tokens, tuple(before)
        self.number = next(_NUMBERS)

    def write(self, rows: Ints, out: torch.Tensor) -> None:
        """Write all tokens of some rows into ``out``, (len(rows), tokens, numbers), aligned at the right."""
        stack: list[tuple[Past, Ints, Ints, int]] = [(self, rows, np.arange(len(rows)), out.shape[1])]
        most = CPU_AT_ONCE if out.device.type == "cpu" else AT_ONCE
        while stack:
            past, mine, places, stop = stack.pop()
            size = past.tokens.shape[1]
            tokens, start = past.tokens[:, max(0, size - stop) :], max(0, stop - size)
            step = max(1, most // max(1, tokens[:1].numel()))
            source, target = torch.from_numpy(np.stack([mine, places])).to(out.device)
            for i in range(0, len(mine), step):  # a copy of all at once would take as much again
                chosen = tokens.index_select(0, source[i : i + step])
                out[:, start:stop].index_copy_(0, target[i : i + step], chosen)
            first = 0
            for parent, parents in past.before:
                inside = (mine >= first) & (mine < first + len(parents))
                if inside.any():
                    stack.append((parent, parents[mine[inside] - first], places[inside], start))
                first += len(parents)


Kept: TypeAlias = "Past | Cache"
"""What a model remembers of some rows."""
Parents: TypeAlias = "tuple[Past, Ints]"
"""A past and the rows of it that are wanted."""


class BenchLayer(DynamicLayer):  # type: ignore[misc]
    """One layer of a batch: keys and values in tensors that have room for the tokens of the next passes."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.room = keys, values
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states behind the old ones."""
        start = self.keys.shape[-2]
        stop = start + key_states.shape[-2]
        self.room[0][:, :, start:stop], self.room[1][:, :, start:stop] = key_states, value_states
        self.keys, self.values = self.room[0][:, :, :stop], self.room[1][:, :, :stop]
        return self.keys, self.values


class Bench:
    """Where the keys and values of one batch lie while the model reads it. Made from a cache that the model made."""

    def __init__(self, made: Cache) -> None:
        self.made = made
        parts = [part for layer in made.layers for part in (layer.keys, layer.values)]
        self.shapes = [(part.shape[1], part.shape[3]) for part in parts]
        self.numbers = sum(heads * size for heads, size in self.shapes)
        self.store = parts[0].new_empty(0)
        self.now: Past | None = None
        self.length = self.capacity = self.rows = 0

    def holds(self, parents: Sequence[Parents]) -> bool:
        """Whether these rows lie here in their order already, nearly alone, with room for a token behind them."""
        if len(parents) != 1 or parents[0][0] is not self.now or self.length >= self.capacity:
            return False
        rows = parents[0][1]
        return bool(IDLE * self.rows <= len(rows) <= self.rows and (rows[1:] > rows[:-1]).all())

    def lay(self, parents: Sequence[Parents], rows: int, length: int, more: int, shortest: int = 0) -> Cache:
        """Lay out ``rows`` rows of ``shortest`` to ``length`` tokens, those of the parents one part below the other."""
        self.now = None
        capacity = length + max(more, ROOM)
        need = rows * capacity * self.numbers
        if need > self.store.numel():
            device, self.store = self.store.device, self.store.new_empty(0)  # the old one goes first
            self.store = torch.empty(need, dtype=self.store.dtype, device=device)
        out = self.store[:need].view(rows, capacity, self.numbers)
        out[:, : length - shortest] = 0  # what no token stands in is masked, but times 0 it must be 0
        start = 0
        for past, mine in parents:
            past.write(mine, out[start : start + len(mine), :length])
            start += len(mine)
        self.rows, self.length, self.capacity = rows, length, capacity
        return self.cache()

    def cache(self) -> Cache:
        """What lies here as the model takes it."""
        out = self.store[: self.rows * self.capacity * self.numbers].view(self.rows, self.capacity, self.numbers)
        parts, at = [], 0
        for heads, size in self.shapes:
            parts.append(out[:, :, at : at + heads * size].unflatten(-1, (heads, size)).transpose(1, 2))
            at += heads * size
        cache = copy.copy(self.made)
        cache.layers = [BenchLayer(*pair, self.length) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return cache

    def take(self, new: int, before: Sequence[Parents]) -> Past:
        """The past of a pass that wrote ``new`` tokens here, behind those of the parents."""
        out = self.store[: self.rows * self.capacity * self.numbers].view(self.rows, self.capacity, self.numbers)
        self.now = Past(out[:, self.length : self.length + new].clone(), before)
        self.length += new
        return self.now


def idle_slots(rows: Ints, size: int) -> Ints:
    """For each of ``size`` rows which wanted one it is; those that are not wanted are the first, to idle along."""
    slots = np.zeros(size, dtype=np.int64)
    slots[rows] = np.arange(len(rows))
    return slots


def chosen(cache: Cache, rows: Ints, device: torch.device) -> Cache:
    """A cache of some rows of another one, which stays as it is."""
    new = copy.copy(cache)
    new.layers = [_twin(layer) for layer in cache.layers]
    new.reorder_cache(torch.from_numpy(rows).to(device))
    return new


def prune(wanted: Sequence[Parents], whole: Sequence[Past]) -> list[Ints]:
    """Drop all rows that nobody wants, here and before; the wanted ones by their new numbers.

    ``whole``: pasts that stay as they are.
    """
    marks: dict[Past, NDArray[np.bool_]] = {}
    newest: list[tuple[int, Past]] = []

    def want(past: Past, rows: Ints) -> None:
        if past not in marks:
            marks[past] = np.zeros(len(past.tokens), dtype=bool)
            heapq.heappush(newest, (-past.number, past))
        marks[past][rows] = True

    for past, rows in [*wanted, *((past, np.arange(len(past.tokens))) for past in whole)]:
        want(past, rows)
    while newest:  # whoever wants a row of a past is newer than it
        _, past = heapq.heappop(newest)
        mine, first, before = np.flatnonzero(marks[past]), 0, []
        for parent, parents in past.before:
            inside = parents[mine[(mine >= first) & (mine < first + len(parents))] - first]
            if len(inside):
                want(parent, inside)
                before.append((parent, inside))
            first += len(parents)
        past.before = tuple(before)
        if len(mine) < len(past.tokens):
            past.tokens = past.tokens.index_select(0, torch.from_numpy(mine).to(past.tokens.device))
    new = {past: np.cumsum(mark) - 1 for past, mark in marks.items()}
    for past in marks:
        past.before = tuple((parent, new[parent][rows]) for parent, rows in past.before)
    return [new[past][rows] for past, rows in wanted]


def weigh(kept: Kept, seen: set[int]) -> int:
    """The bytes of everything that is alive for it and not ``seen`` before: of a past, also what came before."""
    total, stack = 0, [kept]
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Past):
            total += one.tokens.numel() * one.tokens.element_size()
            stack += [parent for parent, _ in one.before]
        else:
            total += cache_bytes(one)
    return total


def cache_bytes(cache: Cache) -> int:
    """The bytes of all tensors that a cache shows."""
    return sum(
        value.numel() * value.element_size()
        for layer in cache.layers
        for value in vars(layer).values()
        if isinstance(value, torch.Tensor)
    )


def _twin(layer: Any) -> Any:
    """A copy of a cache layer that shares its tensors and nothing else."""
    twin = copy.copy(layer)
    for name, value in vars(twin).items():
        if isinstance(value, dict | list):
            setattr(twin, name, copy.copy(value))
    return twin
