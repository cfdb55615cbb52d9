"""Gradient norms of answers, the statistic of a membership attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leakbound.errors import ModelError
from leakbound.models.hf.forward import Forward
from leakbound.models.hf.trying import try_causal


def answer_gradient_norms(
    forward: Forward, heads: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """|| d/dtheta (1/T) sum_t -log p_theta(tails[i][t] | heads[i], tails[i][:t]) ||_2 for each answer; (len(tails),).

    Over every parameter of the model, frozen ones included, shared ones once; one answer at a time, squares summed in
    float64. Needs room for one more copy of the parameters. The attack: arXiv 2402.17012; its published code averages
    the norms of the parameter tensors instead, here it is the norm of the whole gradient.
    """
    parameters = list(forward.model.parameters())
    odd = sorted({str(p.dtype) for p in parameters if not p.is_floating_point()})
    if odd:
        raise ModelError(f"parameters of type {', '.join(odd)} have no gradient: load the model without quantisation")
    frozen = [p for p in parameters if not p.requires_grad]
    norms = np.zeros(len(tails))
    try:
        for p in frozen:
            p.requires_grad_(True)
        for i, (head, tail) in enumerate(zip(heads, tails, strict=True)):
            forward.check(f"answer {i}", head, 0, tail)
            try_causal(forward, head)
            with torch.enable_grad():
                gradients = torch.autograd.grad(_loss(forward, head, tail), parameters, allow_unused=True)
            squares = (float(g.square().sum(dtype=torch.float64)) for g in gradients if g is not None)
            norms[i] = math.sqrt(math.fsum(squares))
            if not math.isfinite(norms[i]):
                raise ModelError(
                    f"the gradient of answer {i} is not finite: the model's weights or number type overflow"
                )
    finally:
        for p in frozen:
            p.requires_grad_(False)
    return norms


def _loss(forward: Forward, head: Sequence[int], tail: Sequence[int]) -> torch.Tensor:
    """The mean of -log p of the answer's tokens, in float32."""
    device = forward.model.device
    inputs: dict[str, Any] = {"input_ids": torch.tensor([[*head, *tail[:-1]]], device=device)}
    if "use_cache" in forward.accepts:
        inputs["use_cache"] = False
    if "logits_to_keep" in forward.accepts:
        inputs["logits_to_keep"] = len(tail)
    logits = forward.ask(inputs).logits[0, -len(tail) :].float()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(list(tail), device=device))
