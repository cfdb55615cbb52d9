"""Losses of log-probabilities against numbers by hand and slow restatements of their formulas in float64."""

import math

import pytest
import torch
from slow_losses import LABELS, answer_tokens, random_logits, same, sigmoid, slow_logps, slow_softmax

from leakbound.unlearning import losses
from leakbound.unlearning.data import IGNORED

LOGPS = torch.tensor([-3.0, -10.0, -0.5]).double()
REFS = torch.tensor([-2.0, -1.0, -4.0]).double()
OTHERS = torch.tensor([-20.0, -9.0, -7.5]).double()
OTHER_REFS = torch.tensor([-30.0, -9.5, -2.0]).double()
LENGTHS = torch.tensor([3, 1, 5])


def test_nll_and_grad_ascent_by_hand():
    logps, lengths = torch.tensor([-6.0, -1.0]), torch.tensor([3, 2])
    assert losses.nll(logps, lengths).tolist() == [2.0, 0.5]
    assert losses.grad_ascent(logps, lengths).tolist() == [-2.0, -0.5]


def test_npo_by_hand():
    # beta = 1 and a ratio p / p_ref of 1, 3 and 1/3: sigmoid(-ln ratio) = 1/2, 1/4, 3/4
    logps = torch.tensor([0.0, math.log(3), -math.log(3)])
    expected = [2 * math.log(2), 2 * math.log(4), 2 * math.log(4 / 3)]
    assert losses.npo(logps, torch.zeros(3), beta=1.0).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_npo_equals_the_published_formula_in_losses(beta):
    logps, ref = torch.tensor([-3.0, -10.0, -0.5]).double(), torch.tensor([-2.0, -1.0, -4.0]).double()
    slow = [
        -(2 / beta) * math.log(1 / (1 + math.exp(-beta * (-lp - -r))))
        for lp, r in zip(logps.tolist(), ref.tolist(), strict=True)
    ]  # with l = -log p: -(2/beta) log sigmoid(beta (l - l_ref))
    assert losses.npo(logps, ref, beta=beta).tolist() == pytest.approx(slow, abs=1e-12)


def test_npo_at_the_reference_pushes_like_gradient_ascent_and_fades_below_it():
    logps = torch.tensor([-5.0, -50.0], requires_grad=True)
    losses.npo(logps, torch.tensor([-5.0, -5.0]), beta=0.1).sum().backward()
    at, below = logps.grad.tolist()
    assert at == pytest.approx(1.0)
    assert below == pytest.approx(2 / (1 + math.exp(0.1 * 45)), rel=1e-5)


@pytest.mark.parametrize(("beta", "gamma"), [(2.5, 0.0), (4.5, 0.125), (0.1, 1.0)])
def test_simnpo(beta, gamma):
    slow = [
        -(2 / beta) * math.log(sigmoid(beta * (-lp / n - gamma)))
        for lp, n in zip(LOGPS.tolist(), [3, 1, 5], strict=True)
    ]
    same(losses.simnpo(LOGPS, LENGTHS, beta=beta, gamma=gamma), slow)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dpo(beta):
    quadruples = zip(LOGPS.tolist(), REFS.tolist(), OTHERS.tolist(), OTHER_REFS.tolist(), strict=True)
    slow = [-(2 / beta) * math.log(sigmoid(beta * ((o - lp) - (oref - ref)))) for lp, ref, o, oref in quadruples]
    same(losses.dpo(LOGPS, REFS, OTHERS, OTHER_REFS, beta=beta), slow)


def test_dpo_starts_at_two_over_beta_times_ln_two():
    assert losses.dpo(LOGPS, LOGPS, OTHERS, OTHERS, beta=0.5).tolist() == pytest.approx([4 * math.log(2)] * 3)


def test_answer_preservation_and_its_gradient_weight():
    beta = 0.1
    slow = [
        -(1 / beta) * math.log(sigmoid(beta * (-o - -lp)))
        for lp, o in zip(LOGPS.tolist(), OTHERS.tolist(), strict=True)
    ]
    same(losses.answer_preservation(LOGPS, OTHERS, beta=beta), slow)  # with l = -log p: l(y'|x) - l(y|x)
    logps = LOGPS.clone().requires_grad_()
    losses.answer_preservation(logps, OTHERS, beta=beta).sum().backward()
    weights = [
        1 / (1 + (math.exp(lp) / math.exp(o)) ** beta) for lp, o in zip(LOGPS.tolist(), OTHERS.tolist(), strict=True)
    ]
    assert (-logps.grad).tolist() == pytest.approx(weights)


def test_llmu_and_mismatch():
    lengths = torch.tensor([2, 2, 4])
    same(losses.mismatch(OTHERS, lengths), [10.0, 4.5, 7.5 / 4])
    slow = [-3 / 3 + 0.5 * 10, -10 / 1 + 0.5 * 4.5, -0.5 / 5 + 0.5 * 7.5 / 4]
    same(losses.llmu(LOGPS, LENGTHS, OTHERS, lengths, mismatch_weight=0.5), slow)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_wga(power):
    logits = random_logits(1)
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        probs = [slow_softmax(rows[t])[y] for t, y in tokens]
        slow.append(sum(p**power * math.log(p) for p in probs) / len(probs))
    same(losses.wga(logits, LABELS, power=power), slow)
    if power == 0.0:  # then it is gradient ascent
        same(
            losses.wga(logits, LABELS, power=power),
            [lp / n for lp, n in zip(slow_logps(logits, LABELS), [3, 1, 5], strict=True)],
        )


@pytest.mark.parametrize(("saturation", "importance"), [(5.0, 1.0), (1.0, 0.0), (0.5, 2.0)])
def test_satimp(saturation, importance):
    logits = random_logits(2)
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        probs = [slow_softmax(rows[t])[y] for t, y in tokens]
        slow.append(sum(p**saturation * (1 - p) ** importance * math.log(p) for p in probs) / len(probs))
    same(losses.satimp(logits, LABELS, saturation=saturation, importance=importance), slow)


@pytest.mark.parametrize("name", ["wga", "satimp"])
def test_the_weights_of_tokens_are_held_constant(name):
    # one token with probability p: d/dz_y (w log p) = w (1 - p)
    logits = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[IGNORED, 0]])
    p = sigmoid(1.0)
    settings = {"wga": {"power": 2.0}, "satimp": {"saturation": 2.0, "importance": 1.0}}[name]
    getattr(losses, name)(logits, labels, **settings).sum().backward()
    weight = p**2 * {"wga": 1, "satimp": 1 - p}[name]
    assert logits.grad[0, 0, 0].item() == pytest.approx(weight * (1 - p))
