"""The evidence from a real model, its mean summed over all answers: at most 1 under every honest law."""

import itertools
import math

import numpy as np
import pytest
import torch
from tiny_models import SMALL, tiny_model, word_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from leakbound.bounds.attested import SLACK, token_evidence
from leakbound.models.hf import HFModel, attested
from leakbound.models.hf.attested import FORMATS, forced_answers, rounded
from leakbound.models.hf.faults import faults
from leakbound.models.hf.learnt import LEARNT, STRENGTH, learnt
from leakbound.records import Prompt, SamplingParams

END, WORDS = 1, 6
ANSWERS = [(END,), *((a, b) for a, b in itertools.product(range(WORDS), repeat=2) if a != END)]
PROMPT = Prompt("p", "a b", "c")


@pytest.fixture(scope="module")
def model():
    return HFModel(tiny_model(scale=2.0), word_tokenizer(), template="raw")


def honest(rng, laws, distance):
    """A law for each beginning within a root chi-square distance of the stated one."""
    found = {}
    for past, p in laws.items():
        step = rng.normal(size=WORDS) * np.sqrt(p)
        step -= p * step.sum()
        step *= distance / math.sqrt((step**2 / p).sum())
        while (p + step).min() < 0:
            step *= 0.9
        found[past] = p + step
    return found


@pytest.mark.parametrize(("top", "bins"), [(256, 32), (2, 2), (1, 1)])
@pytest.mark.parametrize(
    "params", [SamplingParams(max_tokens=2), SamplingParams(max_tokens=2, temperature=0.8, top_k=4)]
)
@pytest.mark.slow
def test_the_mean_over_all_answers_is_at_most_one(model, monkeypatch, top, bins, params):
    """Each answer is read alone: cells that knew its next token would show here."""
    monkeypatch.setattr(attested, "TOP", top)
    monkeypatch.setattr(attested, "BINS", bins)
    forward, head = model._forward, model._encode([PROMPT])[0]
    laws, ends = faults(params, model._ends), model._ends
    others = {"elsewhere": (forward, [*head, 2])}
    earlier = {(END,): 3, (0, 2): 25, (3, 3): 7}
    read = {y: forced_answers(forward, head, [y], ends, params, laws, others, earlier, slack=SLACK)[0] for y in ANSWERS}
    assert top < 256 or read[(0, 2)].factors[LEARNT] > 0 > read[(4, 4)].factors[LEARNT]
    p = {(): np.zeros(WORDS), **{(a,): np.zeros(WORDS) for a in range(WORDS) if a != END}}
    for y, x in read.items():
        for t, token in enumerate(y):
            p[y[:t]][token] = math.exp(x.logprobs[t])
    assert all(abs(law.sum() - 1) < 1e-5 for law in p.values())
    rng = np.random.default_rng(1)
    for q in (p, honest(rng, p, SLACK), honest(rng, p, SLACK)):
        for name in read[(END,)].factors:
            mean = sum(
                math.prod(q[y[:t]][token] for t, token in enumerate(y)) * math.exp(x.factors[name])
                for y, x in read.items()
            )
            assert mean <= 1 + 1e-5, name


def test_a_batch_gives_what_each_answer_gives_alone(model):
    params = SamplingParams(max_tokens=2)
    together = model.attested(PROMPT, ANSWERS, params, slack=SLACK)
    for i, (y, x) in enumerate(zip(ANSWERS, together, strict=True)):
        alone = model.attested(PROMPT, [y], params, slack=SLACK, earlier=dict.fromkeys(ANSWERS[:i], 1))[0]
        assert np.allclose(alone.logprobs, x.logprobs, atol=1e-4)
        assert alone.factors == pytest.approx(dict(x.factors), abs=1e-3)


