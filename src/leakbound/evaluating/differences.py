"""Is the gap noise? Metrics of two models on the same questions, question by question."""

import math

import numpy as np

from leakbound.bounds import mean_bound
from leakbound.bounds.gate import check_alpha
from leakbound.errors import InputError
from leakbound.metrics.checks import Floats
from leakbound.metrics.conventions import (
    FORGET,
    HOLDOUT,
    UTILITY,
    available,
    check_convention,
    column,
    hmean_of,
    limits,
    retained,
)
from leakbound.metrics.intervals import SAMPLE, Metric, bootstrap_metric
from leakbound.metrics.questions import OTHERS
from leakbound.records import check_count
from leakbound.results.benchmark import Difference, Line
from leakbound.results.evaluation import Evaluation


def difference(
    first: Evaluation,
    second: Evaluation,
    metric: str,
    *,
    set: str = "",
    convention: str = "tofu",
    alpha: float = 0.01,
    seed: int = 0,
) -> Difference:
    """Compare two models on the same questions.

    For a metric that is a mean of numbers x, y in [0, 1] over one ``set``: E[x - y] by betting on (1 + x - y) / 2, a
    guaranteed interval if the questions are a random sample, and the exact sign test; of ``harmful``, a greedy answer
    that was cut counts for either side and leaves no test. For ``model_utility`` and ``average`` (no set), and for
    means without limits (fluency): a bootstrap that draws the questions, each with both models' values, and decides
    nothing.

    :raises InputError: other questions than the first's, an unknown metric, a missing value.
    """
    check_convention(convention)
    check_alpha(alpha)
    check_count("seed", seed, least=0)
    if metric in ("model_utility", "average"):
        return _across(first, second, metric, convention, alpha, seed)
    a, b = first.questions(set), second.questions(set)
    _same(first, second, set)
    if metric in OTHERS:
        x, y = a.value(metric), b.value(metric)
        found = bootstrap_metric(metric, set, [(x - y)[:, None]], lambda m: m[:, 0], alpha=alpha, seed=seed)
        return _bootstrapped(found, first, second, math.inf)
    (x, most), (y, others) = (limits(q, metric, convention) for q in (a, b))
    known = bool((x == most).all() and (y == others).all())
    bound = mean_bound((1.0 + most - y) / 2, alpha=alpha, side="both")
    least = bound if known else mean_bound((1.0 + x - others) / 2, alpha=alpha, side="both")
    p = sign_test(int((x > y).sum()), int((x < y).sum())) if known else None
    binary = bool(np.isin(np.stack([x, y]), (0.0, 1.0)).all())
    return Difference(
        metric,
        set,
        first.model,
        second.model,
        float((x - y).mean()),
        2 * least.lower - 1,
        2 * bound.upper - 1,
        alpha,
        x.size,
        f"exact ({bound.method} on paired questions), {SAMPLE}",
        p,
        "" if p is None else "McNemar, exact" if binary else "sign test, exact",
    )


def _bootstrapped(m: Metric, first: Evaluation, second: Evaluation, widest: float) -> Difference:
    """A metric of both models as their difference; where the bootstrap gives no interval, what holds without one."""
    lower, upper = (-widest if m.lower is None else m.lower), (widest if m.upper is None else m.upper)
    return Difference(m.name, m.set, first.model, second.model, m.value, lower, upper, m.alpha, m.n, m.method)


def sign_test(up: int, down: int) -> float:
    """min(1, 2 P(Bin(up + down, 1/2) <= min(up, down))): two-sided, ties left out; 1 where all are ties."""
    n, k = up + down, min(up, down)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, float(2 * tail / 2**n))


def _same(first: Evaluation, second: Evaluation, name: str) -> None:
    a, b = first.questions(name).ids, second.questions(name).ids
    if a != b:
        raise InputError(
            f"set {name!r}: {first.model!r} answered {len(a)} questions and {second.model!r} {len(b)}, not the same "
            "ones in the same order: a difference needs both models on the same questions"
        )
    check_asked(first, second)


