"""The order in which a bet sees the draws. It must not depend on the scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import Floats, Ints, Scores, Seed, check_draws, check_scores, check_whole
from leakbound.errors import InputError

BATCH = 2**18
"""Draws that are bet on together."""


def check_seed(seed: object) -> tuple[int, ...] | None:
    """A seed as a tuple of whole numbers >= 0; None stays None."""
    if seed is None:
        return None
    parts = list(cast(Sequence[object], seed)) if isinstance(seed, Sequence) and not isinstance(seed, str) else [seed]
    return tuple(check_whole("seed", part) for part in parts)


def ordered_draws(scores: Scores, counts: npt.ArrayLike | None, seed: Seed | None) -> Floats:
    """Every draw once, in the order of a permutation made from ``seed``; with seed None in the order given.

    The seeded order starts from the sorted scores, so that it is the same for scores with counts and for their repeats,
    and input that comes sorted does no harm. The seed must be fixed before the scores are looked at; the probability in
    the statement includes the generator's. With None the scores must be in the order of generation, without counts.
    """
    if seed is None:
        if counts is not None:
            raise InputError("seed is None and counts are given: scores with counts have no order; give a seed")
        return check_draws(scores)
    values, weights = check_scores(scores, counts)
    return np.random.default_rng(check_seed(seed)).permutation(np.repeat(values, weights))


def batches(draws: Sequence[Floats]) -> Iterator[tuple[Ints, Floats]]:
    """Groups of equally many draws: the places of their prompts, and the draws, of shape (draws, prompts)."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, x in enumerate(draws):
        places[x.size].append(place)
    for n, found in places.items():
        width = max(1, BATCH // n)
        for first in range(0, len(found), width):
            part = found[first : first + width]
            yield np.array(part), np.stack([draws[place] for place in part], axis=1)
