"""The order in which a bet sees the draws: the order of generation, which must not depend on the scores.

A fixed permutation of sorted scores is a fixed function of the counts: its bets can miss far more often than alpha
(docs/methods.md). So nothing is ever permuted here. Scores with counts have no order, and get a bound that needs none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import Floats, Ints, Scores, check_draws, check_scores
from leakbound.errors import InputError

BATCH = 2**18
"""Draws that are bet on together."""
NO_ORDER = "no order known"
"""What a bound's method says where scores came with counts."""

Prompt = tuple[Floats, Ints, Floats | None]
"""The distinct scores, their counts, and every draw in its order; None where the order is not known."""


def per_prompt(scores: Sequence[Scores], counts: Sequence[npt.ArrayLike | None] | None) -> list[Prompt]:
    """Each prompt's scores, checked: without counts they are its draws in the order of generation."""
    if counts is not None and len(counts) != len(scores):
        raise InputError(f"counts has {len(counts)} entries: give one array for each of the {len(scores)} prompts")
    given = [None] * len(scores) if counts is None else list(counts)
    return [(*check_scores(s, c), check_draws(s) if c is None else None) for s, c in zip(scores, given, strict=True)]


def in_order(scores: Sequence[float], places: Sequence[npt.ArrayLike]) -> Floats:
    """The score of every draw in the order of generation, from distinct completions and the places of their draws."""
    numbers = [np.asarray(some, dtype=np.int64) for some in places]
    drawn = np.concatenate(numbers)
    if np.unique(drawn).size != drawn.size:
        raise InputError("places name a draw twice: give the places of each draw once")
    return np.repeat(np.asarray(scores, dtype=np.float64), [some.size for some in numbers])[np.argsort(drawn)]


def looks_arranged(x: Floats) -> bool:
    """Whether draws may have been sorted or grouped after they were generated: then their order depends on the scores.

    They ascend or descend, or equal scores stand together so often that there are less than half as many changes as
    are expected of draws in random order, sum_v n_v (n - n_v) / n.
    """
    steps = np.diff(x)
    if not steps.any():
        return False
    _, counts = np.unique(x, return_counts=True)
    expected = float((counts * (x.size - counts)).sum()) / x.size
    return bool((steps >= 0).all() or (steps <= 0).all() or np.count_nonzero(steps) < expected / 2)


def batches(draws: Sequence[Floats]) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Groups of equally many draws, equal sequences once: places of their prompts, columns, draws (draws, columns)."""
    places: dict[int, dict[bytes, list[int]]] = defaultdict(dict)
    for place, x in enumerate(draws):
        places[x.size].setdefault(x.tobytes(), []).append(place)
    for n, alike in places.items():
        groups = list(alike.values())
        width = max(1, BATCH // n)
        for first in range(0, len(groups), width):
            part = groups[first : first + width]
            columns = np.repeat(np.arange(len(part)), [len(group) for group in part])
            yield np.concatenate(part), columns, np.stack([draws[group[0]] for group in part], axis=1)


def upper_limits(
    prompts: Sequence[Prompt], in_order: Callable[[Floats], Floats], without: Callable[[Floats, Ints], float]
) -> Floats:
    """For each prompt the limit of ``in_order``, of shape (columns,), or where no order is known that of ``without``.

    Draws that look sorted or grouped get the larger of the two. That is never below the first, so it holds for draws in
    the order of generation; and it is never below the second, so it also holds where somebody arranged them.
    """
    limits = np.array([0.0 if x is not None else without(v, w) for v, w, x in prompts])
    known = [i for i, (_, _, x) in enumerate(prompts) if x is not None]
    ordered = [x for _, _, x in prompts if x is not None]
    for places, columns, x in batches(ordered):
        found = in_order(x)
        limits[np.array(known)[places]] = found[columns]
    for i, x in zip(known, ordered, strict=True):
        if looks_arranged(x):
            limits[i] = max(limits[i], without(*prompts[i][:2]))
    return limits
