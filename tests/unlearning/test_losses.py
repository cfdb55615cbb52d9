"""Each loss against numbers that can be redone by hand, and against a slow restatement in float64."""

import math

import pytest
import torch
from slow_losses import LABELS, B, L, random_logits, slow_logps, slow_softmax

from leakbound.unlearning.data import IGNORED
from leakbound.unlearning.losses import answer_lengths, entropy, grad_ascent, kl_retain, nll, npo, sequence_logps


def slow_entropy(row):
    return -sum(p * math.log(p) for p in slow_softmax(row))


def test_sequence_logps_by_hand():
    # two tokens; the logits ln 3, ln 1 give the label 0 probability 3/4 and the label 1 probability 1/4
    logits = torch.log(torch.tensor([[[3.0, 1.0], [3.0, 1.0], [1.0, 1.0]]]))
    assert sequence_logps(logits, torch.tensor([[1, 0, 1]])).tolist() == pytest.approx([math.log(3 / 4 * 1 / 4)])
    assert sequence_logps(logits, torch.tensor([[1, IGNORED, 1]])).tolist() == pytest.approx([math.log(1 / 4)])


def test_sequence_logps_equals_the_slow_restatement():
    logits = random_logits()
    assert sequence_logps(logits, LABELS).tolist() == pytest.approx(slow_logps(logits, LABELS), abs=1e-12)


def test_sequence_logps_agree_with_transformers_loss():
    from tiny_models import tiny_model

    model = tiny_model("llama")
    ids = torch.tensor([[2, 3, 4, 5]])
    labels = torch.tensor([[IGNORED, 3, 4, 5]])
    outputs = model(input_ids=ids, labels=labels)
    value = nll(sequence_logps(outputs.logits, labels), answer_lengths(labels))
    assert value.item() == pytest.approx(outputs.loss.item(), abs=1e-6)


def test_lengths_count_what_is_scored():
    assert answer_lengths(LABELS).tolist() == [3, 1, 5]


def test_nll_and_grad_ascent_by_hand():
    logps, lengths = torch.tensor([-6.0, -1.0]), torch.tensor([3, 2])
    assert nll(logps, lengths).tolist() == [2.0, 0.5]
    assert grad_ascent(logps, lengths).tolist() == [-2.0, -0.5]


def test_npo_by_hand():
    # beta = 1 and a ratio p / p_ref of 1, 3 and 1/3: sigmoid(-ln ratio) = 1/2, 1/4, 3/4
    logps = torch.tensor([0.0, math.log(3), -math.log(3)])
    expected = [2 * math.log(2), 2 * math.log(4), 2 * math.log(4 / 3)]
    assert npo(logps, torch.zeros(3), beta=1.0).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_npo_equals_the_published_formula_in_losses(beta):
    logps, ref = torch.tensor([-3.0, -10.0, -0.5]).double(), torch.tensor([-2.0, -1.0, -4.0]).double()
    slow = [
        -(2 / beta) * math.log(1 / (1 + math.exp(-beta * (-lp - -r))))
        for lp, r in zip(logps.tolist(), ref.tolist(), strict=True)
    ]  # with l = -log p: -(2/beta) log sigmoid(beta (l - l_ref))
    assert npo(logps, ref, beta=beta).tolist() == pytest.approx(slow, abs=1e-12)


def test_npo_at_the_reference_pushes_like_gradient_ascent_and_fades_below_it():
    logps = torch.tensor([-5.0, -50.0], requires_grad=True)
    npo(logps, torch.tensor([-5.0, -5.0]), beta=0.1).sum().backward()
    at, below = logps.grad.tolist()
    assert at == pytest.approx(1.0)
    assert below == pytest.approx(2 / (1 + math.exp(0.1 * 45)), rel=1e-5)


def test_entropy_by_hand():
    uniform = torch.zeros(1, 2, 4)
    certain = torch.tensor([[[100.0, 0, 0, 0], [0, 0, 0, 0]]])
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    assert entropy(uniform, everywhere).item() == pytest.approx(math.log(4))
    assert entropy(certain, everywhere).item() == pytest.approx(math.log(4) / 2)
    assert entropy(certain, torch.tensor([[True, False]])).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("masked", ["answer", "all"])
def test_entropy_equals_the_slow_restatement(masked):
    logits = random_logits(1)
    predicts = torch.nn.functional.pad(LABELS[:, 1:] != IGNORED, (0, 1))
    mask = predicts if masked == "answer" else torch.ones(B, L, dtype=torch.bool)
    slow = []
    for rows, keep in zip(logits.tolist(), mask.tolist(), strict=True):
        values = [slow_entropy(row) for row, k in zip(rows, keep, strict=True) if k]
        slow.append(sum(values) / len(values))
    assert entropy(logits, mask).tolist() == pytest.approx(slow, abs=1e-12)


def test_kl_by_hand_and_against_the_slow_restatement():
    logits, ref = random_logits(2), random_logits(3)
    mask = torch.ones(B, L, dtype=torch.bool)
    mask[0, 4:] = False
    assert kl_retain(logits, logits, mask).tolist() == pytest.approx([0.0] * B, abs=1e-12)
    slow = []
    for rows, ref_rows, keep in zip(logits.tolist(), ref.tolist(), mask.tolist(), strict=True):
        values = []
        for row, ref_row, k in zip(rows, ref_rows, keep, strict=True):
            p, q = slow_softmax(ref_row), slow_softmax(row)
            values += [sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))] if k else []
        slow.append(sum(values) / len(values))
    assert kl_retain(logits, ref, mask).tolist() == pytest.approx(slow, abs=1e-12)


def test_kl_of_a_fair_against_a_biased_coin_by_hand():
    fair, biased = torch.zeros(1, 1, 2), torch.log(torch.tensor([[[3.0, 1.0]]]))
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kl_retain(biased, fair, torch.ones(1, 1, dtype=torch.bool)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits = random_logits(4, dtype)
    value = sequence_logps(logits, LABELS)
    assert value.dtype == torch.float32
    assert value.tolist() == pytest.approx(slow_logps(logits.double(), LABELS), rel=1e-5)
    assert entropy(logits, torch.ones(B, L, dtype=torch.bool)).dtype == torch.float32


def test_impossible_tokens_give_no_nan_in_values_or_gradients():
    logits = random_logits(5, torch.float32)
    logits[:, :, 0] = -math.inf
    logits.requires_grad_()
    mask = torch.ones(B, L, dtype=torch.bool)
    value = entropy(logits, mask).sum() + kl_retain(logits, logits.detach(), mask).sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert npo(torch.tensor([-math.inf]), torch.tensor([-1.0]), beta=0.1).item() == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: sequence_logps(torch.zeros(2, 3, 4), torch.zeros(2, 2, dtype=torch.long)),
        lambda: sequence_logps(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)),
        lambda: nll(torch.zeros(2), torch.ones(2, 1)),
        lambda: npo(torch.zeros(2), torch.zeros(3), beta=0.1),
        lambda: entropy(torch.zeros(2, 3, 4), torch.ones(2, 2)),
        lambda: kl_retain(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.ones(2, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match=r"\(\d"):
        call()
