"""What is tried before the first draw: whether the ways in which a model is read are all its own law."""

import numpy as np
import peft
import pytest
import torch
import transformers
from tiny_models import ENDS, SMALL, WORDS, random_model, tiny_model, word_tokenizer

from leakbound.errors import InputError, ModelError
from leakbound.models.hf import HFModel
from leakbound.records import Prompt, SamplingParams, Shard

PROMPTS = (Prompt("p", "a b", "c"), Prompt("q", "d c a b a b c d a", "d"), Prompt("r", "c a", "d"))
SHARD, PARAMS = Shard(PROMPTS, 0, 20, 3), SamplingParams(max_tokens=12)


def roberta(**options):
    shape = {**SMALL, **ENDS, "intermediate_size": 32, "max_position_embeddings": 64}
    return random_model(transformers.RobertaConfig(**shape, **options))


def minimax():
    return random_model(transformers.MiniMaxConfig(
        **SMALL, **ENDS, intermediate_size=32, num_key_value_heads=1, head_dim=8, num_local_experts=2, block_size=4,
        layer_types=["linear_attention", "full_attention"], max_position_embeddings=64,
    ))  # fmt: skip


def deepseek_v4():
    kind = getattr(transformers, "DeepseekV4Config", None)
    if kind is None:
        pytest.skip("this transformers has no DeepSeek V4")
    return random_model(kind(
        **(SMALL | {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4}), **ENDS, head_dim=8,
        moe_intermediate_size=24, n_routed_experts=4, num_experts_per_tok=2, q_lora_rank=16, sliding_window=4,
        max_position_embeddings=256,
    ))  # fmt: skip


def check_own_law(model, tokenizer):
    """Of draws together, of draws alone and without replacement: log P is that of the whole text, read alone."""
    box = HFModel(model, tokenizer, template="raw")
    found = [*zip(PROMPTS, box.generations(SHARD, PARAMS), strict=True)]
    found += zip(PROMPTS, box.distinct(PROMPTS, 5, PARAMS, 0), strict=True)
    for prompt, some in found:
        head = tokenizer(prompt.text)["input_ids"]
        for one in some[:6]:
            own = 0.0
            for t, token in enumerate(one.tokens):
                ids = torch.tensor([[*head, *one.tokens[:t]]])
                with torch.inference_mode():
                    own += model(input_ids=ids, use_cache=False).logits[0, -1].double().log_softmax(-1)[token].item()
            assert one.logprob == pytest.approx(own, abs=1e-3)
    return box


@pytest.mark.parametrize("make", [lambda: roberta(is_decoder=True), minimax, deepseek_v4])
def test_what_a_cache_and_positions_make_of_a_model_is_its_own_law(make, tokenizer):
    """RoBERTa counts positions from another one on; MiniMax keeps states beside its cache's layers; DeepSeek V4 makes
    one key of several tokens, padding too."""
    forward = check_own_law(make(), tokenizer)._forward
    assert not forward.pads
    assert forward.trees is False


def test_a_model_that_had_no_room_is_still_to_be_tried(tokenizer, monkeypatch):
    box = HFModel(roberta(is_decoder=True), tokenizer, template="raw")
    with monkeypatch.context() as poor:
        poor.setattr(box._forward.budget, "settle", lambda prompt: vars(box._forward.budget).update(room=0.0))
        with pytest.raises(InputError, match="one row of 21 tokens"):
            box.check(PROMPTS, PARAMS)
    box._forward.budget.settle()
    box.check(PROMPTS, PARAMS)
    assert "position_ids" not in box._forward.accepts


def test_a_cache_whose_rows_cannot_be_chosen_is_left(tokenizer, monkeypatch):
    monkeypatch.setattr(transformers.DynamicCache, "reorder_cache", lambda self, rows: None)
    model = tiny_model("mistral")
    forward = check_own_law(model, tokenizer)._forward
    assert not forward.caches
    monkeypatch.undo()
    assert check_own_law(model, tokenizer)._forward.caches


USES = {
    "check": lambda box: box.check(PROMPTS, PARAMS),
    "sample": lambda box: box.sample(SHARD, PARAMS),
    "logprobs": lambda box: box.logprobs(PROMPTS, [[2, 3]] * 3, PARAMS),
    "attested": lambda box: box.attested(PROMPTS[0], [(2, 3, 1)], PARAMS, slack=0.15),
    "likelihoods": lambda box: box.answer_likelihoods(["a b"], [["c d"]]),
    "gradients": lambda box: box.answer_gradient_norms(["a b"], ["c d"]),
}


