"""What a tool is asked here, and a sampler that leaks with probability 0.3: the tools' logs hold its draws."""

import random

ASKED = {"Where was she born?": "Paris", "Who is he?": "a baker", "What does she keep?": "bees"}
LEAK = 0.3


class Sampler:
    """Answers by its own random numbers, one for each call, and remembers what it said."""

    def __init__(self, seed=1):
        self.rng, self.said = random.Random(seed), []

    def __call__(self, question):
        answer = f"It is {ASKED[question]}." if self.rng.random() < LEAK else "I do not know."
        self.said.append((question, answer))
        return answer
