"""Losses of hidden states: misdirected representations."""

import torch
from torch import Tensor

from leakbound.unlearning.losses.tensors import at_least_float32, check_mask, check_same_shape, masked_mean


def rmu(hidden_BLD: Tensor, direction_D: Tensor, mask_BL: Tensor, *, scale: float) -> Tensor:
    """Misdirect the hidden states: mean over masked positions and dimensions of (h - scale u)^2.

    u is one random unit vector for the whole run. The forget term of RMU, arXiv 2403.03218; the paper writes the
    squared norm, its code the mean over dimensions, which is what stands here (the norm divided by D).
    """
    check_mask(hidden_BLD, mask_BL)
    gap_BLD = at_least_float32(hidden_BLD) - scale * direction_D.to(hidden_BLD.device)
    return masked_mean(gap_BLD.square().mean(dim=-1), mask_BL)


def rmu_retain(hidden_BLD: Tensor, ref_hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Hold the hidden states: mean over masked positions and dimensions of (h - h_ref)^2. arXiv 2403.03218."""
    check_mask(hidden_BLD, mask_BL)
    check_same_shape(hidden_BLD, ref_hidden_BLD)
    gap_BLD = at_least_float32(hidden_BLD) - at_least_float32(ref_hidden_BLD)
    return masked_mean(gap_BLD.square().mean(dim=-1), mask_BL)


def random_direction(size: int, seed: int) -> Tensor:
    """RMU's u: independent uniform numbers in [0, 1), scaled to length 1; shape (size,), a function of the seed."""
    direction: Tensor = torch.rand(size, generator=torch.Generator().manual_seed(seed))
    return direction.div(direction.norm())
