"""Curves over the steps of unlearning, by seed: when the retrained model's exposure is reached and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leakbound.bounds.gate import Floats
from leakbound.studies.distribution.seeds import Median, holm, median, sign_test


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps: each seed's values (seeds, steps), and their median with its interval."""

    values: tuple[tuple[float, ...], ...]
    centre: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @classmethod
    def of(cls, values: Floats, alpha: float) -> Curve:
        """Of an array (seeds, steps)."""
        found = [median(column.tolist(), alpha=alpha) for column in values.T]
        return cls(
            tuple(tuple(row) for row in values.tolist()),
            tuple(x.estimate for x in found),
            tuple(x.lower for x in found),
            tuple(x.upper for x in found),
        )


@dataclass(frozen=True)
class Reached:
    """When each seed reached the retrained models' exposure (inf: not within the steps), and what was lost until there.

    ``lost`` by measure: the rise of a loss, or the fall of a quality, between the original and that step; only of seeds
    that got there. Steps and losses are interpolated between two measurements.
    """

    steps: tuple[float, ...]
    steps_median: Median
    lost: Mapping[str, tuple[float | None, ...]]
    lost_median: Mapping[str, Median | None]

    @property
    def count(self) -> int:
        """How many seeds got there."""
        return sum(np.isfinite(self.steps).tolist())


@dataclass(frozen=True)
class Finding:
    """One sentence of the paper, checked for one kind: a difference, paired by seed.

    ``differences``: None for a seed of which it is not known, for a set did not get there; such a seed speaks neither
    for nor against. ``estimate``: the median of those that are known.
    """

    claim: str
    kind: str
    differences: tuple[float | None, ...]
    estimate: Median | None
    p_value: float
    p_opposite: float
    adjusted: float
    adjusted_opposite: float

    @property
    def in_favour(self) -> int:
        """In how many seeds it was seen."""
        return sum(x is not None and x > 0 for x in self.differences)

    @property
    def against(self) -> int:
        """In how many seeds the opposite was seen."""
        return sum(x is not None and x < 0 for x in self.differences)

    @property
    def unknown(self) -> int:
        """In how many seeds one of the two sets did not get there, so that nothing can be compared."""
        return sum(x is None for x in self.differences)

    def verdict(self, alpha: float) -> str:
        """holds, opposite or undecided, at level alpha for all findings together (Holm)."""
        return "holds" if self.adjusted <= alpha else "opposite" if self.adjusted_opposite <= alpha else "undecided"


def reached(steps: Sequence[int] | Floats, exposure: Floats, values: Mapping[str, Floats], alpha: float) -> Reached:
    """When exposure (seeds, steps) first falls to 0, and what of ``values`` (seeds, steps) was lost until there."""
    places = [crossing(row) for row in exposure]
    at = [np.inf if place is None else float(np.interp(place, range(len(steps)), steps)) for place in places]
    lost: dict[str, tuple[float | None, ...]] = {}
    for name, rows in values.items():
        lost[name] = tuple(
            None if place is None else sign(name) * float(np.interp(place, range(len(row)), row) - row[0])
            for place, row in zip(places, rows, strict=True)
        )
    known = {name: [v for v in column if v is not None] for name, column in lost.items()}
    return Reached(
        tuple(at), median(at, alpha=alpha), lost, {n: median(v, alpha=alpha) if v else None for n, v in known.items()}
    )


def sign(name: str) -> float:
    """Which direction of a measure is a loss: 1 for the losses, which rise, and -1 for the qualities, which fall."""
    return 1.0 if name.endswith("_loss") else -1.0


def crossing(row: Floats, limit: float = 0.0) -> float | None:
    """The place between two measurements where the row first falls to a limit, by linear interpolation."""
    below = np.flatnonzero(row <= limit)
    if not len(below):
        return None
    i = int(below[0])
    return 0.0 if i == 0 else i - 1 + float((row[i - 1] - limit) / (row[i - 1] - row[i]))


@dataclass(frozen=True)
class Course:
    """What of one kind of example is compared: the steps, the loss on retained examples, when exposure reached 0."""

    steps: tuple[int, ...]
    retain_loss: Curve
    reached: Reached


def findings(inside: Course, others: Mapping[str, Course], *, alpha: float = 0.05) -> tuple[Finding, ...]:
    """The paper's three sentences for each kind outside the distribution, paired by seed with the kind inside it.

    1. it needs more steps; 2. less is lost where the retrained model's exposure is reached; 3. after the same number of
    steps (those that the in-distribution set of the seed needed) less is lost. Lost is the rise of the loss on retained
    examples. p-values by the sign test over all seeds, where one that is not known counts for neither direction,
    adjusted by Holm over all findings, the two directions each on its own. ``alpha``: of the medians' intervals, each
    alone.
    """
    raw: list[tuple[str, str, Sequence[float | None]]] = []
    for name, course in others.items():
        pairs = zip(course.reached.steps, inside.reached.steps, strict=True)
        raw.append(("steps", name, [_gap(a, b) for a, b in pairs]))
        lost = zip(course.reached.lost["retain_loss"], inside.reached.lost["retain_loss"], strict=True)
        raw.append(("trade-off", name, [None if a is None or b is None else b - a for a, b in lost]))
        raw.append(("decay", name, _same_steps(course, inside)))
    p_values = [sign_test([0.0 if x is None else x for x in d]) for *_, d in raw]
    opposite = [sign_test([0.0 if x is None else -x for x in d]) for *_, d in raw]
    up, down = holm(p_values), holm(opposite)
    known = [[x for x in d if x is not None] for *_, d in raw]
    medians = [median(some, alpha=alpha) if some else None for some in known]
    return tuple(
        Finding(claim, kind, tuple(d), medians[i], p_values[i], opposite[i], up[i], down[i])
        for i, (claim, kind, d) in enumerate(raw)
    )


def _gap(a: float, b: float) -> float | None:
    """a - b; None where neither got there."""
    return None if np.isinf(a) and np.isinf(b) else a - b


def _same_steps(course: Course, inside: Course) -> list[float]:
    """In-distribution loss minus this kind's, after the steps that the in-distribution set of each seed needed."""
    found = []
    for seed, steps in enumerate(inside.reached.steps):
        rises = []
        for one in (inside, course):
            row = one.retain_loss.values[seed]
            rises.append(float(np.interp(min(steps, one.steps[-1]), one.steps, row)) - row[0])
        found.append(rises[0] - rises[1])
    return found
