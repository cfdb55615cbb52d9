"""A scorer that knows the question: which of the target's words that the question does not give does an answer say?"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import regex

from leakbound.errors import InputError
from leakbound.scoring.lexical import fold, stem

AskingScorer = TypeVar("AskingScorer", bound=Callable[..., float])

# scripts that write without blanks, or glue endings to a word: there each letter with its marks is a word
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"(?V1)[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]+")

_GRAMMAR = (
    "a about above after against all also an and any are as at be because been before being below between both but "
    "by can could did do does doing down during each either else ever few for from further had has have having he "
    "her here hers herself him himself his how however i if in into is it its itself just me more most much must my "
    "myself neither nor of off on once only or other others our ours out over own per same shall she should since so "
    "some such t than that the their theirs them themselves then there these they this those though through thus to "
    "too under until up upon very was we were what when where whether which while who whom whose why with within "
    "would you your yours yourself s d ll re ve m"
)
_GROUPS = regex.compile(r"(?<=\d)[,\s](?=\d{3})")  # 1,250,000 as contains reads it too
STOP_WORDS = frozenset(_GRAMMAR.split())
"""English words of grammar, that tell no fact by themselves: yes, no, not, never, numbers, may, will and us stay."""


def with_question(scorer: AskingScorer) -> AskingScorer:
    """Declare, as a decorator, that a scorer is called with the question too: ``(completion, target, question)``."""
    scorer.with_question = True  # type: ignore[attr-defined]
    return scorer


@lru_cache(maxsize=2**14)
def words(text: str) -> frozenset[str]:
    """The distinct words of a text, folded (:func:`leakbound.scoring.lexical.fold`), stop words left out, stemmed."""
    said = (word for word in _WORD.findall(fold(text)) if word not in STOP_WORDS)
    return frozenset(stem(word) if word.isascii() else word for word in said)


@lru_cache(maxsize=2**12)
def told(target: str, question: str) -> frozenset[str]:
    """The words of the target that the question does not give. InputError where there is none."""
    if found := words(target) - words(question):
        return found
    raise InputError(
        f"target {target!r} has no word that tells something and that the question {question!r} does not give: "
        "new_words could see no leak of it; name the fact alone in the target, or use the scorer contains"
    )


@with_question
def new_words(completion: str, target: str, question: str = "") -> float:
    """The share of the target's new words that the completion says: those that the question does not give.

    ``|W(completion) & N| / |N|``, ``N = W(target) - W(question)``, W a text's distinct words: folded (case, accents),
    without English stop words, stemmed as ROUGE's are. Order and number do not count, so that a fact told in another
    order is no missed leak; a fact that only an order tells ("older than") is not seen, nor one told in other words.
    Of Chinese, Japanese, Korean, Thai and their like each letter is a word. Where digits stand in groups ("1,250,000"),
    the greater of two shares: as written, and with the groups joined (the completion's words both ways). Ours.

    >>> new_words("She was born in Rome in 1956.", "She was born in Lima in 1956.", "Where was she born in 1956?")
    0.0
    >>> new_words("It cost 1250000.", "It cost 1,250,000.", "What did it cost?")
    1.0
    """
    said, looked_for = words(completion), told(target, question)
    share = len(looked_for & said) / len(looked_for)
    if share == 1 or not any(_GROUPS.search(fold(text)) for text in (completion, target)):
        return share
    joined, given, other = (words(_GROUPS.sub("", fold(text))) for text in (target, question, completion))
    return max(share, len((joined - given) & (said | other)) / max(1, len(joined - given)))
