"""Distinct completions with exact probabilities: the seen mass M, the seen leak L, and the estimate of E[h]."""

import numpy as np

from leakbound.bounds.gate import Floats, Scores, check_draws, check_fraction
from leakbound.errors import InputError

OUTWARD = 1e-10
"""Relative error of a sum of probabilities in float64, far above what rounding does: M goes down, L goes up."""
LEAST_REST = 1e-9
"""Below this unseen mass nobody bets any more: there the rounding of M would show."""


def check_masses(masses: Scores, scores: Scores) -> tuple[Floats, Floats]:
    """Probabilities of distinct completions and their scores; InputError for masses that sum to more than 1."""
    p, h = check_draws(masses, "masses"), check_draws(scores)
    if p.size != h.size:
        raise InputError(f"masses has {p.size} entries for {h.size} scores: give the probability of each completion")
    if p.sum() > 1 + 1e-6:
        raise InputError(f"masses sum to {p.sum():.9g}: give probabilities of distinct completions, which sum to <= 1")
    return p, h


def check_known(masses: Scores, scores: Scores, known: tuple[float, float]) -> tuple[Floats, Floats, float, float]:
    """The same, and mass and leak of completions that are ``known`` beside them."""
    p, h = check_masses(masses, scores)
    mass, leak = check_fraction("known[0]", known[0]), check_fraction("known[1]", known[1])
    if leak > mass * (1 + OUTWARD) or mass + p.sum() > 1 + 1e-6:
        raise InputError(f"known is {known!r}: give (mass, leak) with leak <= mass, and mass + the new masses <= 1")
    return p, h, mass, leak


def before_each(p: Floats, h: Floats, mass: float = 0.0, leak: float = 0.0) -> tuple[Floats, Floats]:
    """1 - M and L + 1 - M before each generation and after the last, (t + 1,), both rounded up."""
    seen = mass + np.concatenate([[0.0], np.cumsum(p)])
    leaked = leak + np.concatenate([[0.0], np.cumsum(p * h)])
    rest = np.maximum(1.0 - seen * (1 - OUTWARD), 0.0)
    return rest, rest + leaked * (1 + OUTWARD)


def leak_estimate(p: Floats, h: Floats, mass: float, leak: float) -> float:
    """Mean of the unbiased L_{t-1} + (1 - M_{t-1}) h_t, weighted by 1 / (1 - M_{t-1}), within the exact limits."""
    seen = mass + np.cumsum(p) - p
    rest = np.maximum(1.0 - seen, LEAST_REST)
    guess = float(np.sum((leak + np.cumsum(p * h) - p * h) / rest + h) / np.sum(1 / rest))
    low = leak + float(np.dot(p, h))
    return min(max(guess, low), low + max(1.0 - mass - float(p.sum()), 0.0), 1.0)
