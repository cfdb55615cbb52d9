"""Metrics of what the model said: repetition, likeness in meaning, entailment, verbatim and knowledge memorization."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import check_fraction, reaches
from leakbound.errors import InputError
from leakbound.metrics.checks import Floats, check_aligned, check_shares, check_values
from leakbound.scoring.lexical import rouge_l_f1

LEAST_ROUGE = 0.1
"""closer-look's rule: an output with a ROUGE-L recall below this entails nothing, whatever the model says."""

ENTAILMENT_DIRECTION: dict[str, tuple[str, str]] = {
    "forget": ("output", "truth"),
    "retain": ("truth", "output"),
    "real_authors": ("truth", "output"),
    "world_facts": ("truth", "output"),
    "neighbor": ("output", "truth"),
}
"""Set -> (premise, hypothesis), as in closer-look's published code; output is what the model said.

The direction matters: with the output as premise an answer may say more than the truth, with the truth as premise it
may say less. "neighbor" and the real-world "forget" set go the same way as TOFU's forget set.
"""


def token_entropy(tokens: Sequence[Hashable]) -> float:
    """-sum_w f_w log2 f_w / log2 N over the frequencies f_w of the N tokens of an output, in [0, 1]; 0 where N <= 1.

    It measures repetition in the output, not how unsure the model is. closer-look (arXiv 2410.08109); tokens of the
    model's tokenizer there.
    """
    size = len(tokens)
    if size <= 1:
        return 0.0
    return min(_entropy(Counter(tokens)) / math.log2(size), 1.0)


def _entropy(counts: Counter[Hashable]) -> float:
    """Shannon entropy in bits of observed frequencies."""
    total = counts.total()
    return math.fsum(-c / total * math.log2(c / total) for c in counts.values()) + 0.0


def fluency(text: str) -> float:
    """H_2 / 3 + 2 H_3 / 3, H_n the entropy in bits of the text's n-grams of words, n = 2 and 3; 0 for under 3 words.

    The weights are those of the editing literature's n-gram entropy (ROME, arXiv 2202.05262). Words are runs without
    white space (there: NLTK's). It falls where an output repeats itself, and grows with its length.
    """
    words = text.split()
    if len(words) < 3:
        return 0.0
    bigrams, trigrams = (Counter(zip(*(words[i:] for i in range(n)), strict=False)) for n in (2, 3))
    return _entropy(Counter(bigrams)) / 3 + 2 * _entropy(Counter(trigrams)) / 3


def cosine_similarity(outputs: npt.ArrayLike, references: npt.ArrayLike) -> Floats:
    """max(0, cos) between the embeddings of each output and of its reference, in [0, 1]; both of shape (n, d).

    closer-look's reference is what the model said before unlearning, or the right answer where that was not kept.
    A zero vector has no direction and is an InputError.
    """
    a = check_values("outputs", outputs, ndim=2)
    b = check_values("references", references, ndim=2)
    if a.shape != b.shape:
        raise InputError(f"outputs has shape {a.shape} and references {b.shape}: give one embedding each per question")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if (lengths == 0).any():
        where = int(np.argmin(lengths))
        raise InputError(f"the embedding of question {where} is zero: embed a text that is not empty")
    cosine: Floats = np.clip((a * b).sum(axis=1) / lengths, 0.0, 1.0)
    return cosine


def entailment_score(
    entailed: npt.ArrayLike, rouge_l_recall: npt.ArrayLike, least_rouge: float = LEAST_ROUGE
) -> Floats:
    """1 where the model of inference says "entailment" and the ROUGE-L recall is at least ``least_rouge``, else 0.

    0 as ``least_rouge`` switches the rule off. Which text is the premise: :data:`ENTAILMENT_DIRECTION`.
    """
    said = check_shares("entailed", entailed)
    rouge = check_shares("rouge_l_recall", rouge_l_recall)
    check_fraction("least_rouge", least_rouge)
    check_aligned({"entailed": said, "rouge_l_recall": rouge})
    if not np.isin(said, (0.0, 1.0)).all():
        raise InputError("entailed holds numbers other than 0 and 1: give one verdict for each question")
    return np.where(reaches(rouge, least_rouge), said, 0.0)


def verbatim_memorization(continuation: str, truth: str) -> float:
    """ROUGE-L F1 of the model's greedy continuation against the true one: MUSE's VerbMem (arXiv 2407.06460)."""
    return rouge_l_f1(continuation, truth)


def knowledge_memorization(answer: str, truth: str) -> float:
    """ROUGE-L F1 of the model's greedy answer against the right one: MUSE's KnowMem (arXiv 2407.06460)."""
    return rouge_l_f1(answer, truth)
