"""The records that cross every door: prompts, sampling parameters, shards and draws.

All are frozen dataclasses of plain values, with JSON on the other side of ``to_json`` / ``from_json``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from leakbound.errors import InputError


def check_count(name: str, value: int, *, least: int) -> None:
    """Raise InputError unless ``value`` is an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}: give a whole number >= {least}")


@dataclass(frozen=True)
class Prompt:
    """One question to the model and what its answer must not reveal.

    ``target`` is the right answer, the secret; ``aliases`` are other spellings of it that count as well.
    """

    id: str
    text: str
    target: str
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "text", "target"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"prompt {name} is {value!r}: give a non-empty text")
        if not all(isinstance(alias, str) and alias.strip() for alias in self.aliases):
            raise InputError(f"prompt {self.id!r}: aliases is {self.aliases!r}: give a list of non-empty texts")

    def to_json(self) -> dict[str, Any]:
        """The prompt as a JSON object; ``aliases`` is a list."""
        return {"id": self.id, "text": self.text, "target": self.target, "aliases": list(self.aliases)}


@dataclass(frozen=True)
class SamplingParams:
    """The decoding setting, part of what a guarantee is about: another temperature is another statement.

    With ``adaptive_temperature`` decoding is greedy where the model is that sure, else as the other fields say:
    ``adaptive_mode`` says what decides, and for how long. The filters act in the order temperature,
    top-k, top-p, min-p, as in transformers. A completion that reaches ``max_tokens`` has finish reason ``"length"``.
    """

    temperature: float = 1.0
    """Sampling temperature; 1 is the model's own law, 0 is greedy decoding."""
    top_p: float = 1.0
    """Keep the likeliest tokens that make up this probability; 1 keeps all."""
    top_k: int = 0
    """Keep this many likeliest tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep the tokens at least this many times as likely as the likeliest; 0 keeps all."""
    adaptive_temperature: float = 0.0
    """Decode greedily where the model is at least this sure; 0 never does."""
    adaptive_mode: Literal["prompt", "sequence"] = "prompt"
    """prompt: a prompt goes greedy where the mean probability of its greedy answer's tokens reaches the threshold;
    sequence: a completion does, from the token on where the mean over the likeliest tokens so far reaches it."""
    max_tokens: int = 128
    """The longest completion, in new tokens."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion and are cut from it."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature!r}: give a number >= 0 (0 is greedy decoding)")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p!r}: give a number in (0, 1] (1 keeps every token)")
        if self.top_k < 0 or int(self.top_k) != self.top_k:
            raise InputError(f"top_k is {self.top_k!r}: give a whole number >= 0 (0 keeps every token)")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p is {self.min_p!r}: give a number in [0, 1] (0 keeps every token)")
        if not 0 <= self.adaptive_temperature <= 1:
            raise InputError(
                f"adaptive_temperature is {self.adaptive_temperature!r}: give a number in [0, 1] (0 switches it off)"
            )
        if self.adaptive_mode not in ("prompt", "sequence"):
            raise InputError(f"adaptive_mode is {self.adaptive_mode!r}: give prompt or sequence")
        if self.adaptive_mode == "sequence" and not self.adaptive_temperature:
            raise InputError("adaptive_mode is 'sequence' with adaptive_temperature 0: give the threshold as well")
        if self.max_tokens < 1 or int(self.max_tokens) != self.max_tokens:
            raise InputError(f"max_tokens is {self.max_tokens!r}: give a whole number >= 1")
        if any(not text for text in self.stop):
            raise InputError(f"stop is {self.stop!r}: an empty stop string would end every completion at once")

    @property
    def greedy(self) -> bool:
        """Whether the setting is deterministic: temperature 0."""
        return self.temperature == 0

    def to_json(self) -> dict[str, Any]:
        """The parameters as a JSON object; ``stop`` is a list, and the usual ``adaptive_mode`` is not said."""
        data = {**dataclasses.asdict(self), "stop": list(self.stop)}
        if self.adaptive_mode == "prompt":  # folders from before there was a mode go on
            del data["adaptive_mode"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SamplingParams:
        """The parameters that :meth:`to_json` wrote."""
        return cls(**{**data, "stop": tuple(data.get("stop", ()))})


@dataclass(frozen=True)
class Shard:
    """A fixed group of prompts and draws: the unit that is computed, stored, and computed again after a crash.

    For each prompt, the draws numbered ``first`` to ``first + num_samples - 1`` are made. The run's ``seed``, the
    prompt's id and ``first`` determine the randomness, so that no two shards of a run share any, and a prompt's draws
    do not depend on which other prompts stand beside it.
    """

    prompts: tuple[Prompt, ...]
    first: int
    num_samples: int
    seed: int


@dataclass(frozen=True)
class Draw:
    """One distinct completion of one prompt within a shard, and how often it was drawn.

    ``first`` is the number, within the prompt's draws of the run, of the first draw that gave it; ``places`` are the
    numbers of all of them, ascending. A back end that only counts leaves ``places`` None: the order of generation is
    not known then, and bounds that need none are used, which are wider.
    ``finish_reason`` is ``"stop"`` (the model or a stop string ended it) or ``"length"`` (cut at ``max_tokens``).
    ``logprob`` is the natural log of the completion's probability under the sampling distribution (after temperature
    and filters), end-of-text token included, or None where the back end does not tell. With stop strings it is
    that of the token sequence drawn up to the stop.
    """

    prompt_id: str
    text: str
    count: int
    first: int
    finish_reason: str
    num_tokens: int
    logprob: float | None = None
    places: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        places = self.places
        if places is None:
            return
        object.__setattr__(self, "places", tuple(places))
        ascending = all(a < b for a, b in pairwise(places))
        if len(places) != self.count or not ascending or (places and places[0] != self.first):
            raise InputError(
                f"a draw of prompt {self.prompt_id!r} has count {self.count}, first {self.first} and {len(places)} "
                f"places {str(tuple(places))[:60]}: give the ascending numbers of the draws that gave it, or None"
            )
