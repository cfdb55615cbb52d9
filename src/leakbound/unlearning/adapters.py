"""What is trained of a model: everything, adapters, or the layers below one; and how its activations are kept."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn

from leakbound.errors import InputError, ModelError
from leakbound.models.hf.packed import peft_quiet


def add_lora(model: Any, *, rank: int, alpha: int) -> Any:
    """The model with trainable low-rank adapters on every linear layer but the last; its own weights are frozen.

    Each layer W becomes W + (alpha / rank) B A with B zero at first, so that nothing changes before the first step.
    LoRA, arXiv 2106.09685, through peft.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with peft_quiet():
        return get_peft_model(model, settings)


def is_adapted(model: Any) -> bool:
    """Whether a model has adapters."""
    return hasattr(model, "merge_and_unload")


def inner(model: Any) -> Any:
    """The model of transformers inside wrappers and adapters; the adapters act within it."""
    while hasattr(model, "module"):  # as DDP wraps it
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def checkpoint_activations(model: Any) -> None:
    """Recompute activations in the backward pass.

    The embeddings' output is made to require gradients; without it a model whose embeddings are frozen (as with
    adapters) would not be trained at all, silently.
    """
    model.enable_input_require_grads()
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def reference_of(model: Any) -> Callable[[], AbstractContextManager[Any]]:
    """The model as it is now, for later: a copy, or with adapters the same weights with the adapters switched off."""
    if is_adapted(model):
        return lambda: _without_adapter(model)
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    return lambda: nullcontext(frozen)


@contextmanager
def _without_adapter(model: Any) -> Iterator[Any]:
    was_training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            yield model
    finally:
        model.train(was_training)


def find_layers(model: Any) -> nn.ModuleList:
    """The list of the model's layers, whatever its architecture calls it."""
    count = model.config.get_text_config().num_hidden_layers
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise ModelError(f"{type(model).__name__}: no list of its {count} layers was found: RMU cannot be used with it")
    return lists[0]


def choose_layer(model: Any, layer: int | None, depth: float) -> int:
    """The layer, counted from 1, whose output RMU turns: the one named, or the one at this share of the layers."""
    count = len(find_layers(model))
    if layer is None:
        return max(1, min(count - 1, round(count * depth)))
    if layer >= count:
        raise InputError(f"rmu_layer is {layer}: give a layer from 1 to {count - 1}, the model has {count}")
    return layer


DOWN = ("down_proj", "dense_4h_to_h", "fc2", "fc_out", "mlp.c_proj", "w2")
"""How architectures name the matrix by which a layer's feed-forward part ends."""


def train_layers(model: Any, last: int, part: str = "layer") -> None:
    """Freeze everything but the three layers that end with layer ``last`` (with adapters, all above it).

    With ``part`` down_proj only the last matrix of their feed-forward parts is trained.
    """
    named = [pair for layer in find_layers(model)[max(0, last - 3) : last] for pair in layer.named_parameters()]
    if part == "down_proj":
        named = [(n, p) for n, p in named if not n.endswith("bias") and any(f".{down}." in f".{n}." for down in DOWN)]
    if not named:
        raise InputError(f"rmu_part is {part!r}: {type(model).__name__} has no matrix of a known name: give layer")
    chosen = {id(parameter) for _, parameter in named}
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in chosen)
