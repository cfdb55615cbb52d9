"""Adaptive temperature: greedy where the model is sure of its greedy answer, the usual law elsewhere."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from enumerated import FALSE_ALARM, chi_square_p
from tiny_models import tiny_model

from leakbound import audit
from leakbound.auditing.calibrating import calibrate
from leakbound.auditing.certifying import certify
from leakbound.errors import InputError
from leakbound.models import FakeModel
from leakbound.models.hf import HFModel
from leakbound.models.hf.law import warp
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
    with pytest.raises(InputError, match="only the threshold for prompts"):
        calibrate(model, PROMPTS[:1], params=SamplingParams(adaptive_temperature=0.5, adaptive_mode="sequence"))
    with pytest.raises(InputError, match="a fake has no confidence"):
        audit(FakeModel(), PROMPTS[:1], params=params, progress=False, scorer="contains")
    with pytest.raises(InputError, match="does not tell its confidence"):
        calibrate(FakeModel(), PROMPTS[:1])
    with pytest.raises(InputError, match="share is 1"):
        calibrate(model, PROMPTS, share=1)
    with pytest.raises(InputError, match="adaptive_temperature is 2"):
        SamplingParams(adaptive_temperature=2)


# --- one completion at a time


@torch.inference_mode()
def sequence_law(model, ids, params):
    """{token tuple: probability}, a slow restatement: greedy from where the mean of the tops so far is high, or in mode
    token where it is higher."""
    law, frontier = {}, [((), 1.0, [], False)]
    warped = replace(params, adaptive_temperature=0.0, adaptive_mode="prompt")
    while frontier:
        grown = []
        for tokens, p, seen, sure in frontier:
            logits = model(input_ids=torch.tensor([[*ids, *tokens]])).logits[:, -1].double()
            own = [*seen, float(torch.softmax(logits, -1).max())]
            mean = round(sum(own) / len(own), 6)
            now = sure or mean >= params.adaptive_temperature
            if params.adaptive_mode == "token":
                now = mean > params.adaptive_temperature
            if now:
                laws = torch.zeros_like(logits)
                laws[0, int(logits.argmax())] = 1.0
            else:
                laws = torch.softmax(warp(logits, warped), -1)
            for token, q in enumerate(laws[0].tolist()):
                if q == 0:
                    continue
                child = (*tokens, token)
                if token == 1 or len(child) == params.max_tokens:
                    law[child] = p * q
                else:
                    grown.append((child, p * q, own, now))
        frontier = grown
    assert sum(law.values()) == pytest.approx(1, abs=1e-6)
    return law


ONE = tuple(Prompt(x, y, "c") for x, y in (("p", "a b"), ("q", "d c a b a")))
SURE = {"llama": (1.5, (0.5, 0.6)), "gemma3": (0.8, (0.5, 0.6)), "mamba": (0.3, (0.4, 0.5))}
"""For each model the scale of its last layer, and thresholds that some of its completions reach and others do not."""
SEQUENCE = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "filters": {"temperature": 1.3, "top_k": 4, "top_p": 0.95, "min_p": 0.05},
}


@pytest.mark.parametrize("name", ["llama", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gemma3", "mamba"))])
@pytest.mark.parametrize(
    ("options", "mode"), [*((options, "sequence") for options in SEQUENCE), ("plain", "token"), ("filters", "token")]
)
def test_a_completion_goes_greedy_where_it_is_sure(name, options, mode, tokenizer):
    """Chi-square of draws, exact log-probabilities, whole trees without replacement, forced log-probabilities."""
    scale, thresholds = SURE[name]
    net = tiny_model(name, scale=scale)
    box = HFModel(net, tokenizer, batch_rows=5)
    sizes = set()
    for threshold in thresholds:
        params = SamplingParams(max_tokens=3, adaptive_temperature=threshold, adaptive_mode=mode, **SEQUENCE[options])
        drawn = box.generations(Shard(ONE, 0, 2000, 1), params)
        orders = box.distinct(ONE, 300, params, 0)
        for prompt, some, order in zip(ONE, drawn, orders, strict=True):
            law = sequence_law(net, tokenizer(prompt.text)["input_ids"], params)
            sizes.add(len(law))
            counts = {g.tokens: g.count for g in some}
            assert chi_square_p(counts, law, 2000) > FALSE_ALARM
            assert {g.tokens: pytest.approx(math.exp(g.logprob), abs=1e-5) for g in order} == law
            for g in some:
                assert math.exp(g.logprob) == pytest.approx(law[g.tokens], rel=1e-4, abs=1e-9)
            tokens = sorted(law)
            forced = box.logprobs([prompt] * len(tokens), tokens, params)
            assert np.exp(forced) == pytest.approx([law[t] for t in tokens], rel=1e-4, abs=1e-7)
    assert len(sizes) > 1, "the thresholds decide nothing here"


def test_the_law_of_a_sequence_is_between_the_two(tokenizer):
    net, ids = tiny_model(scale=1.5), tokenizer("a b")["input_ids"]
    sizes = [
        len(sequence_law(net, ids, SamplingParams(max_tokens=3, adaptive_temperature=t, adaptive_mode="sequence")))
        for t in (1e-6, 0.5, 0.6, 1.0)
    ]
    assert sizes[0] == 1
    assert 1 < sizes[1] < sizes[2] < sizes[3]


def test_a_token_is_sampled_again_after_greedy_ones_and_its_mean_must_be_above(tokenizer):
    """In mode token nothing lasts: of these completions some are greedy first and sampled after."""
    net, prompt = tiny_model(scale=1.5), ONE[1]  # its greedy tokens' probabilities are .77, .36 and .74
    ids = tokenizer(prompt.text)["input_ids"]
    with torch.no_grad():
        first = round(float(torch.softmax(net(input_ids=torch.tensor([ids])).logits[0, -1].double(), -1).max()), 6)
    lengths = []
    for mode, threshold in (("sequence", first), ("token", first - 1e-6), ("token", first)):
        params = SamplingParams(max_tokens=3, adaptive_temperature=threshold, adaptive_mode=mode)
        law = sequence_law(net, ids, params)
        order = HFModel(net, tokenizer).distinct([prompt], 300, params, 0)[0]
        assert {g.tokens: pytest.approx(math.exp(g.logprob), abs=1e-5) for g in order} == law
        lengths.append((len({tokens[0] for tokens in law}), len(law) > 1))
    assert lengths[0] == (1, False)  # once sure, always greedy
    assert lengths[1] == (1, True)  # greedy first, sampled after
    assert lengths[2][0] > 1  # a mean that only reaches the threshold is not above it


def test_sequences_are_audited_and_certified(model):
    params = SamplingParams(max_tokens=4, adaptive_temperature=0.6, adaptive_mode="sequence")
    for engine in ("iid", "without-replacement"):
        result = audit(model, PROMPTS[:3], scorer="contains", num_samples=40, params=params, engine=engine,
                       progress=False)  # fmt: skip
        assert result.run["params"]["adaptive_mode"] == "sequence"
    found = certify(model, PROMPTS[:3], scorer="contains", num_generations=20, params=params, progress=False)
    for one, other in zip(found.prompts, result.prompts, strict=True):
        assert one.limits.lower <= other.limits.upper
        assert other.limits.lower <= one.limits.upper


def test_sure_prompts_have_one_completion_without_replacement(model):
    params = SamplingParams(max_tokens=4, adaptive_temperature=float(np.median(model.confidence(PROMPTS, USUAL))))
    sure = model.confidence(PROMPTS, USUAL) >= params.adaptive_temperature
    greedy = model.sample(Shard(PROMPTS, 0, 1, 0), SamplingParams(temperature=0, max_tokens=4))
    orders = model.distinct(PROMPTS, 10, params, 0)
    for is_sure, one, order in zip(sure, greedy, orders, strict=True):
        assert (len(order) == 1) == bool(is_sure)
        if is_sure:
            assert (order[0].text, order[0].logprob) == (one.text, 0.0)
    tokens = [order[-1].tokens for order in orders]
    assert model.logprobs(PROMPTS, tokens, params) == pytest.approx([o[-1].logprob for o in orders], abs=1e-4)
    found = certify(model, PROMPTS[:6], scorer="contains", num_generations=10, params=params, progress=False)
    for is_sure, c in zip(sure, found.prompts, strict=False):
        if is_sure:
            assert c.limits.upper - c.limits.lower < 1e-8


def test_old_folders_know_no_mode():
    usual = SamplingParams(adaptive_temperature=0.5)
    assert "adaptive_mode" not in usual.to_json()
    assert SamplingParams.from_json(usual.to_json()) == usual
    mode = SamplingParams(adaptive_temperature=0.5, adaptive_mode="sequence")
    assert SamplingParams.from_json(mode.to_json()) == mode
    with pytest.raises(InputError, match="adaptive_mode is 'word': give prompt, sequence or token"):
        SamplingParams(adaptive_temperature=0.5, adaptive_mode="word")
    for mode in ("sequence", "token"):
        with pytest.raises(InputError, match=f"adaptive_mode is '{mode}' .*give the threshold"):
            SamplingParams(adaptive_mode=mode)
