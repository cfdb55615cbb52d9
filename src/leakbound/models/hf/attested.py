"""Answers of a server under the laws of given weights: the stated law of each token on cells, and those of faults."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leakbound.bounds.attested import token_evidence
from leakbound.bounds.gate import Floats, Ints
from leakbound.errors import ModelError
from leakbound.models.base import ForcedAnswer
from leakbound.models.hf.faults import Cells, Law
from leakbound.models.hf.forward import Forward
from leakbound.models.hf.law import warp
from leakbound.models.hf.learnt import LEARNT, learnt
from leakbound.models.hf.likelihoods import Read, teacher_forced
from leakbound.records import SamplingParams

LEAST = 1e-3
"""The share of the unfiltered law in the stated one: at a filter's edge another engine may round beyond it."""
TOP = 256
"""The likeliest tokens, each a cell of its own."""
BINS, WIDTH = 32, 0.25
"""Cells of the others, and how many nats tokens of one cell differ by; the last one has the rest."""
SMALL = 10**9
"""The most parameters of a model that is also compared with itself in 4 bits: each format takes a copy."""
NF4 = (
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.562617, 0.7229568, 1.0,
)  # fmt: skip
"""The levels of bitsandbytes' 4-bit type (arXiv 2305.14314), times the largest of 64 weights."""


def _q4_0(groups: torch.Tensor) -> torch.Tensor:
    """llama.cpp's Q4_0: 16 levels around 0, the weight of largest size at the lowest."""
    largest = groups.gather(1, groups.abs().argmax(1, keepdim=True))
    scale = largest / -8
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    return ((groups * inverse + 8.5).floor().clamp(0, 15) - 8) * scale.half().float()


def _nf4(groups: torch.Tensor) -> torch.Tensor:
    levels = torch.tensor(NF4, device=groups.device)
    scale = groups.abs().amax(1, keepdim=True).clamp_min(1e-12)
    return levels[torch.bucketize(groups / scale, (levels[1:] + levels[:-1]) / 2)] * scale


FORMATS: dict[str, tuple[int, Callable[[torch.Tensor], torch.Tensor]]] = {"Q4_0": (32, _q4_0), "NF4": (64, _nf4)}
"""4-bit formats that follow from the weights alone: the weights of one group, and what it becomes."""


def rounded(model: Any, name: str) -> Any:
    """The model with the matrices of its linear layers rounded to a format of FORMATS, all but the last layer's."""
    size, rounding = FORMATS[name]
    other = copy.deepcopy(model)
    for layer in other.modules():
        if isinstance(layer, torch.nn.Linear) and layer is not other.get_output_embeddings():
            weight = layer.weight.data
            if weight.shape[1] % size == 0:
                weight.copy_(rounding(weight.float().view(-1, size)).view_as(weight))
    return other


def in_four_bits(forward: Forward, kept: dict[str, Forward], without: frozenset[str]) -> dict[str, Forward]:
    """A small model in each of the formats, by the name of that fault, but for those ``without``; ``kept`` between."""
    named = {f"weights in 4 bits, {form}": form for form in FORMATS if forward.model.num_parameters() <= SMALL}
    for name, form in named.items():
        if name in without:
            kept.pop(name, None)
        elif name not in kept:
            copied = rounded(forward.model, form)
            kept[name] = Forward(copied, fill=forward.fill, work=forward.work, most_rows=forward.asked)
    return {name: kept[name] for name in named if name in kept}


