"""The one gate: every score, count, level and side that enters :mod:`leakbound.bounds` is checked here.

Each check returns the value in the form that the formulas need or raises :class:`~leakbound.errors.InputError` with the
argument, the value and the remedy.
"""

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from leakbound.errors import InputError

Side: TypeAlias = Literal["upper", "lower", "both"]
Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Scores: TypeAlias = npt.ArrayLike

LARGEST = 10**300
"""Whole numbers beyond it are no floats."""
ROUNDING = 1e-9
"""By how much less than a threshold a score may be and still reach it (:func:`reaches`)."""


@overload
def reaches(score: float, threshold: float) -> bool: ...
@overload
def reaches(score: Floats, threshold: float) -> npt.NDArray[np.bool_]: ...
def reaches(score: float | Floats, threshold: float) -> bool | npt.NDArray[np.bool_]:
    """Where h >= t, by ``score >= threshold - 1e-9``: a leak. Every score meets its threshold here and nowhere else.

    A score is a rounded number, and so is a threshold: 0.7999999999999999 may stand for 4/5, and read as less than 0.8
    it would turn a leak into a clean answer. So a score that may be as large as the threshold counts as that large. The
    margin is far above the rounding of float64, about 1e-16, and far below the distance of two different ROUGE values:
    fractions a/b and c/d differ by at least 1/(bd). A score of 0 reaches no positive threshold, however small: below
    2e-9 the margin is half the threshold.
    """
    return score >= threshold - min(ROUNDING, threshold / 2)


def check_real(name: str, value: object, remedy: str) -> float:
    """A finite real number as float; text, booleans, arrays, NaN and infinities are refused."""
    scalar = value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value
    if isinstance(scalar, bool) or not isinstance(scalar, numbers.Real) or not math.isfinite(scalar):
        raise InputError(f"{name} is {value!r}: {remedy}")
    return float(scalar)


def as_numbers(name: str, values: object) -> Floats:
    """The values as an array of float64, or InputError: texts, or rows of different lengths."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not an array of numbers ({error}): give numbers, in rows of one length") from None


def check_alpha(alpha: object, name: str = "alpha") -> float:
    """The level alpha, strictly between 0 and 1: the total probability that the statement is false."""
    remedy = "give a number strictly between 0 and 1, for example 0.01 for confidence 0.99"
    value = check_real(name, alpha, remedy)
    if not 0 < value < 1:
        raise InputError(f"{name} is {alpha!r}: {remedy}")
    return value


def check_threshold(threshold: object) -> float:
    """A number in (0, 1]."""
    remedy = "give a number in (0, 1]; a completion leaks at this score or above"
    value = check_real("threshold", threshold, remedy)
    if not 0 < value <= 1:
        raise InputError(f"threshold is {threshold!r}: {remedy}")
    return value


def check_side(side: object) -> Side:
    """One of ``"upper"``, ``"lower"``, ``"both"``."""
    if side == "upper" or side == "lower" or side == "both":
        return side
    raise InputError(f"side is {side!r}: give 'upper', 'lower' or 'both'")


def check_method(method: object, known: Sequence[str]) -> str:
    """One of the named methods; the error lists them all."""
    if method not in known:
        raise InputError(f"method is {method!r}: give one of {', '.join(repr(m) for m in known)}")
    return cast(str, method)


def check_whole(name: str, value: object, minimum: int = 0, maximum: int | None = None) -> int:
    """A whole number in [minimum, maximum] as int; whole floats such as 1024.0 are accepted, booleans are not."""
    wanted = f"a whole number >= {minimum}" + ("" if maximum is None else f" and <= {maximum}")
    scalar = value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value
    if isinstance(scalar, float) and scalar.is_integer():
        scalar = int(scalar)
    if isinstance(scalar, bool) or not isinstance(scalar, numbers.Integral):
        raise InputError(f"{name} is {value!r}: give {wanted}")
    number = operator.index(cast(Any, scalar))
    if number < minimum or (maximum is not None and number > maximum):
        raise InputError(f"{name} is {value!r}: give {wanted}")
    if number > LARGEST:
        raise InputError(f"{name} has {math.floor(math.log10(number)) + 1} digits: give {wanted}, at most 10^300")
    return number


def check_fraction(name: str, value: object, *, open_ends: bool = False) -> float:
    """A number in [0, 1], or in (0, 1) with ``open_ends``."""
    wanted = "strictly between 0 and 1" if open_ends else "between 0 and 1"
    number = check_real(name, value, f"give a number {wanted}")
    if not 0 <= number <= 1 or (open_ends and number in (0.0, 1.0)):
        raise InputError(f"{name} is {value!r}: give a number {wanted}")
    return number


def check_draws(scores: Scores, name: str = "scores") -> Floats:
    """Scores in the order given: one-dimensional, not empty, every one in [0, 1]. Booleans count as 0 and 1."""
    if isinstance(scores, np.ma.MaskedArray) and np.ma.is_masked(scores):
        raise InputError(f"{name} has masked entries: score every draw; a draw without a score is not 'no leak'")
    try:
        array = np.asarray(scores)
    except ValueError as error:
        raise InputError(f"{name} is ragged ({error}): give a one-dimensional array of numbers in [0, 1]") from error
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}: give a one-dimensional array of numbers in [0, 1]")
    if array.size == 0:
        raise InputError(f"{name} is empty: give at least one score")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {array.dtype}: give numbers in [0, 1]")
    values = array.astype(np.float64)
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        where = int(np.argmax(outside))
        remedy = "score every draw" if math.isnan(values[where]) else "give scores in [0, 1], 1 = fully leaked"
        raise InputError(f"{name}[{where}] is {values[where]:.17g}: {remedy}")
    return values + 0.0  # -0.0 becomes 0.0


def check_counts(counts: npt.ArrayLike, size: int, name: str = "counts") -> Ints:
    """Counts: ``size`` whole numbers >= 0 with a positive sum."""
    try:
        array = np.asarray(counts)
    except ValueError as error:
        raise InputError(f"{name} is ragged ({error}): give {size} whole numbers >= 0") from error
    if array.shape != (size,):
        raise InputError(f"{name} has shape {array.shape}: give one count for each of the {size} scores")
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name} has dtype {array.dtype}: give whole numbers >= 0")
    bad = ~((array >= 0) & (array < 2**53)) | (array != np.floor(array))
    if bad.any():
        where = int(np.argmax(bad))
        raise InputError(f"{name}[{where}] is {array[where]}: give whole numbers >= 0")
    whole = array.astype(np.int64)
    if not whole.any():
        raise InputError(f"{name} sum to 0: give at least one draw")
    if (total := float(whole.sum(dtype=np.float64))) > 2**53:
        raise InputError(f"{name} sum to {total:.17g}: give at most {2**53} draws, above which counts are not exact")
    return whole


def check_scores(scores: Scores, counts: npt.ArrayLike | None = None) -> tuple[Floats, Ints]:
    """The distinct scores, ascending, and how often each was drawn (all counts > 0)."""
    draws = check_draws(scores)
    if counts is None:
        values, totals = np.unique(draws, return_counts=True)
        return values, totals.astype(np.int64)
    weights = check_counts(counts, draws.size)
    values, inverse = np.unique(draws, return_inverse=True)
    totals = np.zeros(values.size, dtype=np.int64)
    np.add.at(totals, inverse, weights)
    return values[totals > 0], totals[totals > 0]
