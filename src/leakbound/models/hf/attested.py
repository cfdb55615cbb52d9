"""Answers of a server under the laws of given weights: the stated law of each token, and the laws of named faults."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from leakbound.bounds.attested import token_evidence
from leakbound.models.base import ForcedAnswer
from leakbound.models.hf.law import warp
from leakbound.records import SamplingParams

LEAST = 1e-3
"""The share of the unfiltered law in the stated one: at a filter's edge another engine may round beyond it."""
ROWS = 8
"""Answers of one forward pass."""
SHARE = 0.05
"""How often a fault that ends answers early would end one, at each token."""

Law = Callable[[torch.Tensor, Sequence[Sequence[int]]], torch.Tensor]
"""(logits of the next tokens, (laws, vocabulary); what stands before each) -> probabilities."""


def decoded(params: SamplingParams) -> Law:
    """The law of decoding parameters."""
    return lambda logits, _: torch.softmax(warp(logits, params), -1)


def penalised(params: SamplingParams, *, repetition: float = 1.0, presence: float = 0.0) -> Law:
    """The law with a penalty on tokens that stand before: logits divided by (or, below 0, times) ``repetition``, as
    CTRL does (arXiv 1909.05858), or lowered by ``presence``."""

    def law(logits: torch.Tensor, before: Sequence[Sequence[int]]) -> torch.Tensor:
        logits = logits.clone()
        for row, tokens in enumerate(before):
            seen = torch.tensor(sorted(set(tokens)), device=logits.device)
            own = logits[row, seen]
            logits[row, seen] = torch.where(own > 0, own / repetition, own * repetition) - presence
        return torch.softmax(warp(logits, params), -1)

    return law


def ending(params: SamplingParams, ends: Sequence[int], share: float) -> Law:
    """The law that ends an answer with probability ``share`` more at each token; with 0, never."""

    def law(logits: torch.Tensor, _: Sequence[Sequence[int]]) -> torch.Tensor:
        probs = torch.softmax(warp(logits, params), -1)
        stop = torch.zeros_like(probs)
        stop[:, list(ends)] = 1 / len(ends)
        if share:
            return (1 - share) * probs + share * stop
        probs = probs.masked_fill(stop > 0, 0)
        return probs / probs.sum(-1, keepdim=True).clamp_min(1e-30)

    return law


def faults(params: SamplingParams, ends: Sequence[int]) -> dict[str, Law]:
    """The laws of servers that do something else than they were asked for, by name."""

    def other(**changed: float) -> SamplingParams:
        return replace(params, **changed)  # type: ignore[arg-type]

    found = {f"top_k {k}": decoded(other(top_k=k)) for k in (20, 40, 50) if params.top_k != k}
    found |= {f"top_p {p:g}": decoded(other(top_p=p)) for p in (0.8, 0.9, 0.95) if params.top_p != p}
    found |= {f"min_p {p:g}": decoded(other(min_p=p)) for p in (0.05, 0.1) if params.min_p != p}
    for factor in (0.5, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0):
        heat = params.temperature * factor
        found[f"temperature {heat:.3g}"] = decoded(other(temperature=heat))
    found |= {f"repetition penalty {x:g}": penalised(params, repetition=x) for x in (1.05, 1.1, 1.2, 1.3)}
    found |= {f"presence penalty {x:g}": penalised(params, presence=x) for x in (0.5, 1.5)}
    if params.top_k or params.top_p < 1 or params.min_p:
        found["no filter"] = decoded(other(top_k=0, top_p=1.0, min_p=0.0))
    if ends:
        found |= {"ends early": ending(params, ends, SHARE), "never ends": ending(params, ends, 0.0)}
    return found


GROUP = 32
"""Weights that share one scale when they are rounded, as in common 4-bit formats."""
SMALL = 10**9
"""The most parameters of a model that is also compared with itself in 4 bits: that takes a second copy."""


def rounded(model: torch.nn.Module, bits: int = 4) -> torch.nn.Module:
    """The model with every matrix of its linear layers rounded to so many bits, in groups with a scale each."""
    other = copy.deepcopy(model)
    for layer in other.modules():
        if isinstance(layer, torch.nn.Linear) and layer.weight.shape[1] % GROUP == 0:
            groups = layer.weight.data.view(-1, GROUP)
            scale = groups.abs().amax(1, keepdim=True).clamp_min(1e-12) / (2 ** (bits - 1) - 1)
            layer.weight.data.copy_(((groups / scale).round() * scale).view_as(layer.weight))
    return other


def stated(params: SamplingParams) -> Law:
    """The law of the parameters, with a little of the unfiltered one where there is a filter."""
    if not (params.top_k or params.top_p < 1 or params.min_p):
        return decoded(params)
    whole = replace(params, top_k=0, top_p=1.0, min_p=0.0)
    parts = decoded(params), decoded(whole)
    return lambda logits, before: (1 - LEAST) * parts[0](logits, before) + LEAST * parts[1](logits, before)


def laws_of(
    model: torch.nn.Module, head: Sequence[int], answers: Sequence[Sequence[int]]
) -> Iterator[tuple[int, torch.Tensor]]:
    """The logits of the laws of each answer's tokens: (its number, (T, vocabulary) in float32)."""
    device = next(model.parameters()).device
    for start in range(0, len(answers), ROWS):
        some = answers[start : start + ROWS]
        width = len(head) + max(map(len, some)) - 1
        ids = torch.zeros(len(some), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, answer in enumerate(some):
            whole = torch.tensor([*head, *answer[:-1]])
            ids[row, : len(whole)], mask[row, : len(whole)] = whole, 1
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        for row, answer in enumerate(some):
            yield start + row, logits[row, len(head) - 1 : len(head) - 1 + len(answer)].float()


@torch.inference_mode()
def forced_answers(
    model: torch.nn.Module,
    head: Sequence[int],
    answers: Sequence[Sequence[int]],
    params: SamplingParams,
    alternatives: Mapping[str, Law],
    others: Mapping[str, tuple[torch.nn.Module, Sequence[int]]],
    *,
    slack: float,
) -> list[ForcedAnswer]:
    """The answers to one prompt under the stated law and under the alternatives.

    ``head``: the prompt's tokens; ``answers``: each with its end token where it has one, none empty. ``alternatives``:
    other laws from the same logits; ``others``: other weights, or the same behind another prompt.
    """
    law, own = stated(params), decoded(params)
    elsewhere = {name: dict(laws_of(m, h, answers)) for name, (m, h) in others.items()}
    found = []
    for number, logits in laws_of(model, head, answers):
        tokens = np.asarray(answers[number])
        rows = np.arange(len(tokens))
        before = [[*head, *answers[number][:t]] for t in range(len(tokens))]
        p = law(logits, before).double().cpu().numpy()
        r = {name: other(logits, before) for name, other in alternatives.items()}
        r |= {name: own(rest[number], before) for name, rest in elsewhere.items()}
        with np.errstate(divide="ignore"):
            logprobs = np.log(p[rows, tokens])
        found.append(
            ForcedAnswer(
                logprobs,
                {
                    name: float(token_evidence(p, x.double().cpu().numpy(), rows, tokens, slack=slack).sum())
                    for name, x in r.items()
                },
            )
        )
    return found
