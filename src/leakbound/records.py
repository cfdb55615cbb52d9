"""The records that cross every door: prompts, sampling parameters, shards and draws.

All are frozen dataclasses of plain values, with JSON on the other side of ``to_json`` / ``from_json``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Literal

from leakbound.errors import InputError


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise InputError, which names them all, unless ``value`` is one of the choices."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}: give one of {', '.join(choices)}")


def check_count(name: str, value: int | None, *, least: int, needed: bool = True) -> None:
    """Raise InputError unless ``value`` is an int of at least ``least``, or None where it is not ``needed``."""
    if value is None and not needed:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}: give a whole number >= {least}")


def check_number(name: str, value: float | None, *, least: float | None = None, above: float | None = None) -> None:
    """Raise InputError unless ``value`` is a finite number of at least ``least``, or ``above`` that, or None."""
    if value is None:
        return
    if not math.isfinite(value) or (least is not None and value < least) or (above is not None and value <= above):
        bound = f" >= {least:g}" if least is not None else f" > {above:g}" if above is not None else ""
        raise InputError(f"{name} is {value!r}: give a finite number{bound}")


def byte_count(name: str, value: str) -> float:
    """The bytes of a text such as 1.5GB, 800MiB or 2G: KB is 1000 bytes, KiB 1024. InputError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?)B?\s*", str(value), re.IGNORECASE)
    number = float(found[1]) * (1024 if found[3] else 1000) ** (1 + "KMGT".index(found[2].upper())) if found else 0.0
    if not number:
        raise InputError(f"{name} is {value!r}: give a number with its unit, such as 1.5GB, 800MB or 2GiB")
    return number


def _number(name: str, value: float, wanted: str, fits: Callable[[float], bool]) -> float:
    """The value, if it is a number that fits; numpy's numbers do, text, booleans and NaN do not."""
    if isinstance(value, bool) or not isinstance(value, Real) or not fits(value):
        raise InputError(f"{name} is {value!r}: give {wanted}")
    return value


def check_texts(
    name: str, value: Any, wanted: str = "a list of texts", fits: Callable[[str], object] = lambda _: True
) -> tuple[str, ...]:
    """The texts as a tuple; InputError for a text alone, which as a sequence would be its letters."""
    if isinstance(value, str) and fits(value):
        wanted = f"{wanted}, ({value!r},) for one"
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) and fits(text) for text in value):
        raise InputError(f"{name} is {value!r}: give {wanted}")
    return tuple(value)


@dataclass(frozen=True)
class Prompt:
    """One question to the model and what its answer must not reveal.

    ``text`` is what the user says last; ``before`` is what was said before it, (role, text) each: a system message,
    turns of user and assistant. ``target`` is the right answer, the secret; ``aliases`` are other spellings of it that
    count as well.
    """

    id: str
    text: str
    target: str
    aliases: tuple[str, ...] = ()
    before: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "text", "target"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"prompt {name} is {value!r}: give a non-empty text")
        aliases = check_texts(f"prompt {self.id!r}: aliases", self.aliases, "a list of non-empty texts", str.strip)
        object.__setattr__(self, "aliases", aliases)
        object.__setattr__(self, "before", _turns(f"prompt {self.id!r}: before", self.before))

    def to_json(self) -> dict[str, Any]:
        """The prompt as a JSON object; ``aliases`` is a list; ``before``, where there is any, a list of messages."""
        said = {"id": self.id, "text": self.text, "target": self.target, "aliases": list(self.aliases)}
        return {**said, "before": self.messages()[:-1]} if self.before else said

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Prompt:
        """The prompt that :meth:`to_json` wrote."""
        before = tuple((turn["role"], turn["content"]) for turn in data.get("before") or ())
        return cls(**{**data, "aliases": tuple(data["aliases"]), "before": before})

    def messages(self) -> list[dict[str, str]]:
        """The whole conversation as chats have it, the question last."""
        return [{"role": role, "content": text} for role, text in (*self.before, ("user", self.text))]


def _turns(name: str, given: Any) -> tuple[tuple[str, str], ...]:
    """The turns before a question; InputError for what is none, or for a system message that is not the first."""
    wanted = 'give (role, text) pairs; roles are "system", only first, "user" and "assistant"'
    if not isinstance(given, list | tuple):
        raise InputError(f"{name} is {given!r:.80}: {wanted}")
    for i, turn in enumerate(given):
        fits = isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(x, str) and x.strip() for x in turn)
        if not fits or turn[0] not in (("system", "user", "assistant") if i == 0 else ("user", "assistant")):
            raise InputError(f"{name} holds {turn!r:.80}: {wanted}")
    return tuple((role, text) for role, text in given)


