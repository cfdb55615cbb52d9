"""The parts of the engine: draws without replacement, beams, exact probabilities, memory, slower paths."""

import itertools
import logging
import math

import numpy as np
import pytest
import torch
from enumerated import FALSE_ALARM, PROMPTS, chi_square_p, enumerate_law, key
from scipy.stats import chi2
from tiny_models import CONFIGS, WORDS, tiny_model

from leakbound.models.base import WhiteBox
from leakbound.models.hf import HFModel
from leakbound.models.hf import forward as forward_module
from leakbound.models.hf.search import edit_row
from leakbound.records import Prompt, SamplingParams, Shard

OPTIONS = {
    "all filters": SamplingParams(max_tokens=3, temperature=1.3, top_k=4, top_p=0.95, min_p=0.1),
    "min-p": SamplingParams(max_tokens=3, min_p=0.2),
    "stop": SamplingParams(max_tokens=4, stop=("b", "c a")),
}


def stopped_law(model, ids, params):
    """{(text, reason): probability} with stop strings: a completion ends with the first token that completes one."""
    law = {}
    for tokens, p in enumerate_law(model, ids, SamplingParams(**{**vars(params), "stop": ()})).items():
        name = key(tokens)
        for k in range(1, len(tokens) + 1):
            text = " ".join(WORDS[t] for t in tokens[:k] if t > 1)
            cuts = [text.find(stop) for stop in params.stop if stop in text]
            if cuts:
                name = text[: min(cuts)], "stop"
                break
        law[name] = law.get(name, 0) + p
    return law


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_on_every_architecture_draws_from_its_exact_law(name, option, tokenizer):
    model, params, n = tiny_model(name), OPTIONS[option], 3000
    sampler = HFModel(model, tokenizer, batch_rows=7)
    draws = sampler.sample(Shard(PROMPTS, 0, n, 1), params)
    for prompt in PROMPTS:
        law = stopped_law(model, tokenizer(prompt.text)["input_ids"], params)
        counts = {}
        for d in (d for d in draws if d.prompt_id == prompt.id):
            counts[d.text, d.finish_reason] = counts.get((d.text, d.finish_reason), 0) + d.count
        assert sum(counts.values()) == n
        assert set(counts) <= set(law)
        assert chi_square_p(counts, law, n) > FALSE_ALARM


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "mamba"])
def test_all_of_a_tree_comes_without_replacement(name, tokenizer):
    """With room for every leaf, each comes once, with its exact probability."""
    model, params = tiny_model(name), SamplingParams(max_tokens=3, top_k=4)
    box = HFModel(model, tokenizer, batch_rows=5)
    assert isinstance(box, WhiteBox)
    for prompt, found in zip(PROMPTS, box.distinct(PROMPTS, 200, params, 0), strict=True):
        law = enumerate_law(model, tokenizer(prompt.text)["input_ids"], params)
        assert len(law) <= 200
        assert {g.tokens: pytest.approx(math.exp(g.logprob), abs=1e-5) for g in found} == law
        assert sum(math.exp(g.logprob) for g in found) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_order_is_plackett_luce_by_brute_force(tokenizer):
    """Four leaves or so, 3000 independent orders: chi-square against the product of renormalised probabilities."""
    model, params = tiny_model(), SamplingParams(max_tokens=2, top_k=2)
    runs = [Prompt(str(i), "a b", "c") for i in range(3000)]
    law = enumerate_law(model, tokenizer("a b")["input_ids"], params)
    assert 3 <= len(law) <= 4
    expected = {}
    for order in itertools.permutations(law):
        p, rest = 1.0, 1.0
        for leaf in order:
            p *= law[leaf] / rest
            rest -= law[leaf]
        expected[order] = p
    counts = dict.fromkeys(expected, 0)
    box = HFModel(model, tokenizer)
    for start in range(0, len(runs), 250):
        for found in box.distinct(runs[start : start + 250], 4, params, 0):
            counts[tuple(g.tokens for g in found)] += 1
    statistic = sum((counts[o] - 3000 * p) ** 2 / (3000 * p) for o, p in expected.items())
    assert chi2.sf(statistic, len(expected) - 1) > FALSE_ALARM
    wrong = sum((counts[o] - 3000 / len(law)) ** 2 / (3000 / len(law)) for o in expected)
    assert chi2.sf(wrong, len(expected) - 1) < FALSE_ALARM  # the test can fail


def test_first_of_the_order_has_the_law_itself(tokenizer):
    model, params = tiny_model(), SamplingParams(max_tokens=3)
    runs = [Prompt(str(i), "a b", "c") for i in range(2000)]
    law = enumerate_law(model, tokenizer("a b")["input_ids"], params)
    counts = {}
    for start in range(0, 2000, 500):
        for found in HFModel(model, tokenizer).distinct(runs[start : start + 500], 1, params, 3):
            counts[found[0].tokens] = counts.get(found[0].tokens, 0) + 1
    assert chi_square_p(counts, law, 2000) > FALSE_ALARM


def test_more_generations_begin_with_the_fewer_however_they_are_batched(tokenizer):
    model, params = tiny_model(), SamplingParams(max_tokens=5)
    long = HFModel(model, tokenizer).distinct(PROMPTS, 50, params, 0)
    for rows in (1, 2, 3, 7):
        short = HFModel(model, tokenizer, batch_rows=rows).distinct(PROMPTS[:1], 10, params, 0)
        assert [g.tokens for g in long[0][:10]] == [g.tokens for g in short[0]]
        for one, other in zip(long[0], short[0], strict=False):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    other = HFModel(model, tokenizer).distinct(PROMPTS[:1], 10, params, 1)
    assert [g.tokens for g in other[0]] != [g.tokens for g in short[0]]


