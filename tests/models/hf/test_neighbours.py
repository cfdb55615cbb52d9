"""What a model can be asked at all, and whether a prompt's draws depend on what else is in its batch."""

import copy
from datetime import datetime
from functools import partial

import numpy as np
import peft
import pytest
import torch
import transformers
from tiny_models import ENDS, SMALL, WORDS, random_model, tiny_model, word_tokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, Phi3Config, PreTrainedTokenizerFast, RwkvConfig

from leakbound.auditing.drawing import sample
from leakbound.errors import ModelError, RunMismatchError
from leakbound.models import template
from leakbound.models.hf import HFModel
from leakbound.models.hf.prefixes import Prefixes
from leakbound.models.hf.segments import Segment
from leakbound.records import Prompt, SamplingParams, Shard

PROMPTS = (Prompt("short", "a", "c"), Prompt("long", "b a d c d", "c"), Prompt("other", "a b a", "d"))


def rwkv():
    torch.manual_seed(0)
    config = RwkvConfig(
        vocab_size=len(WORDS), context_length=64, hidden_size=16, attention_hidden_size=16, num_hidden_layers=2, **ENDS
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 or "time" in name:
                value.copy_(torch.randn_like(value) * 0.7)
    return model


def longrope(switch=6):
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [40.0] * 4,
        "original_max_position_embeddings": switch,
    }  # fmt: skip
    config = Phi3Config(
        **SMALL, **ENDS, intermediate_size=32, num_key_value_heads=1, max_position_embeddings=64,
        original_max_position_embeddings=switch, rope_parameters=rope,
    )  # fmt: skip
    return random_model(config, seed=1)


def draws_of(model, tokenizer, prompts, **options):
    found = HFModel(model, tokenizer, **options).sample(Shard(prompts, 0, 8, 3), SamplingParams(max_tokens=4))
    return {p.id: [(d.text, d.count, round(d.logprob, 3)) for d in found if d.prompt_id == p.id] for p in prompts}


@pytest.mark.parametrize("make", [rwkv, longrope, lambda: tiny_model("mamba")], ids=["rwkv", "longrope", "mamba"])
def test_g14_draws_do_not_depend_on_the_batch(make, tokenizer):
    model = make()
    together = draws_of(model, tokenizer, PROMPTS)
    alone = {p.id: draws_of(model, tokenizer, (p,), batch_rows=1)[p.id] for p in PROMPTS}
    assert together == alone


def test_g14_padding_is_tried_before_the_first_draw(tokenizer):
    sampler = HFModel(rwkv(), tokenizer)
    assert sampler._forward.pads  # its signature takes an attention mask
    head = tokenizer("b a")["input_ids"]
    roots = Prefixes.roots([head, [2, 3, *head]], [0, 1], 1, 0)
    beside = sampler._forward.run([Segment(roots)]).logits[0]
    alone = sampler._forward.run([Segment(Prefixes.roots([head], [0], 1, 0))]).logits[0]
    assert (beside - alone).abs().max() > 0.01 * alone.std()  # the fault is real
    sampler.sample(Shard(PROMPTS, 0, 2, 0), SamplingParams(max_tokens=2))
    assert not sampler._forward.pads
    usual = HFModel(tiny_model(), tokenizer)
    usual.sample(Shard(PROMPTS, 0, 2, 0), SamplingParams(max_tokens=2))
    assert usual._forward.pads
    assert usual._forward.merges


def test_g14_a_model_whose_rows_see_each_other_reads_one_at_a_time(tokenizer):
    """As a mixture of experts with a limited capacity does."""
    model = tiny_model()
    model.get_output_embeddings().register_forward_hook(lambda _, __, out: out + out.mean(0, keepdim=True))
    assert draws_of(model, tokenizer, PROMPTS) == draws_of(model, tokenizer, PROMPTS, batch_rows=1)
    sampler = HFModel(model, tokenizer)
    sampler.sample(Shard(PROMPTS, 0, 2, 0), SamplingParams(max_tokens=2))
    assert sampler._forward.rows == 1


def test_g14_longrope_draws_as_transformers_does_over_its_switching_length(tokenizer):
    """Greedy answers: at the switch transformers reads the whole text again, with the other positions."""
    model = longrope()
    draws = HFModel(model, tokenizer).sample(Shard(PROMPTS, 0, 1, 0), SamplingParams(temperature=0, max_tokens=8))
    for prompt, draw in zip(PROMPTS, draws, strict=True):
        ids = torch.tensor([tokenizer(prompt.text)["input_ids"]])
        for _ in range(8):
            token = model(ids).logits[0, -1].argmax().item()
            if token == 1:
                break
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        assert draw.text == tokenizer.decode(
            ids[0, len(tokenizer(prompt.text)["input_ids"]) :], skip_special_tokens=True
        )


def test_g14_an_answer_over_the_switching_length_has_no_likelihood_in_one_pass(tokenizer):
    model = HFModel(longrope(), tokenizer)
    assert np.isfinite(model.loglikelihood([PROMPTS[0]], ["b c"])).all()
    with pytest.raises(ModelError, match="over the length of 6 at which the model changes"):
        model.loglikelihood([PROMPTS[0]], ["b c d a b c d"])


