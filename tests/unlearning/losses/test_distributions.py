"""Losses of whole next-token laws against numbers by hand and slow restatements of their formulas in float64."""

import math

import pytest
import torch
from slow_losses import LABELS, MASKS, B, L, V, answer_tokens, mean_over, random_logits, same, slow_softmax

from leakbound.unlearning import losses
from leakbound.unlearning.data import IGNORED


def slow_entropy(row):
    return -sum(p * math.log(p) for p in slow_softmax(row))


def test_entropy_by_hand():
    uniform = torch.zeros(1, 2, 4)
    certain = torch.tensor([[[100.0, 0, 0, 0], [0, 0, 0, 0]]])
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    assert losses.entropy(uniform, everywhere).item() == pytest.approx(math.log(4))
    assert losses.entropy(certain, everywhere).item() == pytest.approx(math.log(4) / 2)
    assert losses.entropy(certain, torch.tensor([[True, False]])).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("masked", ["answer", "all"])
def test_entropy_equals_the_slow_restatement(masked):
    logits = random_logits(1)
    predicts = torch.nn.functional.pad(LABELS[:, 1:] != IGNORED, (0, 1))
    mask = predicts if masked == "answer" else torch.ones(B, L, dtype=torch.bool)
    slow = []
    for rows, keep in zip(logits.tolist(), mask.tolist(), strict=True):
        values = [slow_entropy(row) for row, k in zip(rows, keep, strict=True) if k]
        slow.append(sum(values) / len(values))
    assert losses.entropy(logits, mask).tolist() == pytest.approx(slow, abs=1e-12)


def test_kl_by_hand_and_against_the_slow_restatement():
    logits, ref = random_logits(2), random_logits(3)
    mask = torch.ones(B, L, dtype=torch.bool)
    mask[0, 4:] = False
    assert losses.kl_retain(logits, logits, mask).tolist() == pytest.approx([0.0] * B, abs=1e-12)
    slow = []
    for rows, ref_rows, keep in zip(logits.tolist(), ref.tolist(), mask.tolist(), strict=True):
        values = []
        for row, ref_row, k in zip(rows, ref_rows, keep, strict=True):
            p, q = slow_softmax(ref_row), slow_softmax(row)
            values += [sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))] if k else []
        slow.append(sum(values) / len(values))
    assert losses.kl_retain(logits, ref, mask).tolist() == pytest.approx(slow, abs=1e-12)


def test_kl_of_a_fair_against_a_biased_coin_by_hand():
    fair, biased = torch.zeros(1, 1, 2), torch.log(torch.tensor([[[3.0, 1.0]]]))
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert losses.kl_retain(biased, fair, torch.ones(1, 1, dtype=torch.bool)).item() == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("mask", ["answer", "text", "all"])
@pytest.mark.parametrize("direction", ["model", "uniform"])
def test_max_entropy(mask, direction):
    logits = random_logits(3)

    def kl(_b, _t, row):
        p = slow_softmax(row)
        if direction == "model":
            return sum(x * math.log(x / (1 / V)) for x in p)
        return sum((1 / V) * math.log((1 / V) / x) for x in p)

    same(losses.max_entropy(logits, MASKS[mask], direction=direction), mean_over(logits, MASKS[mask], kl))


def test_max_entropy_by_hand_and_over_padding():
    # p = (3/4, 1/4): KL(P||U) = ln 2 - H(p), KL(U||P) = -ln 2 - (ln 3/4 + ln 1/4) / 2; padding at the uniform adds 0s
    logits = torch.log(torch.tensor([[[3.0, 1.0], [1.0, 1.0]]]))
    both = torch.ones(1, 2, dtype=torch.bool)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    reverse = -math.log(2) - (math.log(0.75) + math.log(0.25)) / 2
    first = torch.tensor([[True, False]])
    assert losses.max_entropy(logits, first, direction="model").item() == pytest.approx(math.log(2) - entropy, abs=1e-6)
    assert losses.max_entropy(logits, first, direction="uniform").item() == pytest.approx(reverse, abs=1e-6)
    assert losses.max_entropy(logits, both, direction="uniform").item() == pytest.approx(reverse / 2, abs=1e-6)
    with pytest.raises(ValueError, match="direction is 'up'"):
        losses.max_entropy(logits, both, direction="up")


