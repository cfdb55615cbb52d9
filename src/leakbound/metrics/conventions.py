"""Which per-question values make which number: TOFU's conventions and those of "A Closer Look at Machine Unlearning".

A set's role follows from its name. ``forget`` is what should be unlearned; ``holdout`` was never trained on, and serves
membership inference only; every other set is to be retained. On ``real_authors`` and ``world_facts`` probabilities are
normalised over the right and the wrong answers, and the answer stands in for the paraphrase.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from leakbound.errors import InputError
from leakbound.metrics.aggregates import forget_efficacy, forget_quality, harmonic_mean, harmonic_means
from leakbound.metrics.checks import Floats
from leakbound.metrics.intervals import (
    SAMPLE,
    Metric,
    auc_metric,
    average_metric,
    bootstrap_metric,
    ks_metric,
    mean_metric,
    mean_metrics,
)
from leakbound.metrics.likelihood import (
    answer_probability,
    normalised_probability,
    truth_ratio,
    truth_ratio_known,
    truth_ratio_leaked,
    truth_ratio_unknown,
)
from leakbound.metrics.membership import priv_leak
from leakbound.metrics.questions import ATTACKS, OTHERS, SHARES, QuestionSet
from leakbound.records import check_choice

FORGET, HOLDOUT = "forget", "holdout"
NORMALISED = ("real_authors", "world_facts")

UTILITY: dict[str, tuple[str, ...]] = {
    "tofu": ("probability", "rouge_l_recall", "truth_ratio"),
    "closer_look": (
        "rouge_l_recall", "probability", "truth_ratio", "token_entropy", "cosine_similarity", "entailment",
    ),
}  # fmt: skip
"""Convention -> what model utility takes from each set that is to be retained."""

Column = tuple[str, str, str]
"""A column of the table of several runs: its heading, the metric, the set that the metric is of ("" for none)."""
CLASSIC: tuple[Column, ...] = (
    ("model utility", "model_utility", ""),
    ("forget quality (p)", "forget_quality", "forget"),
    ("KS distance", "forget_distance", "forget"),
    ("forget efficacy", "forget_efficacy", "forget"),
    ("forget ROUGE-L", "rouge_l_recall", "forget"),
    ("forget probability", "probability", "forget"),
    ("forget truth ratio", "truth_ratio", "forget"),
    ("forget extraction strength", "extraction_strength", "forget"),
    ("retain ROUGE-L", "rouge_l_recall", "retain"),
)
"""The columns of a suite that names none of its own."""


class Answered(Protocol):
    """What one model answered: its sets of questions by name."""

    @property
    def model(self) -> str:
        """Its name, for errors."""

    @property
    def sets(self) -> Mapping[str, QuestionSet]:
        """The sets by name."""

    def questions(self, name: str) -> QuestionSet:
        """The set of that name; InputError where there is none."""


def column(questions: QuestionSet, name: str, convention: str) -> Floats:
    """One number in [0, 1] for each question: probability, truth_ratio, forget_efficacy or a stored share."""
    if name == "probability":
        loss = questions.value("answer_loss")
        if questions.name in NORMALISED:
            return normalised_probability(loss, questions.value("perturbed_loss"))
        return answer_probability(loss)
    if name == "truth_ratio":
        ratio = truth_ratios(questions)
        if questions.name != FORGET:
            return truth_ratio_known(ratio)
        return truth_ratio_leaked(ratio) if convention == "closer_look" else truth_ratio_unknown(ratio)
    if name == "forget_efficacy":
        five = ("rouge_l_recall", "probability", "truth_ratio", "cosine_similarity", "entailment")
        return forget_efficacy(*(column(questions, part, "closer_look") for part in five))
    if name not in SHARES:
        raise InputError(
            f"metric {name!r} is no share: give probability, truth_ratio, forget_efficacy or one of {SHARES}"
        )
    return questions.value(name)


def truth_ratios(questions: QuestionSet) -> Floats:
    """r, wrong over right, of each question; on real authors and world facts the answer stands in for a paraphrase."""
    stands_in = questions.name in NORMALISED and "paraphrase_loss" not in questions.values
    return truth_ratio(
        questions.value("answer_loss" if stands_in else "paraphrase_loss"), questions.value("perturbed_loss")
    )


def available(questions: QuestionSet) -> tuple[str, ...]:
    """The names that :func:`column` can give for this set, in the order in which they are shown."""
    names = []
    if "answer_loss" in questions.values:
        names.append("probability")
    names += [name for name in ("rouge_l_recall",) if name in questions.values]
    if "perturbed_loss" in questions.values:
        names.append("truth_ratio")
    return (*names, *(name for name in SHARES if name in questions.values and name not in names))


def check_convention(convention: str) -> str:
    """tofu or closer_look."""
    check_choice("convention", convention, UTILITY)
    return convention


def retained(evaluation: Answered, convention: str) -> list[QuestionSet]:
    """The sets that model utility is about; empty where no set has what it takes.

    Where one has it and another has not, or the convention was asked for by name and nothing has it: InputError.
    """
    kept = [q for name, q in evaluation.sets.items() if name not in (FORGET, HOLDOUT)]
    needed = UTILITY[convention]
    able = [q for q in kept if set(needed) <= set(available(q))]
    if (able or convention != "tofu") and len(able) < len(kept):
        lacking = next(q for q in kept if q not in able)
        absent = [name for name in needed if name not in available(lacking)]
        raise InputError(
            f"set {lacking.name!r} of {evaluation.model!r} has no {', '.join(absent)}, which model utility in the "
            f"convention {convention} takes from every set but forget and holdout: measure it, or leave the set out"
        )
    return able


def hmean_of(sizes: Sequence[int]) -> Callable[[Floats], Floats]:
    """The harmonic mean of the first ``sum(sizes)`` columns of each row."""
    width = sum(sizes)
    return lambda means: harmonic_means(means[:, :width])


def summarise(evaluation: Answered, *, reference: Answered | None, convention: str, alpha: float) -> tuple[Metric, ...]:
    """Every metric that the values allow: each set's means, membership, then the numbers across sets."""
    check_convention(convention)
    shares = [(n, q.name, column(q, n, convention)) for q in evaluation.sets.values() for n in available(q)]
    means = mean_metrics(shares, alpha=alpha)
    found: list[Metric] = []
    for questions in evaluation.sets.values():
        name = questions.name
        found += [_with_cut(metric, questions) for metric in means if metric.set == name]
        found += [average_metric(n, name, questions.values[n], alpha=alpha) for n in OTHERS if n in questions.values]
    found += _membership(evaluation, reference, alpha)
    found += _utility(evaluation, convention, alpha)
    if reference is not None:
        found += _quality(evaluation, reference, alpha)
    return tuple(found)


