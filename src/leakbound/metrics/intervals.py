"""A metric with its interval: how far the number may be from that of the population the questions are a sample of.

Guaranteed intervals ("exact" in ``Metric.method``) are two-sided at level alpha if the questions are independent draws
from the population. Where there is none, a seeded percentile bootstrap over the questions stands in, and says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakbound.bounds import mean_bounds, proportion_bound
from leakbound.bounds.engines.search import least
from leakbound.bounds.result import Record
from leakbound.errors import InputError
from leakbound.metrics.aggregates import ks_distance
from leakbound.metrics.checks import Floats, check_shares, check_values
from leakbound.metrics.membership import membership_auc

RESAMPLES = 4000
SAMPLE = "if the questions are a random sample, in random order"
NO_GUARANTEE = "bootstrap (no guarantee)"

BINARY = ("entailment", "accuracy", "harmful", "cut")
"""Metrics whose values are 0 or 1 by what they measure."""


@dataclass(frozen=True)
class Metric(Record):
    """One number of one model, and an interval for what it would be on all questions of the kind."""

    name: str
    set: str
    """The set of questions; empty for a number across sets."""
    value: float
    lower: float | None
    """None where no interval belongs to the number (a p-value)."""
    upper: float | None
    alpha: float
    """The probability that the interval misses; nominal where ``method`` says "no guarantee"."""
    n: int
    """Questions behind the number."""
    method: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(f"metric {self.name!r} of set {self.set!r} is {self.value!r}: give a finite number")

    @property
    def guaranteed(self) -> bool:
        """Whether the interval is more than a bootstrap."""
        return self.method.startswith("exact")


def mean_metric(name: str, set_name: str, values: npt.ArrayLike, *, alpha: float) -> Metric:
    """The mean of values in [0, 1] with a guaranteed interval: Clopper-Pearson for what is 0 or 1 by name, else
    betting.

    Graded values that happen to be all 0 or 1 are bet on: a method that is picked by the values costs more than alpha.
    """
    return mean_metrics([(name, set_name, values)], alpha=alpha)[0]


def mean_metrics(items: Sequence[tuple[str, str, npt.ArrayLike]], *, alpha: float) -> list[Metric]:
    """:func:`mean_metric` of many (name, set, values), each at level alpha by itself; bets are played together."""
    arrays = [check_shares(name, values) for name, _, values in items]
    graded = [i for i, (name, _, _) in enumerate(items) if name not in BINARY or not set(arrays[i]) <= {0.0, 1.0}]
    bounds = dict(zip(graded, mean_bounds([arrays[i] for i in graded], alpha=alpha, side="both"), strict=True))
    found = []
    for i, ((name, set_name, _), array) in enumerate(zip(items, arrays, strict=True)):
        bound = bounds.get(i) or proportion_bound(int(array.sum()), array.size, alpha=alpha, side="both")
        method = f"exact ({bound.method}), {SAMPLE}"
        value = float(array.mean())
        found.append(Metric(name, set_name, value, bound.lower, bound.upper, alpha, array.size, method))
    return found


def average_metric(name: str, set_name: str, values: npt.ArrayLike, *, alpha: float) -> Metric:
    """The mean of numbers without known limits, with a bootstrap interval."""
    numbers = check_values(name, values)
    return bootstrap_metric(name, set_name, [numbers[:, None]], lambda means: means[:, 0], alpha=alpha)


def bootstrap_metric(
    name: str,
    set_name: str,
    strata: Sequence[Floats],
    statistic: Callable[[Floats], Floats],
    *,
    alpha: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Metric:
    """A function of means with a percentile bootstrap interval; each set of questions is resampled by itself.

    ``strata`` holds one array of shape (n_s, m_s) for each set: m_s numbers of each of its questions, kept together
    when the question is drawn, so that differences between models are paired. ``statistic`` maps means of shape
    (rows, sum of m_s) to one number for each row. Where every resample gives the same number there are no limits: that
    all questions scored alike does not say that others would.
    """
    rng = np.random.default_rng(seed)
    own = np.concatenate([values.mean(axis=0) for values in strata])[None, :]
    drawn = np.concatenate([_resampled_means(values, resamples, rng) for values in strata], axis=1)
    value, many = float(statistic(own)[0]), statistic(drawn)
    lower, upper = (float(x) for x in np.quantile(many, [alpha / 2, 1 - alpha / 2]))
    n, sets = sum(len(values) for values in strata), len(strata)
    method = f"{NO_GUARANTEE}, {resamples} resamples of the questions" + (f" within {sets} sets" if sets > 1 else "")
    if lower == upper:
        return Metric(name, set_name, value, None, None, alpha, n, f"{method}: all alike, no interval")
    return Metric(name, set_name, value, min(lower, value), max(upper, value), alpha, n, method)


def _resampled_means(values: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of ``resamples`` samples of the rows with replacement, of shape (resamples, columns)."""
    n = len(values)
    step = max(1, 2_000_000 // n)  # so many at a time that the weights stay small
    parts = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - start)) @ values / n
        for start in range(0, resamples, step)
    ]
    return np.concatenate(parts)


def auc_metric(name: str, forget: npt.ArrayLike, holdout: npt.ArrayLike, *, alpha: float) -> Metric:
    """:func:`membership_auc` with Hoeffding's interval for a two-sample U-statistic, in its Kullback-Leibler form.

    With k = min(n, m): the statistic is an average of means of k independent terms in [0, 1], so that P(A_hat >= A + t)
    <= exp(-k kl(A + t, A)), and the interval holds the a with k kl(A_hat, a) <= ln(2 / alpha). Hoeffding 1963, section
    5. Assumes independent questions in both sets.
    """
    auc = membership_auc(forget, holdout)
    k, n = min(np.size(forget), np.size(holdout)), np.size(forget) + np.size(holdout)
    level = math.log(2 / alpha) / k
    lower, upper = 1.0 - _kl_upper(1.0 - auc, level), _kl_upper(auc, level)
    return Metric(name, "forget", auc, lower, upper, alpha, n, f"exact (Hoeffding for a U-statistic), {SAMPLE}")


def _kl_upper(share: float, level: float) -> float:
    """The largest a with kl(share, a) <= level, rounded up; kl is the divergence of two coins in nats."""

    def kl(a: float) -> float:
        heads = share * math.log(share / a) if share > 0 else 0.0
        tails = (1 - share) * math.log((1 - share) / (1 - a)) if share < 1 else 0.0
        return heads + tails

    return least(lambda a: kl(a) > level, share, 1.0)


def ks_metric(name: str, set_name: str, values: npt.ArrayLike, reference: npt.ArrayLike, *, alpha: float) -> Metric:
    """The Kolmogorov-Smirnov distance sup |F - G|, within eps_n + eps_m, eps_n = sqrt(ln(4 / alpha) / (2 n)).

    Each empirical distribution function stays within its eps with probability 1 - alpha / 2 (Dvoretzky, Kiefer,
    Wolfowitz; Massart 1990); the two need not be independent, so both models may answer the same questions.
    """
    distance = ks_distance(values, reference)
    n, m = np.size(values), np.size(reference)
    eps = sum(math.sqrt(math.log(4 / alpha) / (2 * size)) for size in (n, m))
    method = f"exact (two DKW bands), {SAMPLE}"
    return Metric(name, set_name, distance, max(0.0, distance - eps), min(1.0, distance + eps), alpha, n, method)
