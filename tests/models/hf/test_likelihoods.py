"""Answer likelihoods against plain forward passes: one sequence at a time, no batch, no cache."""

import copy
import logging

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, tiny_model

from leakbound.errors import InputError, ModelError
from leakbound.models.hf import HFModel, likelihoods, trees
from leakbound.models.hf.trees import plan

QUESTIONS = ["a b", "d c a b a", "c", "b b d a"]
ANSWERS = [
    ["c", "c d a b c d a", "c d", "b", "c d a c"],
    ["a a a", "a a b", "d"],
    ["d c b a"],
    ["a", "a", "b c d a b c", "b c d a b c d", "c c"],
]


@torch.inference_mode()
def one_by_one(model, tokenizer, question, answer):
    """The law of every answer token in float64, from one plain forward pass."""
    head, tail = tokenizer(question)["input_ids"], [*tokenizer(answer)["input_ids"], 1]
    logits = model(input_ids=torch.tensor([[*head, *tail]])).logits[0, len(head) - 1 : -1].double()
    logps = logits.log_softmax(-1)
    mean = (logps.exp() * logps).sum(-1)
    std = ((logps.exp() * logps**2).sum(-1) - mean**2).clamp_min(0).sqrt()
    own = logps[torch.arange(len(tail)), torch.tensor(tail)]
    return own.numpy(), (logits.argmax(-1) == torch.tensor(tail)).numpy(), mean.numpy(), std.numpy()


def check(model, tokenizer, got, questions=QUESTIONS, answers=ANSWERS):
    assert [len(some) for some in got] == [len(some) for some in answers]
    for i, question in enumerate(questions):
        for j, answer in enumerate(answers[i]):
            logprobs, greedy, mean, std = one_by_one(model, tokenizer, question, answer)
            here = got[i][j]
            np.testing.assert_allclose(here.logprobs, logprobs, atol=1e-5)
            np.testing.assert_array_equal(here.greedy, greedy)
            np.testing.assert_allclose(here.mean, mean, atol=1e-5)
            np.testing.assert_allclose(here.std, std, atol=1e-5)
            assert here.loss == pytest.approx(-logprobs.mean(), abs=1e-5)
            assert here.logprobs.dtype == np.float64
            assert here.greedy.dtype == np.bool_


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_equals_scoring_one_by_one(name, tokenizer):
    model = tiny_model(name)
    check(model, tokenizer, HFModel(model, tokenizer).answer_likelihoods(QUESTIONS, ANSWERS))


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_batching_changes_nothing(rows, tokenizer):
    model = tiny_model()
    check(model, tokenizer, HFModel(model, tokenizer, batch_rows=rows).answer_likelihoods(QUESTIONS, ANSWERS))


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_answer_is_named(empty, tokenizer):
    with pytest.raises(InputError, match=r"answers\[1\]\[2\] is empty"):
        HFModel(tiny_model(), tokenizer).answer_likelihoods(["a", "b"], [["c"], ["a", "b", empty]])


def test_which_architectures_share_beginnings(tokenizer):
    """Attention over all tokens takes the mask of a tree; sliding windows and recurrent states do not."""
    for name in CONFIGS:
        sampler = HFModel(tiny_model(name), tokenizer)
        sampler.answer_likelihoods(QUESTIONS, ANSWERS)
        assert sampler._forward.trees == (name not in {"gemma3", "mistral", "mamba"})


def test_every_distinct_beginning_is_read_once():
    """x y z, x y w and x are the tokens before the last ones: x, y, z and w are four tokens, not six."""
    head, tails = [7, 8], [[2, 3, 4, 1], [2, 3, 5, 1], [2, 1], [2, 3, 4, 1]]
    (tree,) = plan(head, tails, share=True)
    assert tree.ids == [7, 8, 2, 3, 4, 5]
    laws = dict(tree.laws)
    assert [laws[i].tolist() for i in range(4)] == [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2], [1, 2, 3, 4]]
    sees, places = np.zeros((6, 6), dtype=bool), np.zeros(6, dtype=np.int64)
    tree.fill(sees, places)
    assert places.tolist() == [0, 1, 2, 3, 4, 4]
    assert sees[5].tolist() == [True, True, True, True, False, True]
    assert sees[4].tolist() == [True, True, True, True, True, False]
    assert [len(t.ids) for t in plan(head, tails, share=False)] == [3, 5, 5, 5]


@pytest.mark.parametrize("most", [1, 8, 12])
def test_long_trees_are_split(most, tokenizer, monkeypatch):
    monkeypatch.setattr(trees, "TREE_TOKENS", most)
    model = tiny_model()
    assert len(plan([2], [[2, 3, 4, 1], [3, 4, 5, 1], [4, 5, 2, 1]], share=True)) == {1: 3, 8: 2, 12: 1}[most]
    check(model, tokenizer, HFModel(model, tokenizer).answer_likelihoods(QUESTIONS, ANSWERS))