@pytest.mark.parametrize("sharp", [1.0, 30.0])
def test_max_entropy_is_that_of_the_authors_code_with_the_mask_all(sharp):
    """torch's kl_div(log(P + 1e-12), U) averaged over every position, padding included. Of a language model most tokens
    have next to no probability: without the floor they would make up the gradient."""
    logits = (sharp * random_logits(4)).requires_grad_()
    uniform = torch.full((B, L, V), 1 / V, dtype=torch.float64)
    law = logits.softmax(-1)
    assert bool((law < 1e-12).any()) == (sharp > 1)
    theirs = torch.nn.functional.kl_div((law + 1e-12).log(), uniform, reduction="none").sum(-1).mean(-1)
    ours = losses.max_entropy(logits, MASKS["all"], direction="uniform")
    same(ours, theirs.tolist())
    mine, slow = (torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (ours, theirs))
    assert torch.allclose(mine, slow, rtol=1e-6, atol=1e-9)


def test_undial():
    logits, ref, strength = random_logits(5), random_logits(6), 3.0
    slow = []
    for rows, ref_rows, tokens in zip(logits.tolist(), ref.tolist(), answer_tokens(LABELS), strict=True):
        values = []
        for t, y in tokens:
            target = slow_softmax([z - strength * (v == y) for v, z in enumerate(ref_rows[t])])
            values.append(-sum(q * math.log(p) for q, p in zip(target, slow_softmax(rows[t]), strict=True)))
        slow.append(sum(values) / len(values))
    same(losses.undial(logits, ref, LABELS, strength=strength), slow)


def test_ce_u():
    logits = random_logits(7)
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        values = []
        for t, y in tokens:
            p = slow_softmax(rows[t])
            target = [0.0 if v == y else x / (1 - p[y]) for v, x in enumerate(p)]
            values.append(-sum(q * math.log(x) for q, x in zip(target, p, strict=True)))
        slow.append(sum(values) / len(values))
    same(losses.ce_u(logits, LABELS), slow)
    assert losses.ce_u(logits, torch.full_like(LABELS, IGNORED)).tolist() == [0.0] * B


def test_ce_u_pushes_the_answer_down_by_its_probability():
    logits = random_logits(8).requires_grad_()
    losses.ce_u(logits, LABELS).sum().backward()
    for b, tokens in enumerate(answer_tokens(LABELS)):
        for t, y in tokens:  # d/dz_y of the cross-entropy is p_y - q_y, and q_y is 0
            p = slow_softmax(logits[b, t].tolist())[y]
            assert logits.grad[b, t, y].item() == pytest.approx(p / len(tokens))


def js(p, q):
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    kl = [sum(a * math.log(a / b) for a, b in zip(x, m, strict=True) if a > 0) for x in (p, q)]
    return sum(kl) / 2


def test_jensen_shannon_to_tokens():
    logits = random_logits(9)
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        values = [js(slow_softmax(rows[t]), [float(v == y) for v in range(V)]) for t, y in tokens]
        slow.append(sum(values) / len(values))
    same(losses.jensen_shannon_to_tokens(logits, LABELS), slow)


def test_jensun_teaches_the_target_over_and_over_at_the_places_of_the_answer():
    logits, target = random_logits(14), [4, 0]
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        wanted = [target[i % 2] for i in range(len(tokens))]
        values = [
            js(slow_softmax(rows[t]), [float(v == y) for v in range(V)])
            for (t, _), y in zip(tokens, wanted, strict=True)
        ]
        slow.append(sum(values) / len(values))
    same(losses.jensun(logits, LABELS, torch.tensor(target)), slow)


@pytest.mark.parametrize("mask", ["answer", "text", "all"])
def test_jensen_shannon(mask):
    logits, ref = random_logits(10), random_logits(11)
    slow = mean_over(logits, MASKS[mask], lambda b, t, row: js(slow_softmax(row), slow_softmax(ref[b, t].tolist())))
    same(losses.jensen_shannon(logits, ref, MASKS[mask]), slow)
    assert losses.jensen_shannon(logits, logits, MASKS[mask]).tolist() == pytest.approx([0.0] * B, abs=1e-12)
