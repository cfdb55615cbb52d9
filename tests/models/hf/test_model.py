"""The engine against the exact law: every sequence of a small tree enumerated by plain forward passes."""

import numpy as np
import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from enumerated import FALSE_ALARM, PROMPTS, chi_square_p, enumerate_law, key
from tiny_models import CONFIGS, WORDS, tiny_model

from leakbound.errors import InputError, ModelError
from leakbound.models.base import Likelihood, Sampler
from leakbound.models.hf import HFModel
from leakbound.models.hf.forward import Forward
from leakbound.records import SamplingParams, Shard


def check_law(model, tokenizer, params, n=4000, seed=0, **options):
    sampler = HFModel(model, tokenizer, **options)
    draws = sampler.sample(Shard(PROMPTS, 0, n, seed), params)
    for prompt in PROMPTS:
        law = enumerate_law(model, tokenizer(prompt.text)["input_ids"], params)
        merged = {}
        for tokens, p in law.items():
            merged[key(tokens)] = merged.get(key(tokens), 0) + p
        counts = {}
        for d in (d for d in draws if d.prompt_id == prompt.id):
            counts[d.text, d.finish_reason] = counts.get((d.text, d.finish_reason), 0) + d.count
            assert min(abs(d.logprob - np.log(p)) for t, p in law.items() if key(t) == (d.text, d.finish_reason)) < 1e-4
        assert sum(counts.values()) == n
        assert set(counts) <= set(merged)
        assert chi_square_p(counts, merged, n) > FALSE_ALARM


def test_a_model_in_half_precision_training_is_asked_by_its_weights(tokenizer):
    """accelerate changes its forward; what is drawn, and said of answers, is what the saved model gives."""
    plain, trained = tiny_model(), tiny_model()
    trained._original_forward = trained.forward
    trained.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(trained.forward))
    ids = torch.tensor([[2, 3, 4]])
    wrapped = trained(input_ids=ids).logits
    assert not torch.equal(wrapped, plain(input_ids=ids).logits)
    asked = [prompt.text for prompt in PROMPTS]
    shard, params = Shard(PROMPTS, 0, 500, 0), SamplingParams(max_tokens=4)
    with torch.autocast("cpu", torch.bfloat16):
        boxes = [HFModel(model, tokenizer, template="raw") for model in (plain, trained)]
        assert boxes[0].sample(shard, params) == boxes[1].sample(shard, params)
        one, other = (box.answer_likelihoods(asked, [["a b c"]] * len(asked)) for box in boxes)
        assert [t.logprobs.tolist() for (t,) in one] == [t.logprobs.tolist() for (t,) in other]
        one, other = (box.answer_gradient_norms(asked, ["a b c"] * len(asked)) for box in boxes)
        assert one.tolist() == other.tolist()
        assert boxes[1]._forward.most > 1  # no prompt is read otherwise beside others
    assert torch.equal(trained(input_ids=ids).logits, wrapped)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_draws_from_its_exact_law(name, tokenizer):
    check_law(tiny_model(name), tokenizer, SamplingParams(max_tokens=3))


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_tokens=3, temperature=0.5),
        SamplingParams(max_tokens=3, top_k=2),
        SamplingParams(max_tokens=3, top_p=0.7),
        SamplingParams(max_tokens=3, min_p=0.3),
        SamplingParams(max_tokens=4, temperature=1.5, top_k=3, top_p=0.9),
    ],
)
def test_every_decoding_option_draws_from_its_exact_law(params, tokenizer):
    check_law(tiny_model(), tokenizer, params)


