"""Records of an import: what a reader found in a log, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakbound.records import Prompt
from leakbound.results.evaluation import Evaluation
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
