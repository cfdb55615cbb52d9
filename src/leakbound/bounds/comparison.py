"""Two models on the same prompts, and a ranking of many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leakbound.bounds.average import stratified_upper
from leakbound.bounds.gate import Floats, Ints, Scores, Side, check_alpha, check_side
from leakbound.bounds.multiplicity import e_holm
from leakbound.bounds.order import ordered_draws
from leakbound.bounds.portfolio import bet_sizes, log_wealth
from leakbound.bounds.result import Bound, show_confidence
from leakbound.errors import InputError

Counts = Sequence[npt.ArrayLike] | None


def paired(a: Sequence[Scores], b: Sequence[Scores], ca: Counts, cb: Counts, seed: int) -> list[tuple[Floats, Ints]]:
    """(1 + x - y) / 2 in [0, 1] for the draws x of model A and y of model B on each prompt, in a seeded pairing."""
    if len(a) != len(b) or len(a) == 0:
        raise InputError(f"the models have {len(a)} and {len(b)} prompts: give both the same prompts in the same order")
    strata = []
    for i, (left, right) in enumerate(zip(a, b, strict=True)):
        x = ordered_draws(left, None if ca is None else ca[i], (seed, i, 0))
        y = ordered_draws(right, None if cb is None else cb[i], (seed, i, 1))
        if x.size != y.size:
            raise InputError(f"prompt {i} has {x.size} and {y.size} draws: draw equally many from both models")
        values, weights = np.unique((1.0 + x - y) / 2, return_counts=True)
        strata.append((values, weights.astype(np.int64)))
    return strata


def difference_bound(
    scores_a: Sequence[Scores],
    scores_b: Sequence[Scores],
    *,
    alpha: float,
    side: Side = "both",
    counts_a: Counts = None,
    counts_b: Counts = None,
    seed: int = 0,
) -> Bound:
    """Bound the average over fixed prompts of E[h] of model A minus that of model B, in [-1, 1].

    Draws are paired within each prompt, z = (1 + x - y) / 2, and a portfolio of constant bets bounds the average of
    E[z]; the prompts may differ in any way. An upper bound below 0 proves that A leaks less than B on these prompts.

    Assumes independent draws and equally many from both models per prompt, fixed before the first one.
    """
    alpha, side = check_alpha(alpha), check_side(side)
    strata = paired(scores_a, scores_b, counts_a, counts_b, seed)
    share = alpha / 2 if side == "both" else alpha
    upper = 1.0 if side == "lower" else 2 * stratified_upper(strata, share) - 1 + 1e-15
    lower = -1.0
    if side != "upper":
        lower = 1 - 2 * stratified_upper([(1.0 - v, w) for v, w in strata], share) - 1e-15
    estimate = float(np.mean([2 * float(np.dot(v, w / w.sum())) - 1 for v, w in strata]))
    total = int(sum(w.sum() for _, w in strata))
    method = f"portfolio of constant bets on paired draws over {len(strata)} prompts"
    name = "E[h] of model A - E[h] of model B"
    return Bound(
        name, estimate, max(lower, -1.0), min(upper, 1.0), alpha, side, total, method, "the average prompt", "pairs"
    )


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
    seed: int = 0,
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
        logs.append(log_evidence_less(paired(scores[a], scores[b], ca, cb, seed)))
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