def test_few_logits_at_once_change_nothing(tokenizer, monkeypatch):
    monkeypatch.setattr(likelihoods, "CPU_READ", 13)
    model = tiny_model("gpt2")
    check(model, tokenizer, HFModel(model, tokenizer).answer_likelihoods(QUESTIONS, ANSWERS))


def test_one_answer_each_and_none(tokenizer):
    model = tiny_model()
    answers = [some[:1] for some in ANSWERS[:3]] + [[]]
    check(model, tokenizer, HFModel(model, tokenizer).answer_likelihoods(QUESTIONS, answers), answers=answers)


def test_a_model_that_forgets_the_mask_is_noticed(tokenizer, caplog):
    """Code from elsewhere may ignore a mask of four dimensions: then answers are read one by one."""
    model = tiny_model("qwen3")
    forward = model.forward

    def forgetful(input_ids=None, attention_mask=None, position_ids=None, **others):
        if attention_mask is not None and attention_mask.ndim == 4:
            attention_mask = None
        return forward(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **others)

    sampler = HFModel(model, tokenizer)
    model.forward = forgetful
    with caplog.at_level(logging.INFO, logger="leakbound"):
        got = sampler.answer_likelihoods(QUESTIONS, ANSWERS)
    assert "cannot read trees" in caplog.text
    check(tiny_model("qwen3"), tokenizer, got)


def test_a_model_that_refuses_the_mask_is_read_one_by_one(tokenizer):
    model = tiny_model()
    forward = model.forward

    def strict(input_ids=None, attention_mask=None, position_ids=None, **others):
        if attention_mask.ndim == 4:
            raise ValueError("attention_mask must have two dimensions")
        return forward(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **others)

    sampler = HFModel(model, tokenizer)
    model.forward = strict
    check(tiny_model(), tokenizer, sampler.answer_likelihoods(QUESTIONS, ANSWERS))


def test_memory_that_runs_out_halves_the_batch(tokenizer):
    model = tiny_model()
    forward, sizes = model.forward, []

    def small(input_ids=None, **others):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(input_ids=input_ids, **others)

    sampler = HFModel(model, tokenizer)
    sampler._forward.trees = False
    model.forward = small
    check(tiny_model(), tokenizer, sampler.answer_likelihoods(QUESTIONS, ANSWERS))
    assert max(sizes) > 2
    assert sampler._forward.rows <= 2


def test_a_token_that_cannot_be_drawn_and_logits_that_are_no_numbers(tokenizer):
    """A column of minus infinity counts as p log p = 0; NaN is an error."""
    model = tiny_model()
    head = model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.tensor([0, 0, 0, 0, 0, -torch.inf]), requires_grad=False)
    ((got,),) = HFModel(model, tokenizer).answer_likelihoods(["a"], [["b d"]])
    assert got.logprobs[1] == -np.inf
    assert np.isfinite(got.logprobs[[0, 2]]).all()
    logits = model(input_ids=torch.tensor([[2, 3, 5]])).logits[0, :, :5].detach().double()
    logps = logits.log_softmax(-1)
    np.testing.assert_allclose(got.mean, (logps.exp() * logps).sum(-1), atol=1e-5)
    head.bias = torch.nn.Parameter(torch.full((6,), torch.nan), requires_grad=False)
    with pytest.raises(ModelError, match="not finite"):
        HFModel(model, tokenizer).answer_likelihoods(["a"], [["b d"]])


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba"])
def test_gradient_norms_equal_backpropagation_by_hand(name, tokenizer):
    """float64 copy, loss.backward(), the norm of all gradients; frozen parameters count and stay frozen."""
    model = tiny_model(name, scale=1.0)
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    answers = [some[-1] for some in ANSWERS]
    got = HFModel(model, tokenizer).answer_gradient_norms(QUESTIONS, answers)
    assert not frozen.requires_grad
    assert all(p.grad is None for p in model.parameters())
    slow = copy.deepcopy(model).double() if name != "mamba" else copy.deepcopy(model)
    for question, answer, norm in zip(QUESTIONS, answers, got, strict=True):
        slow.requires_grad_(True).zero_grad()
        head, tail = tokenizer(question)["input_ids"], [*tokenizer(answer)["input_ids"], 1]
        logps = slow(input_ids=torch.tensor([[*head, *tail]])).logits[0].log_softmax(-1)
        places = range(len(head) - 1, len(head) + len(tail) - 1)
        (-sum(logps[at, token] for at, token in zip(places, tail, strict=True)) / len(tail)).backward()
        squares = sum(float((p.grad.double() ** 2).sum()) for p in slow.parameters() if p.grad is not None)
        assert norm == pytest.approx(squares**0.5, rel=1e-4)
