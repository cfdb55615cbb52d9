"""A model that workers hold: here it is only its name, and whoever asks it needs neither weights nor torch."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any, Self

from leakbound.errors import InputError
from leakbound.models.base import Sampler
from leakbound.records import Prompt, SamplingParams
from leakbound.workers import Crew, Do

Opening = tuple[Callable[..., Sampler], tuple[Any, ...]]
"""What opens the model in a worker."""

_HELD: dict[Opening, Sampler] = {}
"""The model of this process, if it is a worker: one at a time."""


@dataclass
class Away:
    """A sampler whose workers do what it is asked. What it can be asked follows from the model: see :func:`away`."""

    crew: Crew
    opening: Opening
    do: Do

    def asked(self, method: str, *args: Any, **named: Any) -> Any:
        """What the model's method says, by ``do``."""
        return self.do(_ask, self.opening, method, args, named)

    @cached_property
    def described(self) -> dict[str, Any]:
        """Asked once: the checksum of all weights takes its time. From then on every worker's must be this one."""
        found: dict[str, Any] = self.crew.everywhere(_description, self.opening)
        self.crew.first = [*self.crew.first, (_check_same, self.opening, found)]
        return found

    def describe(self) -> dict[str, Any]:
        """What the model says of itself."""
        return self.described

    def through(self, do: Do) -> Self:
        """The same asked by another ``do``."""
        return type(self)(self.crew, self.opening, do)


class _Tokenizer:
    """The tokenizer of a model that is away."""

    def __init__(self, model: Away) -> None:
        self.model = model

    def tokenize(self, text: str) -> list[str]:
        """The text's tokens."""
        found: list[str] = self.model.asked("tokenizer.tokenize", text)
        return found


def away(crew: Crew, opening: Opening) -> Sampler:
    """The model that workers open, with the methods that it has there; its errors are raised here."""
    crew.first = []
    name, methods, values = crew.everywhere(_traits, opening)
    own = {"check": _check, "tokenizer": property(_Tokenizer), "reads_turns": True}
    given = {method: _asking(method) for method in methods if not hasattr(Away, method)}
    kind = type(name, (Away,), given | {key: value for key, value in own.items() if key in (*methods, *values)})
    opened: Sampler = kind(crew, opening, crew.do)
    return opened


def crew_of(sampler: Any) -> Crew | None:
    """The workers that hold the model; None where this process does."""
    return sampler.crew if isinstance(sampler, Away) else None


def through(sampler: Any, do: Do) -> Any:
    """The sampler, asked by ``do`` where workers hold it."""
    return sampler.through(do) if isinstance(sampler, Away) else sampler


def _asking(method: str) -> Callable[..., Any]:
    def ask(self: Away, *args: Any, **named: Any) -> Any:
        return self.asked(method, *args, **named)

    return ask


def _check(self: Away, prompts: Sequence[Prompt], params: SamplingParams) -> None:
    """Every worker's model is asked before its first draw: some settle by it how they read a batch."""
    known = [(_check_same, self.opening, self.described)] if "described" in vars(self) else []
    self.crew.first = [(_ask, self.opening, "check", (tuple(prompts), params), {}), *known]
    self.described  # noqa: B018 - any question will do, and this one is asked anyhow


def _held(opening: Opening) -> Sampler:
    if opening not in _HELD:
        _HELD.clear()  # two may not fit
        open_it, args = opening
        _HELD[opening] = open_it(*args)
    return _HELD[opening]


def _ask(opening: Opening, method: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return attrgetter(method)(_held(opening))(*args, **named)


@lru_cache(maxsize=1)
def _description(opening: Opening) -> dict[str, Any]:
    """What the model says of itself, as it was opened here."""
    return _held(opening).describe()


def _check_same(opening: Opening, known: dict[str, Any]) -> None:
    """InputError where this worker opened another model than the one that is ``known``: its files were replaced since,
    or another node has others."""
    mine = _description(opening)
    if differ := sorted(name for name in {*known, *mine} if known.get(name) != mine.get(name)):
        there, now = known.get(differ[0]), mine.get(differ[0])
        raise InputError(
            f"model is {known.get('model')!r}: a worker on {socket.gethostname()} opened another one than the first "
            f"worker ({', '.join(differ)}: {there!r:.80}, now {now!r:.80}): leave its files alone while it is "
            "drawn from, give every node the same, and run the same again"
        )


def _traits(opening: Opening) -> tuple[str, list[str], list[str]]:
    """The class of the model, its methods, and what else of it is asked for."""
    held = _held(opening)
    methods = [name for name in dir(type(held)) if not name.startswith("_") and callable(getattr(held, name, None))]
    return type(held).__name__, methods, [name for name in ("reads_turns", "tokenizer") if getattr(held, name, None)]
