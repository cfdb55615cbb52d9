"""What draws cost, on paper: rows of the merged tree from log-probabilities, seconds of passes, bytes of files.

A pass is made for each distinct prefix that at least one of n draws reaches. A prefix of probability p is reached with
probability 1 - (1 - p)^n, so that the expected number of those of t tokens is the mean, over draws, of
(1 - (1 - p)^n) / p at the draw's own beginning of t tokens: a few draws tell it for any n. A folder holds log P of
whole completions: its nats are taken to lie in surprises of :data:`JUMP` nats each, each at any of its tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

Floats = NDArray[np.float64]
JUMP = 6.0
"""Nats of one surprise: a draw has as many as make up its -log P, at least one."""
MOST_JUMPS = 16
"""More of them are told apart from even shares by nobody."""


def reached(n: float, nats: Floats) -> Floats:
    """(1 - (1 - p)^n) / p at p = exp(-nats): how many things like this one n draws find, for each one found."""
    p = np.exp(-np.clip(nats, 0.0, 600.0))
    with np.errstate(divide="ignore"):
        return -np.expm1(n * np.log1p(-p)) / p


@dataclass(frozen=True)
class Law:
    """What some draws show of a prompt's law: -log P of their completions, how many tokens, how often; (draws,)."""

    nats: Floats
    tokens: Floats
    weights: Floats
    jump: float = JUMP
    """Nats of a surprise; 0: every token has its share."""

    @classmethod
    def invented(cls, nats: float, tokens: float, spread: float) -> Law:
        """-log P is gamma distributed, with this mean and coefficient of variation; 512 quantiles."""
        shape = spread**-2
        found = gammaincinv(shape, (np.arange(512) + 0.5) / 512) * nats / shape
        return cls(found, np.full(512, float(tokens)), np.ones(512))

    @property
    def entropy(self) -> float:
        """The mean of -log P, in nats."""
        return float(np.average(self.nats, weights=self.weights))

    @property
    def length(self) -> float:
        """Tokens of a draw, on average."""
        return float(np.average(self.tokens, weights=self.weights))

    def distinct(self, n: float) -> float:
        """Expected number of distinct completions of n draws."""
        return float(np.average(reached(n, self.nats), weights=self.weights))

    def distinct_tokens(self, n: float) -> float:
        """Expected number of tokens of the distinct completions of n draws."""
        return float(np.average(reached(n, self.nats) * self.tokens, weights=self.weights))

    def by_depth(self, n: float) -> Floats:
        """For each draw, the rows of each depth that it stands for; (tokens of the longest, draws)."""
        done = np.arange(math.ceil(self.tokens.max()))[:, None] / self.tokens
        if not self.jump:
            return reached(n, self.nats * np.minimum(done, 1)) * (done < 1)
        found = np.zeros(done.shape)
        surprises = np.clip(np.ceil(self.nats / self.jump), 1, MOST_JUMPS).astype(int)
        for many in np.unique(surprises):
            mine = surprises == many
            share = np.minimum(done[:, mine], 1)
            for k in range(many + 1):  # so many of them lie among the first tokens
                chance = math.comb(many, k) * share**k * (1 - share) ** (many - k)
                found[:, mine] += chance * reached(n, self.nats[mine] * k / many)
        return np.asarray(found * (done < 1), dtype=np.float64)

    def levels(self, n: float) -> Floats:
        """Expected number of rows of each depth: distinct prefixes of 0, 1, ... tokens that are read."""
        return np.asarray(np.average(self.by_depth(n), weights=self.weights, axis=1), dtype=np.float64)

    def rows(self, n: float) -> float:
        """Expected number of rows."""
        return float(self.levels(n).sum())

    @property
    def spread(self) -> float:
        """The coefficient of variation of -log P."""
        return math.sqrt(float(np.average((self.nats - self.entropy) ** 2, weights=self.weights))) / self.entropy


@dataclass(frozen=True)
class Model:
    """The sizes of a decoder; ``item``: bytes of a number."""

    parameters: float
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    item: int = 2

    @property
    def weights(self) -> float:
        """Bytes of the weights."""
        return self.parameters * self.item

    @property
    def kv(self) -> float:
        """Bytes of keys and values of one token."""
        return 2.0 * self.layers * self.kv_heads * self.head_size * self.item

    def flops(self, context: float) -> float:
        """Operations of one row behind so many tokens: each parameter twice, and attention."""
        return 2.0 * self.parameters + 4.0 * self.layers * self.heads * self.head_size * context


@dataclass(frozen=True)
class Machine:
    """An accelerator: operations and bytes a second, and which share of each is had; seconds of a layer's start."""

    flops: float
    bandwidth: float
    share: float
    layer: float

    def seconds(self, model: Model, rows: float, context: float) -> float:
        """One pass: what takes longer, its operations or its bytes, and the start of its layers."""
        computing = rows * model.flops(context) / (self.flops * self.share)
        reading = (model.weights + rows * context * model.kv) / (self.bandwidth * self.share)
        return max(computing, reading) + model.layers * self.layer

    def balance(self, model: Model, context: float) -> float:
        """Rows of a pass at which computing takes as long as reading; infinite where keys and values outweigh it."""
        row = model.flops(context) / self.flops - context * model.kv / self.bandwidth
        return model.weights / self.bandwidth / row if row > 0 else math.inf


LLAMA_8B = Model(8.03e9, 32, 32, 8, 128, 128_256)
"""The sizes in the config.json of Llama 3.1 8B."""
H100 = Machine(990e12, 3.35e12, 0.5, 1e-4)
"""Dense bf16 operations and memory bandwidth as NVIDIA states them for the H100 SXM; half of each is assumed, and for a
layer's start what models/hf/budget.py counts."""


def passes(levels: Floats, prompts: int, most: float) -> float:
    """Passes of a shard of so many prompts with these rows each: full ones, and at least one a depth."""
    return float(np.maximum(1.0, prompts * levels[levels > 0] / most).sum())


def draw_seconds(machine: Machine, model: Model, law: Law, n: int, prompts: int, head: int, most: float) -> float:
    """One shard: ``prompts`` of ``head`` tokens with n draws each, at most ``most`` rows in a pass."""
    levels = law.levels(n)
    rows = prompts * levels.sum()
    count = passes(levels, prompts, most)
    context = head + float((levels * np.arange(len(levels))).sum() / levels.sum())
    reading = prompts * head * model.flops(head / 2) / (machine.flops * machine.share)
    return count * machine.seconds(model, rows / count, context) + reading
