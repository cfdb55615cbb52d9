"""Adaptive temperature: greedy where the model is sure of its greedy answer, the usual law elsewhere."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from leakbound import audit
from leakbound.calibrating import calibrate
from leakbound.certifying import certify
from leakbound.errors import InputError
from leakbound.models import FakeModel
from leakbound.models.hf import HFModel
from leakbound.records import Prompt, SamplingParams, Shard

WORDS = "abcd"
PROMPTS = tuple(Prompt(f"{x}{y}{z}", f"{x} {y} {z}", "c") for x in WORDS for y in WORDS for z in "ab")
USUAL = SamplingParams(max_tokens=4)


@pytest.fixture(scope="module")
def model(tokenizer):
    return HFModel(tiny_model(scale=6.0), tokenizer)


def by_prompt(draws):
    out = {}
    for d in draws:
        out.setdefault(d.prompt_id, []).append((d.text, d.count))
    return out


def test_confidence_is_the_mean_probability_of_the_greedy_tokens(model, tokenizer):
    got = model.confidence(PROMPTS, USUAL)
    for prompt, value in zip(PROMPTS, got, strict=True):
        ids, seen = tokenizer(prompt.text)["input_ids"], []
        while len(seen) < 4:
            with torch.inference_mode():
                law = torch.softmax(model.model(input_ids=torch.tensor([ids])).logits[0, -1].double(), -1)
            token = int(law.argmax())
            seen.append(float(law[token]))
            ids = [*ids, token]
            if token == 1:
                break
        assert value == pytest.approx(np.mean(seen), abs=2e-6)


def test_each_prompt_has_one_of_the_two_laws(model):
    sure = model.confidence(PROMPTS, USUAL)
    threshold = float(np.median(sure))
    adaptive = SamplingParams(max_tokens=4, adaptive_temperature=threshold)
    shard = Shard(PROMPTS, 0, 200, 0)
    mixed = by_prompt(model.sample(shard, adaptive))
    usual = by_prompt(model.sample(shard, USUAL))
    greedy = by_prompt(model.sample(Shard(PROMPTS, 0, 200, 0), SamplingParams(temperature=0, max_tokens=4)))
    assert list(mixed) == [p.id for p in PROMPTS]
    assert 0 < (sure >= threshold).sum() < len(PROMPTS)
    for prompt, value in zip(PROMPTS, sure, strict=True):
        assert mixed[prompt.id] == (greedy if value >= threshold else usual)[prompt.id]


def test_the_two_ends(model):
    shard = Shard(PROMPTS[:4], 0, 50, 0)
    never = SamplingParams(max_tokens=4, adaptive_temperature=1.0)
    always = SamplingParams(max_tokens=4, adaptive_temperature=1e-9)
    assert by_prompt(model.sample(shard, never)) == by_prompt(model.sample(shard, USUAL))
    assert all(len(texts) == 1 for texts in by_prompt(model.sample(shard, always)).values())


def test_it_is_audited_like_any_other_decoding(model):
    params = SamplingParams(max_tokens=4, adaptive_temperature=float(np.median(model.confidence(PROMPTS, USUAL))))
    result = audit(model, PROMPTS, scorer="contains", num_samples=100, params=params, progress=False)
    assert result.run["params"]["adaptive_temperature"] == params.adaptive_temperature
    assert sum(p.num_distinct == 1 for p in result.prompts) >= len(PROMPTS) // 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_calibration_lets_no_more_than_the_share_go_greedy(model, share):
    found = calibrate(model, PROMPTS, share=share, params=USUAL)
    sure = model.confidence(PROMPTS, USUAL)
    assert found.greedy == (sure >= found.threshold).sum() <= share * len(PROMPTS)
    assert (sure >= found.threshold - 2e-6).sum() > share * len(PROMPTS) - 1e-9, "a smaller threshold would do"
    assert "--adaptive-temperature" in str(found)


def test_what_cannot_be_done_is_refused(model):
    params = SamplingParams(max_tokens=4, adaptive_temperature=0.5)
    with pytest.raises(InputError, match="a certificate is about one law"):
        certify(model, PROMPTS[:1], params=params, progress=False)
    with pytest.raises(InputError, match="a fake has no confidence"):
        audit(FakeModel(), PROMPTS[:1], params=params, progress=False, scorer="contains")
    with pytest.raises(InputError, match="does not tell its confidence"):
        calibrate(FakeModel(), PROMPTS[:1])
    with pytest.raises(InputError, match="share is 1"):
        calibrate(model, PROMPTS, share=1)
    with pytest.raises(InputError, match="adaptive_temperature is 2"):
        SamplingParams(adaptive_temperature=2)
