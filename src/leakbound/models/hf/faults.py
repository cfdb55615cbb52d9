"""The laws of servers that do something else than they were asked for, on cells of the vocabulary.

A cell is a set of tokens that every bet treats alike: the likeliest tokens, the tokens that stand before and the end
tokens are cells of their own, the others share one where they are about equally likely. Which tokens share a cell
follows from what stands before the token, never from the token. What the laws below give a cell is exact where it holds
one token, and where it holds more it is what tokens of its mean probability would get: an alternative may be any law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from leakbound.bounds.gate import Floats, Ints
from leakbound.records import SamplingParams

SHARE = 0.05
"""How often a fault that ends answers early would end one, at each token."""
EDGE = 0.05
"""Nats by which the edge of a filter is blurred: other engines order tokens of nearly equal probability otherwise."""
FOREIGN = 0.25
"""How often other weights are taken to give a token by its rank alone, in proportion to 1 / rank."""


@dataclass(frozen=True)
class Cells:
    """The laws of M tokens on C cells each; cells may be empty.

    ``stated``, ``whole``: the mass of each cell under the stated law, and without its filters; ``size``: its tokens;
    (M, C). ``shift``: what turns log probabilities of ``whole`` into logits over the temperature, (M, 1). ``before``,
    ``ends``: cells of one token that stands before, or that ends an answer, (M, C). ``at``: the cell of the token that
    came, (M,). ``top``: the likeliest tokens, whose cells come first, (M, K). ``own``: log of the token's own
    probability under the stated law, (M,).
    """

    stated: Floats
    whole: Floats
    size: Floats
    shift: Floats
    before: Floats
    ends: Floats
    at: Ints
    top: Ints
    own: Floats

    @cached_property
    def logs(self) -> Floats:
        """log of the mean probability of a cell's tokens under ``whole``; minus infinity where it has none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = np.where(self.size > 0, np.log(self.whole / self.size), -np.inf)
        return found

    @cached_property
    def order(self) -> Ints:
        """The cells, likeliest tokens first, (M, C)."""
        return np.argsort(-self.logs, axis=1, kind="stable")


Law = Callable[[Cells], Floats]
"""The mass of each cell, (M, C), rows that sum to 1."""


def _law(cells: Cells, logs: Floats, params: SamplingParams, order: Ints | None = None) -> Floats:
    """Tokens of these log weights, filtered by top-k, top-p and min-p in this order, with edges as blurred as EDGE."""
    mass: Floats = cells.size * np.exp(logs - logs.max(1, keepdims=True))
    if params.top_k or params.top_p < 1 or params.min_p:
        order = np.argsort(-logs, axis=1, kind="stable") if order is None else order
        some, falling = np.take_along_axis(mass, order, 1), np.take_along_axis(logs, order, 1)
        size = np.take_along_axis(cells.size, order, 1)
        keep = size > 0
        if params.top_k:
            keep &= np.cumsum(size, 1) - size < params.top_k
        if params.top_p < 1:
            some *= keep
            keep &= np.cumsum(some, 1) - some < params.top_p * some.sum(1, keepdims=True)
        if params.min_p:
            keep &= falling >= falling[:, :1] + np.log(params.min_p)
        kept, every = keep.sum(1)[:, None], len(keep[0])
        least = np.take_along_axis(falling, kept - 1, 1)
        after = np.take_along_axis(falling, np.minimum(kept, every - 1), 1)
        edge = (least + np.maximum(after, least - 1)) / 2 - (kept == every)
        mass /= 1 + np.exp(np.clip((edge - logs) / EDGE, -50, 50))
    found: Floats = mass / mass.sum(1, keepdims=True)
    return found


def decoded(params: SamplingParams, own: SamplingParams) -> Law:
    """The law of decoding parameters where ``own`` are asked for."""
    return lambda cells: _law(cells, cells.logs * (own.temperature / params.temperature), params, cells.order)


def penalised(params: SamplingParams, *, repetition: float = 1.0, presence: float = 0.0) -> Law:
    """The law with a penalty on tokens that stand before: logits divided by (or, below 0, times) ``repetition``, as
    CTRL does (arXiv 1909.05858), or lowered by ``presence``."""

    def law(cells: Cells) -> Floats:
        logits = params.temperature * (cells.logs + cells.shift)
        lower = np.where(logits > 0, logits / repetition, logits * repetition) - presence
        return _law(cells, np.where(cells.before, lower, logits) / params.temperature, params)

    return law


def ending(params: SamplingParams, share: float) -> Law:
    """The law that ends an answer with probability ``share`` more at each token; with 0, never."""
    usual = decoded(params, params)

    def law(cells: Cells) -> Floats:
        if share:
            return np.asarray((1 - share) * usual(cells) + share * cells.ends / cells.ends.sum(1, keepdims=True))
        found = np.where(cells.ends > 0, 1e-30, usual(cells))
        return np.asarray(found / found.sum(1, keepdims=True))

    return law


def foreign(params: SamplingParams) -> Law:
    """The law of weights that often say what these find unlikely: mixed with one in proportion to 1 / rank."""
    usual = decoded(params, params)

    def law(cells: Cells) -> Floats:
        last = np.cumsum(np.take_along_axis(cells.size, cells.order, 1), 1)
        ranks = np.diff(np.log(last + 0.5), axis=1, prepend=np.log(0.5))
        rank = np.empty_like(ranks)
        np.put_along_axis(rank, cells.order, ranks / ranks.sum(1, keepdims=True), 1)
        return np.asarray((1 - FOREIGN) * usual(cells) + FOREIGN * rank)

    return law


def faults(params: SamplingParams, ends: Sequence[int]) -> dict[str, Law]:
    """The laws of servers that do something else than they were asked for, by name."""

    def other(**changed: float) -> Law:
        return decoded(replace(params, **changed), params)  # type: ignore[arg-type]

    found = {f"top_k {k}": other(top_k=k) for k in (20, 40, 50) if params.top_k != k}
    found |= {f"top_p {p:g}": other(top_p=p) for p in (0.8, 0.9, 0.95) if params.top_p != p}
    found |= {f"min_p {p:g}": other(min_p=p) for p in (0.05, 0.1) if params.min_p != p}
    for factor in (0.5, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0):
        heat = params.temperature * factor
        found[f"temperature {heat:.3g}"] = other(temperature=heat)
    found |= {f"repetition penalty {x:g}": penalised(params, repetition=x) for x in (1.05, 1.1, 1.2, 1.3)}
    found |= {f"presence penalty {x:g}": penalised(params, presence=x) for x in (0.5, 1.5)}
    if params.top_k or params.top_p < 1 or params.min_p:
        found["no filter"] = other(top_k=0, top_p=1.0, min_p=0.0)
    if ends:
        found |= {"ends early": ending(params, SHARE), "never ends": ending(params, 0.0)}
    return found | {"other weights": foreign(params)}
