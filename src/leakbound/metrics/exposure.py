"""How much of an example a model still shows: among candidates, against retrained models, against held-out text.

Log-likelihoods are natural logs, log p(x) = sum_t log p(x_t | x_<t), of the answer given its question where there is
one; results are in bits. docs/methods.md, "Exposure, memorization, difficulty", says which definitions are published
and which are ours: of arXiv 2411.04388 only the summary of GenEx could be read ("logarithmic difference of expectations
in likelihood terms"), so that everything here but Carlini's exposure (arXiv 1802.08232) is in its spirit and our
definition.
"""

import math
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from leakbound.bounds import Bound, proportion_bound
from leakbound.bounds.engines.clopper import clopper_pearson_lower, clopper_pearson_upper
from leakbound.bounds.gate import Floats, as_numbers, check_alpha, check_real, check_whole
from leakbound.bounds.result import show_confidence
from leakbound.bounds.unguaranteed import Unguaranteed
from leakbound.errors import InputError

Mean: TypeAlias = Literal["likelihood", "log"]
"""Which mean over models: log of the mean likelihood, or mean of the log-likelihoods."""
LN2 = math.log(2)


@dataclass(frozen=True)
class Exposure:
    """-log2 of the share of some population that is at least as likely as the example; ``share`` is known by its bound.

    ``space`` is the number of members of the population, infinite where that is not known: no exposure is above its
    log2. ``saturated``: no member of the sample was as likely, so that the estimate is the sample's largest, log2 n.
    """

    share: Bound
    space: float = math.inf

    @property
    def saturated(self) -> bool:
        """Whether nothing in the sample was as likely as the example."""
        return self.share.estimate == 0

    @property
    def estimate(self) -> float:
        """Bits."""
        return min(-math.log2(max(self.share.estimate, 1 / self.share.n)), math.log2(self.space)) + 0.0

    @property
    def lower(self) -> float:
        """Bits: no smaller with the bound's confidence."""
        return min(-math.log2(self.share.upper), math.log2(self.space)) + 0.0

    @property
    def upper(self) -> float:
        """Bits: no larger; log2 of the space where the sample says nothing."""
        most = math.log2(self.space)
        return most if self.share.lower <= 0 else min(-math.log2(self.share.lower), most) + 0.0

    def __str__(self) -> str:
        about = "at least " if self.saturated else ""
        return (
            f"exposure {about}{self.estimate:.2f} bits, {_bits(self.lower, ROUND_FLOOR)} to "
            f"{_bits(self.upper, ROUND_CEILING)} with confidence {show_confidence(self.share.alpha)} "
            f"({self.share.n} {self.share.unit}; {self.share.method})"
        )


def _bits(value: float, rounding: str) -> str:
    """A limit with two decimals, rounded outward."""
    return str(Decimal(value).quantize(Decimal("0.01"), rounding=rounding)) if math.isfinite(value) else str(value)


def exposure(target: float, others: npt.ArrayLike) -> float:
    """Carlini's exposure by enumeration: log2 |R| - log2 rank, in bits, with no error.

    ``others`` are the log-likelihoods of all other members of the candidate space R, so |R| = len(others) + 1; the rank
    counts every candidate at least as likely as the target, itself included: ties lower the exposure. From 0 to log2
    |R|. Carlini et al., arXiv 1802.08232.

    >>> exposure(-1.0, [-2.0, -3.0, -4.0])
    2.0
    """
    x, rest = _one("target", target), _finite("others", others, 1)
    return math.log2(len(rest) + 1) - math.log2(1 + int((rest >= x).sum()))


def sampled_exposure(target: float, sample: npt.ArrayLike, *, space: float, alpha: float) -> Exposure:
    """Carlini's exposure where R is too large: -log2 P_{t uniform on R}(p(t) >= p(target)), with an exact interval.

    ``sample``: log-likelihoods of candidates drawn independently and uniformly from R, ``space`` = |R|. The share is
    bounded by Clopper-Pearson (both sides, alpha / 2 each); the estimate saturates at log2 of the sample's size.
    """
    if not check_real("space", space, "give the number of candidates, 2 or more") >= 2:
        raise InputError(f"space is {space!r}: give the number of candidates, 2 or more")
    return _ranked(target, sample, alpha, space, "candidates")


