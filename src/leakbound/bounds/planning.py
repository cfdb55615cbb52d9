"""How many draws a claim will need. A plan is a forecast under an assumed truth; the bounds hold whatever it is."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from leakbound.bounds.certificates import without_replacement_bound
from leakbound.bounds.engines.betting import CUSHION, play
from leakbound.bounds.engines.binomial import AIM, log_tail
from leakbound.bounds.engines.clopper import clopper_pearson_lower, clopper_pearson_upper
from leakbound.bounds.engines.games import mean_game
from leakbound.bounds.engines.search import fewest
from leakbound.bounds.gate import Scores, Side, check_alpha, check_fraction, check_scores, check_side, check_whole
from leakbound.bounds.result import in_full, show_confidence
from leakbound.bounds.sequences import leak_sequence_bound
from leakbound.errors import InputError

MOST_DRAWS = 10_000_000
USEFUL = 0.1
"""So many draws are asked for that a prompt without a leak among them leaks with at most this probability."""


@dataclass(frozen=True)
class LeakPlan:
    """``n`` draws prove P(leak) <= ``limit`` if at most ``allowed`` leak: probability ``power`` at ``true_rate``."""

    limit: float
    alpha: float
    true_rate: float
    n: int
    allowed: int
    power: float

    def __str__(self) -> str:
        confidence, rate = show_confidence(self.alpha), f"{in_full(self.true_rate)}"
        return (
            f"{self.n} draws per prompt prove P(leak) <= {in_full(self.limit)} with confidence {confidence} if at most "
            f"{self.allowed} leak; where the true P(leak) is {rate}, that happens with probability {self.power:.3f}"
        )


@dataclass(frozen=True)
class WidthPlan:
    """``n`` draws know P(leak) to ``width`` from both sides, on average where it is ``true_rate``."""

    width: float
    alpha: float
    true_rate: float
    n: int

    def __str__(self) -> str:
        return (
            f"{self.n} draws per prompt know P(leak) to a width of {in_full(self.width)} with confidence "
            f"{show_confidence(self.alpha)}, on average where the true P(leak) is {in_full(self.true_rate)}"
        )


def draws_allowing(leaks: int, limit: float, alpha: float) -> int:
    """The smallest n with P(Bin(n, limit) <= leaks) <= alpha, so that CP(leaks, n, alpha) <= limit."""
    wanted = math.log(alpha) - 3 * AIM  # the limits that are printed are proven by up to 2 AIM more than alpha
    return fewest(lambda n: float(log_tail(leaks, n, limit)) <= wanted, leaks)


@lru_cache(maxsize=64)
def draws_needed(alpha: float, way: str = "iid") -> int:
    """The fewest draws n without a leak that prove P(leak) <= USEFUL at level alpha.

    ``way``: ``iid`` (n fixed beforehand), ``stopped`` (n may be any round), ``without-replacement`` (distinct
    completions of no mass, the hardest case: as soon as they have mass, fewer do).
    """
    if way == "iid":
        return draws_allowing(0, USEFUL, alpha)

    def proven(n: int) -> bool:
        if way == "stopped":
            return leak_sequence_bound(0, n, alpha=alpha).upper <= USEFUL
        return without_replacement_bound(np.zeros(n), np.zeros(n), alpha=alpha).upper <= USEFUL

    return fewest(proven)


def plan_leak_claim(limit: float, *, alpha: float, power: float = 0.9, true_rate: float = 0.0) -> LeakPlan:
    """The fewest draws that prove P(leak) <= limit with probability ``power`` where the true P(leak) is ``true_rate``.

    For k = 0, 1, 2, ... allowed leaks, n_k is the smallest n whose Clopper-Pearson limit at k is at most ``limit``; the
    first k with P(Bin(n_k, true_rate) <= k) >= power is taken. Fixed n; stopping early may need fewer.

    >>> plan_leak_claim(0.01, alpha=0.01).n
    459
    """
    limit, alpha = check_fraction("limit", limit, open_ends=True), check_alpha(alpha)
    power, true_rate = check_fraction("power", power, open_ends=True), check_fraction("true_rate", true_rate)
    if true_rate >= limit:
        raise InputError(
            f"true_rate is {true_rate!r}, not below limit, which is {limit!r}: such a claim cannot be planned"
        )
    k = 0
    while True:
        n = draws_allowing(k, limit, alpha)
        if n > MOST_DRAWS:
            raise InputError(f"true_rate is {true_rate!r}, too close to limit {limit!r}: more than {MOST_DRAWS} draws")
        reached = math.exp(float(log_tail(k, n, true_rate)))
        if reached >= power:
            return LeakPlan(limit, alpha, true_rate, n, k, reached)
        k += max(1, k // 50)


def expected_width(n: int, rate: float, *, alpha: float, side: Side = "both") -> float:
    """The mean width of the Clopper-Pearson interval from n draws where P(leak) is ``rate``.

    E[U - L] for both sides; E[U] - rate for the upper and rate - E[L] for the lower side. Summed over all counts.
    """
    from scipy import special  # here, because importing it takes 0.2 s

    n, rate = check_whole("n", n, 1), check_fraction("rate", rate)
    alpha, side = check_alpha(alpha), check_side(side)
    spread = 9 * math.sqrt(n * rate * (1 - rate)) + 60
    k = np.arange(max(0, int(n * rate - spread)), min(n, int(n * rate + spread)) + 1)
    pmf = np.diff(np.asarray(special.bdtr(k.astype(np.float64), n, rate)), prepend=0.0)
    if k[0] > 0:
        pmf[0] -= float(special.bdtr(k[0] - 1, n, rate))
    share = alpha / 2 if side == "both" else alpha
    upper = float(np.dot(pmf, clopper_pearson_upper(k, n, share)))
    lower = float(np.dot(pmf, clopper_pearson_lower(k, n, share)))
    return upper - lower if side == "both" else upper - rate if side == "upper" else rate - lower


def plan_width(width: float, *, alpha: float, true_rate: float = 0.0) -> WidthPlan:
    """The smallest n (to within 1 %) with a mean Clopper-Pearson width at ``true_rate`` of at most ``width``; forecast.

    Upper minus lower limit, as in :func:`expected_width`. InputError for a width that needs more than 10 million draws.
    """
    width = check_fraction("width", width, open_ends=True)

    def narrow(n: int) -> bool:
        if n > MOST_DRAWS:
            raise InputError(f"width is {width!r}: more than {MOST_DRAWS} draws; give a larger width")
        return expected_width(n, true_rate, alpha=alpha) <= width

    return WidthPlan(width, check_alpha(alpha), true_rate, fewest(narrow, first=8, parts=100))


def plan_mean_claim(
    pilot: Scores,
    limit: float,
    *,
    alpha: float,
    power: float = 0.9,
    counts: npt.ArrayLike | None = None,
    runs: int = 200,
    seed: int = 0,
) -> int:
    """About how many draws prove E[h] <= limit with probability ``power``, if draws look like the pilot scores.

    Simulated: resamples of the pilot, the default bet on the limit, n doubled and then bisected to within 5 %. A
    forecast: a pilot without a rare high score hides what that score would cost.
    """
    limit, alpha = check_fraction("limit", limit, open_ends=True), check_alpha(alpha)
    power = check_fraction("power", power, open_ends=True)
    runs, seed = check_whole("runs", runs, 1), check_whole("seed", seed)
    values, weights = check_scores(pilot, counts)
    share = weights / weights.sum()
    mean = float(np.dot(values, share))
    if mean >= limit:
        raise InputError(
            f"pilot has mean {mean:.6g}, not below limit, which is {limit!r}: such a claim cannot be planned"
        )
    rng = np.random.default_rng(seed)
    wanted = -math.log(alpha) + CUSHION

    def enough(n: int) -> bool:
        if n * runs > 50_000_000:
            raise InputError(f"limit is {limit!r}, too close to the pilot's mean {mean:.6g}: give a larger limit")
        x = rng.choice(values, size=(n, runs), p=share)
        wealth = play(mean_game(x), np.full(runs, limit), np.arange(runs), alpha)
        return bool((wealth >= wanted).mean() >= power)

    return fewest(enough, first=16, parts=20)
