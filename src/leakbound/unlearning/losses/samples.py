"""Losses of several answers to one question: what they weigh together, and how much better each is than the others.

Shapes: ``_B`` questions, ``_K`` answers to each, ``_T`` tokens of an answer; what is not there is masked.
"""

import math

import torch
from torch import Tensor

from leakbound.unlearning.losses.tensors import check_same_shape, finite

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


def grpo(
    token_logps_BKT: Tensor, spoken_BKT: Tensor, shares_BK: Tensor, advantages_BK: Tensor, drawn_logps_BKT: Tensor,
    first_logps_BKT: Tensor, *, clip: float, kl_weight: float,
) -> Tensor:  # fmt: skip
    """Group relative policy optimisation of drawn answers: -sum_k s_k mean_t [min(r A_k, clip(r) A_k) - w KL_t]; (B,).

    r = p(y_t) / p_drawn(y_t), clip(r) = r within 1 - ``clip`` and 1 + ``clip``; A_k the advantage, s_k the answer's
    share of the draws; KL_t = p_ref / p - log(p_ref / p) - 1 of the token, whose mean over draws from p is
    KL(p || p_ref). arXiv 2402.03300; with a reward for what is not told that of PURGE, arXiv 2601.20568.
    """
    check_same_shape(token_logps_BKT, spoken_BKT, drawn_logps_BKT, first_logps_BKT)
    ratio_BKT = (token_logps_BKT - drawn_logps_BKT).exp()
    advantage_BK1 = advantages_BK.unsqueeze(2)
    gain_BKT = torch.minimum(ratio_BKT * advantage_BK1, ratio_BKT.clamp(1 - clip, 1 + clip) * advantage_BK1)
    gap_BKT = first_logps_BKT - token_logps_BKT
    kl_BKT = gap_BKT.exp() - gap_BKT - 1
    values_BKT = torch.where(spoken_BKT, gain_BKT - kl_weight * kl_BKT, 0.0)
    means_BK = values_BKT.sum(dim=2) / spoken_BKT.sum(dim=2).clamp(min=1)
    return -(shares_BK * means_BK).sum(dim=1)