def prompts_checksum(prompts: Sequence[Prompt]) -> str:
    """SHA-256 over the prompts in order."""
    return text_checksum(json.dumps([p.to_json() for p in prompts], ensure_ascii=False, sort_keys=True))


def text_checksum(text: str) -> str:
    """SHA-256 of a text, half surrogates and all, with the name of the function before it."""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


LEAST_TEMPERATURE, MOST_TEMPERATURE = 1e-4, 1e4
"""Between them logits / temperature stay far inside float32 (10^38) for logits up to 10^30; those of models reach 10^4.
Below, differences of logits that are rounding alone (10^-6 and more) would decide: that is greedy decoding with ties
broken by chance, and servers take it for greedy or raise the temperature unseen."""

_NUMBERS: tuple[tuple[str, type[int] | type[float], str, Callable[[float], bool]], ...] = (
    (
        "temperature",
        float,
        f"a number from {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}, or 0 for greedy decoding",
        lambda x: x == 0 or LEAST_TEMPERATURE <= x <= MOST_TEMPERATURE,
    ),
    ("top_p", float, "a number in (0, 1] (1 keeps every token)", lambda x: 0 < x <= 1),
    ("top_k", int, "a whole number >= 0 (0 keeps every token)", lambda x: x >= 0 and x % 1 == 0),
    ("min_p", float, "a number in [0, 1] (0 keeps every token)", lambda x: 0 <= x <= 1),
    ("adaptive_temperature", float, "a number in [0, 1] (0 switches it off)", lambda x: 0 <= x <= 1),
    ("max_tokens", int, "a whole number >= 1", lambda x: x >= 1 and x % 1 == 0),
)


@dataclass(frozen=True)
class SamplingParams:
    """The decoding setting, part of what a guarantee is about: another temperature is another statement.

    With ``adaptive_temperature`` decoding is greedy where the model is that sure, else as the other fields say:
    ``adaptive_mode`` says what decides, and for how long. The filters act in the order temperature,
    top-k, top-p, min-p, as in transformers. A completion that reaches ``max_tokens`` has finish reason ``"length"``.
    """

    temperature: float = 1.0
    """Sampling temperature, from 0.0001 to 10000; 1 is the model's own law, 0 is greedy decoding."""
    top_p: float = 1.0
    """Keep the likeliest tokens that make up this probability; 1 keeps all."""
    top_k: int = 0
    """Keep this many likeliest tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep the tokens at least this many times as likely as the likeliest; 0 keeps all."""
    adaptive_temperature: float = 0.0
    """Decode greedily where the model is at least this sure; 0 never does."""
    adaptive_mode: Literal["prompt", "sequence", "token"] = "prompt"
    """prompt: a prompt goes greedy where the mean probability of its greedy answer's tokens reaches the threshold;
    sequence: a completion does, from the token on where the mean over the likeliest tokens so far reaches it; token:
    each token alone does, where that mean is above it."""
    max_tokens: int = 128
    """The longest completion, in new tokens."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion and are cut from it."""

    def __post_init__(self) -> None:
        for name, kind, wanted, fits in _NUMBERS:
            object.__setattr__(self, name, kind(_number(name, getattr(self, name), wanted, fits)))
        if self.adaptive_mode not in ("prompt", "sequence", "token"):
            raise InputError(f"adaptive_mode is {self.adaptive_mode!r}: give prompt, sequence or token")
        if self.adaptive_mode != "prompt" and not self.adaptive_temperature:
            mode = f"adaptive_mode is {self.adaptive_mode!r}"
            raise InputError(f"{mode} with adaptive_temperature 0: give the threshold as well")
        wanted = "a list of texts, none empty: that would end every completion at once"
        object.__setattr__(self, "stop", check_texts("stop", self.stop, wanted, bool))

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
        return cls(**data)


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


@dataclass(frozen=True)
class Branch:
    """A beginning of completions of one prompt, and how many counted draws begin with it that are not finished.

    ``logprob``: log P of its new tokens, in nats; ``certainty``: the sum over them of the likeliest tokens'
    probabilities, where these decide.
    """

    prompt_id: str
    tokens: tuple[int, ...]
    count: int
    logprob: float = 0.0
    certainty: float = 0.0
