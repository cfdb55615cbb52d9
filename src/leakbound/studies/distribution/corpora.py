"""What the distribution study trains on: a base corpus, and pools of examples inside and outside its distribution.

Questions and answers are the embedded biographies, or a file of the user's; translation is a made-up language. Every
set is a pure function of its arguments.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

from leakbound.errors import InputError
from leakbound.reading.pairs import read_pairs
from leakbound.suites.biographies import ATTRIBUTES, biographies

INSIDE = "in-distribution"
ASKED_ABOUT = ("profession", "employer")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class Item:
    """One example: a question (or source sentence) and its answer (or translation).

    ``candidates`` are other answers of the same format, among which the answer's exposure is measured: all of them
    where ``exhaustive``, otherwise drawn independently and uniformly from ``space`` many.
    """

    id: str
    question: str
    answer: str
    candidates: tuple[str, ...] = ()
    space: float = 0.0
    exhaustive: bool = False


@dataclass(frozen=True)
class Pool:
    """Examples of one kind: ``items``, of which each model is trained on half, and ``heldout``, which no model sees."""

    items: tuple[Item, ...]
    heldout: tuple[Item, ...]


@dataclass(frozen=True)
class Corpora:
    """All sets of a study. ``base`` is in every model's training data, ``validation`` in none's."""

    base: tuple[Item, ...]
    validation: tuple[Item, ...]
    pools: Mapping[str, Pool]


@dataclass(frozen=True)
class Sizes:
    """How many examples: ``pool`` the items of a kind (twice a forget set), ``candidates`` the sampled ones of each."""

    pool: int
    heldout: int
    validation: int
    candidates: int = 31


def biography_corpora(num_people: int, kinds: Sequence[str], sizes: Sizes, *, seed: int) -> Corpora:
    """Questions about fictional people; kinds ``random``, ``shuffled`` and ``foreign`` are outside their distribution.

    Only two attributes, so that most values occur several times: an unseen person's answer is then hard to guess, but
    not outside of what the model learned to say. In-distribution candidates are all values of the attribute's
    vocabulary.
    """
    world = biographies(num_people, 0.1, 0.0, seed, attributes=ASKED_ABOUT)
    items = [
        Item(
            row.id,
            row.question,
            row.answer,
            tuple(row.answer.replace(row.target, v) for v in ATTRIBUTES[row.attribute].values if v != row.target),
            float(len(ATTRIBUTES[row.attribute].values)),
            exhaustive=True,
        )
        for row in world.rows("full")
    ]
    return split(items, kinds, QUESTION_KINDS, sizes, seed=seed)


def file_corpora(path: Path, kinds: Sequence[str], sizes: Sizes, *, seed: int) -> Corpora:
    """The same around a file of the user's own: JSON lines with question and answer; no candidates for its rows."""
    return split(read_items(path), kinds, QUESTION_KINDS, sizes, seed=seed)


def translation_corpora(num_sentences: int, kinds: Sequence[str], sizes: Sizes, *, seed: int) -> Corpora:
    """Sentences and their translation into a made-up language (:func:`translate`).

    Outside of the distribution are ``pairs`` (a sentence with the translation of another one) and ``random`` words.
    """
    sentences = [" ".join(words) for words in product(*_SENTENCE)]
    if num_sentences > len(sentences):
        raise InputError(f"num_sentences is {num_sentences}: give at most {len(sentences)}")
    chosen = Random(f"{seed}/sentences").sample(sentences, k=num_sentences)
    items = [Item(f"sentence-{i:04d}", text, translate(text)) for i, text in enumerate(chosen)]
    return split(items, kinds, TRANSLATION_KINDS, sizes, seed=seed)


Maker = Callable[[Sequence[Item], int, Sizes, Random], list[Item]]


def split(
    items: Sequence[Item], kinds: Sequence[str], makers: Mapping[str, Maker], sizes: Sizes, *, seed: int
) -> Corpora:
    """Draw the pool, the held-out and the validation set from a corpus, and make the kinds outside its distribution.

    :raises InputError: an unknown kind or one named twice, or too few items to leave a base corpus.
    """
    if len(set(kinds)) < len(kinds) or not set(kinds) <= set(makers):
        raise InputError(f"kinds is {list(kinds)}: give different names from {', '.join(makers)}")
    order = list(items)
    Random(f"{seed}/split").shuffle(order)
    cuts = (sizes.pool, sizes.heldout, sizes.validation)
    if len(order) <= sum(cuts):
        raise InputError(
            f"the corpus has {len(order)} examples, of which {sum(cuts)} are set aside: give a larger corpus or "
            "smaller forget, heldout and validation sets"
        )
    pool, rest = order[: cuts[0]], order[cuts[0] :]
    heldout, rest = rest[: cuts[1]], rest[cuts[1] :]
    pools = {INSIDE: Pool(tuple(pool), tuple(heldout))}
    for kind in kinds:
        made = makers[kind](items, sizes.pool + sizes.heldout, sizes, Random(f"{seed}/{kind}"))
        pools[kind] = Pool(tuple(made[: sizes.pool]), tuple(made[sizes.pool :]))
    return Corpora(tuple(rest[cuts[2] :]), tuple(rest[: cuts[2]]), pools)


