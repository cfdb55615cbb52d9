"""Answers of a server that independent draws of no law would give: one list for many requests."""

import math
from collections import Counter
from collections.abc import Sequence

from leakbound.errors import IncompleteRunError

_CHANCE = math.log(1e-15)


def check_apart(who: str, lists: Sequence[tuple[str, ...]]) -> None:
    """IncompleteRunError where the requests of one prompt, each with its list of texts, gave one list too often.

    Let q be the largest probability of a list's texts, in any order, under any law: L!/prod(c!) prod((c/L)^c) for c =
    their counts. That r of R requests give a list with q <= e has probability C(R, r) e^(r - 1) at most, for
    independent draws of any law. It is refused where that is below 1e-15: by chance, with R 1e-15 at most (one for each
    r). A list of one text has q = 1, and is never refused: a law may have one answer.
    """
    total = len(lists)
    for texts, times in Counter(lists).most_common(1):
        counts, length = Counter(texts).values(), len(texts)
        likely = math.lgamma(length + 1) + sum(c * math.log(c / length) - math.lgamma(c + 1) for c in counts)
        if times > 1 and math.log(math.comb(total, times)) + (times - 1) * likely < _CHANCE:
            raise IncompleteRunError(
                f"{who}: {times} of {total} requests were answered by the same {length} texts, as independent draws "
                "are not: a cache, or one seed for all; no statement can be made: turn it off, and give another folder"
            ).as_of_answer()
