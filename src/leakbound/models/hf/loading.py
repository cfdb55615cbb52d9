"""Models and tokenizers from a folder or the hub, safely: safetensors only, no remote code unless asked for by name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from leakbound.errors import ModelError
from leakbound.models.door import door
from leakbound.models.hf.packed import base_of, is_adapter, is_gguf, merged
from leakbound.records import text_checksum

try:
    from transformers import GgufConfig
except ImportError:  # versions without it dequantise all GGUF files
    GgufConfig = None

MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""How accelerate may spread a model's layers."""
DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HARMLESS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|(attn|attention)\.(masked_)?bias|position_ids)$")
"""Tensors of a file that a model may leave: constants that old versions of transformers wrote down."""
ADAPTED = re.compile(r"(^|\.)(lora_|base_layer\.|modules_to_save\.)|_adapter\.")
"""Tensors of adapters that were not merged."""
MERGE = (
    "it holds an adapter that was not merged into its model: load it on its base with peft, and save what "
    "merge_and_unload() gives"
)


def pick_device(device: str = "auto") -> torch.device:
    """The device named, or the best one here: cuda, then mps, then cpu."""
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise ModelError(f"device is {device!r}: give auto, cpu, cuda, cuda:0 or mps") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def check_source(name: str) -> None:
    """Refuse early, with the remedy: a folder that is missing, holds no model, or holds pickle weights only."""
    path = Path(name).expanduser()
    if not path.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelError(f"model is {name!r}: there is no such folder")
        return  # a hub id
    if is_gguf(name) or is_adapter(name):
        return
    if not path.is_dir():
        raise ModelError(f"model is {name!r}: that is a file; give the folder that holds config.json, or a .gguf file")
    if (path / "adapter_config.json").is_file():
        raise ModelError(f"model is {name!r}: {MERGE}")
    if not (path / "config.json").is_file():
        raise ModelError(f"model is {name!r}: the folder holds no config.json; give a model saved by transformers")
    if not any(path.glob("*.safetensors")):
        pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in path.glob(pattern))
        if pickles:
            raise ModelError(
                f"model is {name!r}: its weights are pickle files ({', '.join(pickles[:3])}), which can run code when "
                "loaded; convert them to safetensors (model.save_pretrained in a process that you trust)"
            )
        raise ModelError(f"model is {name!r}: the folder holds no *.safetensors weights")


def _where(name: str) -> tuple[str, dict[str, str]]:
    """How transformers is told where a model lies: a GGUF file is one of its folder."""
    path = Path(name).expanduser()
    return (str(path.parent), {"gguf_file": path.name}) if is_gguf(name) else (name, {})


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, base: str | None = None
) -> Any:
    """The tokenizer of a model folder or hub id, of a folder that holds a tokenizer alone, or of an adapter's base."""
    if not (Path(name).expanduser() / "tokenizer_config.json").is_file():
        check_source(name)
        if is_adapter(name):
            name, revision = base_of(name, base)
    folder, file = _where(name)
    with door(f"tokenizer of {name!r} cannot be loaded"), without_bars():
        return AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=trust_remote_code, **file)


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    device_map: str | None = None,
    trust_remote_code: bool = False,
    base: str | None = None,
    kind: Any = AutoModelForCausalLM,
) -> Any:
    """A causal language model, in eval mode on its device: from a folder or hub id, a GGUF file or an adapter's folder.

    ModelError where the weights are not those of the configuration: a tensor that is missing would be random. Weights
    come from safetensors or GGUF only; those of GGUF are dequantised, those that bitsandbytes or torchao packed stay
    so. ``device_map``: how its layers are spread over all devices, the CPU and a disk. ``base``: the model that an
    adapter changes, where it is not the one that its folder names. ``kind``: transformers' class for models of another
    kind.
    """
    check_source(name)
    if dtype not in DTYPES:
        raise ModelError(f"dtype is {dtype!r}: give one of {', '.join(DTYPES)}")
    place = pick_device(device)
    if device_map is not None and (device_map not in MAPS or device != "auto"):
        raise ModelError(
            f"device_map is {device_map!r}, and device is {device!r}: give one of {', '.join(MAPS)}, without a device"
        )
    if is_adapter(name):
        below, at = base_of(name, base)
        model = load_model(
            below, revision=at, dtype=dtype, device=device, device_map=device_map, trust_remote_code=trust_remote_code
        )
        return merged(model, name).eval()
    if base:
        raise ModelError(f"base is {base!r}, and model is {name!r}, which is no adapter: leave it out")
    folder, file = _where(name)
    small = sum(file.stat().st_size for file in Path(name).expanduser().glob("*.safetensors")) < 1e9
    with door(f"model {name!r} cannot be loaded"), without_bars() if small else nullcontext():
        packed = {**file, "quantization_config": GgufConfig(dequantize=True)} if file and GgufConfig else file
        model, found = kind.from_pretrained(
            folder, revision=revision, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True, output_loading_info=True, device_map=device_map, **packed,
        )  # fmt: skip
        if file:  # they are dense by now
            model.hf_quantizer, model.is_quantized = None, False
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
        check_quantised(name, model)
        check_complete(name, found)
        there = device_map is not None or model.device == place  # what is quantised must not be moved again
        return (model if there else model.to(place)).eval()