def test_a_run_with_a_clock_goes_on_at_the_date_that_it_began_with(tmp_path, monkeypatch):
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 6)

    tokenizer, model, params = word_tokenizer(), tiny_model(), SamplingParams(max_tokens=2)
    tokenizer.chat_template = "{{ 'a b' if strftime_now('%Y') == '2031' else 'c' }} {{ messages[0]['content'] }}"
    ask = partial(sample, model, PROMPTS[:2], num_samples=4, params=params, tokenizer=tokenizer)
    first = ask(tmp_path / "run", template="chat@2026-11-25").info
    assert first["model"]["date"] == "2026-11-25"
    monkeypatch.setattr(template, "datetime", Later)
    assert ask(tmp_path / "run").info == first
    assert ask(tmp_path / "new").info["model"]["date"] == "2031-05-06"
    with pytest.raises(RunMismatchError, match="date"):
        ask(tmp_path / "run", template="chat@2026-11-26")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_g9_a05_prompts_beyond_the_context_are_refused_before_the_first_draw(name, tokenizer, tmp_path):
    model = tiny_model(name)
    model.config = copy.deepcopy(model.config)
    model.config.max_position_embeddings = 64
    far = (*PROMPTS, Prompt("far", "a b " * 30, "c"))
    with pytest.raises(ModelError, match="prompt 'far': 60 tokens and 5 to follow are more than the 64 that the model"):
        sample(model, far, tmp_path / "run", num_samples=2, params=SamplingParams(max_tokens=5), tokenizer=tokenizer)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ModelError, match="prompt 'far'"):
        HFModel(model, tokenizer).sample(Shard(far, 0, 2, 0), SamplingParams(max_tokens=5))
    HFModel(model, tokenizer).sample(Shard(far, 0, 2, 0), SamplingParams(max_tokens=4))
    with pytest.raises(ModelError, match="60 tokens and 6 to follow are more than the 64"):
        HFModel(model, tokenizer).loglikelihood(far[-1:], ["a b c d a"])


def test_a05_a_tokenizer_of_another_model_is_refused(tokenizer):
    words = {word: i for i, word in enumerate([*WORDS, "new"])}
    backend = Tokenizer(WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = WhitespaceSplit()
    larger = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")
    model = HFModel(tiny_model(), larger)
    model.check(PROMPTS, SamplingParams(max_tokens=2))
    refusal = "the tokenizer gives token 6, but the model knows 6 tokens"
    with pytest.raises(ModelError, match=f"prompt 'x': {refusal}"):
        model.sample(Shard((Prompt("x", "a new b", "c"),), 0, 2, 0), SamplingParams(max_tokens=2))
    with pytest.raises(ModelError, match=refusal):
        model.answer_likelihoods(["a"], [["new"]])


class Wrapped(torch.nn.Module):
    """A forward that takes what the model takes and names little of it."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.generation_config = model, model.config, model.generation_config
        self.dtype, self.device = model.dtype, model.device

    def get_input_embeddings(self):
        return self.model.get_input_embeddings()

    def forward(self, input_ids, **named):
        return self.model(input_ids=input_ids, **named)


@pytest.mark.parametrize("kind", ["lora", "prompt tuning", "compiled", "wrapped"])
def test_a_cache_that_is_given_back_and_not_taken_is_of_no_use(tokenizer, kind):
    """Read as if it were taken, each token was drawn from the law behind the one before it alone."""
    model = tiny_model(seed=3)
    if kind == "lora":
        lora = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"])
        model = peft.get_peft_model(model, lora).eval()
    if kind == "prompt tuning":
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
        model = peft.get_peft_model(model, config).eval()
    plain = model
    if kind in ("compiled", "wrapped"):
        model = torch.compile(model, backend="eager") if kind == "compiled" else Wrapped(model)
    prompts = (Prompt("0", "a b c d a b", "x"), Prompt("1", "d c", "x"))
    box = HFModel(model, tokenizer, template="{text}")
    for prompt, found in zip(
        prompts, box.generations(Shard(prompts, 0, 50, 1), SamplingParams(max_tokens=4)), strict=True
    ):
        head = tokenizer(prompt.text)["input_ids"]
        for one in found:
            ids = torch.tensor([[*head, *one.tokens]])
            with torch.inference_mode():
                laws = plain(input_ids=ids, use_cache=False).logits[0, -len(one.tokens) - 1 : -1].log_softmax(-1)
            own = laws.gather(1, torch.tensor(one.tokens)[:, None]).sum().item()
            assert one.logprob == pytest.approx(own, abs=1e-4)


def test_attention_that_is_scaled_by_places_in_the_cache_is_read_in_equal_lengths(tokenizer):
    """Llama 4: its queries' temperature counts padding, from a length on that a trial does not reach."""
    config = transformers.Llama4TextConfig(
        vocab_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
        intermediate_size=32, intermediate_size_mlp=32, num_local_experts=2, max_position_embeddings=512,
        attn_temperature_tuning=True, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    box = HFModel(transformers.AutoModelForCausalLM.from_config(config).eval(), tokenizer, template="{text}")
    assert not box._forward.pads
