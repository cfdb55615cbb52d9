"""Losses of whole next-token distributions: entropy, and divergences from the reference, the uniform, a target."""

import math

import torch
from torch import Tensor

from leakbound.unlearning.data import IGNORED
from leakbound.unlearning.losses.blocks import Laws, per_position
from leakbound.unlearning.losses.tensors import (
    check_logits,
    check_mask,
    check_same_shape,
    masked_mean,
    next_labels,
    predicts_answer,
    token_logps,
)


def entropy(logits_BLV: Laws | Tensor, mask_BL: Tensor) -> Tensor:
    """Entropy of the next-token distribution, averaged over the masked positions: mean_t -sum_v p_tv ln p_tv.

    Nats, shape (B,). Added with a positive weight on forget examples it makes the model certain there, with a negative
    weight on retain examples it keeps the model diverse: the entropy optimisation of arXiv 2410.03523. The released
    code averages over every position, padding included; the mask decides.
    """
    check_mask(logits_BLV, mask_BL)
    return masked_mean(per_position(_entropies, logits_BLV, mask_BL), mask_BL)


def kl_retain(logits_BLV: Laws | Tensor, ref_logits_BLV: Laws | Tensor, mask_BL: Tensor) -> Tensor:
    """Divergence from the reference model, averaged over the masked positions: mean_t KL(p_ref,t || p_t).

    Nats, shape (B,). The retain term KL of arXiv 2410.08109, whose code averages over question and padding as well.
    """
    check_mask(logits_BLV, mask_BL)
    check_same_shape(logits_BLV, ref_logits_BLV)
    return masked_mean(per_position(_divergences_from, logits_BLV, mask_BL, ref_logits_BLV), mask_BL)


def max_entropy(logits_BLV: Laws | Tensor, mask_BL: Tensor, *, direction: str) -> Tensor:
    """Towards the uniform distribution U over the vocabulary, averaged over the masked positions; shape (B,), nats.

    ``direction`` "model": KL(p_t || U) = ln V - H(p_t), as arXiv 2410.08109 writes it. "uniform": KL(U || p_t) =
    -ln V - mean_v ln p_tv, as its code computes it, 1e-12 added to each p_tv: the same optimum, another gradient (that
    of improbable tokens, but hardly of those below 1e-12).
    """
    check_mask(logits_BLV, mask_BL)
    log_size = math.log(logits_BLV.shape[-1])
    if direction == "model":
        return log_size - entropy(logits_BLV, mask_BL)
    if direction == "uniform":
        return masked_mean(-log_size - per_position(_mean_logps, logits_BLV, mask_BL), mask_BL)
    raise ValueError(f"direction is {direction!r}: give model or uniform")


def undial(logits_BLV: Laws | Tensor, ref_logits_BLV: Laws | Tensor, labels_BL: Tensor, *, strength: float) -> Tensor:
    """Learn from the reference with the answer's logits lowered: mean_t -sum_v q_tv ln p_tv over the answer.

    q_t = softmax(z_ref,t - strength e_{y_t}). Self-distillation on adjusted logits, arXiv 2402.10052. A published
    implementation averages over question and padding and lowers a wrong token there; here only answer tokens count.
    """
    check_logits(logits_BLV, labels_BL)
    check_same_shape(logits_BLV, ref_logits_BLV)

    def value(logits_nV: Tensor, ref_logits_nV: Tensor, answers_n: Tensor) -> Tensor:
        lowered_nV = ref_logits_nV.clone()
        lowered_nV[torch.arange(len(answers_n), device=answers_n.device), answers_n] -= strength
        return _cross_entropies(lowered_nV, logits_nV)

    mask_BL = predicts_answer(labels_BL)
    return masked_mean(per_position(value, logits_BLV, mask_BL, ref_logits_BLV, next_labels(labels_BL)), mask_BL)


def ce_u(logits_BLV: Laws | Tensor, labels_BL: Tensor) -> Tensor:
    """Learn from oneself without the answer: mean_t -sum_v q_tv ln p_tv over the answer, 0 where nothing is scored.

    q_t is p_t, held constant, with the answer's token excluded (logit -inf) and renormalised. arXiv 2503.01224, which
    leaves out the first token of each answer.
    """
    check_logits(logits_BLV, labels_BL)

    def value(logits_nV: Tensor, answers_n: Tensor) -> Tensor:
        without_nV = logits_nV.detach().scatter(-1, answers_n.unsqueeze(-1), -math.inf)
        return _cross_entropies(without_nV, logits_nV)

    mask_BL = predicts_answer(labels_BL)
    return masked_mean(per_position(value, logits_BLV, mask_BL, next_labels(labels_BL)), mask_BL)


