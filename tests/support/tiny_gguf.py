"""A tiny llama as a GGUF file."""

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

WORDS = ["<unk>", "<s>", "</s>", *"abcdefgh", "Ġ", "ab", "Ġa"]
MERGES = ["a b", "Ġ a"]
BYTES = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
"""The letters that stand for the 256 bytes."""


def written(file, kind=gguf.GGMLQuantizationType.F32, words=WORDS, context=64):
    """A tiny llama as llama.cpp would have it, and the same model in memory with the weights as they were stored."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(32)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges(MERGES)
    writer.add_token_types([2, 3, 3] + [1] * (len(words) - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        stored = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        if stored != gguf.GGMLQuantizationType.F32:
            tensor.copy_(torch.from_numpy(gguf.dequantize(gguf.quantize(values, stored), stored)))
            values = tensor.numpy()
        for part, heads in (("q_proj", 4), ("k_proj", 2)):  # llama.cpp has the two halves of a head side by side
            if part in name:
                values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        data = values if stored == gguf.GGMLQuantizationType.F32 else gguf.quantize(values, stored)
        name = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(name, np.ascontiguousarray(data), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model
