"""Prompts that are read where they lie: the same attention, the same laws, and less memory for a row."""

import threading

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, tiny_model
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from leakbound.models.hf import HFModel, budget, trunks, trying, walk
from leakbound.models.hf.prefixes import Prefixes
from leakbound.models.hf.segments import Segment
from leakbound.models.hf.trunks import Layer, Trunk, Trunks, attend
from leakbound.records import Prompt, SamplingParams, Shard

PROMPTS = (Prompt("0", "a b c d a b", "x"), Prompt("1", "a", "x"), Prompt("2", "b c a", "x"), Prompt("3", "d d", "x"))
SHARING = {"llama", "gpt2", "phi", "gpt_neox", "qwen3"}
"""The families whose cache keeps all tokens of all layers."""


class Module:
    is_causal, training = True, False

    def __init__(self, groups):
        self.num_key_value_groups = groups


@pytest.fixture
def always(monkeypatch):
    """Prompts are read where they lie however small they are."""
    monkeypatch.setattr(trunks, "SAVED", 0)
    monkeypatch.setattr(trying, "SAVED", 0)
    monkeypatch.setattr(trunks, "FEWEST_ROWS", 0)


@pytest.mark.parametrize("most", [2**21, 7])
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(("heads", "groups", "size", "other"), [(6, 2, 8, 8), (4, 4, 8, 5), (3, 1, 16, 16)])
def test_attention_is_that_over_whole_rows(monkeypatch, heads, groups, size, other, dtype, apart, most):
    """Against transformers' own over rows that hold their prompts: unequal prompts, unequal rows, any order."""
    monkeypatch.setattr(trunks, "SCORES", most)
    generator = torch.Generator().manual_seed(heads)

    def some(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float32).to(dtype)

    lengths, depth = [7, 1, 4], np.array([3, 1, 2, 3, 3, 1, 2])
    before, width = 5, 3
    numbers = before + groups * (size + other)
    every = [Trunk(some(length, numbers)) for length in lengths]
    rows = [every[i] for i in (2, 0, 0, 1, 2, 0, 2)]
    shared = Trunks.of(rows, torch.device("cpu"))
    assert sorted(shared.sizes) == [1, 3, 3]
    assert len(shared.trunks) == 3
    seen = shared.see(depth, width, 1)
    assert seen.sum(1).tolist() == depth.tolist()
    query, own = some(len(rows), heads, 1, size), some(len(rows), width, groups * (size + other))
    keys, values = own.split([groups * size, groups * other], -1)
    key, value = (x.unflatten(-1, (groups, -1)).transpose(1, 2) for x in (keys, values))
    key.trunks = Layer(shared, (before, groups, size), (before + groups * size, groups, other))
    found, _ = attend(Module(heads // groups), query, key, value, None, scaling=0.4)
    for i, (trunk, new) in enumerate(zip(rows, depth, strict=True)):
        whole = torch.cat([trunk.tokens[:, before:], own[i, width - new :]])
        keys, values = whole.split([groups * size, groups * other], -1)
        pair = (x.unflatten(-1, (groups, -1)).transpose(0, 1)[None].float() for x in (keys, values))
        right, _ = sdpa_attention_forward(Module(heads // groups), query[i : i + 1].float(), *pair, None, scaling=0.4)
        assert found.dtype == dtype
        torch.testing.assert_close(found[i].float(), right[0], rtol=0, atol=apart)


@pytest.mark.parametrize("new", [1, 4])
def test_no_more_scores_are_made_at_once_than_are_allowed(monkeypatch, new):
    """Whatever the prompt and the tokens that are read again are: else --memory would be broken."""
    heads, groups, size, width, depth = 6, 2, 8, 5, np.array([5, 4, 5])
    generator = torch.Generator().manual_seed(new)
    shared = Trunks.of([Trunk(torch.randn(40, 2 * groups * size, generator=generator))] * 3, torch.device("cpu"))
    shared.see(depth, width, new)
    query = torch.randn(3, heads, new, size, generator=generator)
    key, value = (torch.randn(3, groups, width, size, generator=generator) for _ in range(2))
    key.trunks = Layer(shared, (0, groups, size), (groups * size, groups, size))
    found, sizes, usual = [], [], trunks._mean
    monkeypatch.setattr(trunks, "_mean", lambda scores, values: sizes.append(scores.numel()) or usual(scores, values))
    for most in (2**30, 200, 1):
        monkeypatch.setattr(trunks, "SCORES", most)
        sizes.clear()
        found.append(attend(Module(heads // groups), query, key, value, None)[0])
        assert max(sizes) <= max(most, heads * 40)  # at least one new token of a row
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=1e-6)
    assert max(sizes) <= 2 * 40


def test_a_mask_of_the_models_own_is_refused():
    shared = Trunks.of([Trunk(torch.randn(4, 16))], torch.device("cpu"))
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 2, 8)
    key.trunks = Layer(shared, (0, 1, 8), (8, 1, 8))
    with pytest.raises(NotImplementedError, match="an attention mask of its own"):
        attend(Module(1), query, key, key, torch.zeros(1, 1, 1, 6))


def test_passes_of_other_threads_wait_and_the_attention_is_left_as_it_was():
    """Models that were made of one configuration share how their layers attend."""
    model = tiny_model()
    config, order = model.config.get_text_config(), []
    before = config._attn_implementation

    def other():
        with trunks.attending(model):
            order.append("other")

    with trunks.attending(model):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
    assert config._attn_implementation == before


def test_keys_without_prompts_are_read_as_ever():
    query, key, value = (torch.randn(2, heads, 3, 8) for heads in (4, 2, 2))
    found, _ = attend(Module(2), query, key, value, None)
    assert torch.equal(found, sdpa_attention_forward(Module(2), query, key, value, None)[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_draws_have_the_likelihoods_of_reading_them_whole(name, tokenizer, always):
    box = HFModel(tiny_model(name), tokenizer, template="{text}")
    params = SamplingParams(max_tokens=10)
    drawn = box.generations(Shard(PROMPTS, 0, 60, 3), params)
    assert box._forward.sharing == (name in SHARING)
    if name in SHARING:
        assert box._forward.bench.trunks is not None
    assert any(g.num_tokens == 10 for some in drawn for g in some)
    for prompt, some in zip(PROMPTS, drawn, strict=True):
        forced = box.logprobs([prompt] * len(some), [g.tokens for g in some], params)
        assert np.allclose(forced, [g.logprob for g in some], atol=2e-4, rtol=0)
    found = box.distinct(PROMPTS, 20, params, seed=1)
    for prompt, some in zip(PROMPTS, found, strict=True):
        forced = box.logprobs([prompt] * len(some), [g.tokens for g in some], params)
        assert np.allclose(forced, [g.logprob for g in some], atol=2e-4, rtol=0)


def test_rows_on_both_layouts_take_turns(tokenizer, always, monkeypatch):
    """What was copied is read where it lies in the next pass, and the other way round."""
    box, turn = HFModel(tiny_model(), tokenizer, template="{text}"), iter(range(10**6))
    monkeypatch.setattr(box._forward, "shares", lambda batch, **_: bool(next(turn) % 2) and batch[0].cache is not None)
    params = SamplingParams(max_tokens=10)
    for prompt, some in zip(PROMPTS, box.generations(Shard(PROMPTS, 0, 60, 3), params), strict=True):
        forced = box.logprobs([prompt] * len(some), [g.tokens for g in some], params)
        assert np.allclose(forced, [g.logprob for g in some], atol=2e-4, rtol=0)


def forgets(module, query, key, value, mask, **kwargs):
    """An architecture that makes new keys of those of its cache: the prompts are lost on the way."""
    return attend(module, query, key.clone(), value, mask, **kwargs)


def caps(module, query, key, value, mask, **kwargs):
    """One whose scores are capped."""
    return attend(module, query, key, value, mask, **kwargs, softcap=30.0)


@pytest.mark.parametrize("attention", [forgets, caps])
def test_an_attention_that_cannot_share_is_found_out(attention, tokenizer, always, monkeypatch):
    monkeypatch.setitem(AttentionInterface._global_mapping, trunks.NAME, attention)
    box = HFModel(tiny_model(), tokenizer, template="{text}")
    before = box.model.config._attn_implementation
    draws = box.sample(Shard(PROMPTS, 0, 20, 3), SamplingParams(max_tokens=6))
    assert box._forward.sharing is False
    assert box.model.config._attn_implementation == before
    monkeypatch.undo()
    usual = HFModel(tiny_model(), tokenizer, template="{text}")
    assert [(d.text, d.count) for d in draws] == [
        (d.text, d.count) for d in usual.sample(Shard(PROMPTS, 0, 20, 3), SamplingParams(max_tokens=6))
    ]


@torch.inference_mode()
def test_a_row_behind_a_long_prompt_takes_room_for_its_own_tokens_alone(tokenizer, always, monkeypatch):
    """So a batch holds as many as behind a short one."""
    box = HFModel(tiny_model("gpt2"), tokenizer, template="{text}", memory=10**12)
    box.check(PROMPTS, SamplingParams(max_tokens=4))
    forward, long = box._forward, [2] * 40
    root = forward.run([Segment(Prefixes.roots([long], [0], 1, 0))])
    rows = np.zeros(8, dtype=np.int64)
    none = np.zeros(8)
    children = root.prefixes.children(rows, rows + 2, none, none, rows + 1, np.arange(8))
    segment = root.segment(children, rows)
    forward.budget.room = 4 * forward._row(41, 1)
    assert forward.shares([segment])
    shared = forward.fitting([segment])
    forward.sharing = False
    assert shared > 1.5 * forward.fitting([segment])
    forward.sharing = True
    monkeypatch.setattr(trunks, "FEWEST_ROWS", 100)  # copies would be faster, and have no room
    assert not forward.shares([segment])
    for room, copied in ((forward.budget.room, False), (1e9, True)):
        forward.budget.room = room
        forward.run([segment])
        assert (forward.bench.trunks is None) == copied


@pytest.mark.parametrize("pasts", [0.03, 1e-9])
def test_rows_that_were_forgotten_are_read_again_behind_their_prompts(tokenizer, always, monkeypatch, pasts):
    """Where there is room for these; else with them. The laws stay the same."""
    monkeypatch.setattr(budget, "free_bytes", lambda device: 500_000.0)
    box = HFModel(tiny_model(), tokenizer, template="{text}", batch_rows=8)
    box.check(PROMPTS, SamplingParams(max_tokens=10))
    monkeypatch.setattr(walk, "PASTS", pasts)
    monkeypatch.setattr(box._forward, "beginning", lambda width: 1)
    read, ask = [], box._forward.ask
    monkeypatch.setattr(box._forward, "ask", lambda inputs: (read.append(inputs["input_ids"].shape[1]), ask(inputs))[1])
    params = SamplingParams(max_tokens=10)
    drawn = box.generations(Shard(PROMPTS, 0, 30, 3), params)
    assert (max(read) > 10) == (pasts < 1e-3)  # tokens of a prompt and of an answer, or of an answer alone
    assert len(set(read)) > 2
    for prompt, some in zip(PROMPTS, drawn, strict=True):
        forced = box.logprobs([prompt] * len(some), [g.tokens for g in some], params)
        assert np.allclose(forced, [g.logprob for g in some], atol=2e-4, rtol=0)