def jensen_shannon_to_tokens(logits_BLV: Laws | Tensor, labels_BL: Tensor) -> Tensor:
    """Jensen-Shannon divergence from the certain prediction of each scored token, averaged over them; nats, (B,).

    JSD(p, delta_y) = ln 2 + (p_y ln p_y - (1 + p_y) ln(1 + p_y)) / 2, between 0 and ln 2, so that its gradient stays
    bounded.
    """
    logps_BL = token_logps(logits_BLV, labels_BL).clamp(min=-80.0)  # e^-80 is 0 here, and 0 ln 0 is 0
    probs_BL = logps_BL.exp()
    values_BL = math.log(2) + (probs_BL * logps_BL - (1 + probs_BL) * probs_BL.log1p()) / 2
    return masked_mean(values_BL, predicts_answer(labels_BL)[:, :-1])


def jensun(logits_BLV: Laws | Tensor, labels_BL: Tensor, target_K: Tensor) -> Tensor:
    """Say the target's tokens, over and over, in the place of the answer's; nats, shape (B,).

    :func:`jensen_shannon_to_tokens` with y_t the target's token t mod K at the answer's t-th token, read behind the
    *original* answer. The forget term of JensUn, arXiv 2509.02820, as its authors' code has it (target "No idea").
    """
    scored_BL = labels_BL != IGNORED
    turns_BL = (scored_BL.cumsum(dim=1) - 1).clamp(min=0) % len(target_K)
    targets_BL = torch.where(scored_BL, target_K.to(labels_BL.device)[turns_BL], labels_BL)
    return jensen_shannon_to_tokens(logits_BLV, targets_BL)


def jensen_shannon(logits_BLV: Laws | Tensor, ref_logits_BLV: Laws | Tensor, mask_BL: Tensor) -> Tensor:
    """Jensen-Shannon divergence from the reference model, averaged over the masked positions; nats, shape (B,).

    KL(p || m) / 2 + KL(p_ref || m) / 2 with m = (p + p_ref) / 2. The retain term of JensUn, arXiv 2509.02820.
    """
    check_mask(logits_BLV, mask_BL)
    check_same_shape(logits_BLV, ref_logits_BLV)
    return masked_mean(per_position(_middles, logits_BLV, mask_BL, ref_logits_BLV), mask_BL)


def _entropies(logits_nV: Tensor) -> Tensor:
    logps_nV = logits_nV.log_softmax(dim=-1)
    floor = torch.finfo(logps_nV.dtype).min  # 0 * log 0 is 0, and so is its gradient
    return -(logps_nV.exp() * logps_nV.clamp(min=floor)).sum(dim=-1)


def _mean_logps(logits_nV: Tensor) -> Tensor:
    """mean_v ln(p_v + 1e-12)."""
    logps_nV = logits_nV.log_softmax(dim=-1)
    return torch.logaddexp(logps_nV, logps_nV.new_tensor(math.log(1e-12))).mean(dim=-1)


def _middles(logits_nV: Tensor, ref_logits_nV: Tensor) -> Tensor:
    """JSD(p, q) at each position."""
    logps_nV, ref_logps_nV = logits_nV.log_softmax(dim=-1), ref_logits_nV.log_softmax(dim=-1)
    floor = torch.finfo(logps_nV.dtype).min / 4
    middle_nV = torch.logaddexp(logps_nV.clamp(min=floor), ref_logps_nV.clamp(min=floor)) - math.log(2)
    return (_divergences(logps_nV, middle_nV) + _divergences(ref_logps_nV, middle_nV)) / 2


def _divergences_from(logits_nV: Tensor, ref_logits_nV: Tensor) -> Tensor:
    return _divergences(ref_logits_nV.log_softmax(dim=-1), logits_nV.log_softmax(dim=-1))


def _divergences(logps_nV: Tensor, other_logps_nV: Tensor) -> Tensor:
    """KL(p || q) at each position, from log-probabilities that may be -inf."""
    floor = torch.finfo(logps_nV.dtype).min
    gap_nV = logps_nV.clamp(min=floor) - other_logps_nV.clamp(min=floor)
    return torch.where(logps_nV.isneginf(), 0.0, logps_nV.exp() * gap_nV).sum(dim=-1)


def _cross_entropies(target_logits_nV: Tensor, logits_nV: Tensor) -> Tensor:
    """-sum_v q_v ln p_v at each position, tokens that the target excludes left out."""
    targets_nV = target_logits_nV.softmax(dim=-1)
    floor = torch.finfo(targets_nV.dtype).min
    logps_nV = logits_nV.log_softmax(dim=-1).clamp(min=floor)
    return -torch.where(targets_nV == 0, 0.0, targets_nV * logps_nV).sum(dim=-1)