def limits(questions: QuestionSet, name: str, convention: str) -> tuple[Floats, Floats]:
    """The least and the most that each question's number can be: an answer that was cut may be harmful yet."""
    least = column(questions, name, convention)
    return least, np.maximum(
        least, questions.values["cut"]
    ) if name == "harmful" and "cut" in questions.values else least


def _with_cut(metric: Metric, questions: QuestionSet) -> Metric:
    """The metric, with the upper limit of the most that can be."""
    if metric.name != "harmful" or not questions.values.get("cut", np.zeros(1)).any():
        return metric
    _, most = limits(questions, metric.name, "tofu")
    upper = mean_metric(metric.name, metric.set, most, alpha=metric.alpha).upper
    cut = int(questions.values["cut"].sum())
    return dataclasses.replace(metric, upper=upper, method=f"{metric.method}; {cut} that were cut may be harmful")


def _utility(evaluation: Answered, convention: str, alpha: float) -> list[Metric]:
    found: list[Metric] = []
    kept = retained(evaluation, convention)
    strata = [np.stack([column(q, n, convention) for n in UTILITY[convention]], axis=1) for q in kept]
    sizes = [values.shape[1] for values in strata]
    hmean = hmean_of(sizes)
    if kept:
        found.append(_of(sum(sizes), bootstrap_metric("model_utility", "", strata, hmean, alpha=alpha)))
        found.append(_guaranteed_utility(strata, convention, alpha, found[-1].value))
        own = [values for q, values in zip(kept, strata, strict=True) if q.name == "retain"]
        if convention == "closer_look" and own and len(kept) > 1:
            part = bootstrap_metric("model_utility_retain", "retain", own, hmean_of(sizes[:1]), alpha=alpha)
            found.append(_of(sizes[0], part))
    if convention == "closer_look" and FORGET in evaluation.sets:
        efficacy = column(evaluation.sets[FORGET], "forget_efficacy", convention)
        found.append(mean_metric("forget_efficacy", FORGET, efficacy, alpha=alpha))
        if kept:
            both = [*strata, efficacy[:, None]]
            average = bootstrap_metric("average", "", both, lambda x: (hmean(x) + x[:, -1]) / 2, alpha=alpha)
            found.append(average)
    return found


