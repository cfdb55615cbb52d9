"""Laws on [0, 1] with known mean, sd and survival function, and the tolerance for a simulated miss rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Law:
    """A mixture of atoms (value, weight) and Beta parts (a, b, weight)."""

    name: str
    atoms: tuple[tuple[float, float], ...] = ()
    betas: tuple[tuple[float, float, float], ...] = ()

    def draw(self, rng: np.random.Generator, size) -> np.ndarray:
        weights = [w for _, w in self.atoms] + [w for *_, w in self.betas]
        part = rng.choice(len(weights), size=size, p=weights)
        out = np.zeros(size)
        for i, (value, _) in enumerate(self.atoms):
            out[part == i] = value
        for i, (a, b, _) in enumerate(self.betas, start=len(self.atoms)):
            out[part == i] = rng.beta(a, b, np.count_nonzero(part == i))
        return out

    @property
    def mean(self) -> float:
        return sum(v * w for v, w in self.atoms) + sum(w * a / (a + b) for a, b, w in self.betas)

    @property
    def sd(self) -> float:
        second = sum(v * v * w for v, w in self.atoms)
        second += sum(w * a * (a + 1) / ((a + b) * (a + b + 1)) for a, b, w in self.betas)
        return float(np.sqrt(max(second - self.mean**2, 0.0)))

    def survival(self, x) -> np.ndarray:
        x = np.asarray(x, dtype=float)
        out = sum(w * (v > x) for v, w in self.atoms) + np.zeros_like(x)
        for a, b, w in self.betas:
            out = out + w * stats.beta.sf(x, a, b)
        return out


def bernoulli(p: float) -> Law:
    return Law(f"Bern({p})", ((0.0, 1 - p), (1.0, p)))


ZERO = Law("zero", ((0.0, 1.0),))
ONE = Law("one", ((1.0, 1.0),))
RARE = bernoulli(0.01)
COIN = bernoulli(0.5)
TWO_POINT = Law("two-point", ((0.3, 0.97), (1.0, 0.03)))
NEAR_ZERO = Law("near zero", ((0.01, 0.98), (1.0, 0.02)))
ATOM = Law("atom at 0", ((0.0, 0.5),), ((1.0, 1.0, 0.5),))
BETA_LOW = Law("Beta(.5,5)", betas=((0.5, 5.0, 1.0),))
BETA = Law("Beta(2,8)", betas=((2.0, 8.0, 1.0),))
ROUGE_LOW = Law("ROUGE-low", ((0.0, 0.6),), ((2.0, 12.0, 0.38), (8.0, 2.0, 0.02)))
ROUGE_MID = Law("ROUGE-mid", ((0.0, 0.05), (1.0, 0.05)), ((12.0, 3.0, 0.1), (4.0, 6.0, 0.8)))
JUDGE = Law("Judge5", ((0.0, 0.85), (0.25, 0.08), (0.5, 0.04), (0.75, 0.02), (1.0, 0.01)))

LAWS = (ZERO, RARE, COIN, TWO_POINT, NEAR_ZERO, ATOM, BETA_LOW, BETA, ROUGE_LOW, ROUGE_MID, JUDGE)


def most_misses(runs: int, alpha: float, false_alarm: float = 1e-7) -> int:
    """The largest number of misses that a valid bound at level alpha exceeds with probability < false_alarm."""
    return int(stats.binom.isf(false_alarm, runs, alpha))
