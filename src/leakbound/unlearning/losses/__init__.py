"""Losses as plain functions of tensors, one value for each example of a batch.

Shapes: ``_B`` examples, ``_L`` positions, ``_V`` vocabulary, ``_D`` hidden dimensions. Log-probabilities are natural
logs. Logits of half precision are turned to float32 before any log-sum-exp. No function here runs a model. Shapes that
do not fit raise ValueError. docs/unlearning.md says for each loss where its formula comes from and how sure that is.
"""

from leakbound.unlearning.losses.distributions import (
    ce_u,
    entropy,
    jensen_shannon,
    jensen_shannon_to_tokens,
    jensun,
    kl_retain,
    max_entropy,
    undial,
)
from leakbound.unlearning.losses.hidden import random_direction, rmu, rmu_retain
from leakbound.unlearning.losses.likelihoods import (
    answer_preservation,
    dpo,
    grad_ascent,
    llmu,
    mismatch,
    nll,
    npo,
    satimp,
    simnpo,
    wga,
)
from leakbound.unlearning.losses.samples import grpo, leak_mass
from leakbound.unlearning.losses.tensors import (
    answer_lengths,
    predicts_answer,
    says_answer,
    sequence_logps,
    token_logps,
)

__all__ = [
    "answer_lengths", "answer_preservation", "ce_u", "dpo", "entropy", "grad_ascent", "grpo", "jensen_shannon",
    "jensen_shannon_to_tokens", "jensun", "kl_retain", "leak_mass", "llmu", "max_entropy", "mismatch", "nll", "npo",
    "predicts_answer", "random_direction", "rmu", "rmu_retain", "satimp", "says_answer", "sequence_logps", "simnpo",
    "token_logps", "undial", "wga",
]  # fmt: skip
