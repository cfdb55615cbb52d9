"""What holds for all losses: impossible tokens, half precision, shapes that do not fit."""

import math

import pytest
import torch
from slow_losses import LABELS, MASKS, TEXT, B, L, random_logits, slow_logps

from leakbound.unlearning import losses
from leakbound.unlearning.data import IGNORED


def test_tokens_that_are_always_impossible_give_no_nan():
    logits = random_logits(5, torch.float32)
    logits[:, :, 0] = -math.inf
    logits.requires_grad_()
    mask = torch.ones(B, L, dtype=torch.bool)
    value = losses.entropy(logits, mask).sum() + losses.kl_retain(logits, logits.detach(), mask).sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert losses.npo(torch.tensor([-math.inf]), torch.tensor([-1.0]), beta=0.1).item() == 0.0


@pytest.mark.parametrize("impossible", ["answer", "other"])
def test_impossible_tokens_give_no_nan(impossible):
    logits = random_logits(12, torch.float32)
    token = 1 if impossible == "answer" else 0
    labels = torch.tensor([[IGNORED, 1, 1, 1, IGNORED, IGNORED]] * B)
    logits[:, :, token] = -math.inf
    ref = random_logits(13, torch.float32)
    ref[:, :, 2] = -math.inf
    logits.requires_grad_()
    every = MASKS["all"]
    values = [
        losses.wga(logits, labels, power=1.0),
        losses.satimp(logits, labels, saturation=5.0, importance=1.0),
        losses.max_entropy(logits, every, direction="model"),
        losses.jensen_shannon_to_tokens(logits, labels),
        losses.jensen_shannon(logits, ref, every),
        losses.ce_u(logits, labels),
    ]
    sum(value.sum() for value in values).backward()
    assert all(torch.isfinite(value).all() for value in values)
    assert torch.isfinite(logits.grad).all()
    never = torch.tensor([-math.inf])
    for value in (
        losses.dpo(never, never, never, never, beta=0.1),
        losses.answer_preservation(never, never, beta=0.1),
        losses.npo(never, never, beta=0.1),
        losses.simnpo(never, torch.tensor([2]), beta=2.5, gamma=0.0),
        losses.grad_ascent(never, torch.tensor([2])),
        losses.undial(logits.detach(), ref, labels, strength=10.0),
    ):
        assert not torch.isnan(value).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits = random_logits(4, dtype)
    value = losses.sequence_logps(logits, LABELS)
    assert value.dtype == torch.float32
    assert value.tolist() == pytest.approx(slow_logps(logits.double(), LABELS), rel=1e-5)
    assert losses.entropy(logits, torch.ones(B, L, dtype=torch.bool)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    logits, ref = random_logits(14, dtype), random_logits(15, dtype)
    for value, exact in (
        (losses.ce_u(logits, LABELS), losses.ce_u(logits.double(), LABELS)),
        (
            losses.undial(logits, ref, LABELS, strength=3.0),
            losses.undial(logits.double(), ref.double(), LABELS, strength=3.0),
        ),
        (losses.jensen_shannon(logits, ref, TEXT), losses.jensen_shannon(logits.double(), ref.double(), TEXT)),
        (losses.wga(logits, LABELS, power=1.0), losses.wga(logits.double(), LABELS, power=1.0)),
        (
            losses.max_entropy(logits, TEXT, direction="model"),
            losses.max_entropy(logits.double(), TEXT, direction="model"),
        ),
    ):
        assert value.dtype == torch.float32
        assert value.tolist() == pytest.approx(exact.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.sequence_logps(torch.zeros(2, 3, 4), torch.zeros(2, 2, dtype=torch.long)),
        lambda: losses.sequence_logps(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)),
        lambda: losses.nll(torch.zeros(2), torch.ones(2, 1)),
        lambda: losses.npo(torch.zeros(2), torch.zeros(3), beta=0.1),
        lambda: losses.entropy(torch.zeros(2, 3, 4), torch.ones(2, 2)),
        lambda: losses.kl_retain(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.ones(2, 3)),
        lambda: losses.dpo(torch.zeros(2), torch.zeros(2), torch.zeros(3), torch.zeros(2), beta=0.1),
        lambda: losses.answer_preservation(torch.zeros(2), torch.zeros(3), beta=0.1),
        lambda: losses.wga(torch.zeros(2, 3, 4), torch.zeros(2, 2, dtype=torch.long), power=1.0),
        lambda: losses.undial(
            torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long), strength=1.0
        ),
        lambda: losses.ce_u(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)),
        lambda: losses.max_entropy(torch.zeros(2, 3, 4), torch.ones(2, 2), direction="model"),
        lambda: losses.jensen_shannon(torch.zeros(2, 3, 4), torch.zeros(2, 2, 4), torch.ones(2, 3)),
        lambda: losses.rmu(torch.zeros(2, 3, 4), torch.zeros(4), torch.ones(2, 4), scale=1.0),
        lambda: losses.rmu_retain(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.ones(2, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match=r"\(\d"):
        call()
