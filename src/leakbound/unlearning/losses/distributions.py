"""Losses of whole next-token distributions: entropy, and divergences from the reference, the uniform, a target."""

import math

import torch
from torch import Tensor

from leakbound.unlearning.data import IGNORED
from leakbound.unlearning.losses.tensors import (
    at_least_float32,
    check_logits,
    check_mask,
    check_same_shape,
    log_softmax,
    masked_mean,
    next_labels,
    predicts_answer,
    token_logps,
)


def entropy(logits_BLV: Tensor, mask_BL: Tensor) -> Tensor:
    """Entropy of the next-token distribution, averaged over the masked positions: mean_t -sum_v p_tv ln p_tv.

    Nats, shape (B,). Added with a positive weight on forget examples it makes the model certain there, with a negative
    weight on retain examples it keeps the model diverse: the entropy optimisation of arXiv 2410.03523. The released
    code averages over every position, padding included; the mask decides.
    """
    check_mask(logits_BLV, mask_BL)
    return masked_mean(_entropies(log_softmax(logits_BLV)), mask_BL)


def kl_retain(logits_BLV: Tensor, ref_logits_BLV: Tensor, mask_BL: Tensor) -> Tensor:
    """Divergence from the reference model, averaged over the masked positions: mean_t KL(p_ref,t || p_t).

    Nats, shape (B,). The retain term KL of arXiv 2410.08109, whose code averages over question and padding as well.
    """
    check_mask(logits_BLV, mask_BL)
    check_same_shape(logits_BLV, ref_logits_BLV)
    return masked_mean(_divergences(log_softmax(ref_logits_BLV), log_softmax(logits_BLV)), mask_BL)


def max_entropy(logits_BLV: Tensor, mask_BL: Tensor, *, direction: str) -> Tensor:
    """Towards the uniform distribution U over the vocabulary, averaged over the masked positions; shape (B,), nats.

    ``direction`` "model": KL(p_t || U) = ln V - H(p_t), as arXiv 2410.08109 writes it. "uniform": KL(U || p_t) =
    -ln V - mean_v ln p_tv, as its code computes it: the same optimum, another gradient (that of improbable tokens).
    """
    check_mask(logits_BLV, mask_BL)
    logps_BLV = log_softmax(logits_BLV)
    log_size = math.log(logits_BLV.shape[-1])
    if direction == "model":
        return masked_mean(log_size - _entropies(logps_BLV), mask_BL)
    if direction == "uniform":
        return masked_mean(-log_size - logps_BLV.mean(dim=-1), mask_BL)
    raise ValueError(f"direction is {direction!r}: give model or uniform")


def undial(logits_BLV: Tensor, ref_logits_BLV: Tensor, labels_BL: Tensor, *, strength: float) -> Tensor:
    """Learn from the reference with the answer's logits lowered: mean_t -sum_v q_tv ln p_tv over the answer.

    q_t = softmax(z_ref,t - strength e_{y_t}). Self-distillation on adjusted logits, arXiv 2402.10052. A published
    implementation averages over question and padding and lowers a wrong token there; here only answer tokens count.
    """
    check_logits(logits_BLV, labels_BL)
    check_same_shape(logits_BLV, ref_logits_BLV)
    answers_BL1 = next_labels(labels_BL).unsqueeze(-1)
    lowered_BLV = at_least_float32(ref_logits_BLV.detach()).scatter_add(
        -1, answers_BL1, torch.full_like(answers_BL1, -1, dtype=at_least_float32(ref_logits_BLV).dtype) * strength
    )
    return masked_mean(_cross_entropies(lowered_BLV, logits_BLV), predicts_answer(labels_BL))


