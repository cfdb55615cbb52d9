"""A random model of six words in a folder, with heads as wide as vLLM's kernels need, and an adapter of it."""

import torch
from tiny_models import ENDS, WORDS, word_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from leakbound.records import Prompt, SamplingParams

PROMPTS = tuple(Prompt(f"q{i}", text, "a b") for i, text in enumerate(("a b c", "d d a", "b c", "a")))
DECODINGS = {
    "plain": SamplingParams(max_tokens=8),
    "filtered": SamplingParams(temperature=0.8, top_k=4, max_tokens=8),
    "stop": SamplingParams(temperature=1.2, stop=("c d", "a a"), max_tokens=8),
    "greedy": SamplingParams(temperature=0, max_tokens=8),
}


def made(seed=0):
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, **ENDS, vocab_size=len(WORDS), intermediate_size=64, max_position_embeddings=128)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.copy_(torch.randn_like(model.lm_head.weight) * 0.5)
    return model


def folder(path, seed=0, **generation):
    """The model saved there, as one whose generation_config.json would change the law."""
    model = made(seed)
    model.generation_config.update(do_sample=True, temperature=0.3, top_k=2, **generation)
    model.save_pretrained(path)
    word_tokenizer().save_pretrained(path)
    return str(path)


def adapter(path, base):
    """A LoRA adapter of the folder ``base`` that changes the law."""
    from peft import LoraConfig, get_peft_model

    model = LlamaForCausalLM.from_pretrained(base)
    torch.manual_seed(5)
    lora = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "o_proj"]))
    with torch.no_grad():
        for name, weight in lora.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.3)
    lora.save_pretrained(path)
    return str(path)
