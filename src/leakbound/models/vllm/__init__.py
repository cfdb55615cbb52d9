"""The back end of vLLM, in this process."""

from leakbound.models.vllm.engine import engine_settings
from leakbound.models.vllm.model import VLLMModel

__all__ = ["VLLMModel", "engine_settings"]