def check_asked(first: Evaluation, second: Evaluation) -> None:
    """InputError where a question has the same id of both models, but other texts. Where no texts are known, nobody can
    say."""
    for name in first.sets.keys() & second.sets.keys():
        a, b = first.sets[name], second.sets[name]
        other = dict(zip(b.ids, b.generations, strict=False))
        for id, (asked, _, target) in zip(a.ids, a.generations, strict=False):
            said = other.get(id, (asked, "", target))
            if (said[0], said[2]) != (asked, target):
                raise InputError(
                    f"set {name!r}: question {id!r} is {asked!r:.80} with the answer {target!r:.60} of "
                    f"{first.model!r}, and {said[0]!r:.80} with {said[2]!r:.60} of {second.model!r}: nothing can be "
                    "compared; give both models on the same questions in the same order"
                )


def _across(first: Evaluation, second: Evaluation, metric: str, convention: str, alpha: float, seed: int) -> Difference:
    """Columns of both models side by side for each set, so that a question is drawn for both at once."""
    if metric == "average" and convention != "closer_look":
        raise InputError(f"metric 'average' belongs to the convention closer_look: convention is {convention!r}")
    columns = [_columns(e, metric, convention) for e in (first, second)]
    if list(columns[0]) != list(columns[1]) or not columns[0]:
        raise InputError(f"{metric} needs the same sets of both models: {list(columns[0])} and {list(columns[1])}")
    for name in columns[0]:
        _same(first, second, name)
    strata = [np.concatenate([columns[0][name], columns[1][name]], axis=1) for name in columns[0]]
    widths = [values.shape[1] for values in columns[0].values()]
    starts = np.cumsum([0, *(2 * width for width in widths)])[:-1]
    own = [start + i for start, width in zip(starts, widths, strict=True) for i in range(width)]
    other = [start + width + i for start, width in zip(starts, widths, strict=True) for i in range(width)]
    utility_width = sum(widths) - (metric == "average")
    hmean = hmean_of([utility_width])

    def statistic(means: Floats) -> Floats:
        parts = [means[:, places] for places in (own, other)]
        scores = [hmean(p) if metric == "model_utility" else (hmean(p) + p[:, -1]) / 2 for p in parts]
        return scores[0] - scores[1]

    return _bootstrapped(bootstrap_metric(metric, "", strata, statistic, alpha=alpha, seed=seed), first, second, 1.0)


def _columns(evaluation: Evaluation, metric: str, convention: str) -> dict[str, Floats]:
    """Set -> its columns for model utility; for the average the forget efficacy comes last."""
    kept = retained(evaluation, convention)
    found = {q.name: np.stack([column(q, n, convention) for n in UTILITY[convention]], axis=1) for q in kept}
    if metric == "average":
        found[FORGET] = column(evaluation.questions(FORGET), "forget_efficacy", convention)[:, None]
    return found


def compared(
    evaluation: Evaluation, reference: Evaluation | None = None, *, convention: str = "tofu", alpha: float = 0.01
) -> tuple[Line, ...]:
    """Every metric of :meth:`Evaluation.metrics`, with the retrained model's and their difference where both exist."""
    if reference is not None:
        check_asked(evaluation, reference)
    own = evaluation.metrics(reference=reference, convention=convention, alpha=alpha)
    if reference is None:
        return tuple(Line(metric) for metric in own)
    own = tuple(sorted(own, key=lambda m: [*evaluation.sets, ""].index(m.set)))
    theirs = {(m.name, m.set): m for m in reference.metrics(convention=convention, alpha=alpha)}
    return tuple(Line(m, theirs.get((m.name, m.set)), _gap(m, evaluation, reference, convention, alpha)) for m in own)


def _gap(
    metric: Metric, evaluation: Evaluation, reference: Evaluation, convention: str, alpha: float
) -> Difference | None:
    """None where the two models did not answer the same questions, or the metric has no difference."""
    if metric.set:
        names = {metric.set}
        known = metric.name in (*available(evaluation.questions(metric.set)), *OTHERS, "forget_efficacy")
    else:
        names = set(evaluation.sets) - {HOLDOUT, *(() if metric.name == "average" else (FORGET,))}
        known = metric.name in ("model_utility", "average")
    if not known or any(_ids(evaluation, name) != _ids(reference, name) for name in names):
        return None
    return difference(evaluation, reference, metric.name, set=metric.set, convention=convention, alpha=alpha)


def _ids(evaluation: Evaluation, name: str) -> tuple[str, ...] | None:
    return evaluation.sets[name].ids if name in evaluation.sets else None
