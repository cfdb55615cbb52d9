"""The average over prompts by a product of e-processes: prompts that stopped early, or without replacement, or both."""

import math
from collections.abc import Sequence

import numpy as np

from leakbound.bounds.engines.allocation import Tangents, least_mean
from leakbound.bounds.engines.evidence import Evidence, Wealths
from leakbound.bounds.gate import Floats

KEPT = np.array([1e-4, 0.03, 0.1, 0.25, 0.45, 0.65, 0.8, 0.9, 0.95, 0.975, 0.99, 0.996])
"""1 - c of the bets: what a leak leaves of the capital. About how often a prompt leaks, in units of what is tested."""

GRID = np.array([0.0, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.88, 0.95, 0.98, 0.995, 0.9995])
"""Where tangents are taken first, between the certain limits of each prompt."""
AROUND = np.array([-1.0, 1.0, 4.0])
"""And where around the estimate of each prompt, in standard errors."""
CUSHION = 1e-9
"""Added to ln(1/alpha), as in betting."""
ROUNDS, WARMING, LAST = 16, 4, 3
"""How often tangents are added, at most and at least, and how many mixtures are kept to the end."""
PATIENCE = 1e-3
"""Adding ends when it gains less than this share of the distance to the estimate."""
END = 1e-4
"""Tangents keep this share of the range away from its end, where a wealth may be infinite."""


def mixtures(prompts: int) -> tuple[Floats, Floats]:
    """Weights of the bets within a prompt, one row per mixture, and the share of the capital of each mixture.

    A mixture puts most on one bet; what it puts on the others is for prompts unlike the rest: for less than one of
    them, or for a tenth. Fixed by the number of prompts alone; chosen on the laws of benchmarks/average.py.
    """
    few, many = 0.3 / prompts, 0.1
    rows = [_around(0, few), _around(0, 0.05), _around(0, 0.3)]  # clean prompts
    rows += [_around(centre, rest) for centre in range(2, KEPT.size - 1) for rest in (few, many)]
    rows += [(KEPT > 0.5) / np.count_nonzero(KEPT > 0.5), np.full(KEPT.size, 1 / KEPT.size)]  # all unlike
    shares = np.array([8.0, 1.0, 2.0] + [1.0] * (len(rows) - 3))
    return np.array(rows), shares / shares.sum()


def _around(centre: int, rest: float) -> Floats:
    """1 - rest on one bet, the rest on the others alike."""
    weights = np.full(KEPT.size, rest / (KEPT.size - 1))
    weights[centre] = 1 - rest
    return weights


def product_upper(evidence: Sequence[Evidence], alpha: float) -> float:
    """The least m that a mixture rejects: its share times the smallest product of e_i(p_i), mean p = m, is >= 1/alpha.

    e_i(p) is the weighted sum over bets c of e_(i,c)(p). Tangents are taken on a grid, then where the best mixture
    wants them; the worse half of the mixtures is dropped each time. Whatever tangents are taken, m is proven.
    """
    if alpha == 0:
        return 1.0
    wealths = Wealths(evidence)
    bets, (rows, shares) = 1.0 - KEPT, mixtures(len(evidence))
    # mixture s alone may reject where its share of the capital makes 1/alpha: w_s E_s >= 1/alpha
    wanted = -np.log(shares) - math.log(alpha) + CUSHION
    points = _first_points(evidence, wealths)
    logs, slopes = (np.stack(x, axis=-1) for x in zip(*(wealths.at(p, bets) for p in points.T), strict=True))
    sizes = wealths.size(np.abs(logs).max(axis=-1), bets).max(axis=0)
    best, seen = float(wealths.cap.mean()), float(np.mean([one.estimate for one in evidence]))
    running = np.arange(shares.size)
    for number in range(ROUNDS):
        found = []
        for s in running:
            tangents = Tangents(points, *mixed(logs, slopes, rows[s]), sizes, wealths.low, wealths.cap)
            found.append(least_mean(tangents, float(wanted[s])))
        means = np.array([mean for mean, _ in found])
        gained, best = best - float(means.min()), min(best, float(means.min()))
        if number >= WARMING and gained < PATIENCE * abs(best - seen):
            break
        order = np.argsort(means)
        running = running[order[: max(LAST, order.size // 2)]]
        more = np.minimum(found[order[0]][1], wealths.cap - END * (wealths.cap - wealths.low))
        points, logs, slopes = _with_one(points, logs, slopes, more, *wealths.at(more, bets))
    return min(best * (1 + 1e-12), 1.0)


def _first_points(evidence: Sequence[Evidence], wealths: Wealths) -> Floats:
    """A grid between the certain limits, and around the estimates, where the tangents that decide are likely to be."""
    guess = np.array([one.estimate for one in evidence])
    n = np.array([one.n for one in evidence], dtype=np.float64)
    near = guess[:, None] + (np.sqrt(guess * (1 - guess) / n) + 1 / n)[:, None] * AROUND
    room = wealths.cap - wealths.low
    near = np.clip(near, wealths.low[:, None], (wealths.cap - END * room)[:, None])
    return np.sort(np.column_stack([wealths.low[:, None] + room[:, None] * GRID, near]), axis=1)


def _with_one(
    points: Floats, logs: Floats, slopes: Floats, p: Floats, new_logs: Floats, new_slopes: Floats
) -> tuple[Floats, Floats, Floats]:
    """One more touching point per prompt; points ascend along the last axis."""
    points = np.concatenate([points, p[:, None]], axis=-1)
    order = np.argsort(points, axis=-1, kind="stable")
    logs, slopes = (
        np.take_along_axis(np.concatenate([old, new[..., None]], axis=-1), order[None], axis=-1)
        for old, new in ((logs, new_logs), (slopes, new_slopes))
    )
    return np.take_along_axis(points, order, axis=-1), logs, slopes


def mixed(logs: Floats, slopes: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """ln of the weighted sum over the first axis, and its derivative."""
    used = weights > 0
    terms = logs[used] + np.log(weights[used]).reshape(-1, *[1] * (logs.ndim - 1))
    total: Floats = np.logaddexp.reduce(terms, axis=0)
    rates = (np.exp(terms - total) * slopes[used]).sum(axis=0)
    return total, rates
