"""Models that are no plain folder of weights: GGUF files, dequantised; adapters, merged; weights that stay packed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from leakbound.errors import ModelError
from leakbound.models.door import door

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""What the folder of an adapter holds, as peft saves it."""


def is_gguf(name: str) -> bool:
    """Whether the model is a GGUF file. ModelError where it is one and nothing here can read it."""
    path = Path(name).expanduser()
    found = path.suffix.lower() == ".gguf" and path.is_file()
    if found and find_spec("gguf") is None:
        raise ModelError(f"model is {name!r}: reading GGUF needs the package gguf: pip install 'leakbound[gguf]'")
    return found


def is_adapter(name: str) -> bool:
    """Whether the model is the folder of an adapter alone. ModelError where its weights could run code."""
    path = Path(name).expanduser()
    found = (path / CONFIG).is_file() and not (path / "config.json").is_file()
    if found and not (path / WEIGHTS).is_file():
        raise ModelError(f"model is {name!r}: the folder of an adapter holds no {WEIGHTS}; pickle files are not read")
    return found


def base_of(name: str, base: str | None = None) -> tuple[str, str | None]:
    """The model that an adapter changes, with its revision: the one given, or the one that the folder names."""
    if base:
        return base, None
    with door(f"model {name!r}: its {CONFIG} cannot be read"):
        said = json.loads((Path(name).expanduser() / CONFIG).read_text(encoding="utf-8"))
        found, revision = said.get("base_model_name_or_path"), said.get("revision")
    if not isinstance(found, str) or not found:
        raise ModelError(f"model is {name!r}: its {CONFIG} names no base model: give --base")
    return found, revision


def how_stored(name: str, base: str | None = None) -> dict[str, str]:
    """What run.json says of a model that is no plain folder of weights."""
    if is_gguf(name):
        return {"stored": "GGUF, dequantised"}
    return {"stored": "adapter, merged", "base": base_of(name, base)[0]} if is_adapter(name) else {}


def how_quantised(model: Any) -> dict[str, Any]:
    """What run.json says of weights that stay quantised: by what, and with which settings."""
    config = getattr(model.config, "quantization_config", None)
    if config is None:
        return {}
    said = dict(config if isinstance(config, Mapping) else config.to_dict())
    method = said.get("quant_method")
    return {
        "stored": f"quantised by {getattr(method, 'value', method)}",
        "quantization": json.loads(json.dumps(said, default=str)),
    }


def how_adapted(model: Any) -> dict[str, Any]:
    """What run.json says of adapters in a model's layers, which no checksum of weights tells: those that are switched
    on, each with its scalings."""
    layers = [m for m in model.modules() if isinstance(getattr(m, "disable_adapters", None), bool)]  # as peft has them
    some = ((name, getattr(m, "scaling", {})) for m in layers if not m.disable_adapters for name in m.active_adapters)
    on = {(name, scaling.get(name)) for name, scaling in some}
    return {"adapters": sorted(map(list, on), key=str)} if layers else {}


def merged(model: Any, name: str) -> Any:
    """The model with the adapter of a folder merged into its weights.

    ModelError unless every tensor of the file is in the adapter, and the adapter holds no other: what is missing would
    be as it was initialised, which for LoRA is no change at all.
    """
    with door(f"adapter {name!r} cannot be loaded"):
        from peft import PeftModel, get_peft_model_state_dict

        folder = Path(name).expanduser()
        whole = {f"base_model.model.{key}" for key in model.state_dict()}  # an adapter may bring new embeddings
        adapted = PeftModel.from_pretrained(model, str(folder))
        there, stored = get_peft_model_state_dict(adapted, save_embedding_layers=False), load_file(folder / WEIGHTS)
        wrong = sorted((there.keys() ^ stored.keys()) - whole)
        wrong += [key for key in there.keys() & stored.keys() if there[key].shape != stored[key].shape]
        if wrong:
            raise ModelError(
                f"adapter {name!r}: {len(wrong)} of its tensors do not fit its configuration and base "
                f"({', '.join(wrong[:5])}): give the base that it was trained on, --base"
            )
        if not hasattr(adapted, "merge_and_unload"):
            raise ModelError(
                f"adapter {name!r}: one of type {adapted.active_peft_config.peft_type} cannot be merged into weights"
            )
        return adapted.merge_and_unload(safe_merge=True)
