"""What is no new draw: repeats that are copies of one, and answers that are always the likeliest."""

from collections.abc import Mapping, Sequence
from typing import Any

FEW = 0.1
"""Where fewer prompts than this share have two different completions, the others may well be copies of one draw each.

Servers round otherwise for other batches, so that a few copies of one seed differ.
"""


def all_but_few(distinct: Sequence[int]) -> bool:
    """Whether nearly all prompts have one completion only, given how many different ones each has."""
    return sum(number > 1 for number in distinct) < FEW * len(distinct)


def greedy(settings: Mapping[str, Any]) -> str:
    """The setting with which only the likeliest token is ever taken, in words; empty where there is none."""
    for name, value in (("temperature", 0), ("top_k", 1), ("top_p", 0)):
        given = settings.get(name)
        if not isinstance(given, bool) and given == value:
            return f"{name} is {value}"
    return ""
