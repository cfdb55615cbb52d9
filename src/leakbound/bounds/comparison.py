"""Two models on the same prompts, and a ranking of many."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakbound.bounds.average import either_name, either_upper
from leakbound.bounds.engines.order import NO_ORDER, looks_arranged, per_prompt
from leakbound.bounds.engines.portfolio import bet_sizes, log_wealth
from leakbound.bounds.gate import Floats, Ints, Scores, Side, check_alpha, check_side
from leakbound.bounds.mean import mirror
from leakbound.bounds.multiplicity import e_holm
from leakbound.bounds.result import Bound, show_confidence
from leakbound.errors import InputError

Counts = Sequence[npt.ArrayLike] | None
Strata = list[tuple[Floats, Ints]]


def strata_of(
    a: Sequence[Scores], b: Sequence[Scores], ca: Counts, cb: Counts, *, in_order: bool = False
) -> list[Strata]:
    """Independent draws in [0, 1] whose average mean is (1 + E[x - y]) / 2, x of model A and y of model B: in each of
    the ways returned, of which the weakest must be used.

    In the order of generation draw i of A is paired with draw i of B: (1 + x - y) / 2, one stratum for each prompt.
    With counts there are no pairs: x and 1 - y, two strata for each prompt, which says less. Where draws look
    sorted or grouped, their order may come from the scores, so both, unless ``in_order`` says that it does not.
    """
    if len(a) != len(b) or len(a) == 0:
        raise InputError(f"the models have {len(a)} and {len(b)} prompts: give both the same prompts in the same order")
    left, right = per_prompt(a, ca), per_prompt(b, cb)
    for i, (one, other) in enumerate(zip(left, right, strict=True)):
        if one[1].sum() != other[1].sum():
            raise InputError(
                f"prompt {i} has {one[1].sum()} and {other[1].sum()} draws: draw equally many from both models"
            )
    pairs = [(x, y) for (_, _, x), (_, _, y) in zip(left, right, strict=True) if x is not None and y is not None]
    apart = [(v, w) for v, w, _ in left] + [mirror(other)[:2] for other in right]
    if len(pairs) < len(left):
        return [apart]
    paired = []
    for x, y in pairs:
        values, weights = np.unique((1.0 + x - y) / 2, return_counts=True)
        paired.append((values, weights.astype(np.int64)))
    doubtful = not in_order and any(looks_arranged(x) or looks_arranged(y) for x, y in pairs)
    return [paired, apart] if doubtful else [paired]


def difference_bound(
    scores_a: Sequence[Scores],
    scores_b: Sequence[Scores],
    *,
    alpha: float,
    side: Side = "both",
    counts_a: Counts = None,
    counts_b: Counts = None,
    in_order: bool = False,
) -> Bound:
    """Bound the average over fixed prompts of E[h] of model A minus that of model B, in [-1, 1].

    Scores in the order of generation are paired draw by draw within each prompt, z = (1 + x - y) / 2, and the average
    of E[z] is bounded as by :func:`~leakbound.bounds.average_mean_bound`; the prompts may differ in any way. Draws that
    look sorted or grouped get the wider of this and of the bound without pairs, unless ``in_order``: their order is
    that of generation for certain, as in a run folder. With counts the draws have no order: x and 1 - y are bet on
    apart, which is wider. An upper bound below 0 proves that A leaks less than B on these prompts.

    Assumes equally many draws from both models per prompt, fixed before the first one, and pairs that are independent
    of one another. Within a pair draw i of one model may depend on draw i of the other, as where each draw has a
    generator of its own and both models the same seed. With counts: models drawn independently of each other.

    Derived in docs/methods.md, two models and many.

    >>> difference_bound([[0.0] * 500], [[0.0, 1.0] * 250], alpha=0.01, side="upper").claim
    'E[h] of model A - E[h] of model B <= -0.426466'
    """
    alpha, side = check_alpha(alpha), check_side(side)
    ways = strata_of(scores_a, scores_b, counts_a, counts_b, in_order=in_order)
    share = alpha / 2 if side == "both" else alpha
    upper, lower = 1.0, -1.0
    if side != "lower":
        upper = max(2 * either_upper(strata, share) - 1 + 1e-15 for strata in ways)
    if side != "upper":
        lower = min(1 - 2 * either_upper([mirror((*s, None))[:2] for s in strata], share) - 1e-15 for strata in ways)
    n = sum(int(w.sum()) for _, w in ways[0])
    estimate = 2 * float(np.mean([np.dot(v, w / w.sum()) for v, w in ways[0]])) - 1
    paired = len(ways[0]) == len(scores_a)
    method = f"{either_name(len(ways[0]))}{', paired draws' if paired else f' of two models, {NO_ORDER}'}"
    name, unit = "E[h] of model A - E[h] of model B", "pairs" if paired else "draws of both"
    lower, upper = max(lower, -1.0), min(upper, 1.0)
    return Bound(name, estimate, lower, upper, alpha, side, n, method, "the average prompt", unit)


@dataclass(frozen=True)
class Ranking:
    """What is proven about the order of some models, all of it at once with confidence 1 - alpha.

    ``proven`` holds pairs (i, j): model i leaks less than model j. Model i's rank, 1 = leaks least, lies in
    [``best_rank[i]``, ``worst_rank[i]``].
    """

    names: tuple[str, ...]
    proven: tuple[tuple[int, int], ...]
    best_rank: tuple[int, ...]
    worst_rank: tuple[int, ...]
    alpha: float

    def __str__(self) -> str:
        ranks = ", ".join(
            f"{name}: {low}" if low == high else f"{name}: {low} to {high}"
            for name, low, high in zip(self.names, self.best_rank, self.worst_rank, strict=True)
        )
        return (
            f"For the average prompt, ranks by E[h] (1 leaks least), all at once with confidence "
            f"{show_confidence(self.alpha)}: {ranks}"
        )


def rank_models(
    scores: dict[str, Sequence[Scores]],
    *,
    alpha: float,
    counts: dict[str, Sequence[npt.ArrayLike]] | None = None,
    in_order: bool = False,
) -> Ranking:
    """Which models leak less than which on the average of some fixed prompts, with one error probability for all.

    For every ordered pair the wealth of a portfolio of bets against "A leaks at least as much as B" is an e-value; the
    pairs are tested together by :func:`e_holm`. Model i's rank is at least 1 + the number of models proven to leak
    less, and at most M - the number proven to leak more.

    Assumes what :func:`difference_bound` does, for every pair of models; of three or more nothing else.
    """
    alpha, names = check_alpha(alpha), tuple(scores)
    if len(names) < 2:
        raise InputError(f"scores holds {len(names)} models: give at least two")
    pairs = list(itertools.permutations(range(len(names)), 2))
    logs = []
    for i, j in pairs:
        a, b = names[i], names[j]
        ca, cb = (None, None) if counts is None else (counts[a], counts[b])
        ways = strata_of(scores[a], scores[b], ca, cb, in_order=in_order)
        logs.append(min(log_evidence_less(strata, alpha / len(pairs)) for strata in ways))
    proven = tuple(pair for pair, rejected in zip(pairs, e_holm(logs, alpha=alpha), strict=True) if rejected)
    # if every proven pair is true, those proven to leak less stand before i, those proven to leak more behind it
    best = tuple(1 + sum(worse == i for _, worse in proven) for i in range(len(names)))
    worst = tuple(len(names) - sum(better == i for better, _ in proven) for i in range(len(names)))
    return Ranking(names, proven, best, worst, alpha)


def log_evidence_less(strata: Strata, alpha: float) -> float:
    """ln of an e-value for "the average of E[z] is at least 1/2", with the bets planned for level ``alpha``."""
    sizes = np.array([weights.sum() for _, weights in strata], dtype=np.float64)
    # as in stratified_upper: every prompt counts the same, and the means of the scaled draws average to that of E[z]
    scale = sizes.sum() / (len(strata) * sizes)
    y = np.concatenate([a * values for a, (values, _) in zip(scale, strata, strict=True)])
    weights = np.concatenate([w for _, w in strata])
    top = max(1.0, float(scale.max()))
    return log_wealth(y, weights, 0.5, top, bet_sizes(int(weights.sum()), alpha)) - math.log1p(1e-9)
