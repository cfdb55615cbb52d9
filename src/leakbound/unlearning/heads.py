"""The laws of a forward pass without its logits: the states before the model's last layer, and that layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from leakbound.runs.files import num_processes, sharing
from leakbound.unlearning.adapters import inner
from leakbound.unlearning.losses.blocks import Laws

_heads: WeakKeyDictionary[Any, list[nn.Linear]] = WeakKeyDictionary()


def laws_of(
    model: Any, rows: dict[str, Tensor], *, skipped: int = 0, adds: bool = False, **options: Any
) -> tuple[Laws, Any]:
    """One pass: the laws at all positions but the first ``skipped``, and what else the model gives.

    Where the model's logits are the product of its last states with a matrix, and nothing is done to them, the product
    is left to whoever wants the laws (``adds``: as there). Otherwise (final softcapping or scaling, a layer that is not
    a plain one, several processes) the laws are the logits.
    """
    head = find_head(model)
    if head is None:
        trims = skipped > 0 and "logits_to_keep" in _parameters(type(inner(model)).forward)
        keep = {"logits_to_keep": rows["input_ids"].shape[1] - skipped} if trims else {}
        result = model(**rows, use_cache=False, **keep, **options)
        return Laws(result.logits if trims else result.logits[:, skipped:]), result
    seen: list[torch.dtype | None] = []

    def pass_on(states: Tensor) -> Tensor:
        kind = states.device.type
        seen.append(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None)
        return states[:, skipped:]

    with _replaced(head, pass_on):
        result = model(**rows, use_cache=False, **options)
    return Laws(result.logits, head.weight, head.bias, seen[0], adds), result


def find_head(model: Any) -> nn.Linear | None:
    """The layer that makes the model's logits, if they are its output and nothing else; looked at once for each model.

    Asked by example: what the layer is made to say must come out of the model as it is, however large it is.
    """
    if hasattr(model, "module") or num_processes() > 1 or sharing():  # gradients of what is used outside are not shared
        return None
    base = inner(model)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    if type(head) is not nn.Linear or hasattr(head, "_hf_hook"):
        return None
    if base not in _heads:
        _heads[base] = [head] if _is_last(base, head) else []
    return next((known for known in _heads[base] if known is head), None)


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


@torch.no_grad()
def _is_last(model: Any, head: nn.Linear) -> bool:
    """Whether the model's logits are this layer's output, of states that it is given once for each position."""
    said = torch.linspace(-1e3, 1e3, 2 * head.out_features, device=head.weight.device).view(1, 2, -1)
    heard: list[Tensor] = []

    def say(states: Tensor) -> Tensor:
        heard.append(states)
        return said

    ids, modes = torch.zeros(1, 2, dtype=torch.long, device=said.device), [(m, m.training) for m in model.modules()]
    model.eval()  # no random numbers are drawn
    try:
        with _replaced(head, say):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    except (RuntimeError, IndexError, TypeError):  # it does something with them
        return False
    finally:
        for module, mode in modes:
            module.training = mode
    shapes = [states.shape for states in heard] == [(1, 2, head.in_features)]
    return shapes and logits.shape == said.shape and torch.equal(logits.float(), said)


@contextmanager
def _replaced(head: nn.Linear, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The layer does something else for a while."""
    was = vars(head).get("forward")
    vars(head)["forward"] = forward
    try:
        yield
    finally:
        del vars(head)["forward"]
        if was is not None:
            vars(head)["forward"] = was
