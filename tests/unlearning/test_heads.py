"""Models whose logits are made some rows at a time, those that are not, and that it makes no difference."""

from dataclasses import replace

import pytest
import torch
from small_training import RETAIN
from tiny_models import FAMILIES, SMALL, tiny_model
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig

from leakbound.unlearning import heads, losses
from leakbound.unlearning.adapters import add_lora, reference_of
from leakbound.unlearning.data import PairCollator
from leakbound.unlearning.heads import find_head, laws_of
from leakbound.unlearning.passes import Passes

ENDS = {"eos_token_id": 1, "pad_token_id": 0, "bos_token_id": 1}
SCALED = {
    "gemma2": Gemma2Config(**SMALL, **ENDS, intermediate_size=32, num_key_value_heads=1, head_dim=8),
    "cohere": CohereConfig(**SMALL, **ENDS, intermediate_size=32),
    "granite": GraniteConfig(**SMALL, **ENDS, intermediate_size=32, logits_scaling=8.0),
}
ROWS = {
    "input_ids": torch.tensor([[2, 3, 4, 1], [5, 2, 3, 0]]),
    "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
}
NEEDS = ["logps", "laws", "ref_laws", "refusal.logps", "labels"]


@pytest.mark.parametrize("name", [*FAMILIES, "mamba"])
@pytest.mark.parametrize("adapted", [False, True])
def test_the_laws_of_plain_heads_are_the_logits(name, adapted):
    model = tiny_model(name)
    model = add_lora(model, rank=2, alpha=8) if adapted and name != "mamba" else model
    head = find_head(model)
    assert head is model.get_output_embeddings()
    laws, _ = laws_of(model, ROWS, skipped=1)
    assert laws.weight_VD is head.weight
    assert laws.states_BLD.shape == (2, 3, 16)
    assert torch.allclose(laws.logits(), model(**ROWS, use_cache=False).logits[:, 1:], atol=1e-5)
    assert "forward" not in vars(head)


@pytest.mark.parametrize("name", SCALED)
def test_logits_to_which_something_is_done_are_taken_as_they_are(name):
    model = AutoModelForCausalLM.from_config(SCALED[name]).eval()
    assert find_head(model) is None
    laws, _ = laws_of(model, ROWS, skipped=1)
    assert laws.weight_VD is None
    assert torch.equal(laws.logits(), model(**ROWS, use_cache=False).logits[:, 1:])


def test_a_head_that_is_wrapped_or_replaced_is_left_alone():
    model = tiny_model()
    assert find_head(model) is not None
    model.set_output_embeddings(torch.nn.Sequential(model.get_output_embeddings()))
    assert find_head(model) is None
    wrapped = torch.nn.Module()
    wrapped.module = tiny_model()
    assert find_head(wrapped) is None


def test_looking_for_the_head_draws_no_random_numbers_and_leaves_the_mode():
    model = tiny_model("gpt2").train()
    state = torch.random.get_rng_state()
    find_head(model)
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", ["llama", "phi"])  # phi's head has a bias
def test_gradients_of_every_weight_are_those_of_whole_logits(monkeypatch, name, adapted, tied, dtype):
    batch = PairCollator(0, ["refusal"])([{"retain": e} for e in refused()])["retain"]
    found = []
    for whole in (False, True):
        model = tiny_model(name).to(dtype)
        if tied:
            model.get_output_embeddings().weight = model.get_input_embeddings().weight
        if adapted:
            torch.manual_seed(0)
            model = add_lora(model, rank=2, alpha=8)
            for parameter in (p for n, p in model.named_parameters() if "lora_B" in n):
                parameter.data.fill_(0.1)  # so that it is not the reference
        if whole:
            monkeypatch.setattr(heads, "find_head", lambda model: None)
        half = Passes(reference=reference_of(model)).run(model.train(), batch, NEEDS)
        assert (half.laws.weight_VD is None) == whole
        value = (
            half.logps.sigmoid() + half.refusal.logps + losses.entropy(half.laws, half.answer_mask)
            + losses.kl_retain(half.laws, half.ref_laws, half.text_mask)
        ).sum()  # fmt: skip
        value.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None} | {"value": value.detach()})
        monkeypatch.undo()
    assert found[0].keys() == found[1].keys()
    mine, other = (torch.cat([grad.flatten() for grad in grads.values()]) for grads in found)
    if dtype == torch.float32:
        assert (mine - other).norm() <= 1e-6 * other.norm()
    else:
        assert torch.allclose(mine, other, rtol=1e-9, atol=1e-12 * other.norm().item())


def refused():
    return [replace(e, refusal=e.answered((5, 4, 1))) for e in RETAIN]
