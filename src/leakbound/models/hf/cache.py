"""What a model remembers of the tokens of a prefix tree: once for each token, and laid out for one batch at a time.

A pass leaves a :class:`Past`: keys and values of the tokens it read, and which rows of which earlier pasts came before
them. A :class:`Bench` lays all tokens of a batch's rows out as the model wants them; it is the only copy, and the next
batch takes its place. Caches of other kinds (sliding windows, recurrent states) stay whole: :func:`chosen`.
"""

from __future__ import annotations

import copy
import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicLayer

from leakbound.models.hf.prefixes import Ints
from leakbound.models.hf.trunks import TRUNKS, Layer, Trunk, Trunks

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
    larger ones. ``trunks``: the prompt of each row, where all rows come from one that was read as it is; ``root``:
    whether these are such prompts.
    """

    def __init__(self, tokens: torch.Tensor, before: Sequence[Parents] = (), lengths: Ints | None = None) -> None:
        self.tokens, self.before = tokens, tuple(before)
        self.number = next(_NUMBERS)
        self.root = lengths is not None
        self.trunks: list[Trunk] | None = None
        if lengths is not None:
            self.trunks = [Trunk(row[len(row) - size :]) for row, size in zip(tokens, lengths.tolist(), strict=True)]
        elif before and all(past.trunks is not None for past, _ in before):
            self.trunks = [trunk for past, rows in before for trunk in past.prompts(rows)]

    def prompts(self, rows: Ints) -> list[Trunk]:
        """The prompts of some rows; only where there are ``trunks``."""
        assert self.trunks is not None  # whoever asks has looked
        return [self.trunks[row] for row in rows.tolist()]

    def origins(self, rows: Ints) -> list[tuple[Past, Ints, Ints]]:
        """The prompts of some rows as pasts and rows in them, with the places of those that come from them."""
        stack: list[tuple[Past, Ints, Ints]] = [(self, rows, np.arange(len(rows)))]
        found = []
        while stack:
            past, mine, places = stack.pop()
            if past.root:
                found.append((past, mine, places))
            stack += [(parent, above, places[inside]) for parent, above, inside in past.parents(mine)]
        return found

    def parents(self, rows: Ints) -> Iterator[tuple[Past, Ints, NDArray[np.bool_]]]:
        """The pasts before some rows, the rows in them, and of which of these rows they are."""
        first = 0
        for parent, parents in self.before:
            inside = (rows >= first) & (rows < first + len(parents))
            if inside.any():
                yield parent, parents[rows[inside] - first], inside
            first += len(parents)

    def keep(self, rows: Ints) -> None:
        """Keep these rows alone."""
        sizes = [len(trunk) for trunk in self.trunks or ()]
        self.tokens = self.tokens.index_select(0, torch.from_numpy(rows).to(self.tokens.device))
        if self.trunks is not None:
            self.trunks = self.prompts(rows)
            if self.root:
                for trunk, row, kept in zip(self.trunks, self.tokens, rows.tolist(), strict=True):
                    trunk.tokens = row[len(row) - sizes[kept] :]

    def write(self, rows: Ints, out: torch.Tensor, *, whole: bool = True) -> None:
        """Write all tokens of some rows into ``out``, (len(rows), tokens, numbers), aligned at the right; without
        ``whole`` those behind their prompts."""
        stack: list[tuple[Past, Ints, Ints, int]] = [(self, rows, np.arange(len(rows)), out.shape[1])]
        most = CPU_AT_ONCE if out.device.type == "cpu" else AT_ONCE
        while stack:
            past, mine, places, stop = stack.pop()
            if past.root and not whole:
                continue
            size = past.tokens.shape[1]
            tokens, start = past.tokens[:, max(0, size - stop) :], max(0, stop - size)
            step = max(1, most // max(1, tokens[:1].numel()))
            source, target = torch.from_numpy(np.stack([mine, places])).to(out.device)
            for i in range(0, len(mine), step):  # a copy of all at once would take as much again
                chosen = tokens.index_select(0, source[i : i + step])
                out[:, start:stop].index_copy_(0, target[i : i + step], chosen)
            stack += [(parent, above, places[inside], start) for parent, above, inside in past.parents(mine)]


Kept: TypeAlias = "Past | Cache"
"""What a model remembers of some rows."""
Parents: TypeAlias = "tuple[Past, Ints]"
"""A past and the rows of it that are wanted."""


class BenchLayer(DynamicLayer):  # type: ignore[misc]
    """One layer of a batch: keys and values in tensors that have room for the tokens of the next passes."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int, trunks: Layer | None = None) -> None:
        super().__init__()
        self.trunks = trunks
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
        if self.trunks is not None:
            vars(self.keys)[TRUNKS] = self.trunks  # for the attention, which is given these keys
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
        self.trunks: Trunks | None = None
        """The prompts of the rows, where these lie here without them."""
        self.length = self.capacity = self.rows = 0

    def holds(self, parents: Sequence[Parents]) -> bool:
        """Whether these rows lie here in their order already, nearly alone, with room for a token behind them."""
        if len(parents) != 1 or parents[0][0] is not self.now or self.length >= self.capacity:
            return False
        rows = parents[0][1]
        return bool(IDLE * self.rows <= len(rows) <= self.rows and (rows[1:] > rows[:-1]).all())

    def lay(
        self,
        parents: Sequence[Parents],
        rows: int,
        length: int,
        more: int,
        shortest: int = 0,
        *,
        whole: bool = True,
    ) -> Cache:
        """Lay out ``rows`` rows of ``shortest`` to ``length`` tokens, those of the parents one part below the other.

        Without ``whole`` the prompts are not laid out and not counted: the rows are to attend to them by ``trunks``.
        """
        self.now = None
        self.trunks = None if whole else Trunks.of(prompts_of(parents), self.store.device)
        capacity = length + max(more, ROOM)
        need = rows * capacity * self.numbers
        if need > self.store.numel():
            device, self.store = self.store.device, self.store.new_empty(0)  # the old one goes first
            self.store = torch.empty(need, dtype=self.store.dtype, device=device)
        out = self.store[:need].view(rows, capacity, self.numbers)
        out[:, : length - shortest] = 0  # what no token stands in is masked, but times 0 it must be 0
        start = 0
        for past, mine in parents:
            past.write(mine, out[start : start + len(mine), :length], whole=whole)
            start += len(mine)
        self.rows, self.length, self.capacity = rows, length, capacity
        return self.cache()

    def cache(self) -> Cache:
        """What lies here as the model takes it."""
        out = self.store[: self.rows * self.capacity * self.numbers].view(self.rows, self.capacity, self.numbers)
        parts, places, at = [], [], 0
        for heads, size in self.shapes:
            parts.append(out[:, :, at : at + heads * size].unflatten(-1, (heads, size)).transpose(1, 2))
            places.append((at, heads, size))
            at += heads * size
        cache = copy.copy(self.made)
        pairs = zip(parts[::2], parts[1::2], places[::2], places[1::2], strict=True)
        cache.layers = [
            BenchLayer(keys, values, self.length, None if self.trunks is None else Layer(self.trunks, *where))
            for keys, values, *where in pairs
        ]
        return cache

    def take(self, new: int, before: Sequence[Parents], lengths: Ints | None = None) -> Past:
        """The past of a pass that wrote ``new`` tokens here, behind those of the parents; of prompts that were read as
        they are, how long each is."""
        out = self.store[: self.rows * self.capacity * self.numbers].view(self.rows, self.capacity, self.numbers)
        self.now = Past(out[:, self.length : self.length + new].clone(), before, lengths)
        self.length += new
        return self.now


def prompts_of(parents: Sequence[Parents]) -> list[Trunk]:
    """The prompt of each row."""
    return [trunk for past, rows in parents for trunk in past.prompts(rows)]


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
        mine, before = np.flatnonzero(marks[past]), []
        for parent, above, _ in past.parents(mine):
            want(parent, above)
            before.append((parent, above))
        past.before = tuple(before)
        if len(mine) < len(past.tokens):
            past.keep(mine)
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
