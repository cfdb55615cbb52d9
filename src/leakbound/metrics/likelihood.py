"""Metrics of what the model would have said: probabilities of the right and of wrong answers, given the question.

A loss is the mean negative log-likelihood per token of an answer, in nats, the end token included, so that exp(-loss) =
p(answer | question)^(1 / tokens). r below is always wrong over right: small where the model knows the answer.
"""

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import as_numbers
from leakbound.errors import InputError
from leakbound.metrics.checks import Floats, check_aligned, check_losses, check_shares, check_values


def answer_probability(answer_loss: npt.ArrayLike) -> Floats:
    """exp(-loss) = p(a | q)^(1/T), in [0, 1]. TOFU's probability on forget and retain (arXiv 2401.06121)."""
    probability: Floats = np.exp(-check_losses("answer_loss", answer_loss))
    return probability


def normalised_probability(answer_loss: npt.ArrayLike, perturbed_loss: npt.ArrayLike) -> Floats:
    """p_0 / (p_0 + p_1 + ... + p_k) with p = exp(-loss), 0 the right answer and 1..k the wrong ones.

    TOFU's probability on real authors and world facts. ``perturbed_loss`` has shape (n, k).
    """
    right = check_losses("answer_loss", answer_loss)
    wrong = check_losses("perturbed_loss", perturbed_loss, ndim=2)
    check_aligned({"answer_loss": right, "perturbed_loss": wrong})
    with np.errstate(over="ignore"):  # exp of more than 709 nats: the share is 0
        share: Floats = 1.0 / (1.0 + np.exp(right[:, None] - wrong).sum(axis=1))
    return share


def truth_ratio(paraphrase_loss: npt.ArrayLike, perturbed_loss: npt.ArrayLike) -> Floats:
    """r = exp(loss of the paraphrase - mean loss of the wrong answers) = geometric mean of p_wrong / p_paraphrase.

    In [0, inf): 0 where the model is sure of the right answer, about 1 where it does not know, above 1 where it prefers
    wrong answers. This is the ratio of TOFU's paper and of open-unlearning; TOFU's own aggregation, and closer-look's
    r_i, are 1/r. Where a set has no paraphrase (real authors, world facts) the answer itself stands in.
    """
    right = check_losses("paraphrase_loss", paraphrase_loss)
    wrong = check_losses("perturbed_loss", perturbed_loss, ndim=2)
    check_aligned({"paraphrase_loss": right, "perturbed_loss": wrong})
    with np.errstate(over="ignore"):
        ratio: Floats = np.exp(right - wrong.mean(axis=1))
    return ratio


def truth_ratio_known(ratio: npt.ArrayLike) -> Floats:
    """max(0, 1 - r), in [0, 1], large where the answer is known: TOFU on every set but forget (closer-look too)."""
    return np.maximum(0.0, 1.0 - _ratio(ratio))


def truth_ratio_unknown(ratio: npt.ArrayLike) -> Floats:
    """min(r, 1/r), in [0, 1], large where right and wrong are alike: TOFU on the forget set, larger = better."""
    ratio = _ratio(ratio)
    with np.errstate(divide="ignore"):
        return np.minimum(ratio, 1.0 / ratio)


def truth_ratio_leaked(ratio: npt.ArrayLike) -> Floats:
    """1 - min(r, 1/r): closer-look on the forget set, larger = worse, the opposite of TOFU (arXiv 2410.08109)."""
    return 1.0 - truth_ratio_unknown(ratio)


def _ratio(ratio: npt.ArrayLike) -> Floats:
    array = as_numbers("ratio", ratio)
    finite = np.where(np.isposinf(array), 1e308, array)  # a ratio may overflow: its limits are well defined
    check_values("ratio", finite, low=0.0)
    return array


def exact_memorization(greedy: npt.ArrayLike) -> float:
    """The share of an answer's tokens that are the likeliest ones after the true tokens before them, in [0, 1].

    ``greedy`` has shape (T,), one flag for each token. Tirumala et al. 2022 (arXiv 2205.10770), open-unlearning.
    """
    return float(_flags(greedy).mean())


def extraction_strength(greedy: npt.ArrayLike) -> float:
    """The longest end of an answer that greedy decoding gives back after the rest of it, as a share: (T - k) / T.

    k is the smallest number of true tokens after which all T - k others are the likeliest ones. 0 where not even the
    last token is: open-unlearning's loop gives 1/T there. Carlini et al. 2021 (arXiv 2012.07805), open-unlearning.
    """
    flags = _flags(greedy)
    wrong = np.flatnonzero(~flags)
    return float((flags.size - 1 - wrong[-1]) / flags.size) if wrong.size else 1.0


def _flags(greedy: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    flags = check_shares("greedy", greedy)
    if not np.isin(flags, (0.0, 1.0)).all():
        raise InputError("greedy holds numbers other than 0 and 1: give one flag for each token of the answer")
    return flags.astype(np.bool_)
