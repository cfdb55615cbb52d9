"""P(leak) from the verdicts of a judge that errs: known or estimated error rates widen the bound."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.binomial import MOST
from leakbound.bounds.engines.clopper import clopper_pearson
from leakbound.bounds.gate import Floats, Side, check_alpha, check_fraction, check_side, check_whole
from leakbound.bounds.proportion import proportion_bound
from leakbound.bounds.result import Bound, in_full
from leakbound.errors import InputError

Rate = float | tuple[int, int]
"""How often a judge is right: a number known exactly, or (right, labelled) counted on labelled completions."""

WEIGHT = 2
"""Parts of alpha that the share of flagged draws takes, where each error rate that is estimated takes one.

Fixed, so that no data can choose it. The bound is at most 10% above that of the best split in 1,728 cases of 100 to
10,000 draws and 50 to 1,000 labels of each kind (benchmarks/judged.py).
"""


@dataclass(frozen=True)
class _Known:
    """What is known of one rate: its estimate, and limits at a level."""

    name: str
    rate: Rate

    @property
    def estimated(self) -> bool:
        return isinstance(self.rate, tuple)

    @property
    def estimate(self) -> float:
        return self.rate[0] / self.rate[1] if isinstance(self.rate, tuple) else self.rate

    def limit(self, alpha: float, side: Side) -> float:
        return clopper_pearson(*self.rate, alpha, side) if isinstance(self.rate, tuple) else self.rate

    def __str__(self) -> str:
        return f"{self.name} " + (
            f"{self.rate[0]} of {self.rate[1]}" if isinstance(self.rate, tuple) else f"{in_full(self.rate)}"
        )


def _check_rate(name: str, rate: object) -> _Known:
    if isinstance(rate, tuple | list):
        if len(rate) != 2:
            raise InputError(f"{name} is {rate!r}: give (right verdicts, labelled completions) or a number in [0, 1]")
        labelled = check_whole(f"{name}[1]", rate[1], 1, MOST)
        right = check_whole(f"{name}[0]", rate[0])
        if right > labelled:
            raise InputError(f"{name} is {rate!r}: {right} right verdicts among {labelled} labelled completions")
        return _Known(name, (right, labelled))
    return _Known(name, check_fraction(name, rate))


def leak_upper(flagged: npt.ArrayLike, sensitivity: npt.ArrayLike, specificity: npt.ArrayLike) -> Floats:
    """The largest P(leak) for P(flagged) <= ``flagged``, sensitivity >= and specificity <= the given numbers.

    (p + q0 - 1) / (q0 + q1 - 1). 1 where q0 + q1 <= 1: such a judge says nothing. p / q1, which needs no specificity,
    where p < 1 - q0: there are fewer flags than false alarms alone would give. Elementwise.
    """
    p, q1, q0 = (np.asarray(x, dtype=np.float64) for x in (flagged, sensitivity, specificity))
    power, excess = q0 + q1 - 1, p + q0 - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(excess > 0, excess / power, p / q1)
    return np.where(power > 0, np.minimum(found * (1 + 1e-12) + 1e-15 / np.maximum(power, 1e-300), 1.0), 1.0)


def leak_lower(flagged: npt.ArrayLike, sensitivity: npt.ArrayLike, specificity: npt.ArrayLike) -> Floats:
    """The smallest P(leak) for P(flagged) >= ``flagged``, sensitivity <= and specificity >= the given numbers.

    1 - :func:`leak_upper` with leak and clean, and so the two rates, exchanged. Elementwise.
    """
    return np.maximum(1.0 - leak_upper(1.0 - np.asarray(flagged, dtype=np.float64), specificity, sensitivity), 0.0)


def judged_bound(
    bound: Bound, *, sensitivity: Rate, specificity: Rate, alpha: float, estimand: str = "P(leak)"
) -> Bound:
    """Turn a bound on P(the judge says leak) into one on P(leak); the result's level is ``bound.alpha + alpha``.

    With q1 = P(says leak | leak), q0 = P(says clean | clean) and p = P(says leak), p = theta q1 + (1 - theta)(1 - q0),
    so theta = (p + q0 - 1) / (q0 + q1 - 1). The upper limit takes the largest p, the smallest q1 and the largest q0;
    the lower limit the opposite. No limit is smaller than what n draws without a flag would prove of a judge that never
    raises a false alarm: fewer flags than usual by luck are not taken for more knowledge. ``alpha`` is split evenly
    over the rates that are estimated (Clopper-Pearson each); with both known exactly it is not spent, and must be 0.

    Works on any bound on a probability of being flagged: of one prompt, the worst one, or the average one, at a fixed n
    or at any stopping time. All three limits hold together by the union bound, so that the labelled completions may be
    some of the draws.

    Assumes that the judge errs on every prompt's leaks and clean completions as often as on the labelled ones, and that
    these were chosen without looking at verdicts. Proof: docs/methods.md.

    Rogan and Gladen 1978; with both uncertainties, for judges: arXiv 2511.21140.

    >>> from leakbound import proportion_bound
    >>> said = proportion_bound(0, 1024, alpha=0.005)
    >>> judged_bound(said, sensitivity=(47, 50), specificity=1.0, alpha=0.005).claim
    'P(leak) <= 0.006473'
    """
    rates = _check_rate("sensitivity", sensitivity), _check_rate("specificity", specificity)
    estimated = sum(rate.estimated for rate in rates)
    if estimated or alpha != 0:
        alpha = check_alpha(alpha)
    if not estimated and alpha:
        raise InputError(f"alpha is {alpha!r}, but both rates are known exactly: give alpha=0")
    if bound.lower < 0 or bound.upper > 1:
        raise InputError(f"bound is on {bound.estimand}, outside [0, 1]: give a bound on P(the judge says leak)")
    share = alpha / max(estimated, 1) / (2 if bound.side == "both" else 1)
    upper, lower, notes = 1.0, 0.0, []
    q1, q0 = rates
    if bound.side != "lower":
        worst = bound.upper, q1.limit(share, "lower"), q0.limit(share, "upper")
        upper = max(float(leak_upper(*worst)), _least(bound, worst[1]))
        notes.append(_note(*worst, "specificity is taken as 1"))
    if bound.side != "upper":
        worst = bound.lower, q1.limit(share, "upper"), q0.limit(share, "lower")
        lower = min(float(leak_lower(*worst)), 1 - _least(bound, worst[2]))
        notes.append(_note(1 - worst[0], worst[2], worst[1], "sensitivity is taken as 1"))
    power = q1.estimate + q0.estimate - 1
    point = (bound.estimate + q0.estimate - 1) / power if power > 0 else bound.estimate
    said = "; ".join(dict.fromkeys(note for note in notes if note))
    method = f"Rogan-Gladen, judge of {q1}, {q0}, on {bound.method}{': ' + said if said else ''}"
    return replace(
        bound,
        estimand=estimand,
        estimate=min(max(point, 0.0), 1.0),
        lower=lower,
        upper=upper,
        alpha=check_alpha(bound.alpha + alpha, "bound.alpha + alpha"),
        method=method,
    )


def _least(bound: Bound, sensitivity: float) -> float:
    """The upper limit from as many draws without a flag, if the judge raised no false alarms."""
    share = bound.alpha / 2 if bound.side == "both" else bound.alpha
    return float(leak_upper(clopper_pearson(0, bound.n, share, "upper"), sensitivity, 1.0))


def _note(p: float, q1: float, q0: float, remedy: str) -> str:
    """What to say where the formula is not used."""
    if q1 + q0 <= 1:
        return "the judge may be no better than chance, so it says nothing: label more completions"
    if p + q0 <= 1:
        return f"fewer verdicts of one kind than the judge's errors alone would give, so {remedy}; check the labels"
    return ""


def judged_proportion_bound(
    num_flagged: int,
    n: int,
    *,
    sensitivity: Rate,
    specificity: Rate,
    alpha: float,
    side: Side = "upper",
    estimand: str = "P(leak)",
    scope: str = "this prompt",
) -> Bound:
    """Bound P(leak) from ``n`` draws of which a judge flagged ``num_flagged``, the judge's errors included.

    ``sensitivity`` is P(says leak | leak) and ``specificity`` P(says clean | clean): a number where it is known
    exactly, or (right, labelled) as counted on labelled completions, for example ``sensitivity=(47, 50)``.
    :func:`~leakbound.bounds.proportion_bound` at a share of alpha, then :func:`judged_bound`: two parts of alpha for
    the draws and one for each rate that is estimated.

    Assumes n independent draws, n fixed before the first one, and what :func:`judged_bound` does.

    >>> judged_proportion_bound(0, 1024, sensitivity=(47, 50), specificity=1.0, alpha=0.01).claim
    'P(leak) <= 0.006191'
    """
    alpha, side = check_alpha(alpha), check_side(side)
    unknown = sum(_check_rate(*pair).estimated for pair in (("sensitivity", sensitivity), ("specificity", specificity)))
    rest = alpha * unknown / (WEIGHT + unknown)
    flagged = proportion_bound(num_flagged, n, alpha=alpha - rest, side=side, scope=scope)
    found = judged_bound(flagged, sensitivity=sensitivity, specificity=specificity, alpha=rest, estimand=estimand)
    return replace(found, alpha=alpha)
