"""Losses of several answers, against their formulas in float64."""

import math

import pytest
import torch

from leakbound.unlearning.losses import leak_mass

NONE = -math.inf


@pytest.mark.parametrize("masses", [[0.2, 0.3], [0.9, 0.09], [1e-12], [0.0, 0.4], [0.0], [1e-3, 1e-30]])
def test_leak_mass_is_the_surprise_of_no_leak(masses):
    logps = torch.tensor([[math.log(m) if m else NONE for m in masses], [NONE] * len(masses)])
    logps.requires_grad_(True)
    found = leak_mass(logps)
    found.sum().backward()
    total = sum(masses)
    assert found[0].item() == pytest.approx(-math.log1p(-total), rel=1e-4, abs=1e-37)
    assert found[1].item() == 0
    exact = [m / (1 - total) for m in masses]
    assert logps.grad[0].tolist() == pytest.approx(exact, rel=1e-4, abs=1e-30)
    assert not logps.grad[1].any()


@pytest.mark.parametrize("log_mass", [-1e-9, 0.0, 2e-6])
def test_a_mass_of_one_has_a_finite_loss_and_keeps_its_gradient(log_mass):
    logps = torch.tensor([[log_mass]], requires_grad=True)
    found = leak_mass(logps)
    found.backward()
    assert found.item() == pytest.approx(-math.log(1e-6), rel=0.05)
    assert logps.grad.item() == pytest.approx(1e6, rel=0.1)
