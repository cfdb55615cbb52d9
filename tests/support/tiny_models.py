"""Tiny random models of many architectures over six words, built in memory."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

FAMILIES = ("llama", "gpt2", "phi", "gpt_neox", "qwen3", "gemma3", "mistral")
WORDS = ["<pad>", "<eos>", "a", "b", "c", "d"]


def word_tokenizer():
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(WORDS)}
ENDS = {"eos_token_id": 1, "pad_token_id": 0, "bos_token_id": 1}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, **ENDS, intermediate_size=32, num_key_value_heads=1),
    "gpt2": GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=64, **ENDS),
    "phi": PhiConfig(**SMALL, **ENDS, intermediate_size=32),
    "gpt_neox": GPTNeoXConfig(**SMALL, **ENDS, intermediate_size=32),
    "qwen3": Qwen3Config(**SMALL, **ENDS, intermediate_size=32, num_key_value_heads=1, head_dim=8),
    "gemma3": Gemma3TextConfig(
        **SMALL, **ENDS, intermediate_size=32, num_key_value_heads=1, head_dim=8, sliding_window=3
    ),
    "mistral": MistralConfig(**SMALL, **ENDS, intermediate_size=32, num_key_value_heads=1, sliding_window=3),
    "mamba": MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=len(WORDS), state_size=4, **ENDS),
}


def random_model(config, seed=0, spread=0.5):
    """A random model whose laws are far from uniform and depend on all that stands before."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.copy_(torch.randn_like(value) * spread)
    return model


def tiny_model(name="llama", seed=0, scale=4.0):
    """A random model whose next-token laws are far from uniform: its last layer is scaled up."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    head = model.get_output_embeddings()
    with torch.no_grad():
        head.weight.copy_(torch.randn_like(head.weight) * scale / head.weight.shape[-1] ** 0.5)
    return model
