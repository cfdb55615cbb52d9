"""What the draws of one prompt say against "theta >= p": an e-process that is log-convex and rises with p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from leakbound.bounds.engines.masses import LEAST_REST, OUTWARD, before_each, check_known, leak_estimate
from leakbound.bounds.gate import Floats, Ints, Scores, check_scores

NODES = 128
"""Distinct scores that are kept; more are split between their neighbours among these."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The judged draws of one prompt, whenever and for whatever reason they stopped.

    Made by :meth:`independent` or :meth:`without_replacement`. With theta = E[h] and a bet c in (0, 1),

        e(p) = prod_t [1 - c + c (1 - h_t) R_t / (C_t - p)],

    R = C = 1 for independent draws; R = 1 - M and C = L + 1 - M, the seen mass and leak before draw t, without
    replacement. For every p <= theta it is a nonnegative supermartingale that starts at 1. ``scores`` are the distinct
    ones, ascending, with their ``counts``; without replacement all of them in order, with their ``masses``.
    """

    scores: Floats
    counts: Ints
    masses: Floats | None = None
    known: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def independent(cls, scores: Scores, counts: npt.ArrayLike | None = None) -> Evidence:
        """Independent draws: their scores in any order, or the distinct scores with their counts."""
        return cls(*check_scores(scores, counts))

    @classmethod
    def without_replacement(
        cls, masses: Scores, scores: Scores, *, known: tuple[float, float] = (0.0, 0.0)
    ) -> Evidence:
        """Distinct completions in their order, with what :func:`without_replacement_bound` takes beside them."""
        p, h, mass, leak = check_known(masses, scores, known)
        return cls(h, np.ones(h.size, dtype=np.int64), p, (mass, leak))

    @property
    def n(self) -> int:
        """Judged draws."""
        return int(self.counts.sum())

    @property
    def estimate(self) -> float:
        """The plug-in value of theta, without a guarantee: the mean score, or what certificates estimate."""
        if self.masses is None:
            return float(np.dot(self.scores, self.counts / self.n))
        return leak_estimate(self.masses, self.scores, *self.known)

    def mirrored(self) -> Evidence:
        """The same draws with 1 - h for h."""
        if self.masses is None:
            return replace(self, scores=1.0 - self.scores[::-1], counts=self.counts[::-1])  # ascending again
        mass, leak = self.known
        return replace(self, scores=1.0 - self.scores, known=(mass, mass - leak))


def spread_out(values: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Ascending values split between at most NODES of them, each between its neighbours and keeping the mean.

    ln(1 - c + c (1 - h) / (1 - p)) is concave in h, so the sum of its values gets smaller: the evidence stays valid.
    """
    if values.size <= NODES:
        return values, counts
    nodes = values[np.round(np.linspace(0, values.size - 1, NODES)).astype(np.int64)]
    right = np.clip(np.searchsorted(nodes, values), 1, NODES - 1)
    share = (values - nodes[right - 1]) / (nodes[right] - nodes[right - 1])
    split = np.bincount(right, counts * share, NODES) + np.bincount(right - 1, counts * (1 - share), NODES)
    return nodes, split.astype(np.float64)


class Wealths:
    """ln e_i(p_i) and its derivative, of all prompts at once; ``low`` and ``cap`` are the certain limits of theta."""

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        parts = [_parts(one) for one in evidence]
        self.low, self.cap = (np.array([part[k] for part in parts]) for k in (4, 5))
        self.base, self.loss, self.ceiling, self.counts = (
            np.concatenate([part[k] for part in parts]) for k in range(4)
        )
        self.sizes = np.array([part[0].size for part in parts])
        self.leaking = self._sums(self.counts * (self.base > 0))

    def _sums(self, x: Floats) -> Floats:
        """Per prompt; 0 for a prompt without draws that count."""
        total = np.zeros(self.sizes.size)
        some = self.sizes > 0
        if some.any():
            total[some] = np.add.reduceat(x, (np.cumsum(self.sizes) - self.sizes)[some])
        return total

    def at(self, p: Floats, bets: Floats) -> tuple[Floats, Floats]:
        """ln e and d ln e / dp, of shape (bets, prompts); p within [low, cap) of its prompt.

        With u = C - p and r = (p - B) / u, B = L + h R, a factor is 1 + c r, and its logarithm rises with p at the
        rate c (1 - h) R / (u^2 (1 + c r)).
        """
        q = np.repeat(p, self.sizes)
        u = self.ceiling - q
        ratio, rate = (q - self.base) / u, self.counts * self.loss / u**2
        logs, slopes = np.empty((bets.size, p.size)), np.empty((bets.size, p.size))
        for j, c in enumerate(bets):
            logs[j] = self._sums(self.counts * np.log1p(c * ratio))
            slopes[j] = self._sums(rate * (c / (1 + c * ratio)))
        return logs, slopes

    def size(self, logs: Floats, bets: Floats) -> Floats:
        """At least the sum of the absolute terms of each ``logs``: what its rounding error is measured by."""
        return np.abs(logs) - 2 * np.log1p(-bets)[:, None] * self.leaking


def _parts(one: Evidence) -> tuple[Floats, Floats, Floats, Floats, float, float]:
    """B, (1 - h) R, C and counts of each draw, certain limits; M is rounded down and L up, which makes e smaller."""
    h, counts = one.scores, one.counts.astype(np.float64)
    # independent draws: nothing is ever seen away, R = C = 1, and theta lies in [0, 1]
    if one.masses is None:
        h, counts = spread_out(h, counts)
        return h, 1.0 - h, np.ones_like(h), counts, 0.0, 1.0
    rest, ceiling = before_each(one.masses, h, *one.known)
    loss = (1.0 - h) * rest[:-1]
    bet = rest[:-1] > LEAST_REST  # below that nobody bets
    low = (one.known[1] + float(np.dot(one.masses, h))) * (1 - OUTWARD)
    cap = min(float(ceiling.min()), 1.0)
    return (ceiling[:-1] - loss)[bet], loss[bet], ceiling[:-1][bet], counts[bet], min(low, cap), cap
