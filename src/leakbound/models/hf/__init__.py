"""Causal language models of transformers, with our own sampling engine."""

from leakbound.models.hf.forward import Work
from leakbound.models.hf.loading import load_tokenizer
from leakbound.models.hf.model import HFModel

__all__ = ["HFModel", "Work", "load_tokenizer"]
