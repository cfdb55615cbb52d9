"""Whether the rows of a prompt are all of its draws: none lost, none counted twice."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leakbound.runs.layout import Part


def whole(rows: Sequence[Mapping[str, Any]], part: Part) -> bool:
    """Whether these are all of a prompt's draws of the part, and, where their places are known, each once."""
    if sum(row["count"] for row in rows) != part.num_samples:
        return False
    places = [row["places"] for row in rows]
    if None in places:
        return True
    numbers = np.sort(np.concatenate([np.asarray(some, dtype=np.int64) for some in places]))
    return numbers.size == part.num_samples and bool(
        (numbers == np.arange(part.first, part.first + part.num_samples)).all()
    )


def whole_order(rows: Sequence[Mapping[str, Any]], most: int) -> bool:
    """Whether these are the first ``most`` completions drawn without replacement, each once, or all there are."""
    if [(row["first"], row["count"]) for row in rows] != [(i, 1) for i in range(len(rows))] or len(rows) > most:
        return False
    if any(row["logprob"] is None for row in rows):
        return False
    return len(rows) == most or math.fsum(math.exp(row["logprob"]) for row in rows) > 1 - 1e-6
