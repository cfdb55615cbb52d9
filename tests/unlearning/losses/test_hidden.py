"""Losses of hidden states against slow restatements of their formulas in float64."""

import pytest
import torch
from slow_losses import TEXT, B, L, mean_over, same

from leakbound.unlearning import losses

D = 4


def test_rmu_and_its_retain_side():
    hidden = torch.randn(B, L, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ref = torch.randn(B, L, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u = losses.random_direction(D, 7).double()
    slow = mean_over(
        hidden, TEXT, lambda b, t, h: sum((x - 6.5 * y) ** 2 for x, y in zip(h, u.tolist(), strict=True)) / D
    )
    same(losses.rmu(hidden, u, TEXT, scale=6.5), slow)
    slow = mean_over(
        hidden, TEXT, lambda b, t, h: sum((x - y) ** 2 for x, y in zip(h, ref[b, t].tolist(), strict=True)) / D
    )
    same(losses.rmu_retain(hidden, ref, TEXT), slow)


def test_the_random_direction_is_a_unit_vector_of_its_seed():
    u = losses.random_direction(64, 0)
    assert u.norm().item() == pytest.approx(1.0)
    assert (u >= 0).all()
    assert torch.equal(u, losses.random_direction(64, 0))
    assert not torch.equal(u, losses.random_direction(64, 1))
