"""Losses of several answers to one question: what they weigh together, and how much better each is than the others.

Shapes: ``_B`` questions, ``_K`` answers to each, ``_T`` tokens of an answer; what is not there is masked.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from leakbound.unlearning.losses.tensors import check_same_shape, finite


def leak_mass(logps_BK: Tensor, token_logps_BKT: Tensor, leaving_logps_BKT: Tensor) -> Tensor:
    """The surprise of no leak: -log(1 - M), M = sum_k p(y_k|x) over answers of which none begins another; nats, (B,).

    An answer that is not there has log-probability -inf, and its tokens, as all that are not there, 0. ``leaving`` is
    log P(the next token is that of no answer) behind each distinct beginning v, at the first answer that has it, -inf
    elsewhere, looked at where M is above 1/2. There 1 - M is sum_v P(v) P(leave at v): an answer that is said with all
    but 1e-12 of the probability is still unlearned, where log p is 0 in float32 and has no slope. Ours.
    """
    check_same_shape(token_logps_BKT, leaving_logps_BKT)
    log_mass_B = finite(logps_BK).logsumexp(dim=1)
    before_BKT = F.pad(finite(token_logps_BKT).cumsum(dim=2)[:, :, :-1], (1, 0))
    near_B = finite(before_BKT + leaving_logps_BKT).flatten(1).logsumexp(dim=1)
    far_B = torch.log1p(-log_mass_B.clamp(max=-math.log(2)).exp())
    return -torch.where(log_mass_B > -math.log(2), near_B, far_B)


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
