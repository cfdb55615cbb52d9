"""The field's metrics as pure functions of per-question values; every convention is stated in docs/methods.md."""

from leakbound.metrics.aggregates import average_score, forget_efficacy, forget_quality, harmonic_mean, ks_distance
from leakbound.metrics.likelihood import (
    answer_probability,
    exact_memorization,
    extraction_strength,
    normalised_probability,
    truth_ratio,
    truth_ratio_known,
    truth_ratio_leaked,
    truth_ratio_unknown,
)
from leakbound.metrics.membership import (
    membership_auc,
    mia_gradient_norm,
    mia_loss,
    mia_min_k,
    mia_min_k_plus_plus,
    mia_reference,
    mia_zlib,
    priv_leak,
)
from leakbound.metrics.text import (
    ENTAILMENT_DIRECTION,
    LEAST_ROUGE,
    cosine_similarity,
    entailment_score,
    fluency,
    knowledge_memorization,
    token_entropy,
    verbatim_memorization,
)

__all__ = [
    "ENTAILMENT_DIRECTION", "LEAST_ROUGE", "answer_probability", "average_score", "cosine_similarity",
    "entailment_score", "exact_memorization", "extraction_strength", "fluency", "forget_efficacy", "forget_quality",
    "harmonic_mean", "knowledge_memorization", "ks_distance", "membership_auc", "mia_gradient_norm", "mia_loss",
    "mia_min_k", "mia_min_k_plus_plus", "mia_reference", "mia_zlib", "normalised_probability", "priv_leak",
    "token_entropy", "truth_ratio", "truth_ratio_known", "truth_ratio_leaked", "truth_ratio_unknown",
    "verbatim_memorization",
]  # fmt: skip