def _softmax(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    return torch.softmax(warp(logits, params), -1)


def _read_cells(tokens: Ints, named: Ints, own: NDArray[np.bool_], params: SamplingParams) -> Read:
    """What teacher forcing reads: the parts of Cells, each law divided as its own past says.

    ``tokens``: all tokens of the answers; ``named``: tokens that may have a cell of their own; ``own``: where each has
    one, (tokens, named).
    """
    filters = bool(params.top_k or params.top_p < 1 or params.min_p)

    def read(logits: torch.Tensor, law: torch.Tensor, marks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        columns, apart, known = (torch.from_numpy(x).to(logits.device) for x in (named, own, tokens))
        places = torch.arange(logits.shape[-1], device=logits.device)
        heated = logits / params.temperature
        shift = heated.logsumexp(-1, keepdim=True)
        if not torch.isfinite(shift).all():  # NaN is larger than every number
            raise ModelError("the model gives logits that are not finite: answers have no likelihood")
        whole = (heated - shift).exp_()
        stated = (1 - LEAST) * _softmax(logits, params) + LEAST * whole if filters else whole
        rows = len(whole)
        best = heated.topk(min(TOP, whole.shape[1]), -1)
        some = best.indices.shape[1]
        cell = ((best.values[:, -1:] - heated) / WIDTH).clamp_(0, BINS - 1).long() + some
        first = marks[torch.searchsorted(law, torch.arange(rows, device=law.device))]  # tokens of one law have one past
        cell[:, columns] = torch.where(apart[first], places[: len(named)] + some + BINS, cell[:, columns])
        cell.scatter_(1, best.indices, places[:some].expand(rows, some))
        wide = some + BINS + len(named)

        def mass(law: torch.Tensor) -> torch.Tensor:
            none = torch.zeros(rows, wide, dtype=torch.float64, device=law.device)
            return none.scatter_add_(1, cell, law.double())

        masses = mass(whole)
        exact = mass(stated) if filters else masses
        total = exact.sum(-1, keepdim=True)
        came = known[marks]
        parts = exact / total, masses / masses.sum(-1, keepdim=True), mass(torch.ones_like(whole)), shift.double()
        return (
            *(part[law] for part in parts), cell[:, columns][law], cell[law, came], best.indices[law],
            stated[law, came].double().log() - total[law, 0].log(),
        )  # fmt: skip

    return read


def _cells(
    forward: Forward, head: Sequence[int], answers: Sequence[Sequence[int]], ends: Sequence[int], params: SamplingParams
) -> Cells:
    """The cells of all tokens of the answers, one answer after the other."""
    tokens = np.concatenate([np.asarray(answer, dtype=np.int64) for answer in answers])
    named = np.unique([*head, *tokens, *ends])
    before = np.zeros((len(tokens), len(named)), dtype=bool)
    place = 0
    for answer in answers:
        rows = before[place : (place := place + len(answer))]
        rows[:, np.searchsorted(named, np.asarray(head))] = True
        rows[1:][np.arange(len(answer) - 1), np.searchsorted(named, answer[:-1])] = True
        np.logical_or.accumulate(rows, axis=0, out=rows)
    end = np.isin(named, ends)
    read = _read_cells(tokens, named, before | end, params)
    stated, whole, size, shift, where, at, top, own = _forced(forward, head, answers, read)

    def marked(marks: Any) -> Floats:
        found = np.zeros_like(stated)
        row, column = np.nonzero(np.broadcast_to(marks, where.shape))
        found[row, where[row, column]] = 1
        return found

    return Cells(stated, whole, size, shift, marked(before), marked(end), at, top, own)


def _forced(
    forward: Forward, head: Sequence[int], answers: Sequence[Sequence[int]], read: Read
) -> list[np.ndarray[Any, Any]]:
    """Teacher forcing of answers to one prompt; ``read`` is given the number of a token in place of the token."""
    ends = np.cumsum([len(answer) for answer in answers])
    marks = [range(end - len(answer), end) for end, answer in zip(ends.tolist(), answers, strict=True)]
    found = teacher_forced(forward, [head], [answers], read, told=[marks])[0]
    return [np.concatenate(column) for column in zip(*found, strict=True)]


def _elsewhere(
    forward: Forward, head: Sequence[int], answers: Sequence[Sequence[int]], top: Ints, params: SamplingParams
) -> Floats:
    """The law of other weights, or behind another prompt, on the likeliest tokens and the rest; (M, K + 1)."""
    likeliest = torch.from_numpy(top)

    def read(logits: torch.Tensor, law: torch.Tensor, marks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (_softmax(logits, params)[law[:, None], likeliest.to(logits.device)[marks]].double(),)

    (found,) = _forced(forward, head, answers, read)
    rest: Floats = np.maximum(1 - found.sum(1, keepdims=True), 0)
    return np.concatenate([found, rest], 1)


@torch.inference_mode()
def forced_answers(
    forward: Forward,
    head: Sequence[int],
    answers: Sequence[Sequence[int]],
    ends: Sequence[int],
    params: SamplingParams,
    alternatives: Mapping[str, Law],
    others: Mapping[str, tuple[Forward, Sequence[int]]],
    earlier: Mapping[tuple[int, ...], int],
    *,
    slack: float,
) -> list[ForcedAnswer]:
    """The answers to one prompt under the stated law and under the alternatives.

    ``head``: the prompt's tokens; ``answers``: each with its end token where it has one, none empty. ``alternatives``:
    other laws from the same logits; ``others``: other weights, or the same behind another prompt. ``earlier``: answers
    before these, with their counts.
    """
    cells = _cells(forward, head, answers, ends, params)
    rows, stops = np.arange(len(cells.at)), np.cumsum([len(answer) for answer in answers])[:-1]

    def evidence(stated: Floats, law: Floats, at: Ints) -> list[float]:
        found = token_evidence(stated, law, rows, at, slack=slack)
        return [float(some.sum()) for some in np.split(found, stops)]

    found = {name: evidence(cells.stated, law(cells), cells.at) for name, law in alternatives.items()}
    width = cells.top.shape[1]
    coarse = np.concatenate([cells.stated[:, :width], cells.stated[:, width:].sum(1, keepdims=True)], 1)
    found[LEARNT] = evidence(coarse, learnt(coarse, cells.top, answers, earlier), np.minimum(cells.at, width))
    for name, (other, start) in others.items():
        other.trees = forward.trees  # the same architecture: what was tried with one need not be tried again
        law = _elsewhere(other, start, answers, cells.top, params)
        found[name] = evidence(coarse, law, np.minimum(cells.at, width))
    return [
        ForcedAnswer(own, {name: values[i] for name, values in found.items()})
        for i, own in enumerate(np.split(cells.own, stops))
    ]
