"""Losses as plain functions of tensors, one value for each example of a batch.

Shapes: ``_B`` examples, ``_L`` positions, ``_V`` vocabulary. Log-probabilities are natural logs. Logits of half
precision are turned to float32 before any log-sum-exp. No function here runs a model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leakbound.unlearning.data import IGNORED


def sequence_logps(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    """Log-probability of each answer: sum over its tokens t of log p(y_t | x, y_<t).

    ``labels_BL`` are the input tokens, ``IGNORED`` (-100) where nothing is scored; position t of the logits predicts
    label t + 1. Returns shape (B,), nats.
    """
    _check_logits(logits_BLV, labels_BL)
    logits_NV = _at_least_float32(logits_BLV[:, :-1].flatten(0, 1))
    nll_N = F.cross_entropy(logits_NV, labels_BL[:, 1:].flatten(), ignore_index=IGNORED, reduction="none")
    return -nll_N.view(labels_BL.shape[0], -1).sum(dim=1)


def answer_lengths(labels_BL: Tensor) -> Tensor:
    """The number of scored tokens of each example, as :func:`sequence_logps` counts them; shape (B,)."""
    return (labels_BL[:, 1:] != IGNORED).sum(dim=1)


def nll(logps_B: Tensor, lengths_B: Tensor) -> Tensor:
    """Negative log-likelihood per token: -log p(y|x) / |y|. The retain term GD of arXiv 2410.08109; plain training."""
    _check_same_shape(logps_B, lengths_B)
    return -logps_B / lengths_B


def grad_ascent(logps_B: Tensor, lengths_B: Tensor) -> Tensor:
    """Gradient ascent: log p(y|x) / |y|, the negative of :func:`nll`. GA of arXiv 2410.08109 and 2410.03523."""
    return -nll(logps_B, lengths_B)


def npo(logps_B: Tensor, ref_logps_B: Tensor, *, beta: float) -> Tensor:
    """Negative preference optimisation: -(2/beta) log sigmoid(-beta (log p(y|x) - log p_ref(y|x))).

    Log-probabilities are summed over the answer, not averaged. At p = p_ref the value is (2/beta) ln 2 and the
    gradient with respect to log p is 1, that of gradient ascent; it fades as p falls below p_ref.
    arXiv 2404.05868; with this scale in arXiv 2410.08109 (beta 0.1) and 2410.03523 (beta 0.05).
    """
    _check_same_shape(logps_B, ref_logps_B)
    return -(2 / beta) * F.logsigmoid(-beta * (logps_B - ref_logps_B))


def entropy(logits_BLV: Tensor, mask_BL: Tensor) -> Tensor:
    """Entropy of the next-token distribution, averaged over the masked positions: mean_t -sum_v p_tv ln p_tv.

    Nats, shape (B,). Added with a positive weight on forget examples it makes the model certain there, with a negative
    weight on retain examples it keeps the model diverse: the entropy optimisation of arXiv 2410.03523. The released
    code averages over every position, padding included; the mask decides.
    """
    _check_mask(logits_BLV, mask_BL)
    logps_BLV = F.log_softmax(_at_least_float32(logits_BLV), dim=-1)
    probs_BLV = logps_BLV.exp()
    floor = torch.finfo(logps_BLV.dtype).min  # 0 * log 0 is 0, and so is its gradient
    entropy_BL = -(probs_BLV * logps_BLV.clamp(min=floor)).sum(dim=-1)
    return _masked_mean(entropy_BL, mask_BL)


def kl_retain(logits_BLV: Tensor, ref_logits_BLV: Tensor, mask_BL: Tensor) -> Tensor:
    """Divergence from the reference model, averaged over the masked positions: mean_t KL(p_ref,t || p_t).

    Nats, shape (B,). The retain term KL of arXiv 2410.08109, whose code averages over question and padding as well.
    """
    _check_mask(logits_BLV, mask_BL)
    _check_same_shape(logits_BLV, ref_logits_BLV)
    logps_BLV = F.log_softmax(_at_least_float32(logits_BLV), dim=-1)
    ref_logps_BLV = F.log_softmax(_at_least_float32(ref_logits_BLV), dim=-1)
    floor = torch.finfo(logps_BLV.dtype).min
    gap_BLV = ref_logps_BLV.clamp(min=floor) - logps_BLV.clamp(min=floor)
    kl_BL = torch.where(ref_logps_BLV.isneginf(), 0.0, ref_logps_BLV.exp() * gap_BLV).sum(dim=-1)
    return _masked_mean(kl_BL, mask_BL)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _masked_mean(values_BL: Tensor, mask_BL: Tensor) -> Tensor:
    weights_BL = mask_BL.to(values_BL.dtype)
    return (values_BL * weights_BL).sum(dim=1) / weights_BL.sum(dim=1)


def _check_logits(logits_BLV: Tensor, labels_BL: Tensor) -> None:
    if logits_BLV.dim() != 3 or labels_BL.shape != logits_BLV.shape[:2]:
        raise ValueError(
            f"logits {tuple(logits_BLV.shape)} and labels {tuple(labels_BL.shape)}: give (B, L, V), (B, L)"
        )


def _check_mask(logits_BLV: Tensor, mask_BL: Tensor) -> None:
    if logits_BLV.dim() != 3 or mask_BL.shape != logits_BLV.shape[:2]:
        raise ValueError(f"logits {tuple(logits_BLV.shape)} and mask {tuple(mask_BL.shape)}: give (B, L, V) and (B, L)")


def _check_same_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ValueError(f"shapes {tuple(first.shape)} and {tuple(second.shape)} differ: give one value per example")
