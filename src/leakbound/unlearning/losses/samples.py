"""Losses of several answers to one question: what they weigh together, and how much better each is than the others.

Shapes: ``_B`` questions, ``_K`` answers to each, ``_T`` tokens of an answer; what is not there is masked.
"""

import math

import torch
from torch import Tensor

from leakbound.unlearning.losses.tensors import finite

SURE = 1e-6
"""-log M below this is not told from 0 in float32."""


def leak_mass(logps_BK: Tensor) -> Tensor:
    """The surprise of no leak: -log(1 - M), M = sum_k p(y_k|x) over answers of which none begins another; nats, (B,).

    1 - M is computed as 1 - exp(log M), exactly where M is near 1 as where it is near 0. Where log M is above ``-SURE``
    (by rounding also above 0) it counts as that, and the gradient is kept: M / (1 - M) times that of log M, so that an
    answer known by heart is still unlearned. An answer that is not there has log-probability -inf. Ours.
    """
    log_mass_B = finite(logps_BK).logsumexp(dim=1)
    log_mass_B = log_mass_B + (log_mass_B.clamp(max=-SURE) - log_mass_B).detach()
    near_B = (-torch.expm1(log_mass_B)).log()
    return -torch.where(log_mass_B > -math.log(2), near_B, torch.log1p(-log_mass_B.exp()))
