"""Weights that show their law as a witness of what another engine draws from them, answer by answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from leakbound.bounds.attested import SLACK, AttestedLaw, Copies, most_likely
from leakbound.models.base import ForcedAnswer
from leakbound.records import Prompt, SamplingParams

COPIES = "copies of earlier answers"


@dataclass
class Witness:
    """The evidence of answers against the stated law of ``known``, and against their independence.

    A test martingale (:mod:`leakbound.bounds.attested`): an engine whose tokens' laws are within ``slack`` of the
    stated ones is refuted at level alpha with probability at most alpha, however often one looks.
    """

    known: Any
    params: SamplingParams
    slack: float = SLACK
    law: AttestedLaw = field(default_factory=lambda: AttestedLaw(()))
    copies: Copies = field(default_factory=Copies)
    tokens: int = 0

    def add(self, prompt: Prompt, told: Sequence[tuple[int, ...]]) -> list[ForcedAnswer]:
        """Answers to one prompt by their tokens, end token included, none empty; and what the weights say of them."""
        if not told:
            return []
        asked = {"slack": self.slack, "earlier": self.copies.seen.get(prompt.id), "without": self.law.given_up}
        forced_answers: list[ForcedAnswer] = self.known.attested(prompt, told, self.params, **asked)
        for answer, forced in zip(told, forced_answers, strict=True):
            factors = dict(forced.factors)
            factors[COPIES] = self.copies.add(prompt.id, answer, most_likely(forced.logprobs, slack=self.slack))
            self.law = self.law if self.law.names else AttestedLaw(tuple(factors))
            self.law.add(factors)
            self.tokens += len(answer)
        return forced_answers
