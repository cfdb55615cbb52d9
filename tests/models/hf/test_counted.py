"""Draws that are only counted: their law, what they cost, and that nothing but the inputs decides them."""

import math

import numpy as np
import pytest
from enumerated import FALSE_ALARM, PROMPTS, chi_square_p, enumerate_law, key
from scipy.stats import binom, chi2
from tiny_models import CONFIGS, tiny_model

from leakbound.models.hf import HFModel
from leakbound.models.hf import model as model_module
from leakbound.models.hf.counted import FEW, split
from leakbound.models.randomness import of_prefix
from leakbound.records import Branch, SamplingParams, Shard

WARPED = SamplingParams(max_tokens=4, temperature=1.5, top_k=3, top_p=0.9)


def count(sampler, n, params, seed=0, prompts=PROMPTS):
    """All draws, and after how many sittings."""
    shard, draws, open = Shard(prompts, 0, n, seed), [], [Branch(p.id, (), n) for p in prompts]
    sittings = 0
    while open:
        found, open = sampler.count(shard, params, open)
        draws, sittings = draws + found, sittings + 1
        assert sum(d.count for d in draws) + sum(b.count for b in open) == n * len(prompts)
    return draws, sittings


def table(draws, prompt_id):
    counts = {}
    for d in (d for d in draws if d.prompt_id == prompt_id):
        counts[d.text, d.finish_reason] = counts.get((d.text, d.finish_reason), 0) + d.count
    return counts


def merged(model, tokenizer, prompt, params):
    law = {}
    for tokens, p in enumerate_law(model, tokenizer(prompt.text)["input_ids"], params).items():
        law[key(tokens)] = law.get(key(tokens), 0) + p
    return law


@pytest.mark.parametrize("n", [40, 5000, 10**8])
@pytest.mark.parametrize("params", [SamplingParams(max_tokens=3), SamplingParams(max_tokens=3, min_p=0.3), WARPED])
def test_counts_have_the_enumerated_law(n, params, tokenizer):
    model = tiny_model()
    draws, _ = count(HFModel(model, tokenizer), n, params)
    for prompt in PROMPTS:
        law, counts = merged(model, tokenizer, prompt, params), table(draws, prompt.id)
        assert sum(counts.values()) == n
        assert set(counts) <= set(law)
        assert chi_square_p(counts, law, n) > FALSE_ALARM
    assert all(d.places is None for d in draws)


@pytest.mark.parametrize("name", [n for n in CONFIGS if n != "llama"])
def test_every_architecture_counts_by_its_law(name, tokenizer):
    model, params = tiny_model(name), SamplingParams(max_tokens=3)
    draws, _ = count(HFModel(model, tokenizer), 3000, params)
    for prompt in PROMPTS:
        assert chi_square_p(table(draws, prompt.id), merged(model, tokenizer, prompt, params), 3000) > FALSE_ALARM


@pytest.mark.slow
def test_counts_vary_between_seeds_as_those_of_independent_draws(tokenizer):
    """One completion's counts over 300 seeds have the spread of Binomial(n, p): too even counts would be found too."""
    sampler, params, n, runs = HFModel(tiny_model(), tokenizer), SamplingParams(max_tokens=2, top_k=3), 500, 300
    law = merged(sampler.model, tokenizer, PROMPTS[0], params)
    most = max(law, key=law.get)
    found = [table(count(sampler, n, params, seed, PROMPTS[:1])[0], "p").get(most, 0) for seed in range(runs)]
    p = law[most]
    spread = sum((k - n * p) ** 2 for k in found) / (n * p * (1 - p))  # near chi-square of 300: kurtosis is below 0
    assert chi2.ppf(1e-9, runs) < spread < chi2.isf(1e-9, runs)
    keyed = sampler.sample(Shard(PROMPTS[:1], 0, n * runs, 0), params)
    pooled, drawn = sum(found), sum(d.count for d in keyed if (d.text, d.finish_reason) == most)
    assert abs(pooled - drawn) < 6.2 * math.sqrt(2 * n * runs * p * (1 - p))  # false alarm 6e-10


