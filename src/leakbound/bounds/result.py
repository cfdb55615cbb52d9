"""What a bound is: a frozen record that prints as one plain sentence and never prints itself tighter than it is."""

import bisect
import dataclasses
import math
import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Self

from leakbound.bounds.gate import Side, check_alpha, check_side, check_whole, reaches
from leakbound.errors import InputError

LEAST_SPELT = Decimal("1e-25")
"""Below it 1 - alpha has more digits than decimal arithmetic keeps, and would be rounded to 1."""


def show_number(value: float, rounding: str = ROUND_HALF_EVEN) -> str:
    """A number with 6 decimals, or with 4 digits where it is smaller than 1e-4, rounded in the given direction."""
    exact = Decimal(value)
    if exact == 0 or abs(exact) >= Decimal("1e-4"):
        return str(exact.quantize(Decimal("1e-6"), rounding=rounding))
    return f"{Context(prec=4, rounding=rounding).create_decimal(exact):.3e}"


def event(threshold: float) -> str:
    """``P(h >= 0.5)``, the threshold in full: a rounded one could leave an atom out of the event."""
    return f"P(h >= {in_full(threshold)})"


def in_full(limit: float) -> str:
    """A number that decides, with all its digits: a rounded one could say more than was proven."""
    return repr(float(limit)).removesuffix(".0")


def show_confidence(alpha: float) -> str:
    """The confidence 1 - alpha, rounded down: alpha itself is rounded up to 3 digits. It is never 1: ``1 - 1e-30``."""
    level = Context(prec=3, rounding=ROUND_CEILING).create_decimal(Decimal(repr(alpha)))
    if level < LEAST_SPELT:
        return f"1 - {level.normalize():e}"
    return format((1 - level).normalize(), "f")


def limits_of(estimand: str) -> tuple[float, float]:
    """Between which numbers ``estimand`` lies whatever the draws: 0 and 1, but for sd, mean + k sd and differences."""
    if found := re.fullmatch(r"E\[h\] \+ ([\d.e+-]+) sd\(h\)", estimand):
        return 0.0, (1 + math.sqrt(1 + float(found[1]) ** 2)) / 2
    if estimand == "sd(h)":
        return 0.0, 0.5
    return (-1.0 if " - E[h]" in estimand or " - P(" in estimand else 0.0), 1.0


@dataclass(frozen=True)
class Record:
    """What becomes a JSON object and comes back: fields of plain values and of tuples, which are lists there."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The record that :meth:`to_json` wrote."""
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in data.items()})


@dataclass(frozen=True)
class Bound(Record):
    """A guaranteed statement ``lower <= estimand <= upper``, false with probability at most ``alpha``.

    ``estimate`` is the plug-in value, without a guarantee. ``n`` is how many draws (or what ``unit`` says) were seen.
    The side that is not claimed carries the trivial limit of the estimand (0 or 1 for a probability). ``scope`` names
    the quantifier: this prompt, every prompt, the average prompt, a future prompt.
    """

    estimand: str
    estimate: float
    lower: float
    upper: float
    alpha: float
    side: Side
    n: int
    method: str
    scope: str = "this prompt"
    unit: str = "draws"

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_side(self.side)
        check_whole("n", self.n, 1)
        for name in ("estimate", "lower", "upper"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not self.lower <= self.upper:
            raise InputError(f"lower is {self.lower!r} and upper is {self.upper!r}: give lower <= upper")

    @property
    def confidence(self) -> float:
        """1 - alpha."""
        return 1.0 - self.alpha

    @property
    def claim(self) -> str:
        """The inequality alone, rounded outward, for example ``P(h >= 0.5) <= 0.004488``."""
        if self.side == "upper":
            return f"{self.estimand} <= {show_number(self.upper, ROUND_CEILING)}"
        if self.side == "lower":
            return f"{self.estimand} >= {show_number(self.lower, ROUND_FLOOR)}"
        return f"{show_number(self.lower, ROUND_FLOOR)} <= {self.estimand} <= {show_number(self.upper, ROUND_CEILING)}"

    @property
    def says_nothing(self) -> bool:
        """Whether every limit that it claims is one that holds whatever was drawn."""
        low, high = limits_of(self.estimand)
        return (self.side == "lower" or self.upper >= high) and (self.side == "upper" or self.lower <= low)

    def __str__(self) -> str:
        if self.says_nothing:
            claim = f"nothing can be said yet of {self.estimand}"
        else:
            claim = f"{self.claim} with confidence {show_confidence(self.alpha)}"
        return (
            f"For {self.scope}, {claim} ({show_number(self.estimate)} observed in {self.n} {self.unit}; {self.method})"
        )


@dataclass(frozen=True)
class SurvivalBand(Record):
    """Bounds on S(x) = P(h > x) that hold for all x at once, false with probability at most ``alpha``.

    ``thresholds`` ascend; ``estimate``, ``lower`` and ``upper`` belong to them one by one. Between thresholds the band
    is read with :meth:`upper_at` and :meth:`lower_at`, which use only that S falls.
    """

    thresholds: tuple[float, ...]
    estimate: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    alpha: float
    side: Side
    n: int
    method: str
    scope: str = "this prompt"

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_side(self.side)
        check_whole("n", self.n, 1)
        for name in ("thresholds", "estimate", "lower", "upper"):
            object.__setattr__(self, name, tuple(float(x) for x in getattr(self, name)))
        if not len(self.thresholds) == len(self.estimate) == len(self.lower) == len(self.upper) > 0:
            raise InputError("thresholds, estimate, lower and upper differ in length or are empty: give one each per x")
        if any(a >= b for a, b in zip(self.thresholds, self.thresholds[1:], strict=False)):
            raise InputError("thresholds do not ascend: sort them and drop repeats")

    @property
    def confidence(self) -> float:
        """1 - alpha."""
        return 1.0 - self.alpha

    def upper_at(self, x: float) -> float:
        """Upper bound on P(h > x) for any x: the one at the largest threshold <= x."""
        if x >= 1:
            return 0.0
        place = bisect.bisect_right(self.thresholds, x)
        return self.upper[place - 1] if place else 1.0

    def lower_at(self, x: float) -> float:
        """Lower bound on P(h > x) for any x: the one at the smallest threshold >= x."""
        if x < 0:
            return 1.0
        place = bisect.bisect_left(self.thresholds, x)
        return self.lower[place] if place < len(self.thresholds) else 0.0

    def upper_at_least(self, x: float) -> float:
        """Upper bound on P(h >= x) for any x: that on P(h > t) at the largest threshold t that does not reach x."""
        place = bisect.bisect_left(self.thresholds, True, key=lambda t: reaches(t, x))
        return 0.0 if x > 1 else self.upper[place - 1] if place else 1.0

    def __str__(self) -> str:
        size = len(self.thresholds)
        parts = []
        for i in sorted({0, size // 2, size - 1}):
            low, high = show_number(self.lower[i], ROUND_FLOOR), show_number(self.upper[i], ROUND_CEILING)
            name = f"P(h > {self.thresholds[i]!r})"  # in full: a rounded x could drop an atom from the event
            parts.append(
                f"{name} <= {high}" if self.side == "upper"
                else f"{name} >= {low}" if self.side == "lower"
                else f"{low} <= {name} <= {high}"
            )  # fmt: skip
        return (
            f"For {self.scope} and for all x at once, P(h > x) keeps to its band with confidence "
            f"{show_confidence(self.alpha)}: {', '.join(parts)} ({self.n} draws, {size} thresholds; {self.method})"
        )
