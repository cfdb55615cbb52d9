"""Membership inference: was this answer trained on? Scores of one answer, and what they tell over two sets.

Every score here is **low for members**: a text that was trained on has a low loss. AUC = P(score of a holdout question
> score of a forget question) + half the ties: 0.5 where forget and holdout look alike, 1 where every forget question is
recognised, below 0.5 where unlearning overshot.
"""

import math
import zlib

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import check_fraction, check_real
from leakbound.errors import InputError
from leakbound.metrics.checks import Floats, check_aligned, check_logprobs, check_values

LOWEST_SHARE = 0.4
"""The share of the least likely tokens that min-k looks at: 0.4 in open-unlearning and MUSE."""

LEAST_STD = 1e-3


def mia_loss(logprobs: npt.ArrayLike) -> float:
    """-mean_t log p_t, in nats per token. ``logprobs`` has shape (T,). Yeom et al. 2018."""
    return float(-_logprobs(logprobs).mean())


def mia_zlib(logprobs: npt.ArrayLike, text: str) -> float:
    """The loss over the length in bytes of the zlib-compressed answer. Carlini et al. 2021 (arXiv 2012.07805).

    ``text`` is the answer alone.
    """
    return mia_loss(logprobs) / len(zlib.compress(text.encode("utf-8", "surrogatepass")))


def mia_min_k(logprobs: npt.ArrayLike, share: float = LOWEST_SHARE) -> float:
    """-mean of the lowest ``share`` of the tokens' log-probabilities (at least one). Shi et al. 2024 (2310.16789)."""
    return -_lowest(_logprobs(logprobs), share)


def mia_min_k_plus_plus(
    logprobs: npt.ArrayLike, mean: npt.ArrayLike, std: npt.ArrayLike, share: float = LOWEST_SHARE
) -> float:
    """-mean of the lowest ``share`` of (log p_t - mean_t) / std_t. Zhang et al. 2025 (arXiv 2404.02936).

    ``mean`` and ``std`` are those of log p over the vocabulary under the model's own distribution at that token; std is
    taken as at least 10^-3, as in open-unlearning, so that the rounding of a certain token does not count.
    """
    tokens = _logprobs(logprobs)
    means, stds = check_logprobs("mean", mean), check_values("std", std, low=0.0)
    check_aligned({"logprobs": tokens, "mean": means, "std": stds})
    return -_lowest((tokens - means) / np.maximum(stds, LEAST_STD), share)


def mia_reference(logprobs: npt.ArrayLike, reference_logprobs: npt.ArrayLike) -> float:
    """Loss minus the loss under a reference model, of the same tokens. Carlini et al. 2021."""
    tokens, others = _logprobs(logprobs), _logprobs(reference_logprobs, "reference_logprobs")
    check_aligned({"logprobs": tokens, "reference_logprobs": others})
    return float(others.mean() - tokens.mean())


def mia_gradient_norm(gradient: npt.ArrayLike) -> float:
    """sqrt(sum g^2) over the gradient of the loss by all parameters, or over the norms of its pieces. (2402.17012)"""
    return float(np.linalg.norm(check_values("gradient", gradient)))


def _logprobs(logprobs: npt.ArrayLike, name: str = "logprobs") -> Floats:
    return check_logprobs(name, logprobs)


def _lowest(scores: Floats, share: float) -> float:
    if not 0 < check_real("share", share, "give a number in (0, 1], for example 0.4") <= 1:
        raise InputError(f"share is {share!r}: give a number in (0, 1], for example 0.4")
    return float(np.sort(scores)[: max(1, math.floor(share * scores.size))].mean())


def membership_auc(forget: npt.ArrayLike, holdout: npt.ArrayLike) -> float:
    """P(holdout score > forget score) + P(equal) / 2 over all pairs. Scores are low for members (see above).

    open-unlearning's AUC goes the same way; MUSE's is 1 minus it.
    """
    member, other = np.sort(check_values("forget", forget)), check_values("holdout", holdout)
    below, upto = (np.searchsorted(member, other, side=side).sum() for side in ("left", "right"))
    return float((below + upto) / (2 * member.size * other.size))


def priv_leak(auc_unlearned: float, auc_retrained: float) -> float:
    """(A_unlearned - A_retrained) / A_retrained with A = 1 - AUC: MUSE's PrivLeak (arXiv 2407.06460), not in percent.

    MUSE's A is P(forget score > holdout score). Near 0 is right; far below 0 is under-unlearned (the forget set is
    still recognised as trained on), far above 0 is over-unlearned.
    """
    for name, value in (("auc_unlearned", auc_unlearned), ("auc_retrained", auc_retrained)):
        check_fraction(name, value)
    if auc_retrained == 1:
        raise InputError("auc_retrained is 1: the retrained model is told apart perfectly, PrivLeak has no value")
    return (auc_retrained - auc_unlearned) / (1.0 - auc_retrained)
