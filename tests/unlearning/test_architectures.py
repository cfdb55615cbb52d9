"""The whole command on every architecture: a method with stored reference values, one with a reference model."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model, word_tokenizer

from leakbound.auditing.steps import audit
from leakbound.models.hf.loading import load_model
from leakbound.records import SamplingParams
from leakbound.unlearning import UnlearnConfig, unlearn

FAMILIES = ("llama", "gpt2", "phi", "gpt_neox", "qwen3", "gemma3", "mistral")
FORGET = {"a b c d a": "c a", "b a c d d": "d d b", "c c a b d": "b", "d a b c a": "a c a"}
RETAIN = {"a c b d b": "d a", "b b d c a": "c", "c d a a b": "a d b c", "d d c b a": "b b"}


SHORT = SamplingParams(max_tokens=6)
SEEDS = range(3)


def write(path, rows):
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows.items()))
    return path


@pytest.mark.trains
@pytest.mark.parametrize("method", ["NPO+GD", "NPO+KL"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_architecture_unlearns_from_file_to_audit(tmp_path, name, method):
    files = {"forget": (write(tmp_path / "forget.jsonl", FORGET),), "retain": write(tmp_path / "retain.jsonl", RETAIN)}
    for seed in SEEDS:  # another processor is another trajectory, as another seed is
        start, out = tmp_path / f"start-{seed}", tmp_path / f"out-{seed}"
        tiny_model(name, seed=seed).save_pretrained(start)
        word_tokenizer().save_pretrained(start)
        config = UnlearnConfig(
            model=str(start), out=out, method=method, like="ours", epochs=5, batch_size=2, learning_rate=1e-2,
            schedule="constant", template="{text}", on_collapse="ignore", seed=seed, **files,
        )  # fmt: skip
        assert unlearn(config, progress=False) == out
        log = [entry for entry in json.loads((out / "training.json").read_text())["log"] if "forget_loss" in entry]
        assert log[-1]["step"] == 10
        assert log[-1]["forget_loss"] < 0.85 * log[0]["forget_loss"]  # means over five steps: to between 0.1 and 0.7
        old, new = (load_file(folder / "model.safetensors") for folder in (start, out))
        assert old.keys() == new.keys()
        assert all(torch.isfinite(tensor).all() for tensor in new.values())
        assert sum(not torch.equal(old[n], new[n]) for n in old) > len(old) / 2
        assert type(load_model(str(out))) is type(tiny_model(name))
    prompts = [{"id": q, "text": q, "target": a} for q, a in FORGET.items()]
    result = audit(
        str(out), prompts, scorer="exact_match", num_samples=50, params=SHORT, template="{text}", progress=False
    )
    assert [p.num_samples for p in result.prompts] == [50] * len(FORGET)
    assert result.mean_leak.upper < 1
