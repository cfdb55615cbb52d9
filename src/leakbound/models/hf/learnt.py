"""What a server's earlier answers say of its law, wherever the same tokens stood before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from leakbound.bounds.gate import Floats, Ints

LEARNT = "other weights, learnt from earlier answers"
STARTS = (*range(8), 8, 16, 64)
"""Ranks at which a cell begins whose frequency is learnt; the tokens within one keep their stated proportions."""
STRENGTH = 16
"""So many answers is the stated law worth where earlier ones are counted."""


def learnt(
    stated: Floats, top: Ints, answers: Sequence[Sequence[int]], earlier: Mapping[tuple[int, ...], int]
) -> Floats:
    """The law of each token of the answers as those before let expect it, (M, K + 1); predictable, so a fair bet.

    ``stated``: the law on the K likeliest tokens and the rest, (M, K + 1); ``top``: these tokens, likeliest first, (M,
    K). ``earlier``: answers to the same prompt before these, with their counts. Of ``answers`` each also learns from
    those before it, and from itself nothing.
    """
    seen: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for answer, count in earlier.items():
        for t, token in enumerate(answer):
            seen[answer[:t]][token] += count
    width, law, row = top.shape[1], stated.copy(), 0
    starts = np.array([*(s for s in STARTS if s < width), width])
    cell = np.searchsorted(starts, np.arange(width + 1), side="right") - 1
    for answer in map(tuple, answers):
        for t in range(len(answer)):
            if found := seen.get(answer[:t]):
                mass = np.add.reduceat(stated[row], starts)
                counts = np.zeros_like(mass)
                for token, count in found.items():
                    place = np.flatnonzero(top[row] == token)
                    counts[cell[place[0]] if place.size else -1] += count
                share = (counts + STRENGTH * mass) / (counts.sum() + STRENGTH)
                law[row] *= np.divide(share, mass, out=np.ones_like(mass), where=mass > 0)[cell]
            row += 1
        for t, token in enumerate(answer):
            seen[answer[:t]][token] += 1
    return law
