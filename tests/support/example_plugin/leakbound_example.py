"""A scorer, a suite and a back end. None of them needs torch."""

from leakbound import FakeModel
from leakbound.scoring import binary
from leakbound.suites.base import QuestionAnswer, Suite, SuiteKind


@binary
def initials(completion, target):
    """1 if the words of the completion begin as those of the target do."""
    return float([w[0] for w in completion.lower().split()] == [w[0] for w in target.lower().split()])


initials.framed = False  # a sentence around the target has other words


def parrot(name, template, loading):
    """``parrot:RATE``: says the secret at that rate."""
    return FakeModel(leak=float(name))


def capitals(split, data, revision):
    """Questions about capitals, some to forget and some to retain."""
    asked = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Norway": "Oslo"}
    rows = [
        QuestionAnswer(f"capital:{i}", land, "capital", f"What is the capital of {land}?", f"It is {city}.", city)
        for i, (land, city) in enumerate(asked.items())
    ]
    return Suite("capitals", tuple(rows[:2]), tuple(rows[2:]))


CAPITALS = SuiteKind(capitals, template="qa", scorer="initials", columns=(("ROUGE-L", "rouge_l_recall", "forget"),))
