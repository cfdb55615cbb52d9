"""What a model is called, and how that becomes a Sampler: one table of back ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from leakbound.errors import InputError
from leakbound.models.away import away
from leakbound.models.base import Sampler
from leakbound.models.openai import OpenAIModel
from leakbound.plugins import Table, named_object
from leakbound.records import byte_count, check_texts
from leakbound.workers import Workers, crew_for


@dataclass(frozen=True)
class Loading(Workers):
    """How a folder, a hub id or a GGUF file becomes a model, and where. Weights: safetensors or GGUF only."""

    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: str = "auto"
    """Number type of the weights: auto (as they are stored), float32, bfloat16 or float16."""
    device: str = "auto"
    """cuda, mps or cpu; auto takes the first of these that is there."""
    device_map: str | None = None
    """Spread the layers of a model that one device cannot hold over all of them, the CPU and a disk: auto, balanced,
    balanced_low_0 or sequential (accelerate's)."""
    trust_remote_code: bool = False
    """Let the model's repository run its own Python code."""
    base: str | None = None
    """The model that an adapter's folder changes, where it is not the one that the folder names."""
    memory: str | None = None
    """The most memory that the weights and all that drawing takes may have, such as 1.5GB; by default half of what the
    process may still take. Workers of this machine share it; with ray it is that of each one."""
    server: Literal["vllm", "llama.cpp", "openai", "other"] = "other"
    """What a server is, so that it is sent every parameter by its name; openai: only those of the protocol."""
    per_request: int = 32
    """The most completions that a server is asked for at a time."""
    not_sent: tuple[str, ...] = ()
    """Parameters, asked to be off, that a server refuses: they are not sent, and run.json says so."""
    vllm: tuple[str, ...] = ()
    """Settings of vLLM's engine in this process, NAME=VALUE, such as tensor_parallel_size=2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "not_sent", check_texts("not_sent", self.not_sent))
        object.__setattr__(self, "vllm", check_texts("vllm", self.vllm))
        if self.memory is not None:
            byte_count("memory", self.memory)

    def to_json(self) -> dict[str, Any]:
        """The settings by name; the younger ones only where they are not the usual ones: older folders have none.

        Without the memory and the workers, which change no law.
        """
        names = {*WEIGHTS[:4], *self.given()} - {"memory", *SPREAD}
        return {name: value for name, value in vars(self).items() if name in names}

    def given(self) -> dict[str, Any]:
        """The settings that are not the usual ones."""
        return {name: value for name, value in vars(self).items() if value != getattr(Loading, name)}

    def of_worker(self) -> Loading:
        """The settings with which one of the workers loads its model."""
        alone = Loading(**{name: value for name, value in vars(self).items() if name not in SPREAD})
        if self.memory is None or self.ray is not None:
            return alone
        return replace(alone, memory=f"{byte_count('memory', self.memory) / self.workers / 1000:.3f}KB")

    def check_here(self, what: str) -> None:
        """InputError where workers are named for what one process does."""
        if self.away:
            said = f"ray is {self.ray!r}" if self.ray else f"workers is {self.workers}"
            raise InputError(f"{said}: {what} works in one process; leave it out")

    def only(self, names: Sequence[str]) -> Loading:
        """The settings of these names, all others as usual: where a server and weights stand side by side."""
        return Loading(**{name: value for name, value in vars(self).items() if name in names})


SPREAD = tuple(field.name for field in fields(Workers))
WEIGHTS = ("revision", "dtype", "device", "trust_remote_code", "base", "memory", "device_map")
SERVING = ("server", "per_request", "not_sent")
VLLM = ("revision", "dtype", "trust_remote_code", "base")
USED = {
    "transformers": ("template", *WEIGHTS), "openai": SERVING, "module": (), "vllm": ("template", *VLLM, "vllm"),
}  # fmt: skip
"""What our back ends have a use for, of what can be given beside a name; those of others judge for themselves."""


def open_model(model: Any, *, tokenizer: Any = None, template: str = "auto", loading: Loading | None = None) -> Sampler:
    """A Sampler from its name, from a model and tokenizer of transformers, or the Sampler itself.

    A name is a folder or a hub id; the address of a server, ``http://HOST/v1#MODEL``; ``package:object``, a Sampler or
    what makes one; or ``BACKEND:REST`` with a name of ``BACKENDS``, such as ``vllm:FOLDER``. InputError for what is
    none of these. With workers the model is opened by them, and nothing of it is here.
    """
    given = {
        **({} if tokenizer is None else {"tokenizer": tokenizer}),
        **({} if template == "auto" else {"template": template}),
        **(loading or Loading()).given(),
    }
    if isinstance(model, Sampler):
        _check_used(model, given, ())
        return model
    if isinstance(model, str | Path):
        backend, name = _split(model) if isinstance(model, str) else ("transformers", str(model))
        _check_used(model, given, (*USED.get(backend, ("template", *WEIGHTS, *SERVING)), *SPREAD))
        if loading is not None and (crew := crew_for(loading)):
            return away(crew, (_opened, (model, template, loading.of_worker())))
        return BACKENDS[backend](name, template, loading or Loading())
    if not hasattr(model, "config"):
        raise InputError(f"model is {model!r}: give a folder, a hub id, a model of transformers, or a Sampler")
    _check_used(model, given, ("tokenizer", "template"))
    hf = _hf(model)
    name = getattr(model.config, "name_or_path", "") or "in-memory"
    tokenizer = tokenizer if tokenizer is not None else hf.load_tokenizer(name)
    opened: Sampler = hf.HFModel(model, tokenizer, template=template, name=name)
    return opened


def _opened(model: str | Path, template: str, loading: Loading) -> Sampler:
    """:func:`open_model`, by a worker."""
    return open_model(model, template=template, loading=loading)


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


def _check_used(model: Any, given: Mapping[str, Any], used: Sequence[str]) -> None:
    """InputError where something is given that a model of this kind has no use for: it would be another law than asked
    for, without a word."""
    if unused := {name: value for name, value in given.items() if name not in used}:
        shown = ", ".join(f"{name} is {value!r:.60}" for name, value in unused.items())
        whose = "http://HOST/v1#NAME" if set(unused) <= set(SERVING) else "a folder or a hub id"
        if set(unused) <= set(SPREAD):  # an object cannot go to other processes; its name can
            whose = "the folder, the hub id or the package:object that every worker can open for itself"
        what = repr(model) if isinstance(model, str | Path) else f"a {type(model).__name__}"
        raise InputError(f"{shown}, and model is {what}, which has no use for that: leave it out, or give {whose}")


def _transformers(name: str, template: str, loading: Loading) -> Sampler:
    memory = {} if loading.memory is None else {"memory": loading.memory}
    opened: Sampler = _hf(name).HFModel.load(name, template=template, **loading.to_json(), **memory)
    return opened


def _vllm(name: str, template: str, loading: Loading) -> Sampler:
    _hf(name)  # its tokenizer, and the law that the draws are tested with
    from leakbound.models.vllm import VLLMModel, engine_settings

    settings = engine_settings(loading.vllm)
    return VLLMModel(name, template, settings=settings, **{field: getattr(loading, field) for field in VLLM})


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
    "model",
    "leakbound.backends",
    Callable,
    {"transformers": _transformers, "openai": _openai, "module": _module, "vllm": _vllm},
)
"""The back ends by name. A package adds one by an entry point; its models are named ``BACKEND:REST``."""