def heldout_exposure(target: float, heldout: npt.ArrayLike, *, alpha: float) -> Exposure:
    """Relative exposure, second reading: -log2 P_{t ~ D}(p(t) >= p(target)) under one and the same unlearned model.

    ``heldout``: log-likelihoods of examples drawn independently from the distribution D of the forgotten example and
    never trained on. An example that was never seen has an expectation of at most log2 e = 1.44 bits and exceeds b bits
    with probability at most 2^-b. Clopper-Pearson interval, saturation at log2 n. Ours.

    >>> print(heldout_exposure(-1.0, [-9.0] * 64, alpha=0.05))
    exposure at least 6.00 bits, 4.15 to inf with confidence 0.95 (64 held-out examples; Clopper-Pearson)
    """
    return _ranked(target, heldout, alpha, math.inf, "held-out examples")


def _ranked(target: float, sample: npt.ArrayLike, alpha: float, space: float, unit: str) -> Exposure:
    x, drawn = _one("target", target), _finite("sample", sample, 1)
    k = int((drawn >= x).sum())
    name, scope = "P(as likely as the example)", "this example under this model"
    share = proportion_bound(k, len(drawn), alpha=alpha, side="both", estimand=name, scope=scope)
    return Exposure(replace(share, unit=unit), float(space))


def log_mean(logps: npt.ArrayLike, mean: Mean = "likelihood") -> Floats:
    """log of the mean over models of exp(logps), or the mean of logps; over the first axis, nats."""
    values = _finite("logps", logps, None)
    if mean == "log":
        return np.asarray(values.mean(axis=0))
    if mean != "likelihood":
        raise InputError(f"mean is {mean!r}: give 'likelihood' or 'log'")
    top = values.max(axis=0)
    return np.asarray(top + np.log(np.exp(values - top).mean(axis=0)))


def generalized_exposures(unlearned: npt.ArrayLike, retrained: npt.ArrayLike, *, mean: Mean = "likelihood") -> Floats:
    """GenEx of each example: log2 E_u[p_u(x)] - log2 E_r[p_r(x)], shape (N,), bits; times ln 2 it is in nats.

    ``unlearned`` (U, N) and ``retrained`` (R, N) hold log p of N examples under models that unlearned them and under
    models that never saw them. 0: as if never seen; positive: something is left; negative: less likely than if never
    seen. ``mean="log"`` takes means of logs, which no single model dominates. Ours, in the spirit of arXiv 2411.04388.

    >>> generalized_exposures([[-1.0], [-1.0]], [[-3.0], [-3.0]]).round(2).tolist()
    [2.89]
    """
    u, r = _pair(unlearned, retrained)
    return np.asarray((log_mean(u, mean) - log_mean(r, mean)) / LN2)


def generalized_exposure(
    unlearned: npt.ArrayLike,
    retrained: npt.ArrayLike,
    *,
    alpha: float,
    mean: Mean = "likelihood",
    resamples: int = 2000,
    seed: int = 0,
) -> Unguaranteed:
    """GenEx averaged over the examples, bits, with an interval over models (two-sided, no guarantee).

    ``mean="log"``: Welch's t on the models' mean log-likelihoods, which assumes that these are normal.
    ``mean="likelihood"``: bootstrap over models, each group on its own; an expectation that rare models carry is not
    resampled where they were not drawn.

    :raises InputError: fewer than two models in a group: their spread is unknown.
    """
    alpha = check_alpha(alpha)
    u, r = _pair(unlearned, retrained)
    if min(len(u), len(r)) < 2:
        raise InputError(f"{len(u)} unlearned and {len(r)} retrained models: give at least two of each for an interval")
    found = float(generalized_exposures(u, r, mean=mean).mean())
    if mean == "log":
        half, method = _welch(u.mean(axis=1), r.mean(axis=1), alpha) / LN2, "Welch's t over models"
        low, high = found - half, found + half
    else:
        check_whole("resamples", resamples, 1)
        check_whole("seed", seed)
        rng = np.random.default_rng(seed)
        draws = [float(generalized_exposures(_resample(u, rng), _resample(r, rng)).mean()) for _ in range(resamples)]
        low, high = (float(x) for x in np.quantile(draws, [alpha / 2, 1 - alpha / 2]))
        method = f"bootstrap over models, {resamples} resamples"
    if low == high:  # models that agree do not say that others would
        low, high, method = -math.inf, math.inf, f"{method}: all alike, no interval"
    n = len(u) + len(r)
    return Unguaranteed(f"GenEx in bits ({mean} mean)", found, low, high, alpha, "both", n, method)


def original_exposure(unlearned: npt.ArrayLike, original: npt.ArrayLike) -> Floats:
    """Relative exposure, first reading: log2 p_u(x) - log2 p_0(x) against the model before unlearning; any shape, bits.

    0 before the first step; it needs no retrained model and so cannot say when to stop. Ours.
    """
    u, o = as_numbers("unlearned", unlearned), as_numbers("original", original)
    if o.ndim > u.ndim or u.shape[u.ndim - o.ndim :] != o.shape:
        raise InputError(f"unlearned has shape {u.shape} and original {o.shape}: give both of the same examples")
    if not (np.isfinite(u).all() and np.isfinite(o).all()):
        raise InputError("log-likelihoods hold a value that is not finite: give log p(x), a finite number, for each")
    return np.asarray((u - o) / LN2)


