"""The completions of one prompt, read from the shards that hold it when somebody looks at it."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

import numpy as np

from leakbound.bounds.gate import reaches
from leakbound.errors import LeakboundError
from leakbound.records import Draw
from leakbound.runs.layout import PROMPTS_PER_FACTS, Part
from leakbound.runs.store import Run
from leakbound.scoring.table import get_scorer, is_built_in, score_completion

KEPT = 8
"""Shards that are kept in memory: the neighbours of a prompt lie in its shard."""


@dataclass(frozen=True)
class Answer:
    """One distinct completion of a prompt, greedy or sampled, with its scores by scorer; "" where there are none.

    ``draws`` are the numbers of the draws that gave it, as far as they are known; ``logprob`` is None where not.
    """

    text: str
    greedy: bool
    count: int
    draws: tuple[int, ...]
    finish_reason: str
    logprob: float | None
    scores: dict[str, float]


class Shards:
    """The shards of a run, a few of them in memory, and which of them hold a prompt."""

    def __init__(self, run: Run, scorers: tuple[str, ...]) -> None:
        self.run, self.scorers = run, scorers
        self.kept: OrderedDict[str, dict[str, list[Answer]]] = OrderedDict()
        self.lock = Lock()

    def answers(self, index: int) -> list[Answer]:
        """The distinct completions of the prompt at this place in its file, greedy first, the others as they came.

        :raises IncompleteRunError: a shard is damaged, or its scores belong to other draws.
        """
        prompt = self.run.prompts[index]
        if self.run.info.get("kind") == "certificate":
            return _certified(self.run, index, self.scorers)
        parts = [p for p in self.run.parts if p.judged and p.start <= index < p.stop and self.run.has_draws(p)]
        return _merged(answer for part in parts for answer in self._part(part).get(prompt.id, ()))

    def _part(self, part: Part) -> dict[str, list[Answer]]:
        with self.lock:  # two requests for one shard read it once
            if part.name not in self.kept:
                self.kept[part.name] = self._read(part)
                if len(self.kept) > KEPT:
                    self.kept.popitem(last=False)
            self.kept.move_to_end(part.name)
            return self.kept[part.name]

    def _read(self, part: Part) -> dict[str, list[Answer]]:
        draws = self.run.read_draws(part)
        scored = [name for name in self.scorers if self.run.has_scores(part, name)]
        columns = {name: self.run.read_counts(part, name)["score"].to_pylist() for name in scored}
        found: dict[str, list[Answer]] = defaultdict(list)
        for i, draw in enumerate(draws):
            scores = {name: column[i] for name, column in columns.items()}
            found[draw.prompt_id].append(_answer(draw, part.greedy, scores))
        return found


def _answer(draw: Draw, greedy: bool, scores: dict[str, float]) -> Answer:
    places = draw.places or (draw.first,)
    return Answer(
        draw.text, greedy, draw.count, places, draw.finish_reason, draw.logprob, scores
    )  # fmt: skip


def _merged(answers: Iterable[Answer]) -> list[Answer]:
    """Equal completions of several shards as one, as an audit counts them."""
    known: dict[object, Answer] = {}
    for a in answers:
        key = a.greedy, a.text, a.finish_reason, tuple(a.scores.items())
        if (before := known.get(key)) is None:
            known[key] = a
            continue
        known[key] = Answer(
            a.text, a.greedy, before.count + a.count, (*before.draws, *a.draws), a.finish_reason,
            before.logprob if before.logprob is not None else a.logprob, a.scores,
        )  # fmt: skip
    return list(known.values())


def _certified(run: Run, index: int, scorers: tuple[str, ...]) -> list[Answer]:
    """The generations of a certification, which stores no scores: those of a built-in scorer are made again."""
    file, place = divmod(index, PROMPTS_PER_FACTS)
    prompt, fact = run.prompts[index], run.read_facts(f"{file:05d}")[place]
    name = scorers[0] if scorers and is_built_in(scorers[0]) else None
    scorer = None if name is None else get_scorer(name)
    return [
        Answer(
            g["text"], False, g["count"], tuple(g.get("places") or (i,)), g["finish_reason"],
            g["logprob"], {} if scorer is None else {str(name): score_completion(scorer, g["text"], prompt)},
        )
        for i, g in enumerate(fact["generations"])
    ]  # fmt: skip


class Tally:
    """Leaks and draws of each prompt, counted in the files: what an audit.json must agree with.

    ``threshold`` as in the statement. It goes through all shards, and so is counted beside whatever else is done.
    """

    def __init__(self, run: Run, scorer: str, threshold: float) -> None:
        self.run, self.scorer, self.threshold = run, scorer, threshold
        places = {p.id: i for i, p in enumerate(run.prompts)}
        self.places = places
        self.leaks = np.zeros(len(places), dtype=np.int64)
        self.draws = np.zeros(len(places), dtype=np.int64)
        missing = set(run.missing_scores(scorer))
        self.parts = [p for p in run.parts if p.judged and not p.greedy and p not in missing]
        self.done = 0
        self.error = ""

    @property
    def complete(self) -> bool:
        """Whether every shard that has scores was counted."""
        return not self.error and self.done == len(self.parts)

    def of(self, index: int) -> tuple[int, int]:
        """Leaks and draws of the prompt at this place in its file."""
        return int(self.leaks[index]), int(self.draws[index])

    def count(self) -> None:
        """Go through the shards; what a damaged one raises ends it and stays in ``error``."""
        try:
            for part in self.parts:
                self._add(part)
                self.done += 1
        except LeakboundError as error:
            self.error = str(error)

    def _add(self, part: Part) -> None:
        table = self.run.read_counts(part, self.scorer)
        ids = table["prompt_id"].combine_chunks().dictionary_encode()
        where = np.array([self.places[name] for name in ids.dictionary.to_pylist()], dtype=np.int64)
        rows, counts = where[ids.indices.to_numpy()], table["count"].to_numpy()
        np.add.at(self.draws, rows, counts)
        np.add.at(self.leaks, rows, counts * reaches(table["score"].to_numpy(), self.threshold))
