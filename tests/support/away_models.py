"""Samplers that a worker can open by their names, and ways to die; no torch."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from leakbound.models import FakeModel
from leakbound.models.base import TokenLikelihood
from leakbound.workers import Workers

FAKE = FakeModel(leak=0.2, leaks=(("p1", 0.0), ("p2", 0.9)))


class Gradual(FakeModel):
    """Gives the draws of one prompt at a time; waits, and dies, where the folder of AWAY says so."""

    def __init__(self):
        super().__init__(leak=0.3)

    def sample_more(self, shard, params, known):
        meet(f"{'greedy' if params.greedy else 'sample'}-{shard.prompts[0].id}-{len(known)}")
        there = {draw.prompt_id for draw in known}
        draws = self.sample(shard, params)
        first = next((draw.prompt_id for draw in draws if draw.prompt_id not in there), None)
        return [draw for draw in draws if draw.prompt_id == first]


class Replaced(FakeModel):
    """Another one in each process."""

    def describe(self):
        return {**super().describe(), "checksum": os.getpid()}


class Loud(FakeModel):
    """Cannot be made."""

    def __init__(self):
        raise RuntimeError("no such weights")


def meet(name):
    """Die once, or always, or sleep, where a file of the folder of AWAY asks for it by a beginning of this name."""
    folder = Path(os.environ.get("AWAY", "/nowhere"))
    for file in folder.glob("*"):
        if name.startswith(file.name.partition(".")[0]):
            if file.suffix == ".sleep":
                time.sleep(60)
            if file.suffix == ".once":
                try:
                    file.unlink()
                except FileNotFoundError:
                    continue
            print("my last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


def square(x):
    return x * x


def dying(name, value):
    meet(name)
    return value


def refused():
    Workers(workers=-1)


def pid():
    return os.getpid()


def sleeping():
    time.sleep(60)


class Likely(FakeModel):
    """Gives likelihoods that follow from the texts, and has a tokenizer."""

    tokenizer = type("Words", (), {"tokenize": staticmethod(str.split)})()

    def __init__(self):
        super().__init__(leak=0.9)

    def answer_likelihoods(self, questions, answers):
        return [
            [self.likelihood(question + text) for text in some]
            for question, some in zip(questions, answers, strict=True)
        ]

    def answer_gradient_norms(self, questions, answers):
        return [float(len(question + text)) for question, text in zip(questions, answers, strict=True)]

    def likelihood(self, text):
        values = -np.array([float(ord(letter)) for letter in text]) / 50
        return TokenLikelihood(values, values > -2, values * 1.5, np.ones(len(values)))