def epsilon_lower_bound(unlearned: npt.ArrayLike, retrained: npt.ArrayLike, *, threshold: float, alpha: float) -> Bound:
    """A guaranteed lower bound on epsilon, nats: how far the unlearner is from retraining at least.

    An epsilon-unlearner has P_u(O) <= e^epsilon P_r(O) and the reverse for every set O of models. Take
    O = {T > threshold} for one number T of each model, here the given ones. With k_u of U and k_r of R models in O and
    two-sided Clopper-Pearson limits [l, u] at alpha / 2 for each of the two probabilities, with confidence 1 - alpha
    ``epsilon >= ln max(l_u / u_r, l_r / u_u, (1 - u_u) / (1 - l_r), (1 - u_r) / (1 - l_u), 1)``.

    Assumes independent models within each group and a threshold that was fixed without looking at them. This is how
    differential privacy is audited; the plug-in |GenEx| has no such guarantee, since a likelihood has no lower limit on
    the log scale. With few models little can be proven: :func:`largest_epsilon`.

    >>> epsilon_lower_bound([1.0] * 10, [0.0] * 10, threshold=0.5, alpha=0.05).claim
    'epsilon >= 0.597984'
    """
    alpha = check_alpha(alpha)
    u, r = _finite("unlearned", unlearned, 1), _finite("retrained", retrained, 1)
    limit = check_real("threshold", threshold, "give a finite number that was fixed before the models were looked at")
    inside = [(int((t > limit).sum()), len(t)) for t in (u, r)]
    (low_u, high_u), (low_r, high_r) = (
        (float(clopper_pearson_lower(k, n, alpha / 4)), float(clopper_pearson_upper(k, n, alpha / 4)))
        for k, n in inside
    )
    ratios = (low_u / high_r, low_r / high_u, (1 - high_u) / (1 - low_r), (1 - high_r) / (1 - low_u), 1.0)
    lower = math.log(max(ratios)) * (1 - 1e-12)
    x, y = (k / n for k, n in inside)
    ways = (x, y), (y, x), (1 - x, 1 - y), (1 - y, 1 - x)
    plug_in = max((math.inf if b == 0 else a / b) if a else 0.0 for a, b in ways)
    estimate = max(lower, min(math.log(max(plug_in, 1.0)), math.log(max(len(u), len(r)))))
    method = "Clopper-Pearson on both sides of an event"
    return Bound(
        "epsilon", estimate, lower, math.inf, alpha, "lower", len(u) + len(r), method, "this unlearner", "models"
    )


def largest_epsilon(num_unlearned: int, num_retrained: int, *, alpha: float) -> float:
    """The largest lower bound that :func:`epsilon_lower_bound` can give with so many models, nats."""
    check_whole("num_unlearned", num_unlearned, 1)
    check_whole("num_retrained", num_retrained, 1)
    found = epsilon_lower_bound(np.ones(num_unlearned), np.zeros(num_retrained), threshold=0.5, alpha=alpha)
    return found.lower


def _welch(a: Floats, b: Floats, alpha: float) -> float:
    """Half the width of Welch's interval for the difference of two means."""
    from scipy import special  # here, because importing it takes 0.2 s

    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if va + vb == 0:
        return 0.0
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    return float(special.stdtrit(freedom, 1 - alpha / 2)) * math.sqrt(va + vb)


def _resample(rows: Floats, rng: np.random.Generator) -> Floats:
    return rows[rng.integers(len(rows), size=len(rows))]


def _one(name: str, value: float) -> float:
    return check_real(name, value, "give the log-likelihood of the example, a finite number")


def _finite(name: str, values: npt.ArrayLike, dimensions: int | None) -> Floats:
    array = as_numbers(name, values)
    if array.ndim < 1 or array.size == 0 or (dimensions is not None and array.ndim != dimensions):
        raise InputError(f"{name} has shape {array.shape}: give a non-empty array of log-likelihoods")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds a value that is not finite: give log p(x), a finite number, for each")
    return array


def _pair(unlearned: npt.ArrayLike, retrained: npt.ArrayLike) -> tuple[Floats, Floats]:
    u, r = _finite("unlearned", unlearned, 2), _finite("retrained", retrained, 2)
    if u.shape[1] != r.shape[1]:
        raise InputError(f"unlearned has {u.shape[1]} examples and retrained {r.shape[1]}: give both the same examples")
    return u, r