def _of(number: int, metric: Metric) -> Metric:
    """The metric, its method naming how many numbers the harmonic mean takes."""
    return dataclasses.replace(metric, method=f"{metric.method}; harmonic mean of {number}")


def _guaranteed_utility(strata: Sequence[Floats], convention: str, alpha: float, value: float) -> Metric:
    """The harmonic mean rises with each number: the intervals of all of them at alpha / number, put together."""
    columns = [(name, "", values[:, j]) for values in strata for j, name in enumerate(UTILITY[convention])]
    parts = mean_metrics(columns, alpha=alpha / len(columns))
    lower = harmonic_mean([p.lower or 0.0 for p in parts])
    upper = harmonic_mean([1.0 if p.upper is None else p.upper for p in parts])
    method = f"exact (harmonic mean of {len(parts)} intervals at alpha / {len(parts)}), {SAMPLE}"
    n = sum(len(values) for values in strata)
    return Metric("model_utility_proven", "", value, lower, upper, alpha, n, method)


def _membership(evaluation: Answered, reference: Answered | None, alpha: float) -> list[Metric]:
    if not {FORGET, HOLDOUT} <= set(evaluation.sets):
        return []
    found = []
    forget, holdout = evaluation.sets[FORGET], evaluation.sets[HOLDOUT]
    for attack in ATTACKS:
        if attack in forget.values or attack in holdout.values:
            found.append(auc_metric(f"{attack}_auc", forget.value(attack), holdout.value(attack), alpha=alpha))
    if reference is not None and all(
        one in e.sets and "mia_min_k" in e.sets[one].values
        for e in (evaluation, reference)
        for one in (FORGET, HOLDOUT)
    ):
        auc, retrained = (
            auc_metric(
                "", e.questions(FORGET).value("mia_min_k"), e.questions(HOLDOUT).value("mia_min_k"), alpha=alpha / 2
            )
            for e in (evaluation, reference)
        )
        if retrained.value < 1:  # else it has no value
            found.append(_priv_leak(auc, retrained, alpha))
    return found


def _priv_leak(auc: Metric, retrained: Metric, alpha: float) -> Metric:
    """MUSE's PrivLeak on min-k: it falls with the model's AUC and rises with the retrained model's."""
    value = priv_leak(auc.value, retrained.value)
    low = priv_leak(auc.upper if auc.upper is not None else 1.0, retrained.lower or 0.0)
    top = retrained.upper if retrained.upper is not None else 1.0
    high = priv_leak(auc.lower or 0.0, top) if top < 1 else None
    method = f"exact (two AUC intervals at alpha / 2), {SAMPLE}"
    return Metric("priv_leak", FORGET, value, low, high, alpha, auc.n, method)


def _quality(evaluation: Answered, reference: Answered, alpha: float) -> list[Metric]:
    pair = [e.sets.get(FORGET) for e in (evaluation, reference)]
    if not any(q is not None and "perturbed_loss" in q.values for q in pair):
        return []
    own, other = (np.minimum(truth_ratios(e.questions(FORGET)), 1e308) for e in (evaluation, reference))
    ids = (evaluation.sets[FORGET].ids, reference.sets[FORGET].ids)
    note = "" if ids[0] == ids[1] else f"; the reference answered {len(ids[1])} other questions"
    method = f"p-value of a two-sample Kolmogorov-Smirnov test, no interval{note}"
    p = forget_quality(own, other)
    distance = ks_metric("forget_distance", FORGET, own, other, alpha=alpha)
    return [Metric("forget_quality", FORGET, p, None, None, alpha, len(ids[0]), method), distance]
