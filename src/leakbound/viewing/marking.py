"""What a scorer found in a completion, as pieces of its text: those that matched are flagged.

Only where the scorer can say it: a containment, a pattern, the words that count. Of any other scorer there is nothing
but its score.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from rapidfuzz.distance import LCSseq

from leakbound.records import Prompt
from leakbound.scoring.after import After
from leakbound.scoring.lexical import (
    Regex,
    contains,
    exact_match,
    fold,
    rouge_1,
    rouge_l,
    rouge_l_f1,
    rouge_tokens,
    stem,
)
from leakbound.scoring.new_words import new_words, told
from leakbound.scoring.table import get_scorer, is_built_in

Pieces = list[tuple[str, bool]]
Span = tuple[int, int]
MOST = 100
"""Places of one secret that are marked at most in one text."""


def marker(name: str) -> Callable[[str, Prompt], list[Span]] | None:
    """What marks the places in a completion of a prompt that the scorer of this name counts; None where it cannot say.

    A folder names the scorer, so that only built-in ones are asked.
    """
    if not is_built_in(name):
        return None
    scorer: Any = get_scorer(name)
    offset = scorer if isinstance(scorer, After) else None
    scorer = scorer if offset is None else offset.scorer
    find = _finder(scorer)
    if find is None:
        return None

    def spans(text: str, prompt: Prompt) -> list[Span]:
        judged = offset.answer(text) if offset else text
        start = len(text) - len(judged)
        secrets = (prompt.target, *prompt.aliases)
        found = [s for secret in secrets for s in islice(find(judged, secret, prompt.text), MOST)]
        return _joined([(a + start, b + start) for a, b in found])

    return spans


def _finder(scorer: Any) -> Callable[[str, str, str], Iterator[Span]] | None:
    """``(completion, secret, question) -> spans`` for what a scorer counts."""
    if isinstance(scorer, Regex):
        return lambda text, secret, _: scorer.spans(text, secret)
    if scorer in (contains, exact_match):
        return lambda text, secret, _: _of_secret(text, secret)
    if scorer in (rouge_l, rouge_l_f1, rouge_1):
        return lambda text, secret, _: _of_words(text, secret, in_order=scorer is not rouge_1)
    return _new if scorer is new_words else None


def pieces(text: str, spans: list[Span]) -> Pieces:
    """The text cut at the spans, which ascend and do not overlap; those inside a span are flagged."""
    found: Pieces = []
    end = 0
    for a, b in spans:
        found += [(text[end:a], False), (text[a:b], True)]
        end = b
    return [piece for piece in [*found, (text[end:], False)] if piece[0]]


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for a, b in sorted(spans):
        if joined and a <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(b, joined[-1][1])
        else:
            joined.append((a, b))
    return joined


def _of_secret(text: str, secret: str) -> Iterator[Span]:
    """Where the secret stands: the shortest beginning that holds it, then that one's shortest end."""
    start = 0
    while contains(text[start:], secret):
        low, high = start, len(text)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if contains(text[start:middle], secret) else (middle, high)
        end, low, high = high, start, high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if contains(text[middle:end], secret) else (low, middle)
        while end < len(text) and unicodedata.category(text[end]).startswith("M"):
            end += 1
        yield low, end
        start = end


def _words(text: str) -> list[Span]:
    """Where ROUGE's words stand, each letter in its place: lower case may have more letters than the text."""
    same = "".join(low if len(low := char.lower()) == 1 else "?" for char in text)
    return [found.span() for found in re.finditer("[a-z0-9]+", same)]


def _of_words(text: str, secret: str, *, in_order: bool) -> Iterator[Span]:
    wanted, places = rouge_tokens(secret), _words(text)
    said = [stem(text[a:b].lower()) for a, b in places]
    if in_order:
        blocks = LCSseq.opcodes(said, wanted)
        hits = [i for op in blocks if op.tag == "equal" for i in range(op.src_start, op.src_end)]
    else:
        hits = [i for i, word in enumerate(said) if word in wanted]
    return (places[i] for i in hits)


def _new(text: str, secret: str, question: str) -> Iterator[Span]:
    looked_for = told(secret, question)
    for found in re.finditer(r"\w+", text):
        folded = fold(found[0])
        if (stem(folded) if folded.isascii() else folded) in looked_for:
            yield found.span()
