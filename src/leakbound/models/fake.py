"""A fake model with a known leak probability: for the tests of leakbound and of its users."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from leakbound.errors import InputError
from leakbound.models.randomness import of_prefix, uniforms
from leakbound.records import Branch, Draw, SamplingParams, Shard


@dataclass(frozen=True)
class FakeModel:
    """Answers with the prompt's target with probability ``leak``, else with ``clean``; no weights, no torch.

    Greedy decoding gives the likelier of the two. ``leaks`` overrides ``leak`` for single prompts, by id.
    """

    reads_turns: ClassVar = True
    leak: float = 0.01
    clean: str = "I do not know."
    leaks: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name, p in (("leak", self.leak), *self.leaks):
            if not 0 <= p <= 1:
                raise InputError(f"{name} is {p!r}: give a probability in [0, 1]")

    def describe(self) -> dict[str, Any]:
        """The fake's name and its probabilities."""
        return {"backend": "fake", "model": f"fake(leak={self.leak})", "clean": self.clean, "leaks": dict(self.leaks)}

    def count(self, shard: Shard, params: SamplingParams, open: Sequence[Branch]) -> tuple[list[Draw], list[Branch]]:
        """How often each answer comes, by one binomial number for each prompt."""
        draws = []
        for branch in open:
            p = dict(self.leaks).get(branch.prompt_id, self.leak)
            leaked = int(of_prefix(shard.seed, branch.prompt_id, shard.first, ()).binomial(branch.count, p))
            target = next(prompt.target for prompt in shard.prompts if prompt.id == branch.prompt_id)
            for text, count, q in ((target, leaked, p), (self.clean, branch.count - leaked, 1 - p)):
                if count:
                    draws.append(Draw(branch.prompt_id, text, count, 0, "stop", len(text.split()), math.log(q)))
        return draws, []

    def sample(self, shard: Shard, params: SamplingParams) -> list[Draw]:
        """Draw as a real model would: i.i.d. with the known probability, a pure function of the shard."""
        if params.adaptive_temperature:
            raise InputError("adaptive_temperature is set: a fake has no confidence to adapt to; leave it at 0")
        draws = []
        for prompt in shard.prompts:
            p = dict(self.leaks).get(prompt.id, self.leak)
            if params.greedy:
                p = float(p > 0.5)
            leaked = uniforms(shard.seed, prompt.id, shard.first, 0, shard.num_samples) < p
            for text, mine, q in ((prompt.target, leaked, p), (self.clean, ~leaked, 1 - p)):
                if mine.any():
                    places = tuple((shard.first + np.flatnonzero(mine)).tolist())
                    words = len(text.split())
                    draws.append(Draw(prompt.id, text, len(places), places[0], "stop", words, math.log(q), places))
        return draws
