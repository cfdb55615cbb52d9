"""Groups of answers that the model gives, each rewarded for what it does not tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from leakbound.models.hf.forward import Forward, Work
from leakbound.models.hf.likelihoods import answer_likelihoods, reads_trees
from leakbound.models.template import encode_prompt
from leakbound.unlearning.adapters import inner
from leakbound.unlearning.anew import DrawAnew
from leakbound.unlearning.groups import Graded, Group

SAME = 1e-4
"""Added to the standard deviation of a group's rewards."""


class GradeAnswers(DrawAnew):
    """Draws ``config.grpo_samples`` answers to each forget question and compares their rewards, 1 - score.

    The advantage of an answer is (r - mean) / (sd + 1e-4), over all draws of its question, sd with one degree of
    freedom less. Equal draws are one answer that counts as often. ``reference`` gives the model before the training.
    """

    def __init__(self, *given: Any, reference: Callable[[], AbstractContextManager[Any]], **named: Any) -> None:
        super().__init__(*given, **named)
        self.reference = reference

    def draw(self) -> None:
        """Draw, reward, and keep what the model and the reference say of each token."""
        found = self.drawn(self.config.grpo_samples)
        heads = [encode_prompt(self.tokenizer, prompt.text, self.config.template) for prompt in self.prompts]
        tails = [[one.tokens for one in some] for some in found]
        with torch.inference_mode():
            self.groups.trees = reads_trees(self.forward, heads, tails)
        now = answer_likelihoods(self.forward, heads, tails)
        with self.reference() as model:
            first = answer_likelihoods(Forward(inner(model), fill=self.groups.fill, work=Work()), heads, tails)
        for place, (prompt, head, some) in enumerate(zip(self.prompts, heads, found, strict=True)):
            counts = np.array([one.count for one in some])
            rewards = 1 - np.array(self.scores(place, [one.text for one in some]))
            graded = Graded(
                shares=counts / counts.sum(),
                advantages=advantages(rewards, counts),
                drawn=[one.logprobs for one in now[place]],
                first=[one.logprobs for one in first[place]],
            )
            self.groups.groups[prompt.text] = Group(tuple(head), tuple(tails[place]), graded)


def advantages(rewards: Sequence[float] | np.ndarray, counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """(r - mean) / (sd + 1e-4) of each reward, of draws that had it so often; 0 where all are equal."""
    draws = np.repeat(rewards, counts)
    sd = draws.std(ddof=1) if len(draws) > 1 else 0.0
    return np.asarray((rewards - draws.mean()) / (sd + SAME))
