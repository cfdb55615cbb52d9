"""One number for a model: model utility, forget efficacy, forget quality."""

import numpy as np
import numpy.typing as npt

from leakbound.metrics.checks import Floats, check_aligned, check_shares, check_values


def harmonic_mean(numbers: npt.ArrayLike) -> float:
    """m / sum_i 1/x_i over m numbers in [0, 1]; 0 where one of them is 0.

    TOFU's model utility takes nine: probability, ROUGE-L recall and truth ratio on retain, real authors, world facts.
    closer-look's takes eighteen: these and token entropy, cosine similarity, entailment score on each set; in its
    real-world scenario the six of the neighbor set.

    >>> harmonic_mean([0.25, 0.25, 1.0])
    0.3333333333333333
    """
    return float(harmonic_means(check_shares("numbers", numbers)[None, :])[0])


def harmonic_means(rows: Floats) -> Floats:
    """:func:`harmonic_mean` of each row."""
    with np.errstate(divide="ignore"):
        means: Floats = rows.shape[1] / (1.0 / rows).sum(axis=1)
    return means


def forget_efficacy(
    rouge_l_recall: npt.ArrayLike,
    probability: npt.ArrayLike,
    truth_ratio_leaked: npt.ArrayLike,
    cosine_similarity: npt.ArrayLike,
    entailment: npt.ArrayLike,
) -> Floats:
    """1 - mean of the five, question by question, in [0, 1]; its mean over the forget set is closer-look's FE.

    Token entropy is not among them: it knows no right answer (arXiv 2410.08109).
    """
    five = {
        "rouge_l_recall": check_shares("rouge_l_recall", rouge_l_recall),
        "probability": check_shares("probability", probability),
        "truth_ratio_leaked": check_shares("truth_ratio_leaked", truth_ratio_leaked),
        "cosine_similarity": check_shares("cosine_similarity", cosine_similarity),
        "entailment": check_shares("entailment", entailment),
    }
    check_aligned(five)
    efficacy: Floats = 1.0 - np.mean(list(five.values()), axis=0)
    return efficacy


def average_score(model_utility: float, forget_efficacy: float) -> float:
    """(MU + FE) / 2: the "Avg" of closer-look's tables."""
    return float(check_shares("model_utility and forget_efficacy", [model_utility, forget_efficacy]).mean())


def ks_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """sup_x |F(x) - G(x)| of two empirical distribution functions."""
    a, b = np.sort(check_values("first", first)), np.sort(check_values("second", second))
    places = np.concatenate([a, b])
    f, g = (np.searchsorted(x, places, side="right") / x.size for x in (a, b))
    return float(np.abs(f - g).max())


def forget_quality(truth_ratio: npt.ArrayLike, retrained_truth_ratio: npt.ArrayLike) -> float:
    """p-value of the two-sample Kolmogorov-Smirnov test on the forget set's truth ratios: TOFU's forget quality.

    Large where the unlearned model cannot be told from the retrained one. It is the same for r and 1/r. The test takes
    the two samples for independent; here both models answer the same questions, so that it is a convention, not a
    level: :func:`ks_distance` comes with an interval that needs no such thing. Exact for up to 10,000 questions.
    """
    from scipy import stats  # here, because importing it takes half a second

    a, b = check_values("truth_ratio", truth_ratio), check_values("retrained_truth_ratio", retrained_truth_ratio)
    return float(stats.ks_2samp(a, b).pvalue)
