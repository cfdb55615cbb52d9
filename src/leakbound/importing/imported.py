"""Records of an import: what a reader found in a log, and what became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leakbound.models.openai import UNKNOWN_TOKENS
from leakbound.records import Draw, Prompt
from leakbound.results.evaluation import Evaluation
from leakbound.runs.layout import Part
from leakbound.runs.store import Run


@dataclass(frozen=True)
class Asked:
    """One prompt of a log with its completions in the log's order: (text, finish reason) each.

    A finish reason is stop, length, or unknown where the log does not tell. ``where`` is the place in the log.
    """

    prompt: Prompt
    completions: tuple[tuple[str, str], ...]
    where: str


@dataclass(frozen=True)
class Log:
    """Prompts with repeated completions, who spoke, how it was decoded, and what should be said of it.

    ``decoding`` holds the fields of SamplingParams that the log states; ``seed`` is the seed of every request, if any.
    """

    format: str
    file: Path
    model: str
    asked: tuple[Asked, ...]
    decoding: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    seed: Any = None
    stopped: Mapping[str, Any] | None = None
    """Where leakbound's own rule ended each prompt's draws: ``rule`` and ``statement``, as it wrote them down."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """What else the log says was set and changes what is said: no field of SamplingParams holds it."""

    @property
    def distinct(self) -> tuple[int, ...]:
        """How many different completions each prompt has."""
        return tuple(len({text for text, _ in asked.completions}) for asked in self.asked)


@dataclass(frozen=True)
class Imported:
    """What a log gave: an evaluation or a run folder, and what was checked while it was read."""

    result: Evaluation | Run
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Import:
    """One log in ``out``, and where one was given the log of a retrained model in ``out``/retain."""

    out: Path
    log: Imported
    retain: Imported | None = None


def draws_of(prompts: Sequence[Prompt], part: Part, completions: Mapping[str, Sequence[tuple[str, str]]]) -> list[Draw]:
    """The draws of some prompts in one part of the layout: equal completions once, with their places in the log."""
    places: dict[tuple[str, str, str], list[int]] = {}
    for prompt in prompts:
        of_part = completions[prompt.id][part.first : part.first + part.num_samples]
        for i, (text, reason) in enumerate(of_part, start=part.first):
            places.setdefault((prompt.id, text, reason), []).append(i)
    return [
        Draw(name, text, len(mine), mine[0], reason, UNKNOWN_TOKENS, None, tuple(mine))
        for (name, text, reason), mine in places.items()
    ]
