"""Losses of several answers, against their formulas in float64."""

import math

import pytest
import torch

from leakbound.unlearning.losses import grpo, leak_mass

NONE = -math.inf


@pytest.mark.parametrize("masses", [
    [0.2, 0.3], [0.9, 0.09], [1e-12], [0.0, 0.4], [0.0], [1e-3, 1e-30], [1 - 1e-9], [0.5, 0.5 - 1e-12],
])  # fmt: skip
def test_leak_mass_is_the_surprise_of_no_leak(masses):
    """Answers of one token each, as logits: the others have the rest."""
    logits = torch.tensor([[math.log(m) if m else -1e30 for m in [*masses, 1 - sum(masses)]]] * 2)
    logits.requires_grad_(True)
    logps = logits.log_softmax(dim=1)
    one = (torch.stack([logps[0, :-1], torch.full((len(masses),), NONE)]), logps[:, :-1, None])
    leaving = torch.full((2, len(masses), 1), NONE)  # of what is not there as well
    found = leak_mass(*one, leaving.index_put((torch.tensor(0),) * 3, logps[0, -1]))
    found.sum().backward()
    total = sum(masses)
    assert found[0].item() == pytest.approx(-math.log1p(-total), rel=1e-4, abs=1e-37)
    assert found[1].item() == 0
    assert logits.grad[0, :-1].tolist() == pytest.approx(masses, rel=1e-4, abs=1e-37)
    assert not logits.grad[1].any()


def slow_grpo(logps, drawn, first, advantages, shares, clip, weight):
    """One question: lists of tensors of tokens, the formula written out."""
    total = 0.0
    for own, old, ref, a, share in zip(logps, drawn, first, advantages, shares, strict=True):
        value = 0.0
        for now, then, before in zip(own, old, ref, strict=True):
            r = torch.exp(now - then)
            kept = min(max(r.item(), 1 - clip), 1 + clip)
            gain = r * a if (r * a).item() <= kept * a else torch.tensor(kept * a)
            value = value + gain - weight * (torch.exp(before - now) - (before - now) - 1)
        total = total + share * value / len(own)
    return -total


@pytest.mark.parametrize("weight", [0.0, 0.04, 1.0])
def test_grpo_and_its_gradient_equal_the_formula(weight):
    rng = torch.Generator().manual_seed(0)
    lengths, shares = ((3, 1, 4), (2, 5)), ((0.5, 0.25, 0.25), (0.125, 0.875))
    advantages = ((1.0, -0.5, 0.3), (-2.0, 0.4))
    draw = lambda n: -2 * torch.rand(n, generator=rng, dtype=torch.float64)  # noqa: E731
    old = [[draw(n) for n in some] for some in lengths]
    ref = [[draw(n) for n in some] for some in lengths]
    own = [[(o + 0.5 * torch.randn(len(o), generator=rng, dtype=torch.float64)) for o in some] for some in old]
    for some in own:
        for tokens in some:
            tokens.requires_grad_(True)

    def padded(rows):
        return torch.stack([torch.stack([torch.nn.functional.pad(t.detach(), (0, 5 - len(t))) for t in some]
                                        + [torch.zeros(5)] * (3 - len(some))) for some in rows]).double()  # fmt: skip

    spoken = torch.tensor([[[t < n for t in range(5)] for n in (*some, 0)[:3]] for some in lengths])
    lay = lambda rows: torch.tensor([(*row, 0.0)[:3] for row in rows])  # noqa: E731
    logps = padded(own).requires_grad_(True)
    found = grpo(logps, spoken, lay(shares), lay(advantages), padded(old), padded(ref), clip=0.2, kl_weight=weight)
    found.sum().backward()
    exact = [slow_grpo(own[b], old[b], ref[b], advantages[b], shares[b], 0.2, weight) for b in range(2)]
    sum(exact).backward()
    assert found.tolist() == pytest.approx([x.item() for x in exact], abs=1e-6)
    for b, some in enumerate(own):
        for k, tokens in enumerate(some):
            assert torch.allclose(logps.grad[b, k, : len(tokens)], tokens.grad, atol=1e-6)
    assert not logps.grad[~spoken].any()