def test_stop_strings_without_replacement(tokenizer):
    model, params = tiny_model(), OPTIONS["stop"]
    law = stopped_law(model, tokenizer("a b")["input_ids"], params)
    got = {}
    for g in HFModel(model, tokenizer).distinct(PROMPTS[:1], 2000, params, 0)[0]:
        got[g.text, g.finish_reason] = got.get((g.text, g.finish_reason), 0) + math.exp(g.logprob)
    assert got == {k: pytest.approx(v, abs=1e-5) for k, v in law.items()}


@pytest.mark.parametrize(
    "params", [SamplingParams(max_tokens=4), SamplingParams(max_tokens=4, top_k=3, temperature=0.7)]
)
def test_probability_of_a_beginning_is_the_sum_of_its_leaves(params, tokenizer):
    model = tiny_model()
    box = HFModel(model, tokenizer, template="raw")
    law = enumerate_law(model, tokenizer("a b")["input_ids"], params)
    begins = [(2,), (4, 5), (3, 3, 2), (1,), (5, 4, 3, 2), (2, 1), (1, 2), (2,) * 5]
    got = np.exp(box.logprobs([PROMPTS[0]] * len(begins), begins, params))
    for tokens, p in zip(begins, got, strict=True):
        assert p == pytest.approx(sum(q for t, q in law.items() if t[: len(tokens)] == tokens), abs=1e-5)
    assert box.target_tokens(PROMPTS[0], "c d") == (4, 5)


def test_nothing_is_found_behind_a_stop_string(tokenizer):
    box = HFModel(tiny_model(), tokenizer, template="raw")
    params = SamplingParams(max_tokens=4, stop=("b",))
    got = box.logprobs([PROMPTS[0]] * 2, [(2, 3, 4), (2, 3)], params)
    assert got[0] == -math.inf
    assert got[1] > -math.inf


def test_near_verbatim_mass_is_exact_with_a_wide_beam_and_lower_with_a_narrow_one(tokenizer):
    model, params = tiny_model(), SamplingParams(max_tokens=4)
    box = HFModel(model, tokenizer, template="raw")
    for prompt in PROMPTS:
        law = enumerate_law(model, tokenizer(prompt.text)["input_ids"], params)
        for target, most in [((4, 5, 2), 1), ((3, 3, 2), 0), ((2, 5), 1)]:
            truth = 0.0
            for tokens, p in law.items():
                spoken = [t for t in tokens if t != 1][: len(target)]
                truth += p * (edit_row(np.array(spoken, dtype=int), np.array(target))[-1] <= most)
            masses = []
            for width in (2, 500):
                (found,) = box.near_verbatim([prompt], [target], [most], params, width)
                masses.append(sum(math.exp(g.logprob) for g in found))
                assert len({g.tokens for g in found}) == len(found)
            assert masses[1] == pytest.approx(truth, abs=1e-5)
            assert masses[0] <= masses[1] + 1e-9


def test_edit_distances():
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    rng = np.random.default_rng(0)
    for _ in range(40):
        a, b = rng.integers(0, 3, rng.integers(0, 6)).tolist(), rng.integers(0, 3, rng.integers(1, 6)).tolist()
        assert edit_row(np.array(a, dtype=int), np.array(b))[-1] == slow(tuple(a), tuple(b))


def test_out_of_memory_in_a_search_halves_the_batch(tokenizer, monkeypatch):
    params = SamplingParams(max_tokens=5)
    expected = HFModel(tiny_model(), tokenizer).distinct(PROMPTS, 20, params, 0)
    run = forward_module.Forward.run

    def scarce(self, segments):
        if sum(map(len, segments)) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return run(self, segments)

    monkeypatch.setattr(forward_module.Forward, "run", scarce)
    got = HFModel(tiny_model(), tokenizer).distinct(PROMPTS, 20, params, 0)
    assert [[g.tokens for g in some] for some in got] == [[g.tokens for g in some] for some in expected]


def test_other_errors_are_not_taken_for_memory(tokenizer, monkeypatch):
    def broken(self, segments):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(forward_module.Forward, "run", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        HFModel(tiny_model(), tokenizer).sample(Shard(PROMPTS, 0, 5, 0), SamplingParams())


def test_slower_paths_are_named(tokenizer, caplog):
    with caplog.at_level(logging.INFO, logger="leakbound"):
        HFModel(tiny_model("mamba"), tokenizer)
        HFModel(tiny_model("mistral"), tokenizer)
        HFModel(tiny_model("llama"), tokenizer)
    assert "MambaForCausalLM keeps no cache" in caplog.text
    assert "MistralForCausalLM has a cache that cannot be joined" in caplog.text
    assert "Llama" not in caplog.text


@pytest.mark.slow
def test_a_full_batch_from_many_prompts(tokenizer):
    """Rows of different prompts, lengths and depths share the passes: few more passes than rows would fill."""
    many = tuple(Prompt(str(i), " ".join("abcd"[: 1 + i % 4]), "c") for i in range(40))
    box = HFModel(tiny_model(scale=1.0), tokenizer, batch_rows=64)
    box.sample(Shard(many, 0, 50, 0), SamplingParams(max_tokens=10))
    assert box.work.rows / box.work.passes > 0.8 * 64


def test_uniform_cdf_search_never_picks_what_cannot_be_drawn():
    from leakbound.models.hf.law import NextToken

    logits = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf]])
    law = NextToken.from_logits(logits, SamplingParams())
    u = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert law.pick(u, torch.zeros(5, dtype=torch.int64)).tolist() == [0, 0, 2, 2, 2]
