"""The one gate of the metrics: per-question values that are numbers, all there, in range, and of one length."""

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import as_numbers
from leakbound.errors import InputError

Floats: TypeAlias = npt.NDArray[np.float64]
ROUNDING = 1e-5
"""A log-probability computed in single precision may miss 0 by this much."""


def check_values(
    name: str,
    values: npt.ArrayLike,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    ndim: int = 1,
    length: int | None = None,
) -> Floats:
    """Finite numbers in [low, high], one for each question: shape (n,), or (n, k) with ``ndim=2``; n, k >= 1.

    A value that is missing (None, NaN), infinite or out of range is an InputError that names its question's place.
    """
    array = as_numbers(name, values)
    if array.ndim != ndim or array.size == 0:
        shape = "(questions,)" if ndim == 1 else "(questions, wrong answers)"
        raise InputError(f"{name} has shape {array.shape}: give values of shape {shape}, at least one")
    if length is not None and len(array) != length:
        raise InputError(f"{name} has {len(array)} values and there are {length} questions: give one for each")
    wrong = ~(np.isfinite(array) & (array >= low) & (array <= high))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        place = ", ".join(map(str, where))
        if math.isnan(array[where]):
            raise InputError(f"{name}[{place}] is missing (NaN): measure every question, none may be left out")
        span = "finite numbers" if math.isinf(low) and math.isinf(high) else f"finite numbers in [{low:g}, {high:g}]"
        raise InputError(f"{name}[{place}] is {array[where]:.17g}: give {span}")
    return array


def check_shares(name: str, values: npt.ArrayLike, length: int | None = None) -> Floats:
    """Numbers in [0, 1], one for each question."""
    return check_values(name, values, low=0.0, high=1.0, length=length)


def check_losses(name: str, values: npt.ArrayLike, *, ndim: int = 1, length: int | None = None) -> Floats:
    """Losses in nats, >= 0; what rounding has made a little negative becomes 0."""
    return np.maximum(check_values(name, values, low=-ROUNDING, ndim=ndim, length=length), 0.0)


def check_logprobs(name: str, values: npt.ArrayLike) -> Floats:
    """Natural logs of probabilities, <= 0; what rounding has made a little positive becomes 0."""
    return np.minimum(check_values(name, values, high=ROUNDING), 0.0)


def check_aligned(arrays: Mapping[str, Floats]) -> None:
    """Arrays that belong to the same questions have the same length."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"numbers of questions differ ({said}): give one value for each question to all of them")
