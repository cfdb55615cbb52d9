"""What all losses share: log-probabilities of answers, means over positions, and checks of shapes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from leakbound.unlearning.data import IGNORED
from leakbound.unlearning.losses.blocks import Laws, per_position


def token_logps(logits_BLV: Laws | Tensor, labels_BL: Tensor) -> Tensor:
    """Log-probability of each scored token, 0 where nothing is scored; nats, shape (B, L - 1).

    ``labels_BL`` are the input tokens, ``IGNORED`` (-100) where nothing is scored; position t of the logits predicts
    label t + 1.
    """
    check_logits(logits_BLV, labels_BL)
    return per_position(next_logps, logits_BLV, predicts_answer(labels_BL), next_labels(labels_BL))[:, :-1]


def sequence_logps(logits_BLV: Laws | Tensor, labels_BL: Tensor) -> Tensor:
    """Log-probability of each answer: the sum of :func:`token_logps`, log p(y|x). Nats, shape (B,)."""
    return token_logps(logits_BLV, labels_BL).sum(dim=1)


def next_logps(logits_nV: Tensor, labels_n: Tensor) -> Tensor:
    """Log-probability of one token under each law; nats, shape (n,)."""
    return -F.cross_entropy(logits_nV, labels_n, reduction="none")


def answer_lengths(labels_BL: Tensor) -> Tensor:
    """The number of scored tokens of each example, as :func:`sequence_logps` counts them; shape (B,)."""
    return (labels_BL[:, 1:] != IGNORED).sum(dim=1)


def predicts_answer(labels_BL: Tensor) -> Tensor:
    """The positions whose logits predict a scored token; bool, shape (B, L)."""
    return F.pad(labels_BL[:, 1:] != IGNORED, (0, 1))


@torch.no_grad()
def says_answer(logits_BLV: Laws | Tensor, labels_BL: Tensor) -> Tensor:
    """The positions whose likeliest next token is the scored one, a constant; bool, shape (B, L)."""
    check_logits(logits_BLV, labels_BL)
    return per_position(_likeliest, logits_BLV, predicts_answer(labels_BL), next_labels(labels_BL)).bool()


def _likeliest(logits_nV: Tensor, labels_n: Tensor) -> Tensor:
    return (logits_nV.argmax(dim=-1) == labels_n).to(logits_nV.dtype)


def next_labels(labels_BL: Tensor) -> Tensor:
    """The token that each position predicts, 0 where none is scored; shape (B, L)."""
    return F.pad(labels_BL[:, 1:], (0, 1), value=IGNORED).clamp(min=0)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor, half precision turned to float32."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def finite(logps: Tensor) -> Tensor:
    """Log-probabilities with -inf replaced by a number so low that differences of two stay numbers."""
    return logps.clamp(min=-1e30)


def masked_mean(values_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """The mean over each example's masked positions, 0 where it has none; shape (B,)."""
    mask_BL = mask_BL.bool()
    return torch.where(mask_BL, values_BL, 0.0).sum(dim=1) / mask_BL.sum(dim=1).clamp(min=1)


def check_logits(logits_BLV: Laws | Tensor, labels_BL: Tensor) -> None:
    """Refuse logits and labels that do not fit."""
    if logits_BLV.dim() != 3 or labels_BL.shape != logits_BLV.shape[:2]:
        raise ValueError(
            f"logits {tuple(logits_BLV.shape)} and labels {tuple(labels_BL.shape)}: give (B, L, V), (B, L)"
        )


def check_mask(logits_BLV: Laws | Tensor, mask_BL: Tensor) -> None:
    """Refuse logits (or hidden states) and a mask that do not fit."""
    if logits_BLV.dim() != 3 or mask_BL.shape != logits_BLV.shape[:2]:
        raise ValueError(f"logits {tuple(logits_BLV.shape)} and mask {tuple(mask_BL.shape)}: give (B, L, V) and (B, L)")


def check_same_shape(*tensors: Laws | Tensor) -> None:
    """Refuse tensors of different shapes."""
    if len({tensor.shape for tensor in tensors}) > 1:
        shown = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"shapes {shown} differ: give tensors of one shape")
