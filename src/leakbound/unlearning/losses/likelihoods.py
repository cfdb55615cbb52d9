"""Losses of the answers' log-probabilities: ascent, preference optimisation, refusals and weighted tokens."""

import torch.nn.functional as F
from torch import Tensor

from leakbound.unlearning.losses.blocks import Laws
from leakbound.unlearning.losses.tensors import answer_lengths as count_answer
from leakbound.unlearning.losses.tensors import check_same_shape, finite, token_logps


def nll(logps_B: Tensor, lengths_B: Tensor) -> Tensor:
    """Negative log-likelihood per token: -log p(y|x) / |y|.

    The retain term GD of arXiv 2410.08109, plain training, and with a refusal for y the forget term IDK of that paper.
    """
    check_same_shape(logps_B, lengths_B)
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
    check_same_shape(logps_B, ref_logps_B)
    return -(2 / beta) * F.logsigmoid(-beta * (logps_B - finite(ref_logps_B)))


def simnpo(logps_B: Tensor, lengths_B: Tensor, *, beta: float, gamma: float) -> Tensor:
    """NPO without a reference, per token: -(2/beta) log sigmoid(beta (-log p(y|x)/|y| - gamma)).

    arXiv 2410.07163, as its authors' code has it; the paper writes the margin as beta times this gamma.
    """
    return -(2 / beta) * F.logsigmoid(beta * (nll(logps_B, lengths_B) - gamma))


def dpo(
    logps_B: Tensor, ref_logps_B: Tensor, refusal_logps_B: Tensor, refusal_ref_logps_B: Tensor, *, beta: float
) -> Tensor:
    """Prefer a refusal y' to the answer y: -(2/beta) log sigmoid(beta (r - r_ref)), r = log p(y'|x) - log p(y|x).

    The same ratio under the reference model is r_ref. The scale 2/beta is that of arXiv 2410.08109's code (beta 0.1);
    DPO itself (arXiv 2305.18290) has 1.
    """
    check_same_shape(logps_B, ref_logps_B, refusal_logps_B, refusal_ref_logps_B)
    ratio_B = finite(refusal_logps_B) - finite(logps_B)
    ref_ratio_B = finite(refusal_ref_logps_B) - finite(ref_logps_B)
    return -(2 / beta) * F.logsigmoid(beta * (ratio_B - ref_ratio_B))


def answer_preservation(logps_B: Tensor, refusal_logps_B: Tensor, *, beta: float) -> Tensor:
    """Keep the answer y ahead of the refusal y' on retain questions, without a reference model.

    -(1/beta) log sigmoid(beta (log p(y|x) - log p(y'|x))), log-probabilities summed over the answer. The retain term AP
    of arXiv 2410.08109, as its code has it (beta 0.1).
    """
    check_same_shape(logps_B, refusal_logps_B)
    return -(1 / beta) * F.logsigmoid(beta * (finite(logps_B) - finite(refusal_logps_B)))


def llmu(
    logps_B: Tensor, lengths_B: Tensor, other_logps_B: Tensor, other_lengths_B: Tensor, *, mismatch_weight: float
) -> Tensor:
    """Ascent on the answer and descent on a wrong one: log p(y|x)/|y| - w log p(y_other|x)/|y_other|.

    y_other answers another, retained question. The forget side of arXiv 2310.10683; its retain side is
    :func:`kl_retain`.
    """
    return grad_ascent(logps_B, lengths_B) + mismatch_weight * mismatch(other_logps_B, other_lengths_B)


def mismatch(other_logps_B: Tensor, other_lengths_B: Tensor) -> Tensor:
    """Descent on the answer to another question: -log p(y_other|x)/|y_other|. One part of arXiv 2310.10683."""
    return nll(other_logps_B, other_lengths_B)


def wga(logits_BLV: Laws | Tensor, labels_BL: Tensor, *, power: float) -> Tensor:
    """Weighted gradient ascent: mean_t w_t log p_t with w_t = p_t^power held constant, p_t = p(y_t | x, y_<t).

    Tokens that are already improbable are left alone. arXiv 2502.19301 (power 1).
    """
    logps_BL = token_logps(logits_BLV, labels_BL)
    weights_BL = (power * logps_BL.detach()).exp()
    return (weights_BL * finite(logps_BL)).sum(dim=1) / count_answer(labels_BL)


def satimp(logits_BLV: Laws | Tensor, labels_BL: Tensor, *, saturation: float, importance: float) -> Tensor:
    """Saturation and importance: mean_t w_t log p_t, w_t = p_t^saturation (1 - p_t)^importance held constant.

    arXiv 2505.11953 (saturation 5, importance 1).
    """
    logps_BL = token_logps(logits_BLV, labels_BL)
    probs_BL = logps_BL.detach().exp()
    weights_BL = probs_BL**saturation * (1 - probs_BL).clamp(min=0) ** importance
    return (weights_BL * finite(logps_BL)).sum(dim=1) / count_answer(labels_BL)
