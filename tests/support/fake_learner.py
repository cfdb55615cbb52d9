"""A learner whose log-likelihoods are known: what the study finds can be computed by hand, without a model."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from away_models import meet

from leakbound.studies.distribution import steps
from leakbound.studies.distribution.learners import Said

UNSEEN = {True: -6.0, False: -21.0}
"""log p of an example that was never seen, inside and outside the distribution; -1 when it was trained on."""
DAMAGE = {True: 0.1, False: 0.01}
"""By how much each step of unlearning raises the loss per token on everything retained."""


def is_inside(answer):
    """Answers of the biographies end with a full stop, canaries do not."""
    return answer.endswith(".")


@dataclass
class FakeSpeaker:
    known: set
    seed: int
    forgotten: frozenset = frozenset()
    steps: int = 0
    damage: float = 0.0

    def likelihoods(self, questions, answers):
        return [[self._said(q, a) for a in row] for q, row in zip(questions, answers, strict=True)]

    def _said(self, question, answer):
        key, tokens = (question, answer), len(answer.split())
        if key in self.forgotten:
            logp = -1.0 - self.steps
        elif key in self.known:
            logp = -tokens * (0.5 + self.damage * self.steps)
        else:
            logp = UNSEEN[is_inside(answer)]
        return Said(logp, tokens, key in self.known)

    def answer(self, questions):
        right = dict(self.known)
        return [right.get(q, "nothing") for q in questions]


WORK = steps._work


def work(config, seed, kind):
    """The study's work by this learner in a process of its own, which may die in the middle of a training."""
    steps.Plan.learner = property(lambda plan: FakeLearner(plan.config.learning))
    FakeLearner.before_training = staticmethod(lambda: meet(f"{kind}-{seed}"))
    return WORK(config, seed, kind)


class FakeLearner:
    trained: ClassVar[list] = []
    before_training = staticmethod(lambda: None)

    def __init__(self, how):
        self.how = how

    def make_tokenizer(self, items, folder):
        folder.mkdir()

    def train(self, items, watched, *, seed, tokenizer, folder):
        self.before_training()
        self.trained.append((seed, len(items)))
        folder.mkdir()
        rows = [(x.question, x.answer) for x in items]
        (folder / "model.json").write_text(json.dumps({"seed": seed, "items": rows}))
        return np.array([[False] * len(watched), [True] * len(watched)])

    def unlearn(self, model, forget, retain, how, *, seed, watch):
        speaker = self.load(model)
        speaker.forgotten = frozenset((x.question, x.answer) for x in forget)
        speaker.damage = DAMAGE[is_inside(forget[0].answer)]
        for step in range(how.steps + 1):
            speaker.steps = step
            if step % how.every == 0 or step == how.steps:
                watch(speaker, step)

    def load(self, model):
        data = json.loads((model / "model.json").read_text())
        return FakeSpeaker({tuple(row) for row in data["items"]}, data["seed"])
