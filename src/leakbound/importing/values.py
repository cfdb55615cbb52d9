"""What logs hold: values by question, and lists of completions. None may be missing, or the log is refused."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.reading.rows import encodable


def entry(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """The object under a key; InputError where it is missing or no object."""
    if key not in data:
        raise InputError(f"{where} has no {key!r}; it has {', '.join(map(repr, data)) or 'nothing'}")
    value = data[key]
    if not isinstance(value, dict) or not value:
        raise InputError(f"{where}: {key!r} is {value!r:.60}, not an object with values in it")
    return value


def questions_of(by_index: Mapping[str, Any]) -> tuple[str, ...]:
    """The questions in the order of their numbers; what is no number comes first."""
    return tuple(sorted(by_index, key=lambda key: (int(key), key) if key.isdecimal() else (-1, key)))


def numbers(by_index: Mapping[str, Any], ids: Sequence[str], where: str) -> list[Any]:
    """The values of the questions in the order of ``ids``: finite numbers, or lists of equally many of them.

    A question without a value, one too many, a null, a NaN and lists of unequal length raise InputError.
    """
    aligned(by_index, ids, where)
    found = [by_index[key] for key in ids]
    width = len(found[0]) if isinstance(found[0], list) else None
    for key, value in zip(ids, found, strict=True):
        place = f"{where}: question {key!r}"
        if (len(value) if isinstance(value, list) else None) != width:
            wanted = "one number" if width is None else f"a list of {width} numbers"
            raise InputError(f"{place} has {value!r:.80}, the first one {wanted}: all must be alike")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise InputError(f"{place} has {number!r:.80}, not a finite number: a missing value cannot be left out")
    return found


def aligned(by_index: Mapping[str, Any], ids: Sequence[str], where: str) -> None:
    """The object has a value for each of the questions and for no other one."""
    missing = next((key for key in ids if key not in by_index), None)
    if missing is not None:
        raise InputError(f"{where} has no question {missing!r}: each of the {len(ids)} questions needs a value")
    if len(by_index) > len(ids):
        known = set(ids)
        extra = next(key for key in by_index if key not in known)
        raise InputError(f"{where} has question {extra!r}, which other values of the set do not have")


def texts(value: Any, where: str, what: str) -> tuple[str, ...]:
    """A list of texts; a null among them is a draw that failed: IncompleteRunError."""
    if not isinstance(value, list):
        raise InputError(f"{where}: {what} is {value!r:.60}: not a list of texts")
    for i, text in enumerate(value):
        if text is None:
            raise IncompleteRunError(f"{where}: {what} {i} is null: a draw failed, so no statement can be made")
        if not isinstance(text, str):
            raise InputError(f"{where}: {what} {i} is {text!r:.60}: not a text")
        encodable(text, where, f"{what} {i}")
    return tuple(value)