def check_quantised(name: str, model: Any) -> None:
    """ModelError where the weights are stored in a way that transformers does not know, and so took as they stand."""
    for config in (model.config, model.config.get_text_config()):
        said = getattr(config, "quantization_config", None)
        if said is not None and getattr(model, "hf_quantizer", None) is None:
            method = said.get("quant_method") if isinstance(said, Mapping) else getattr(said, "quant_method", said)
            raise ModelError(
                f"model is {name!r}: its config.json says that its weights are quantised by {method!r}, which this "
                "transformers does not know and passed over: get a newer one (pip install -U transformers), or weights "
                "that are not quantised"
            )


def check_complete(name: str, found: Mapping[str, Iterable[Any]]) -> None:
    """ModelError where transformers reports tensors that are missing, unexpected or of another shape."""
    unexpected = [key for key in found["unexpected_keys"] if not HARMLESS.search(key)]
    mismatched = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    kinds = {"missing": list(found["missing_keys"]), "unexpected": unexpected, "of another shape": mismatched}
    if any(ADAPTED.search(key) for keys in kinds.values() for key in keys):
        raise ModelError(f"model is {name!r}: {MERGE}")
    faults = [
        f"{kind}, {len(keys)}: {', '.join(sorted(keys)[:5])}{', …' if len(keys) > 5 else ''}"
        for kind, keys in kinds.items()
        if keys
    ]
    if faults:
        raise ModelError(
            f"model {name!r}: its weights do not fit its config.json (tensors {'; '.join(faults)}): what is missing "
            "would be random, what is unexpected left out; get the folder again as it was saved"
        )


@contextmanager
def without_bars() -> Iterator[None]:
    """Without transformers' own progress bars, which know nothing of ours."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def weights_checksum(model: Any) -> str:
    """SHA-256 over every tensor of the model (name, dtype, shape, bytes), in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(model):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


SAID_APART = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""What a model's settings hold that its answers do not follow from, or that is told beside them."""


def config_checksum(model: Any) -> str:
    """SHA-256 over the model's settings, which make another law of the same weights."""

    def plain(value: Any) -> Any:
        return {k: plain(v) for k, v in value.items() if k not in SAID_APART} if isinstance(value, dict) else value

    said = plain(json.loads(model.config.to_json_string(use_diff=False)))
    return text_checksum(json.dumps(said, sort_keys=True))


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every plain tensor of the model by its name: the parts of those that torchao packed, and what lies on a disk."""
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.device.type != "meta":
            yield from _parts(name, tensor)
            continue
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        with align_module_device(module, "cpu"):
            yield from _parts(name, getattr(module, last))


def _parts(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    if not is_traceable_wrapper_subclass(tensor):
        yield name, tensor
        return
    for part in sorted(tensor.__tensor_flatten__()[0]):
        yield from _parts(f"{name}.{part}", getattr(tensor, part))
