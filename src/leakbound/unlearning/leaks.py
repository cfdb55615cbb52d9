"""What a model says that it should not: found by drawing, as rows to train on or as sets that weigh exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress, count
from typing import Any

import torch

from leakbound.bounds.gate import reaches
from leakbound.errors import InputError
from leakbound.models.base import prefix_free
from leakbound.models.hf.likelihoods import answer_likelihoods, reads_trees
from leakbound.models.template import encode_prompt
from leakbound.reading.pairs import Pair
from leakbound.records import Draw
from leakbound.scoring import get_scorer, score_completions
from leakbound.unlearning.anew import DrawAnew
from leakbound.unlearning.config import UnlearnConfig
from leakbound.unlearning.data import pair_tokens
from leakbound.unlearning.groups import Group
from leakbound.unlearning.sampling import draw_answers

LEAKS = 8
"""How many distinct leaks of a question a round adds at most: the most frequent ones."""
LASTING = ("contains", "rouge_l", "rouge_1", "new_words")
"""Scorers of which no further word takes a leak back."""
MORE = "qxzj"
"""What may follow a beginning: letters that go on with its last word, and make none that a target has."""


class FindLeaks(DrawAnew):
    """Keeps for each forget question a set of answers that leak, of which none begins another.

    It grows by draws, with and without replacement; where it is larger than ``config.leak_kept``, those go that the
    model says least. Rows of the file (answer, target, aliases) stay. With a scorer of :data:`LASTING` an answer is cut
    where it leaks whatever follows, so that one beginning stands for all that begin so.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.heads = [encode_prompt(self.tokenizer, p.text, self.config.template) for p in self.prompts]
        self.fixed = [self.written(place) for place in range(len(self.prompts))]

    def draw(self) -> None:
        """Find more, weigh all, and keep the heaviest."""
        groups, tails = self.groups.groups, []
        found = self.drawn(self.config.leak_samples, distinct=self.config.leak_search)
        for place, (prompt, some) in enumerate(zip(self.prompts, found, strict=True)):
            said = {one.tokens: one.text for one in some}
            if prompt.text not in groups:
                said |= self.tokens(self.questions[place])
            known = groups[prompt.text].tails if prompt.text in groups else ()
            tails.append(prefix_free([*self.fixed[place], *known, *self.leaking(place, said)]))
        weighed = answer_likelihoods(self.forward, self.heads, tails)
        with torch.inference_mode():
            self.groups.trees = reads_trees(self.forward, self.heads, tails)
        for place, (prompt, leaks, likelihoods) in enumerate(zip(self.prompts, tails, weighed, strict=True)):
            fixed = self.fixed[place]
            mass = {tail: float(one.logprobs.sum()) for tail, one in zip(leaks, likelihoods, strict=True)}
            order = sorted(leaks, key=lambda tail: (tail not in fixed, -mass[tail], tail))
            kept = order[: max(self.config.leak_kept, len(fixed))]
            groups[prompt.text] = Group(tuple(self.heads[place]), tuple(kept))

    def written(self, place: int) -> set[tuple[int, ...]]:
        """What of a row leaks: its answer, target and aliases. InputError where the scorer sees no leak in any."""
        row, prompt = self.questions[place][0], self.prompts[place]
        texts = (row.answer, prompt.target, *prompt.aliases)
        leaks = self.leaking(place, self.tokens([replace(row, answer=text, cut=False) for text in texts]))
        if not leaks:
            raise InputError(
                f"{row.source}: leak_scorer {self.config.leak_scorer!r} gives neither the answer nor the target "
                f"{self.config.leak_threshold:g}: there is no leak to train on; give a lower leak_threshold"
            )
        return set(prefix_free(leaks))

    def tokens(self, pairs: Iterable[Pair]) -> dict[tuple[int, ...], str]:
        """Answers to a question by their tokens, where they ended with their end."""
        return {tuple(pair_tokens(self.tokenizer, p, self.config.template)[1]): p.answer for p in pairs}

    def leaking(self, place: int, texts: Mapping[tuple[int, ...], str]) -> list[tuple[int, ...]]:
        """The answers that leak, each only as long as it needs to be to leak whatever follows."""
        leaks = compress(texts, self._leak(place, list(texts.values())))
        if self.config.leak_scorer not in LASTING:
            return list(leaks)
        out = []
        for tokens in leaks:
            begun = [list(tokens[:k]) for k in range(1, len(tokens))]
            said = self.tokenizer.batch_decode(begun, skip_special_tokens=True) if begun else []
            lasting = self._leak(place, [text + MORE for text in said])
            out.append(tokens[: next(compress(count(1), lasting), len(tokens))])
        return out

    def _leak(self, place: int, texts: Sequence[str]) -> list[bool]:
        return [bool(reaches(score, self.config.leak_threshold)) for score in self.scores(place, texts)]


def find_leaks(
    model: Any, tokenizer: Any, pairs: Sequence[Pair], config: UnlearnConfig, *, round: int, progress: bool = False
) -> list[Pair]:
    """Sampled answers to the questions, rephrased ones included, that leak and are new, as pairs to forget.

    An answer leaks when ``config.leak_scorer`` gives it ``config.leak_threshold`` or more against the row's target and
    aliases (its answer where it names none). ``pairs`` are the rows, and the leaks of earlier rounds.
    """
    scorer, known = get_scorer(config.leak_scorer), said_by(pairs)
    asked = [wording for pair in pairs if not pair.leak for wording in pair.wordings()]
    drawn = draw_answers(model, tokenizer, asked, config, count=config.leak_samples, round=round, progress=progress)
    found = []
    for pair, draws in zip(asked, drawn, strict=True):
        scores = score_completions(scorer, [(draw.text, pair.prompt("leak")) for draw in draws])
        leaking = [draw for draw, score in zip(draws, scores, strict=True) if reaches(score, config.leak_threshold)]
        found += most_said(pair, leaking, known, f"{pair.source}, leak of round {round + 1}")
    return found


def said_by(pairs: Iterable[Pair]) -> set[tuple[str, str, bool]]:
    """Question, answer and whether it was cut: what is known of pairs."""
    return {(pair.question, pair.answer, pair.cut) for pair in pairs}


def most_said(pair: Pair, draws: Iterable[Draw], known: Container[tuple[str, str, bool]], source: str) -> list[Pair]:
    """Answers to a question as new pairs: of those that are not known the ``LEAKS`` most frequent.

    One that was cut is a leak like another (a model that says a name over and over never ends), trained on without end.
    """
    counts = Counter[tuple[str, bool]]()
    for draw in draws:
        said = draw.text, draw.finish_reason == "length"
        if draw.text.strip() and (pair.question, *said) not in known:
            counts[said] += draw.count
    most = sorted(counts, key=lambda said: (-counts[said], said))[:LEAKS]
    secrets = pair.secrets or (pair.answer,)
    return [Pair(pair.question, text, source, secrets, leak=True, cut=cut) for text, cut in most]


def by_question(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs, those of one question together, in the order in which the questions come first."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(pair.question, []).append(pair)
    return list(found.values())