def test_what_earlier_answers_let_expect(monkeypatch):
    """By hand: ranks 0 and 1 and the others are cells; a token that never came keeps its share of its cell."""
    monkeypatch.setattr("leakbound.models.hf.learnt.STARTS", (0, 1))
    stated = np.array([[0.5, 0.2, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1]])
    top = np.array([[7, 5, 3], [1, 2, 3], [7, 5, 3]])
    law = learnt(stated, top, [(5, 2), (9,)], {(7, 1): 3, (3,): 1})
    n = STRENGTH
    first = np.array(
        [(3 + n / 2) / (4 + n), (1 + n * 0.4) / (4 + n) / 2, (1 + n * 0.4) / (4 + n) / 2, n / 10 / (4 + n)]
    )
    assert law[0] == pytest.approx(first)
    assert law[1].tolist() == stated[1].tolist()  # nothing came behind 5
    again = np.array(
        [(3 + n / 2) / (5 + n), (2 + n * 0.4) / (5 + n) / 2, (2 + n * 0.4) / (5 + n) / 2, n / 10 / (5 + n)]
    )
    assert law[2] == pytest.approx(again)  # and the answer before it
    assert learnt(np.array([[0.0, 0.9, 0.1]]), np.array([[0, 1]]), [(1,)], {(0,): 2})[0].tolist() == pytest.approx(
        [0, 0.9 * n / (2 + n), 0.1 * n / (2 + n)]
    )


def test_what_costs_another_reading_can_be_left_out(model):
    params = SamplingParams(max_tokens=2)
    every = model.attested(PROMPT, ANSWERS[:2], params, slack=SLACK)[0].factors
    assert {"template qa", "weights in 4 bits, Q4_0", "temperature 0.9", "other weights"} <= set(every)
    fewer = model.attested(PROMPT, ANSWERS[:2], params, slack=SLACK, without=frozenset({"template qa"}))[0].factors
    assert every["template qa"] != 0
    assert fewer["template qa"] == 0
    assert set(every) == set(fewer)  # the list of alternatives is fixed, and so are their weights


def test_four_bits_are_those_of_the_formats():
    """Two weights by hand, the others 0; and a model whose last layer and embeddings stay as they are."""
    weights = torch.zeros(1, 32)
    weights[0, :3] = torch.tensor([-4.0, 0.7, 1.3])  # steps of .5, halves rounded up
    assert FORMATS["Q4_0"][1](weights)[0, :4].tolist() == [-4.0, 0.5, 1.5, 0.0]
    weights = torch.zeros(1, 64)
    weights[0, :3] = torch.tensor([-2.0, 1.2, 1.4])
    assert FORMATS["NF4"][1](weights)[0, :4].tolist() == pytest.approx([-2.0, 2 * 0.562617, 2 * 0.7229568, 0.0])
    model = LlamaForCausalLM(LlamaConfig(**SMALL | {"hidden_size": 64}, intermediate_size=64, num_key_value_heads=1))
    for form in FORMATS:
        other = rounded(model, form)
        same = {k: torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items()}
        assert {k for k, equal in same.items() if not equal} == {k for k in same if "_proj" in k}


def test_coarser_cells_are_no_further_apart():
    """Data processing: what the correction on cells may assume. Merging tokens never raises the distance."""
    rng = np.random.default_rng(2)
    for _ in range(200):
        p, q = rng.dirichlet(np.ones(8), 2)
        cell = rng.integers(0, 3, 8)
        coarse = [np.bincount(cell, weights=law, minlength=3) for law in (p, q)]
        fine = ((q - p) ** 2 / p).sum()
        kept = coarse[0] > 0
        assert ((coarse[1] - coarse[0])[kept] ** 2 / coarse[0][kept]).sum() <= fine + 1e-12
        r = np.bincount(cell, weights=rng.dirichlet(np.ones(8)), minlength=3)
        if kept.all():
            rows = np.zeros(8, dtype=int)
            factors = np.exp(token_evidence(coarse[0][None], r[None], rows, cell, slack=math.sqrt(fine)))
            assert (q * factors).sum() <= 1 + 1e-9
