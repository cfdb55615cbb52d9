"""Small models from nothing: a Llama-type model with random weights and a byte-level BPE tokenizer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from leakbound.records import check_choice

END, PAD = "<|endoftext|>", "<|pad|>"


@dataclass(frozen=True)
class Size:
    """The shape of a model from scratch."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int
    """The largest number of tokens; a small text makes fewer."""


SIZES = {
    "tiny": Size(hidden=128, layers=4, heads=4, vocabulary=2048),
    "mini": Size(hidden=192, layers=6, heads=6, vocabulary=4096),
    "small": Size(hidden=256, layers=8, heads=8, vocabulary=4096),
}
"""About 1, 4 and 9 million parameters."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most ``vocabulary`` tokens: it can spell any text, and digits stay single."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def new_model(size: str, tokenizer: Any, *, seed: int, max_length: int) -> LlamaForCausalLM:
    """A Llama-type model of one of ``SIZES`` with random weights that depend on ``seed`` only."""
    shape = find_size(size)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=shape.hidden, intermediate_size=3 * shape.hidden,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
        max_position_embeddings=max_length, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def find_size(name: str) -> Size:
    """The size called ``name``."""
    check_choice("from_scratch", name, SIZES)
    return SIZES[name]
