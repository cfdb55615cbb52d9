"""open-unlearning's stored aggregates, computed again from the values by question: do they agree?

It adds 10^-10 to denominators, which moves them by less than the tolerance unless a probability is that small; its
truth ratio is r as here (wrong over right), with one of three aggregators.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from leakbound import metrics as m
from leakbound.metrics.conventions import UTILITY, column, retained, truth_ratios
from leakbound.metrics.questions import QuestionSet
from leakbound.results.evaluation import Evaluation

TOLERANCE = 1e-6
PREFIXES = {"forget": "forget", "retain": "retain", "ra": "real_authors", "wf": "world_facts"}
"""What its metrics begin with -> the set that they are of."""
_NAMES = {name: prefix for prefix, name in PREFIXES.items()}
_RATIOS: dict[str, Callable[[Any], Any]] = {
    "min(r, 1/r)": m.truth_ratio_unknown,
    "max(0, 1 - r)": m.truth_ratio_known,
    "1/(1 + r)": lambda r: 1 / (1 + r),
}
"""Its aggregators closer_to_1_better, true_better and prob_mean."""


def recomputed(evaluation: Evaluation, log: Mapping[str, Any]) -> tuple[str, ...]:
    """What was compared, which aggregates differ, and which could not be computed again."""
    ours = {metric: values for metric, values in _ours(evaluation) if metric in log}
    notes, agree = [], 0
    for metric, values in ours.items():
        stored = log[metric].get("agg_value")
        if not isinstance(stored, int | float) or not math.isfinite(stored):
            continue
        near = [name for name, value in values.items() if abs(value - stored) <= TOLERANCE]
        agree += bool(near)
        usual = next(iter(values))
        if not near:
            notes.append(f"{metric}: stored {stored:.6f}, computed again {values[usual]:.6f}")
        elif usual not in near:
            notes.append(f"{metric}: stored {stored:.6f} is the mean of {near[0]}, TOFU's is {values[usual]:.6f}")
    total = sum(isinstance(log[metric].get("agg_value"), int | float) for metric in ours)
    head = f"{agree} of {total} stored aggregates agree with the values by question to {TOLERANCE:g}"
    others = [k for k, v in log.items() if k not in ours and isinstance(v, dict) and v.get("agg_value") is not None]
    if others:
        notes.append(f"not computed again: {', '.join(others)}")
    if any("extraction_strength" in q.values for q in evaluation.sets.values()):
        notes.append(
            "extraction strength: open-unlearning stores 1/T, not 0, where nothing was extracted; taken as it stands"
        )
    return (head, *notes)


def attack_in_log(name: str) -> str:
    """What it calls a membership attack."""
    return "mia_gradnorm" if name == "mia_gradient_norm" else name


def _ours(evaluation: Evaluation) -> Iterator[tuple[str, dict[str, float]]]:
    """Metric -> what it may be: the usual definition first."""
    for name, questions in evaluation.sets.items():
        prefix = _NAMES.get(name, name)
        for metric, values in _by_set(questions):
            yield metric.format(prefix=prefix), values
        if name in ("forget", "retain", "forget_text"):
            start = "retain_" if name == "retain" else ""
            for value in ("extraction_strength", "exact_memorization"):
                if value in questions.values:
                    yield f"{start}{value}", {"": float(questions.values[value].mean())}
        for value in ("verbatim_memorization", "knowledge_memorization"):
            if value in questions.values:
                yield f"{name}_ROUGE", {"": float(questions.values[value].mean())}
    if {"forget", "holdout"} <= set(evaluation.sets):
        forget, holdout = evaluation.sets["forget"], evaluation.sets["holdout"]
        for value in holdout.values:
            yield attack_in_log(value), {"": m.membership_auc(forget.value(value), holdout.value(value))}
    kept = retained(evaluation, "tofu")
    if kept:
        nine = [float(column(q, part, "tofu").mean()) for q in kept for part in UTILITY["tofu"]]
        yield "model_utility", {"": m.harmonic_mean(nine)}


def _by_set(questions: QuestionSet) -> Iterator[tuple[str, dict[str, float]]]:
    values = questions.values
    for metric, loss in (("Prob", "answer_loss"), ("PARA_Prob", "paraphrase_loss"), ("PERT_Prob", "perturbed_loss")):
        if loss in values:
            yield f"{{prefix}}_Q_A_{metric}", {"": float(np.exp(-values[loss]).mean())}
    if "rouge_l_recall" in values:
        yield "{prefix}_Q_A_ROUGE", {"": float(values["rouge_l_recall"].mean())}
    if "perturbed_loss" not in values:
        return
    if questions.name in ("real_authors", "world_facts"):
        yield "{prefix}_Q_A_Prob_normalised", {"": float(column(questions, "probability", "tofu").mean())}
    elif "paraphrase_loss" not in values:
        return
    order = ["min(r, 1/r)", *_RATIOS] if questions.name == "forget" else ["max(0, 1 - r)", *_RATIOS]
    means = {name: float(_RATIOS[name](truth_ratios(questions)).mean()) for name in order}
    yield "{prefix}_Truth_Ratio", means
    yield "{prefix}_truth_ratio", means
