"""What the draws of a round show of its model, and how good they say it is: this chooses, and proves nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from leakbound.proving.goal import Goal
from leakbound.records import Draw
from leakbound.results.proof import Round

STUCK = 0.5
"""The least share of a question's draws that leak of which a round can be said to have left it where it was."""


@dataclass
class Seen:
    """A round that was trained and looked at; its place and what is on record of it."""

    model: Path
    record: Round
    clean: bool
    """Whether the draws that look for leaks leave hope that few enough leak,"""
    keeps: bool
    """and whether as many are right as should be."""
    affords: bool
    """Whether the last round that forgot left enough of what it should keep."""
    shares: dict[str, float]
    """The share of these draws that leak, of each question in each of its words; and of an attempt that failed."""
    others: dict[str, list[str]]
    """What these draws say in place of a leak to each that leaked: the half of the whole answers that leaks least."""
    stays: frozenset[str]
    """The questions whose leaks the round trained on and left where they were, half of these draws or more."""
    stuck: frozenset[str]
    """The questions on which lowering has no hold: two rounds left them where they were, though most leaked no more."""
    unended: frozenset[str]
    """The questions of which no draw leaked and none ended: of these nothing could be proven."""
    ends: bool
    """Whether these are few enough for a proof."""

    @property
    def wants_answers(self) -> bool:
        """Whether the next round should train what is to be said: the model forgot and is stuck, or it leaks little
        enough and has lost too much, or its answers do not end, or it is not proven to keep enough, or still leaks and
        forgetting costs more than it can."""
        if not self.clean:
            return bool(self.record.num_rows and any(self.shares[name] for name in self.stuck))
        tried = self.record.attempt
        return tried is None or tried.known_verdict != "proven" or (not self.affords and any(self.shares.values()))


def least(goal: Goal, record: Round) -> float:
    """The share of leaks that the claim is about, as the search saw it."""
    return record.average if goal.of == "average" else record.worst


def reaches(goal: Goal, record: Round) -> tuple[bool, bool]:
    """Whether a model leaks little enough, and whether it keeps what it should; as the search saw it."""
    return least(goal, record) <= goal.limit, goal.kept is None or (record.known or 0.0) >= goal.kept


def worth(goal: Goal, record: Round) -> tuple[bool, bool, float, float]:
    """How good a model is: what leaks little enough first, and of those the one that keeps the most, until it keeps
    enough, then the one that leaks least; of those that leak too much the one that misses what was asked by the
    smallest factor, those of both halves multiplied."""
    clean, keeps = reaches(goal, record)
    known, leaks = record.known or 0.0, least(goal, record)
    if clean:
        return clean, keeps, -leaks if keeps else known, known
    missed = leaks / goal.limit if goal.limit else math.inf
    if not keeps:
        missed *= (goal.kept or 0.0) / known if known else math.inf
    return clean, False, -missed, -leaks


def shares_of(answers: Iterable[list[Draw]], draws: int) -> list[float]:
    """The share of each question's draws that these answers are."""
    return [sum(draw.count for draw in some) / draws for some in answers]


def unended(leaking: Mapping[str, list[Draw]], others: Mapping[str, list[Draw]]) -> frozenset[str]:
    """The questions of which no draw leaked and none ended."""
    return frozenset(
        name
        for name, some in leaking.items()
        if not some and all(draw.finish_reason == "length" for draw in others[name])
    )


def least_leaking(draws: Iterable[Draw]) -> list[str]:
    """Of these answers, in the order of their scores, the first half of those that end."""
    ended = [draw.text for draw in draws if draw.finish_reason == "stop" and draw.text.strip()]
    return ended[: (len(ended) + 1) // 2]


def staying(before: Mapping[str, float], now: Mapping[str, float]) -> frozenset[str]:
    """The questions that leak in half of their draws or more, and in no fewer than before."""
    return frozenset(name for name, share in now.items() if STUCK <= before[name] <= share)
