"""A world of eight coloured things, a model that knows them, and the two commands with small settings."""

import torch

from leakbound.models.loading import load_model, load_tokenizer
from leakbound.models.template import encode_prompt
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn

THINGS = {
    "box": "red", "door": "green", "hat": "blue", "boat": "black",
    "house": "white", "car": "brown", "cup": "pink", "lamp": "grey",
}  # fmt: skip


def learn(world, out, **settings):
    defaults = {"from_scratch": "tiny", "epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "schedule": "constant"}
    return finetune(FinetuneConfig(data=world / "full.jsonl", out=out, **{**defaults, **settings}), progress=False)


def forget(world, out, **settings):
    files = {"model": str(world / "model"), "forget": world / "forget.jsonl", "retain": world / "retain.jsonl"}
    defaults = {"epochs": 5, "batch_size": 2, "learning_rate": 1e-3, "schedule": "constant"}
    return unlearn(UnlearnConfig(out=out, **{**files, **defaults, **settings}), progress=False)


def answer(folder, question):
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    ids = torch.tensor([encode_prompt(tokenizer, question)])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()


def weights_of(folder):
    return (folder / "model.safetensors").read_bytes()