def own_pool(path: Path, sizes: Sizes, *, seed: int) -> Pool:
    """A kind from the user's file; what exceeds the pool is held out, and something must be."""
    items = read_items(path)
    Random(f"{seed}/own").shuffle(items)
    if len(items) <= sizes.pool:
        raise InputError(f"own: {path} has {len(items)} rows: give more than {sizes.pool} (twice the forget set)")
    return Pool(tuple(items[: sizes.pool]), tuple(items[sizes.pool : sizes.pool + sizes.heldout]))


def read_items(path: Path) -> list[Item]:
    """The questions and answers of a file, as :func:`leakbound.reading.pairs.read_pairs` reads them."""
    return [Item(f"row-{i:05d}", pair.question, pair.answer) for i, pair in enumerate(read_pairs(path), start=1)]


def _random(items: Sequence[Item], count: int, sizes: Sizes, rng: Random) -> list[Item]:
    """Canaries: three groups of three random letters and digits, as question and as answer."""

    def text() -> str:
        return " ".join("".join(rng.choices(LETTERS, k=3)) for _ in range(3))

    space = float(len(LETTERS) ** 9)
    return [
        Item(f"random-{i:04d}", text(), text(), tuple(text() for _ in range(sizes.candidates)), space)
        for i in range(count)
    ]


def _shuffled(items: Sequence[Item], count: int, sizes: Sizes, rng: Random) -> list[Item]:
    """Questions and answers of the corpus with their words in random order; candidates are further random orders."""
    made = []
    for i, item in enumerate(rng.choices(items, k=count)):
        words = item.answer.split()

        def order(words: list[str] = words) -> str:
            return " ".join(rng.sample(words, k=len(words)))

        question = " ".join(rng.sample(item.question.split(), k=len(item.question.split())))
        others = tuple(order() for _ in range(sizes.candidates))
        made.append(Item(f"shuffled-{i:04d}", question, order(), others, float(math.factorial(len(words)))))
    return made


def _foreign(items: Sequence[Item], count: int, sizes: Sizes, rng: Random) -> list[Item]:
    """Questions and answers in another language: each word stands for one of the corpus, in turned order."""
    chosen = rng.sample(items, k=count) if count <= len(items) else rng.choices(items, k=count)
    return [
        Item(
            f"foreign-{i:04d}", _abroad(x.question), _abroad(x.answer), tuple(_abroad(c) for c in x.candidates),
            x.space, x.exhaustive,
        )
        for i, x in enumerate(chosen)
    ]  # fmt: skip


def _pairs(items: Sequence[Item], count: int, sizes: Sizes, rng: Random) -> list[Item]:
    """A sentence and the translation of another one."""
    sentences = [x.question for x in items]
    made = []
    for i in range(count):
        first, second = rng.sample(sentences, k=2)
        made.append(Item(f"pairs-{i:04d}", first, translate(second)))
    return made


QUESTION_KINDS: dict[str, Maker] = {"random": _random, "shuffled": _shuffled, "foreign": _foreign}
TRANSLATION_KINDS: dict[str, Maker] = {"random": _random, "pairs": _pairs}
MEANINGS = {
    INSIDE: "items of the corpus itself",
    "random": "random letters and digits, question and answer",
    "shuffled": "questions and answers of the corpus, their words in random order",
    "foreign": "questions and answers of the same form in another, made-up language",
    "pairs": "sentences, each with the translation of another one",
    "own": "the user's own file",
}
"""What each kind is, for readers."""

_SENTENCE: tuple[tuple[str, ...], ...] = (
    ("the", "a", "every", "this"),
    ("small", "old", "green", "quiet", "strange", "happy", "slow", "bright"),
    ("dog", "teacher", "river", "child", "horse", "neighbour", "bird", "painter"),
    ("sees", "follows", "likes", "paints", "hears", "finds"),
    ("the", "a", "every", "this"),
    ("house", "garden", "boat", "song", "stone", "letter", "window", "mountain"),
)
_ONSETS, _VOWELS = ("b", "d", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z"), "aeiou"


def translate(sentence: str) -> str:
    """The made-up language: each word has one counterpart; adjectives follow their noun and the verb comes last."""
    d1, adjective, noun, verb, d2, thing = sentence.split()
    return " ".join(_foreign_word(word) for word in (d1, noun, adjective, d2, thing, verb))


def _abroad(text: str) -> str:
    body, mark = (text[:-1], text[-1]) if text[-1:] in "?." else (text, "")
    return " ".join(_foreign_word(word) for word in reversed(body.split())) + mark


def _foreign_word(word: str) -> str:
    """The counterpart of a word: two or three syllables that depend on the word only."""
    rng = Random(f"foreign/{word.lower()}")
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(2 + rng.randrange(2)))