def test_the_law_test_can_fail(tokenizer):
    """Draws at another temperature are told apart."""
    model = tiny_model()
    draws = HFModel(model, tokenizer).sample(Shard(PROMPTS[:1], 0, 4000, 0), SamplingParams(max_tokens=3))
    law = enumerate_law(model, tokenizer("a b")["input_ids"], SamplingParams(max_tokens=3, temperature=0.8))
    merged, counts = {}, {}
    for tokens, p in law.items():
        merged[key(tokens)] = merged.get(key(tokens), 0) + p
    for d in draws:
        counts[d.text, d.finish_reason] = counts.get((d.text, d.finish_reason), 0) + d.count
    assert chi_square_p(counts, merged, 4000) < FALSE_ALARM


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "mamba"])
def test_batching_changes_nothing(name, tokenizer):
    """One row at a time gives the same draws as all at once: merging and batching are not part of the law."""
    model, params = tiny_model(name), SamplingParams(max_tokens=5)
    shard = Shard(PROMPTS, 0, 200, 3)
    together = HFModel(model, tokenizer).sample(shard, params)
    alone = HFModel(model, tokenizer, batch_rows=1).sample(shard, params)
    assert [(d.prompt_id, d.text, d.count, d.first) for d in together] == [
        (d.prompt_id, d.text, d.count, d.first) for d in alone
    ]
    for one, other in zip(together, alone, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_a_prompts_draws_do_not_depend_on_its_neighbours(tokenizer):
    sampler, params = HFModel(tiny_model(), tokenizer), SamplingParams(max_tokens=5)
    both = sampler.sample(Shard(PROMPTS, 0, 100, 3), params)
    alone = sampler.sample(Shard(PROMPTS[1:], 0, 100, 3), params)
    assert [(d.text, d.count) for d in both if d.prompt_id == "q"] == [(d.text, d.count) for d in alone]


@pytest.mark.parametrize("written", ["step", "data"])
@pytest.mark.parametrize("mode", [{}, {"adaptive_temperature": 0.5}])
def test_weights_that_changed_are_drawn_from_as_they_are(tokenizer, written, mode):
    """A step of training counts by itself; what autograd does not see counts from the next description on."""
    model, params = tiny_model("llama"), SamplingParams(max_tokens=3, **mode)
    kept = HFModel(model, tokenizer)
    shard = Shard(PROMPTS, 0, 100, 0)
    before = kept.sample(shard, params)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            (p if written == "step" else p.data).add_(torch.randn(p.shape, generator=rng))
    if written == "data":
        kept.describe()
    now = kept.sample(shard, params)
    assert now == HFModel(model, tokenizer).sample(shard, params) != before


def test_adapters_that_are_switched_off_are_another_law(tokenizer):
    """The tensors are the same, and so is their checksum."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    lora = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted, shard, params = (
        peft.get_peft_model(tiny_model(), lora),
        Shard(PROMPTS, 0, 100, 0),
        SamplingParams(max_tokens=3),
    )
    kept = HFModel(adapted.get_base_model(), tokenizer)
    on, before = kept.describe(), kept.sample(shard, params)
    assert on["adapters"] == [["default", 1.0]]
    with adapted.disable_adapter():
        now = kept.sample(shard, params)
        assert {**on, "adapters": []} == kept.describe()
        assert now == HFModel(adapted.get_base_model(), tokenizer).sample(shard, params) != before
    assert "adapters" not in HFModel(tiny_model(), tokenizer).describe()


def test_shards_share_no_randomness(tokenizer):
    sampler, params = HFModel(tiny_model(), tokenizer), SamplingParams(max_tokens=6)
    results = [
        tuple((d.text, d.count) for d in sampler.sample(Shard(PROMPTS[:1], first, 50, seed), params))
        for first, seed in [(0, 0), (50, 0), (0, 50), (0, 1)]
    ]
    assert len(set(results)) == 4


def test_greedy_is_transformers_greedy(tokenizer):
    model = tiny_model()
    draws = HFModel(model, tokenizer).sample(Shard(PROMPTS, 0, 1, 0), SamplingParams(temperature=0, max_tokens=6))
    for prompt, draw in zip(PROMPTS, draws, strict=True):
        ids = torch.tensor([tokenizer(prompt.text)["input_ids"]])
        out = model.generate(ids, do_sample=False, max_new_tokens=6, pad_token_id=0)[0, ids.shape[1] :]
        assert draw.text == tokenizer.decode(out, skip_special_tokens=True)


def test_one_forward_pass_per_distinct_prefix(tokenizer):
    sampler = HFModel(tiny_model(), tokenizer)
    draws = sampler.sample(Shard(PROMPTS[:1], 0, 10_000, 0), SamplingParams(max_tokens=3, top_k=2))
    assert sampler.work.rows <= 1 + 2 + 4
    assert sampler.work.passes == 3
    assert sum(d.count for d in draws) == 10_000


def test_stop_strings_end_and_are_cut(tokenizer):
    draws = HFModel(tiny_model(), tokenizer).sample(
        Shard(PROMPTS, 0, 500, 0), SamplingParams(max_tokens=6, stop=("b",))
    )
    assert not any("b" in d.text for d in draws)
    plain = HFModel(tiny_model(), tokenizer).sample(Shard(PROMPTS, 0, 500, 0), SamplingParams(max_tokens=6))
    assert sum(d.count for d in plain if "b" in d.text) > 0
    # the same draws, cut: P(text before the first b) is unchanged
    cut = sum(d.count for d in plain if d.prompt_id == "p" and d.text.split("b")[0] == "")
    assert cut == sum(d.count for d in draws if d.prompt_id == "p" and d.text == "")


def test_out_of_memory_halves_the_batch_and_keeps_the_draws(tokenizer, monkeypatch):
    sampler, params, shard = HFModel(tiny_model(), tokenizer), SamplingParams(max_tokens=5), Shard(PROMPTS, 0, 200, 3)
    expected = sampler.sample(shard, params)
    run = Forward.run

    def scarce(self, segments):
        if sum(map(len, segments)) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return run(self, segments)

    monkeypatch.setattr(Forward, "run", scarce)
    got = HFModel(tiny_model(), tokenizer).sample(shard, params)
    assert [(d.text, d.count, d.first) for d in got] == [(d.text, d.count, d.first) for d in expected]


def test_loglikelihood_equals_the_enumerated_law(tokenizer):
    model = tiny_model()
    law = enumerate_law(model, tokenizer("a b")["input_ids"], SamplingParams(max_tokens=4))
    sampler = HFModel(model, tokenizer)
    texts = ["c", "d a", "b b c"]
    got = sampler.loglikelihood([PROMPTS[0]] * 3, texts)
    for text, value in zip(texts, got, strict=True):
        tokens = (*[WORDS.index(w) for w in text.split()], 1)
        assert value == pytest.approx(np.log(law[tokens]), abs=1e-4)


def test_protocols_and_description(tokenizer):
    sampler = HFModel(tiny_model(), tokenizer)
    assert isinstance(sampler, Sampler)
    assert isinstance(sampler, Likelihood)
    assert sampler.describe() == HFModel(tiny_model(), tokenizer).describe()
    assert sampler.describe()["checksum"] != HFModel(tiny_model(seed=1), tokenizer).describe()["checksum"]


def test_a_model_that_gives_nan_is_refused(tokenizer):
    model = tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        HFModel(model, tokenizer).sample(Shard(PROMPTS, 0, 5, 0), SamplingParams())


def scaled(factor):
    """A tiny model whose logits are as large as ``factor``."""
    model = tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(factor)
    return model


def every_use(box, prompts, params):
    """All that reads a law, as functions without arguments."""
    shard = Shard(prompts, 0, 5, 0)
    return {
        "sample": lambda: box.sample(shard, params),
        "generations": lambda: box.generations(shard, params),
        "distinct": lambda: box.distinct(prompts, 3, params, 0),
        "logprobs": lambda: box.logprobs(prompts, [[2, 3]] * len(prompts), params),
        "near": lambda: box.near_verbatim(prompts, [[2]] * len(prompts), [0] * len(prompts), params),
    }


@pytest.mark.parametrize("use", ["sample", "generations", "distinct", "logprobs", "near"])
@pytest.mark.parametrize(
    ("factor", "temperature"),
    [(float("nan"), 1.0), (float("inf"), 1.0), (float("nan"), 0.0), (1e36, 1e-4), (1e37, 1e-3), (1e38, 1e-2)],
)
def test_a_law_that_temperature_breaks_is_refused(tokenizer, use, factor, temperature):
    box = HFModel(scaled(factor), tokenizer)
    with pytest.raises(ModelError, match=r"prompt 'd c a b a'.*not finite.*larger temperature"):
        every_use(box, PROMPTS[1:], SamplingParams(max_tokens=3, temperature=temperature))[use]()


@pytest.mark.parametrize("use", ["sample", "generations", "distinct", "logprobs", "near"])
def test_the_prompt_whose_law_is_broken_is_named(tokenizer, use):
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[WORDS.index("d")] = torch.nan  # in the second prompt only
    box, params = HFModel(model, tokenizer), SamplingParams(max_tokens=1)
    with pytest.raises(ModelError, match="prompt 'd c a b a'"):
        every_use(box, PROMPTS, params)[use]()
    assert every_use(box, PROMPTS[:1], params)[use]() is not None


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("factor", [1.0, 1e4, 1e30])
def test_every_temperature_that_is_taken_gives_a_law(tokenizer, temperature, factor):
    model, params = scaled(factor), SamplingParams(max_tokens=2, temperature=temperature)
    law = enumerate_law(model, tokenizer("a b")["input_ids"], params)
    (drawn,) = HFModel(model, tokenizer).generations(Shard(PROMPTS[:1], 0, 50, 0), params)
    assert sum(g.count for g in drawn) == 50
    for g in drawn:
        assert np.exp(g.logprob) == pytest.approx(law[g.tokens], rel=0.1)  # float32 logits over 1e-4


def test_a_whole_temperature_is_a_temperature(tokenizer):
    box = HFModel(tiny_model(), tokenizer)
    two, float_two = (
        box.sample(Shard(PROMPTS, 0, 50, 0), SamplingParams(max_tokens=3, temperature=t)) for t in (2, 2.0)
    )
    assert two == float_two


def test_errors_name_argument_and_remedy(tokenizer):
    with pytest.raises(ModelError, match="tokenizer is None"):
        HFModel(tiny_model(), None)
    with pytest.raises(InputError, match="batch_rows is 0"):
        HFModel(tiny_model(), tokenizer, batch_rows=0)
    with pytest.raises(InputError, match="no chat template"):
        HFModel(tiny_model(), tokenizer, template="chat")