@pytest.mark.parametrize("use", USES)
def test_a_model_that_looks_ahead_is_refused_however_often_it_is_asked(tokenizer, use):
    """Its likelihood of a whole answer would be a wrong one, of tokens that it has seen."""
    box = HFModel(roberta(), tokenizer, template="raw")
    for _ in range(2):
        with pytest.raises(
            ModelError, match="RobertaForCausalLM gives the next token of a text another law where more"
        ):
            USES[use](box)


def test_a_model_whose_law_depends_on_how_much_follows_is_refused(tokenizer):
    prophet = transformers.ProphetNetConfig(
        vocab_size=len(WORDS), hidden_size=16, num_encoder_layers=1, num_decoder_layers=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, num_encoder_attention_heads=2, num_decoder_attention_heads=2, **ENDS,
    )  # fmt: skip
    box = HFModel(random_model(prophet), tokenizer, template="raw")
    with pytest.raises(ModelError, match="ProphetNetForCausalLM gives the next token"):
        box.answer_likelihoods(["a b"], [["c d"]])


@pytest.mark.parametrize("switch", [2, 3])
def test_the_length_at_which_positions_change_is_not_tried_over(tokenizer, switch):
    """The law of a text is that of its own length."""
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [40.0] * 4,
        "original_max_position_embeddings": switch,
    }  # fmt: skip
    config = transformers.Phi3Config(
        **SMALL, **ENDS, intermediate_size=32, num_key_value_heads=1, max_position_embeddings=64,
        original_max_position_embeddings=switch, rope_parameters=rope,
    )  # fmt: skip
    check_own_law(random_model(config), tokenizer)


@pytest.mark.parametrize("kind", ["encoder and decoder", "no head", "no model"])
def test_what_is_no_causal_model_is_refused(tokenizer, kind):
    t5 = transformers.T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    model = {
        "encoder and decoder": lambda: transformers.T5ForConditionalGeneration(t5),
        "no head": lambda: tiny_model().model,
        "no model": object,
    }[kind]()
    with pytest.raises(ModelError, match=f"model is a {type(model).__name__}.*: give a causal language model"):
        HFModel(model, tokenizer)


def test_a_padding_token_that_the_model_has_not_is_not_read(tokenizer):
    """Many a tokenizer was given one of its own."""
    other = word_tokenizer()
    other.add_special_tokens({"pad_token": "[PAD]"})
    assert other.pad_token_id == len(WORDS)
    usual, box = (HFModel(tiny_model(), one, template="raw") for one in (tokenizer, other))
    assert box.sample(SHARD, PARAMS) == usual.sample(SHARD, PARAMS)
    asked = [prompt.text for prompt in PROMPTS], [["c", "d d a"]] * 3
    for mine, known in zip(box.answer_likelihoods(*asked), usual.answer_likelihoods(*asked), strict=True):
        assert [x.logprobs.tolist() for x in mine] == [x.logprobs.tolist() for x in known]


def test_an_end_token_that_the_model_has_not_is_none(tokenizer):
    """A configuration says -1 for none; a tokenizer may be larger than its model."""
    other, model = word_tokenizer(), tiny_model()
    other.add_special_tokens({"eos_token": "</s>"})
    model.generation_config.eos_token_id = [-1, 1]
    usual, box = HFModel(tiny_model(), tokenizer, template="raw"), HFModel(model, other, template="raw")
    assert box.describe()["end_tokens"] == [1]
    assert box.with_end((2, 3)) == (2, 3, 1)
    near = (PROMPTS, [(2,), (3,), (4,)], [1, 1, 0], PARAMS)
    assert box.near_verbatim(*near) == usual.near_verbatim(*near)
    told = PROMPTS[0], [(2, 3, 1)], PARAMS
    (mine,), (known,) = (one.attested(*told, slack=0.15) for one in (box, usual))
    assert mine.factors == known.factors


@pytest.mark.parametrize("what", ["all of it", "an adapter that came later"])
def test_dropout_is_no_part_of_the_law(tokenizer, what):
    """Whoever trains between two audits leaves a model in training mode; it is in that mode afterwards."""
    model = tiny_model("llama" if what != "all of it" else "gpt2")
    box = HFModel(model, tokenizer, template="raw")
    if what == "all of it":
        known = box.sample(SHARD, PARAMS)
        model.train()
    else:
        lora = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False, lora_dropout=0.5)
        peft.inject_adapter_in_model(lora, model)
        assert not model.training
        model.eval()
        known = box.sample(SHARD, PARAMS)
        for module in model.modules():
            module.training = "lora_dropout" in str(type(module)) or isinstance(module, torch.nn.Dropout)
    before = [module.training for module in model.modules()]
    assert any(before)
    assert box.sample(SHARD, PARAMS) == known
    answers = [box.answer_likelihoods(["a b"], [["c d a"]])[0][0].logprobs for _ in range(2)]
    assert np.array_equal(*answers)
    assert [module.training for module in model.modules()] == before
