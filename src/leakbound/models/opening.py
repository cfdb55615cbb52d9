"""What a model is called, and how that becomes a Sampler: one table of back ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from leakbound.errors import InputError
from leakbound.models.base import Sampler
from leakbound.models.openai import OpenAIModel
from leakbound.plugins import Table, named_object
from leakbound.records import byte_count


@dataclass(frozen=True)
class Loading:
    """How a folder or hub id becomes a model. Weights are read from safetensors only."""

    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: str = "auto"
    """Number type of the weights: auto (as they are stored), float32, bfloat16 or float16."""
    device: str = "auto"
    """cuda, mps or cpu; auto takes the first of these that is there."""
    trust_remote_code: bool = False
    """Let the model's repository run its own Python code."""
    memory: str | None = None
    """The most memory that the weights and all that drawing takes may have, such as 1.5GB; by default half of what the
    process may still take."""
    server: Literal["vllm", "llama.cpp", "openai", "other"] = "other"
    """What a server is, so that it is sent every parameter by its name; openai: only those of the protocol."""
    per_request: int = 32
    """The most completions that a server is asked for at a time."""
    not_sent: tuple[str, ...] = ()
    """Parameters, asked to be off, that a server refuses: they are not sent, and run.json says so."""

    def __post_init__(self) -> None:
        if self.memory is not None:
            byte_count("memory", self.memory)

    def to_json(self) -> dict[str, Any]:
        """The settings by name, without the memory, which changes nothing; those of servers only where they are not the
        usual ones: older folders have none."""
        left = {"memory", *SERVING} - set(self.serving())
        return {name: value for name, value in asdict(self).items() if name not in left}

    def of_model(self) -> dict[str, Any]:
        """The settings that a model on this machine takes."""
        return self.to_json() | ({} if self.memory is None else {"memory": self.memory})

    def of_weights(self) -> Loading:
        """The settings for weights beside a server: those for servers as usual."""
        return replace(self, **{name: getattr(Loading, name) for name in SERVING})

    def serving(self) -> dict[str, Any]:
        """The settings for servers that are not the usual ones."""
        return {name: getattr(self, name) for name in SERVING if getattr(self, name) != getattr(Loading, name)}


SERVING = ("server", "per_request", "not_sent")


def open_model(model: Any, *, tokenizer: Any = None, template: str = "auto", loading: Loading | None = None) -> Sampler:
    """A Sampler from its name, from a model and tokenizer of transformers, or the Sampler itself.

    A name is a folder or a hub id; the address of a server, ``http://HOST/v1#MODEL``; ``package:object``, a Sampler or
    what makes one; or ``BACKEND:REST`` with a name of ``BACKENDS``. InputError for what is none of these.
    """
    if isinstance(model, Sampler):
        return model
    if isinstance(model, str | Path):
        backend, name = _split(model) if isinstance(model, str) else ("transformers", str(model))
        loading = loading or Loading()
        if backend in ("transformers", "module") and (given := loading.serving()):
            raise InputError(
                f"{', '.join(given)} given, and model is {name!r}: give http://HOST/v1#NAME, or none of it"
            )
        return BACKENDS[backend](name, template, loading)
    if not hasattr(model, "config"):
        raise InputError(f"model is {model!r}: give a folder, a hub id, a model of transformers, or a Sampler")
    hf = _hf(model)
    name = getattr(model.config, "name_or_path", "") or "in-memory"
    tokenizer = tokenizer if tokenizer is not None else hf.load_tokenizer(name)
    opened: Sampler = hf.HFModel(model, tokenizer, template=template, name=name)
    return opened


def _split(model: str) -> tuple[str, str]:
    """The back end that a name asks for, and what is left of the name for it."""
    prefix, colon, rest = model.partition(":")
    if model.startswith(("http://", "https://")):
        return "openai", model
    if not colon or Path(model).expanduser().exists():
        return "transformers", model
    return (prefix, rest) if prefix in BACKENDS else ("module", model)


def _hf(model: Any) -> Any:
    """The back end of transformers, which loads torch."""
    try:
        from leakbound.models import hf
    except ImportError as error:
        raise InputError(
            f"model is {model!r}: drawing from it needs torch and transformers: pip install 'leakbound[hf]'"
        ) from error
    return hf


def _transformers(name: str, template: str, loading: Loading) -> Sampler:
    if given := loading.serving():
        raise InputError(
            f"{', '.join(given)} given, and model is {name!r}: these are for a server, http://HOST/v1#NAME"
        )
    opened: Sampler = _hf(name).HFModel.load(name, template=template, **loading.of_model())
    return opened


def _openai(name: str, template: str, loading: Loading) -> Sampler:
    return OpenAIModel.from_url(name, **{field: getattr(loading, field) for field in SERVING})


def _module(name: str, template: str, loading: Loading) -> Sampler:
    """The Sampler that ``package:object`` names: an object, or a class or function that makes one of nothing."""
    found = named_object(name, "model")
    if isinstance(found, type) or (callable(found) and not isinstance(found, Sampler)):
        try:
            found = found()
        except Exception as error:  # anybody's code: whatever it raises, the remedy is the same
            raise InputError(
                f"model {name!r}: it cannot be made without arguments: {type(error).__name__}: {error}"
            ) from error
    if not callable(getattr(found, "sample", None)):
        raise InputError(f"model {name!r} is {found!r}, which has no sample: give a Sampler, or what makes one")
    if not callable(getattr(found, "describe", None)):
        raise InputError(
            f"model {name!r} has no describe, so that nobody could tell whose draws a run holds: let it return "
            "{'model': name, ...}, the same for the same law"
        )
    described = found.describe()
    try:
        known = isinstance(described, dict) and bool(described.get("model")) and bool(json.dumps(described))
    except (TypeError, ValueError):
        known = False
    if not known:
        raise InputError(f"model {name!r} describes itself as {described!r}: give a JSON object with its name as model")
    return found  # type: ignore[no-any-return]


Backend = Callable[[str, str, Loading], Sampler]
"""``(name, template, loading) -> Sampler``; what a back end has no use for it may leave."""

BACKENDS: Table[Backend] = Table(
    "model", "leakbound.backends", Callable, {"transformers": _transformers, "openai": _openai, "module": _module}
)
"""The back ends by name. A package adds one by an entry point; its models are named ``BACKEND:REST``."""
