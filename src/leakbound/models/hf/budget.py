"""What sampling may take beside the weights, and what a pass costs: together they say how large a batch may be.

Costs are counted, never timed: the same batches, and so the same bytes, whatever else the machine does.
"""

from __future__ import annotations

import math
import os
from typing import Any

import torch

from leakbound.errors import InputError
from leakbound.models.hf.memory import free_bytes, release_cached, taken_bytes
from leakbound.wording import in_bytes
from leakbound.workers.processes import SHARING

SPARE = 5 * 2**24
"""Bytes for what nobody counts: activations of one pass, laws of a few rows, objects of Python."""
ENOUGH = 0.5
"""On a CPU more working memory than this share of the weights (and 256 MiB) makes nothing faster, and is not taken."""
TILES = 4.0
"""How many times as fast a processor with matrix tiles (AMX) multiplies bfloat16 as a plain core float32, and how many
times that share is worth taking for batches that keep it busy."""
PROMPTS = 24.0
"""Nor, beyond that, more than this many of its longest prompts: two that were read before, eight that wait."""
BENCH, PASTS, BEGUN, UNIFORMS = 0.5, 0.35, 0.1, 0.05
"""Shares of the room: the batch, what waits, prompts that were read before, random numbers."""
MOST_ROWS, MOST_LOGITS = 512, 2**26
"""More rows, or logits, than this at once are not faster on a CPU."""
GPU_ROWS = 4096
"""More rows than this at once are not faster on a GPU."""
FEWEST_ROWS = 16
"""Fewer than this are slower, for the weights are read for each pass."""
WORTH = 0.35
"""Seconds of one pass above which more rows do not make a row cheaper."""
IN_FLIGHT = 9.0
"""Seconds of work on rows that have not finished: more come later to their end, and are lost when the process is."""
NOMINAL = {"cpu": (5e10, 1e-8, 1e-4), "mps": (2e12, 1e-9, 1e-4)}
"""A core of a plain machine: floating point operations a second; seconds for a number of a law, and for a layer."""
FAST = (2e13, 1e-10, 1e-4)
"""The same of a GPU."""


def has_tiles(model: Any) -> bool:
    """Whether this processor has units of its own for the products of the model's number type."""
    known = getattr(torch.cpu, "_is_amx_tile_supported", bool)  # a private name: another torch may not have it
    return bool(model.device.type == "cpu" and model.dtype == torch.bfloat16 and known())


class Budget:
    """The memory of one model, and the nominal cost of its passes.

    ``given``: bytes that all may take together, the weights and the libraries in the process included (on a GPU: what
    is taken on it); None for half of what the process may still take. ``room`` is what is left of them for sampling,
    infinite until :meth:`settle`.
    """

    def __init__(self, model: Any, vocabulary: int, given: float | None) -> None:
        self.device, self.given, self.vocabulary = model.device, given, vocabulary
        self.tensors = [*model.parameters(), *model.buffers()]
        self.weights = sum(t.numel() * t.element_size() for t in self.tensors)
        speed, law, layer = NOMINAL.get(self.device.type, FAST)
        self.tiles = TILES if has_tiles(model) else 1.0
        speed *= self.tiles
        self.of_token = 2 * sum(p.numel() for p in model.parameters()) / speed
        self.of_row = law * vocabulary
        self.of_pass = layer * int(getattr(model.config.get_text_config(), "num_hidden_layers", None) or 1)
        self.room = self.top = math.inf
        cpu = self.device.type == "cpu"
        self.top_rows = max(1, min(MOST_ROWS, MOST_LOGITS // vocabulary)) if cpu else GPU_ROWS
        """The most rows that one pass is ever given."""

    def seconds(self, rows: int, tokens: int) -> float:
        """The nominal cost of one pass of so many rows that reads so many tokens."""
        return float(self.of_pass + rows * self.of_row + tokens * self.of_token)

    def most_rows(self, new_tokens: int) -> int:
        """How many rows are worth one pass, of completions of so many tokens."""
        row = self.of_token + self.of_row
        return int(min(self.top_rows, max(FEWEST_ROWS, min(WORTH, IN_FLIGHT / new_tokens) / row)))

    def settle(self, prompt: float = 0.0) -> None:
        """Fix the room, once the weights are where they stay; the longest ``prompt`` is remembered in so many bytes."""
        if self.given is None:
            self.room = free_bytes(self.device) / 2 / int(os.environ.get(SHARING, "1"))
        else:
            for tensor in self.tensors if self.device.type == "cpu" else ():
                tensor.detach().flatten()[::1024].sum()  # a file that is mapped takes memory once it is read
            self.room = max(0.0, self.given - taken_bytes(self.device) - SPARE)
        if self.device.type == "cpu":
            self.room = min(self.room, max(2.0**28, self.tiles * ENOUGH * self.weights, PROMPTS * prompt))
            self.top = taken_bytes(self.device) + 0.9 * self.room

    def keep(self) -> None:
        """Where more is taken than there was room for, hand back what the allocator of a CPU keeps for itself."""
        if self.top < math.inf and taken_bytes(self.device) > self.top:
            release_cached(self.device)
            self.top = max(self.top, taken_bytes(self.device))  # something else took it: once is enough

    def check(self, row: float, tokens: int) -> None:
        """InputError where not even one row of so many tokens, which takes ``row`` bytes, has room."""
        if row <= BENCH * self.room:
            return
        row /= BENCH
        others = taken_bytes(self.device) + SPARE
        what = "half of what is free" if self.given is None else f"memory is {in_bytes(self.given)}, and"
        raise InputError(
            f"{what} leaves {in_bytes(self.room)} to sample in: the weights take {in_bytes(self.weights)}, they and "
            f"the rest of the process {in_bytes(others)}, one row of {tokens} tokens {in_bytes(row)}: give --memory "
            f"{in_bytes(1.05 * (others + row))} or more, a shorter max_tokens, or a smaller model"
        )