def ce_u(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    """Learn from oneself without the answer: mean_t -sum_v q_tv ln p_tv over the answer, 0 where nothing is scored.

    q_t is p_t, held constant, with the answer's token excluded (logit -inf) and renormalised. arXiv 2503.01224, which
    leaves out the first token of each answer.
    """
    check_logits(logits_BLV, labels_BL)
    answers_BL1 = next_labels(labels_BL).unsqueeze(-1)
    without_BLV = at_least_float32(logits_BLV.detach()).scatter(-1, answers_BL1, -math.inf)
    return masked_mean(_cross_entropies(without_BLV, logits_BLV), predicts_answer(labels_BL))


def jensen_shannon_to_tokens(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    """Jensen-Shannon divergence from the certain prediction of each scored token, averaged over them; nats, (B,).

    JSD(p, delta_y) = ln 2 + (p_y ln p_y - (1 + p_y) ln(1 + p_y)) / 2, between 0 and ln 2, so that its gradient stays
    bounded.
    """
    logps_BL = token_logps(logits_BLV, labels_BL).clamp(min=-80.0)  # e^-80 is 0 here, and 0 ln 0 is 0
    probs_BL = logps_BL.exp()
    values_BL = math.log(2) + (probs_BL * logps_BL - (1 + probs_BL) * probs_BL.log1p()) / 2
    return masked_mean(values_BL, predicts_answer(labels_BL)[:, :-1])


def jensun(logits_BLV: Tensor, labels_BL: Tensor, target_K: Tensor) -> Tensor:
    """Say the target's tokens, over and over, in the place of the answer's; nats, shape (B,).

    :func:`jensen_shannon_to_tokens` with y_t the target's token t mod K at the answer's t-th token, read behind the
    *original* answer. The forget term of JensUn, arXiv 2509.02820, as its authors' code has it (target "No idea").
    """
    scored_BL = labels_BL != IGNORED
    turns_BL = (scored_BL.cumsum(dim=1) - 1).clamp(min=0) % len(target_K)
    targets_BL = torch.where(scored_BL, target_K.to(labels_BL.device)[turns_BL], labels_BL)
    return jensen_shannon_to_tokens(logits_BLV, targets_BL)


def jensen_shannon(logits_BLV: Tensor, ref_logits_BLV: Tensor, mask_BL: Tensor) -> Tensor:
    """Jensen-Shannon divergence from the reference model, averaged over the masked positions; nats, shape (B,).

    KL(p || m) / 2 + KL(p_ref || m) / 2 with m = (p + p_ref) / 2. The retain term of JensUn, arXiv 2509.02820.
    """
    check_mask(logits_BLV, mask_BL)
    check_same_shape(logits_BLV, ref_logits_BLV)
    logps_BLV, ref_logps_BLV = log_softmax(logits_BLV), log_softmax(ref_logits_BLV)
    floor = torch.finfo(logps_BLV.dtype).min / 4
    middle_BLV = torch.logaddexp(logps_BLV.clamp(min=floor), ref_logps_BLV.clamp(min=floor)) - math.log(2)
    both_BL = _divergences(logps_BLV, middle_BLV) + _divergences(ref_logps_BLV, middle_BLV)
    return masked_mean(both_BL / 2, mask_BL)


def _entropies(logps_BLV: Tensor) -> Tensor:
    floor = torch.finfo(logps_BLV.dtype).min  # 0 * log 0 is 0, and so is its gradient
    return -(logps_BLV.exp() * logps_BLV.clamp(min=floor)).sum(dim=-1)


def _divergences(logps_BLV: Tensor, other_logps_BLV: Tensor) -> Tensor:
    """KL(p || q) at each position, from log-probabilities that may be -inf."""
    floor = torch.finfo(logps_BLV.dtype).min
    gap_BLV = logps_BLV.clamp(min=floor) - other_logps_BLV.clamp(min=floor)
    return torch.where(logps_BLV.isneginf(), 0.0, logps_BLV.exp() * gap_BLV).sum(dim=-1)


def _cross_entropies(target_logits_BLV: Tensor, logits_BLV: Tensor) -> Tensor:
    """-sum_v q_v ln p_v at each position, tokens that the target excludes left out."""
    targets_BLV = target_logits_BLV.softmax(dim=-1)
    floor = torch.finfo(targets_BLV.dtype).min
    return -torch.where(targets_BLV == 0, 0.0, targets_BLV * log_softmax(logits_BLV).clamp(min=floor)).sum(dim=-1)
