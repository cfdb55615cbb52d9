"""A world of eight coloured things, a model that knows them, and the two commands with small settings."""

import torch

from leakbound.models.hf.loading import load_model, load_tokenizer
from leakbound.models.template import encode_prompt
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn

THINGS = {
    "box": "red", "door": "green", "hat": "blue", "boat": "black",
    "house": "white", "car": "brown", "cup": "pink", "lamp": "grey",
}  # fmt: skip
SEEDS = range(3)
"""A test that asserts what training leads to asserts it of these trajectories: each processor takes others."""


def learn(world, out, **settings):
    """Three epochs; with 100 every seed knows all by heart: the loss is 0.02 by step 55, 0.003 at the end.

    The warm-up matters: without it, at 3e-3, two of five seeds did not get there.
    """
    defaults = {
        "data": world / "full.jsonl", "from_scratch": "tiny", "epochs": 3, "batch_size": 8, "learning_rate": 2e-3,
        "schedule": "constant", "warmup": 0.1,
    }  # fmt: skip
    return finetune(FinetuneConfig(out=out, **{**defaults, **settings}), progress=False)


def forget(world, out, **settings):
    files = {"model": str(world / "model"), "forget": world / "forget.jsonl", "retain": world / "retain.jsonl"}
    defaults = {"like": "ours", "epochs": 5, "batch_size": 2, "learning_rate": 1e-3, "schedule": "constant"}
    return unlearn(UnlearnConfig(out=out, **{**files, **defaults, **settings}), progress=False)


def answers(folder, questions):
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    said = []
    for question in questions:
        ids = torch.tensor([encode_prompt(tokenizer, question)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
        said.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return said


def known_things(folder):
    """For each thing, whether the model says its colour when it is asked once."""
    said = answers(folder, [f"Which colour is the {thing}?" for thing in THINGS])
    return [one == f"The {thing} is {c}." for one, (thing, c) in zip(said, THINGS.items(), strict=True)]


def weights_of(folder):
    return (folder / "model.safetensors").read_bytes()
