"""Answers of a server that independent draws of no law would give: one list for many requests, one answer in a request.

By chance an honest server's draws of a shard are refused with probability 1e-15 at most by each of the two tests.
"""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from leakbound.errors import IncompleteRunError

_CHANCE = math.log(1e-15)


def check_independent(found: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """IncompleteRunError where a prompt's requests, each with its list of texts, are no independent draws of a law."""
    for name, lists in found.items():
        check_apart(f"prompt {name!r}", lists)
    check_within(found)


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


def check_within(found: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """IncompleteRunError where answers to one request are equal more often than answers to different ones.

    Half of the answers to each request are paired among themselves, the other half with those to another request for
    the same prompt, in an order that does not depend on them. Pairs share no answer: of independent draws of any law,
    all pairs of a prompt are equal independently, with one probability. So, given how many are equal, the number within
    requests is hypergeometric, and that of all prompts a sum of such. Refused where its tail is below 1e-15.
    """
    law, seen = np.ones(1), [0, 0, 0, 0]
    for lists in found.values():
        within, across = _pairs(lists)
        law = np.convolve(law, _hypergeometric(len(within), len(across), sum(within) + sum(across)))
        seen = [a + b for a, b in zip(seen, (sum(within), len(within), sum(across), len(across)), strict=True)]
    if (tail := float(law[seen[0] :].sum())) == 0 or math.log(tail) < _CHANCE:
        raise IncompleteRunError(
            f"{seen[0]} of {seen[1]} pairs of answers to one request are equal, and {seen[2]} of {seen[3]} pairs of "
            "answers to two, as independent draws are not: the server repeats a completion within a request, or gives "
            "all of them one seed; no statement can be made: give --per-request 1, and another folder"
        ).as_of_answer()


def _pairs(lists: Sequence[tuple[str, ...]]) -> tuple[list[bool], list[bool]]:
    """Whether the answers of a pair are equal: of pairs within requests, and of pairs of two requests."""
    mixed = [random.Random(i).sample(texts, len(texts)) for i, texts in enumerate(lists)]
    near = [(texts[: len(texts) // 2], texts[len(texts) // 2 :]) for texts in mixed]
    within = [a == b for half, _ in near for a, b in zip(half[::2], half[1::2], strict=False)]
    across = [
        a == b
        for (_, one), (_, two) in zip(near[::2], near[1::2], strict=False)
        for a, b in zip(one, two, strict=False)
    ]
    return within, across


def _hypergeometric(within: int, across: int, equal: int) -> np.ndarray:
    """P(X = k), k = 0 to ``within``: of ``within + across`` pairs ``equal`` are drawn, and X of them are within."""
    every = _log_comb(within + across, equal)
    return np.array(
        [
            math.exp(_log_comb(within, k) + _log_comb(across, equal - k) - every) if 0 <= equal - k <= across else 0.0
            for k in range(min(within, equal) + 1)
        ]
    )


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
