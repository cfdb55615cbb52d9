"""Losses by blocks of rows against the same formulas on whole logits: values and gradients, kept small."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from leakbound.unlearning import losses
from leakbound.unlearning.data import IGNORED
from leakbound.unlearning.losses import blocks
from leakbound.unlearning.losses.blocks import Laws, per_position

B, L, D, V = 3, 7, 8, 40
PADDED = torch.tensor(
    [[IGNORED, IGNORED, 3, 4, 5, IGNORED, IGNORED], [IGNORED, 7, 8, 9, 1, 2, 3], [IGNORED] * 6 + [39]]
)
FULL = torch.arange(B * L).view(B, L)


def mean(values_BL, mask_BL):
    return (values_BL * mask_BL).sum(dim=1) / mask_BL.sum(dim=1)


def scored(labels):
    return F.pad(labels[:, 1:] != IGNORED, (0, 1))


def chosen(logits, labels):
    wanted = F.pad(labels[:, 1:], (0, 1), value=0).clamp(min=0)
    return logits.log_softmax(-1).gather(-1, wanted.unsqueeze(-1)).squeeze(-1) * scored(labels)


def jensen(z, r):
    p, q = z.softmax(-1), r.softmax(-1)
    m = (p + q) / 2
    return (p * (p / m).log() + q * (q / m).log()).sum(-1) / 2


def undialled(z, r, labels):
    target = r - 10 * F.one_hot(F.pad(labels[:, 1:], (0, 1), value=0).clamp(min=0), z.shape[-1])
    return mean(-(target.softmax(-1) * z.log_softmax(-1)).sum(-1), scored(labels))


def without(z, labels):
    hidden = F.one_hot(F.pad(labels[:, 1:], (0, 1), value=0).clamp(min=0), z.shape[-1]).bool()
    target = z.detach().masked_fill(hidden, -math.inf).softmax(-1)
    return mean(-(target * z.log_softmax(-1)).sum(-1), scored(labels))


CASES = {
    "logps": (lambda z, r, y: losses.sequence_logps(z, y), lambda z, r, y: chosen(z, y).sum(1)),
    "entropy": (
        lambda z, r, y: losses.entropy(z, scored(y)),
        lambda z, r, y: mean(-(z.softmax(-1) * z.log_softmax(-1)).sum(-1), scored(y)),
    ),
    "kl": (
        lambda z, r, y: losses.kl_retain(z, r, scored(y)),
        lambda z, r, y: mean((r.softmax(-1) * (r.log_softmax(-1) - z.log_softmax(-1))).sum(-1), scored(y)),
    ),
    "js": (
        lambda z, r, y: losses.jensen_shannon(z, r, scored(y)),
        lambda z, r, y: mean(jensen(z, r), scored(y)),
    ),
    "me": (
        lambda z, r, y: losses.max_entropy(z, scored(y), direction="uniform"),
        lambda z, r, y: mean(-math.log(V) - (z.softmax(-1) + 1e-12).log().mean(-1), scored(y)),
    ),
    "me model": (
        lambda z, r, y: losses.max_entropy(z, scored(y), direction="model"),
        lambda z, r, y: mean(math.log(V) + (z.softmax(-1) * z.log_softmax(-1)).sum(-1), scored(y)),
    ),
    "undial": (lambda z, r, y: losses.undial(z, r, y, strength=10.0), undialled),
    "ce_u": (lambda z, r, y: losses.ce_u(z, y), lambda z, r, y: without(z, y)),
    "wga": (
        lambda z, r, y: losses.wga(z, y, power=1.0),
        lambda z, r, y: (chosen(z, y).detach().exp() * chosen(z, y)).sum(1) / scored(y).sum(1),
    ),
}  # fmt: skip


def made(dtype, *, head, bias):
    """States, head and bias that want gradients, and the laws of a reference."""
    rng = torch.Generator().manual_seed(0)
    states, weight, shift, ref = (
        torch.randn(shape, generator=rng, dtype=dtype) for shape in ((B, L, D), (V, D), (V,), (B, L, D))
    )
    ref = Laws(ref, weight.clone(), shift.clone() if bias else None)
    return states.requires_grad_(), weight.requires_grad_(head), shift.requires_grad_(head) if bias else None, ref


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("labels", [PADDED, FULL], ids=["padded", "full"])
@pytest.mark.parametrize("head", ["trained", "frozen", "bias", "logits"])
def test_values_and_gradients_are_those_of_whole_logits(monkeypatch, name, labels, head):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 3)
    ours, whole = CASES[name]
    factors = torch.tensor([1.0, -2.0, 0.5])  # each example's own
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-13)):
        states, weight, bias, ref = made(dtype, head=head in ("trained", "bias"), bias=head == "bias")
        wanted = [t for t in (states, weight, bias) if t is not None and t.requires_grad]
        laws = F.linear(states, weight) if head == "logits" else Laws(states, weight, bias)
        got = ours(laws, ref.logits() if head == "logits" else ref, labels)
        expected = whole(F.linear(states, weight, bias), ref.logits(), labels)
        assert torch.allclose(got, expected, rtol=10 * tolerance, atol=10 * tolerance)
        grads = [torch.autograd.grad((value * factors.to(dtype)).sum(), wanted) for value in (got, expected)]
        for mine, other in zip(*grads, strict=True):
            assert (mine - other).norm() <= tolerance * max(1.0, other.norm())  # that of CE-U is a difference


@pytest.mark.parametrize("head", ["trained", "frozen"])
def test_what_is_kept_grows_with_the_states_and_not_with_the_vocabulary(head):
    states, weight, _, _ = made(torch.float32, head=head == "trained", bias=False)
    weight = weight.detach().repeat(100, 1).requires_grad_(weight.requires_grad)
    kept = []

    def keep(tensor):
        kept.append(weakref.ref(tensor))
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        value = losses.entropy(Laws(states, weight), scored(FULL))
    there = [one() for one in kept if one() is not None and one().data_ptr() != weight.data_ptr()]
    assert value.requires_grad
    assert sum(tensor.numel() for tensor in there) < 5 * states.numel() < B * L * len(weight) / 50


def test_places_that_no_loss_looks_at_are_not_computed():
    seen = []
    mask = torch.tensor([[True, False, True], [False, False, True]])
    logits = torch.arange(24.0).view(2, 3, 4)
    values = per_position(lambda z, y: seen.append(z) or z[:, 0] + y, logits, mask, torch.full((2, 3), 0.5))
    assert torch.cat(seen).tolist() == logits[mask].tolist()
    assert values.tolist() == [[0.5, 0.0, 8.5], [0.0, 0.0, 20.5]]
    assert per_position(lambda z: z[:, 0], logits, torch.zeros(2, 3, dtype=torch.bool)).tolist() == [[0.0] * 3] * 2


def test_half_precision_is_that_of_autocast():
    states, weight, _, _ = made(torch.float32, head=True, bias=False)
    grads = []
    with torch.autocast("cpu", torch.bfloat16):
        logits = F.linear(states, weight)
    for laws in (Laws(states, weight, None, torch.bfloat16), logits):
        value = losses.sequence_logps(laws, FULL).sum()
        grads.append((value, *torch.autograd.grad(value, (states, weight))))
    for mine, other in zip(*grads, strict=True):
        assert mine.dtype == other.dtype == torch.float32
        assert (mine - other).norm() <= 0.01 * other.norm()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_head_that_adds_puts_its_gradient_into_the_one_it_has(dtype):
    states, weight, _, _ = made(torch.float32, head=True, bias=False)
    sums = []
    for adds in (False, True):
        head = weight.detach().clone().requires_grad_()
        for factor in (1.0, -3.0):
            held = head.grad
            (factor * losses.entropy(Laws(states.detach(), head, None, dtype, adds), scored(FULL))).sum().backward()
        assert head.grad is held
        sums.append(head.grad)
    torch.testing.assert_close(*sums)