def test_one_row_for_each_distinct_prefix_whatever_the_number_of_draws(tokenizer):
    sampler = HFModel(tiny_model(), tokenizer)
    draws, _ = count(sampler, 10**12, SamplingParams(max_tokens=3, top_k=2), prompts=PROMPTS[:1])
    assert sum(d.count for d in draws) == 10**12
    assert sampler.work.rows <= 1 + 2 + 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "temperature"), [("llama", 1), ("mistral", 1), ("gemma3", 30), ("mamba", 1e4)])
def test_batches_and_sittings_change_nothing(name, temperature, tokenizer, monkeypatch):
    params, usual = SamplingParams(max_tokens=5, temperature=temperature), HFModel(tiny_model(name), tokenizer)
    together, _ = count(usual, 300, params)
    small = HFModel(tiny_model(name), tokenizer, batch_rows=2)
    monkeypatch.setattr(model_module, "SITTING", 1e-9)
    small._forward.budget.seconds = lambda rows, tokens: 1.0
    alone, sittings = count(small, 300, params)
    assert sittings > 5

    def rows(draws):
        return sorted((d.prompt_id, d.text, d.finish_reason, d.count, d.num_tokens) for d in draws)

    assert rows(together) == rows(alone)
    for prompt in PROMPTS:  # a neighbour is none of its business
        assert rows(count(usual, 300, params, prompts=(prompt,))[0]) == [
            row for row in rows(together) if row[0] == prompt.id
        ]


@pytest.mark.parametrize("mode", ["prompt", "sequence", "token"])
def test_adaptive_decoding_goes_on_where_it_was(mode, tokenizer, monkeypatch):
    params = SamplingParams(max_tokens=4, adaptive_temperature=0.3, adaptive_mode=mode)
    once, _ = count(HFModel(tiny_model(), tokenizer), 400, params)
    monkeypatch.setattr(model_module, "SITTING", 1e-9)
    small = HFModel(tiny_model(), tokenizer, batch_rows=1)
    small._forward.budget.seconds = lambda rows, tokens: 1.0
    often, _ = count(small, 400, params)
    assert [table(once, p.id) for p in PROMPTS] == [table(often, p.id) for p in PROMPTS]


def splits(weights, n, times):
    """Counts of tokens in so many splits, (times, tokens)."""
    steps, found = np.concatenate([[0.0], np.cumsum(weights)]), np.zeros((times, len(weights)), dtype=np.int64)
    for i in range(times):
        tokens, counts = split(steps, n, of_prefix(i, "p", 0, ()))
        assert (np.diff(tokens) > 0).all()
        found[i, tokens] = counts
    assert (found.sum(axis=1) == n).all()
    return found


@pytest.mark.parametrize("n", [1, FEW, FEW + 1, 10**3, 10**9])
def test_a_split_is_multinomial(n):
    """Means, and the spread of every sum of neighbours: 2000 splits, false alarm 2e-9 each of about 50."""
    weights, times = np.array([0.3, 0.0, 0.2, 1e-12, 0.05, 0.15, 0.0, 0.3]) * 0.7, 2000
    found, p = splits(weights, n, times), weights / weights.sum()
    assert not found[:, p == 0].any()
    for a in range(8):
        for b in range(a + 1, 9):
            k, q = found[:, a:b].sum(axis=1), p[a:b].sum()
            if q * n * times < 1e-3:
                assert not k.any()
            elif 0.01 < q < 0.99:
                assert abs(k.mean() - n * q) < 6 * math.sqrt(n * q * (1 - q) / times)
                kurtosis = 2 + max(0.0, 1 / (n * q * (1 - q)) - 6 / n)
                error = 7 * math.sqrt(kurtosis / times)
                assert abs(((k - n * q) ** 2).mean() / (n * q * (1 - q)) - 1) < error


def test_a_rare_token_keeps_its_rate():
    """10^9 draws, a token of 3e-9: 3 a split, a Poisson's mean and zeros."""
    found = splits(np.array([0.5, 3e-9, 0.5]), 10**9, 2000)[:, 1]
    assert abs(found.sum() - 6000) < 6.2 * math.sqrt(6000)
    zeros = int((found == 0).sum())
    assert binom.sf(zeros - 1, 2000, math.exp(-3)) > 1e-9
    assert binom.cdf(zeros, 2000, math.exp(-3)) > 1e-9
