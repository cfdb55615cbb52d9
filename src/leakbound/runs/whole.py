"""Whether the rows of a prompt are all of its draws: none lost, none counted twice."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from leakbound.errors import IncompleteRunError
from leakbound.runs.layout import Part


def check_whole(part: Part, prompts: Iterable[str], rows: Sequence[Mapping[str, Any]], *, absent: bool) -> None:
    """IncompleteRunError unless every prompt has exactly the draws of the part that the layout says.

    ``absent``: a prompt may have no draws in a sample part. Without replacement a prompt may have none, or fewer, if
    these are all its completions.
    """
    found: dict[str, list[Mapping[str, Any]]] = {prompt_id: [] for prompt_id in prompts}
    for row in rows:
        if row["prompt_id"] not in found or row["count"] < 1:
            raise IncompleteRunError(
                f"{part.name}: {row['count']} draws of prompt {row['prompt_id']!r} do not belong there"
            )
        found[row["prompt_id"]].append(row)
    absent = part.kind == "distinct" or (part.kind == "sample" and absent)
    for prompt_id, mine in found.items():
        number = sum(row["count"] for row in mine)
        right = _whole_order(mine, part.num_samples) if part.kind == "distinct" else _whole(mine, part)
        right &= part.kind != "counted" or all(row["places"] is None for row in mine)
        if not right and not (absent and number == 0):
            said = f"{number} draws, not {part.num_samples}"
            if number == part.num_samples:
                said = f"{number} draws whose places are not each of {part.first} to {part.first + number - 1} once"
            raise IncompleteRunError(
                f"{part.name}: prompt {prompt_id!r} has {said}: no statement can be made from it; delete the "
                "file and sample again"
            )


def _whole(rows: Sequence[Mapping[str, Any]], part: Part) -> bool:
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


def _whole_order(rows: Sequence[Mapping[str, Any]], most: int) -> bool:
    """Whether these are the first ``most`` completions drawn without replacement, each once, or all there are."""
    if [(row["first"], row["count"]) for row in rows] != [(i, 1) for i in range(len(rows))] or len(rows) > most:
        return False
    if any(row["logprob"] is None for row in rows):
        return False
    return len(rows) == most or math.fsum(math.exp(row["logprob"]) for row in rows) > 1 - 1e-6
