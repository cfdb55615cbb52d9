"""Two models on the same prompts, and a ranking of many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakbound.bounds.average import stratified_upper
from leakbound.bounds.engines.order import NO_ORDER, looks_arranged, per_prompt
from leakbound.bounds.engines.portfolio import bet_sizes, log_wealth
from leakbound.bounds.gate import Floats, Ints, Scores, Side, check_alpha, check_side
from leakbound.bounds.mean import mirror
from leakbound.bounds.multiplicity import e_holm
from leakbound.bounds.result import Bound, show_confidence
from leakbound.errors import InputError

Counts = Sequence[npt.ArrayLike] | None
Strata = list[tuple[Floats, Ints]]


def strata_of(a: Sequence[Scores], b: Sequence[Scores], ca: Counts, cb: Counts) -> list[Strata]:
    """Independent draws in [0, 1] whose average mean is (1 + E[x - y]) / 2, x of model A and y of model B: in each of
    the ways returned, of which the weakest must be used.

    In the order of generation draw i of A is paired with draw i of B: (1 + x - y) / 2, one stratum for each prompt.
    With counts there are no pairs: x and 1 - y, two strata for each prompt, which says less. Where draws look
    sorted or grouped, their order may come from the scores, so both.
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
    doubtful = any(looks_arranged(x) or looks_arranged(y) for x, y in pairs)
    return [paired, apart] if doubtful else [paired]


def difference_bound(
    scores_a: Sequence[Scores],
    scores_b: Sequence[Scores],
    *,
    alpha: float,
    side: Side = "both",
    counts_a: Counts = None,
    counts_b: Counts = None,
) -> Bound:
    """Bound the average over fixed prompts of E[h] of model A minus that of model B, in [-1, 1].

    Scores in the order of generation are paired draw by draw within each prompt, z = (1 + x - y) / 2, and a portfolio
    of constant bets bounds the average of E[z]; the prompts may differ in any way, and draw i of one model may depend
    on draw i of the other (as with equal seeds). With counts the draws have no order: x and 1 - y are bet on apart,
    which needs models drawn independently and is wider. An upper bound below 0 proves that A leaks less than B on these
    prompts.

    Assumes independent draws and equally many from both models per prompt, fixed before the first one.

    >>> difference_bound([[0.0] * 500], [[0.0, 1.0] * 250], alpha=0.01, side="upper").claim
    'E[h] of model A - E[h] of model B <= -0.426466'
    """
    alpha, side = check_alpha(alpha), check_side(side)
    ways = strata_of(scores_a, scores_b, counts_a, counts_b)
    share = alpha / 2 if side == "both" else alpha
    upper, lower = 1.0, -1.0
    if side != "lower":
        upper = max(2 * stratified_upper(strata, share) - 1 + 1e-15 for strata in ways)
    if side != "upper":
        lower = min(
            1 - 2 * stratified_upper([mirror((*s, None))[:2] for s in strata], share) - 1e-15 for strata in ways
        )
    n = sum(int(w.sum()) for _, w in ways[0])
    estimate = 2 * float(np.mean([np.dot(v, w / w.sum()) for v, w in ways[0]])) - 1
    paired = len(ways[0]) == len(scores_a)
    method = f"portfolio of constant bets on {'paired draws' if paired else f'the draws of each, {NO_ORDER},'}"
    name = "E[h] of model A - E[h] of model B"
    return Bound(
        name, estimate, max(lower, -1.0), min(upper, 1.0), alpha, side, n, f"{method} over {len(scores_a)} prompts",
        "the average prompt", "pairs" if paired else "draws of both",
    )  # fmt: skip


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
) -> Ranking:
    """Which models leak less than which on the average of some fixed prompts, with one error probability for all.

    For every ordered pair the wealth of a portfolio of bets against "A leaks at least as much as B" is an e-value; the
    pairs are tested together by :func:`e_holm`. Model i's rank is at least 1 + the number of models proven to leak
    less, and at most M - the number proven to leak more.

    Assumes what :func:`difference_bound` does, for every pair of models.
    """
    alpha, names = check_alpha(alpha), tuple(scores)
    if len(names) < 2:
        raise InputError(f"scores holds {len(names)} models: give at least two")
    pairs = list(itertools.permutations(range(len(names)), 2))
    logs = []
    for i, j in pairs:
        a, b = names[i], names[j]
        ca, cb = (None, None) if counts is None else (counts[a], counts[b])
        logs.append(min(map(log_evidence_less, strata_of(scores[a], scores[b], ca, cb))))
    proven = tuple(pair for pair, rejected in zip(pairs, e_holm(logs, alpha=alpha), strict=True) if rejected)
    best = tuple(1 + sum(worse == i for _, worse in proven) for i in range(len(names)))
    worst = tuple(len(names) - sum(better == i for better, _ in proven) for i in range(len(names)))
    return Ranking(names, proven, best, worst, alpha)


def log_evidence_less(strata: Sequence[tuple[Floats, Ints]]) -> float:
    """ln of an e-value for "the average of E[z] is at least 1/2", with the bets planned for a level of 0.01."""
    sizes = np.array([weights.sum() for _, weights in strata], dtype=np.float64)
    scale = sizes.sum() / (len(strata) * sizes)
    y = np.concatenate([a * values for a, (values, _) in zip(scale, strata, strict=True)])
    weights = np.concatenate([w for _, w in strata])
    top = max(1.0, float(scale.max()))
    return log_wealth(y, weights, 0.5, top, bet_sizes(int(weights.sum()), 0.01)) - math.log1p(1e-9)
