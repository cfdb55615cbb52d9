"""What readers of repeated completions share: the one file of a folder, and draws that become prompts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakbound.errors import InputError
from leakbound.importing.imported import Asked
from leakbound.reading.rows import encodable, filled
from leakbound.records import Prompt


@dataclass(frozen=True)
class Drawn:
    """One completion as it stands in a log: what was asked, what must not be said, what was said, and where."""

    text: Any
    targets: Sequence[Any]
    """The right answer, then its other spellings."""
    said: str
    reason: str
    where: str
    before: tuple[tuple[str, str], ...] = ()


def grouped(draws: Iterable[Drawn]) -> tuple[Asked, ...]:
    """Draws of one question with one target are those of one prompt; prompts are numbered as they first appear.

    :raises InputError: a question, a target or a completion that is no text.
    """
    groups: dict[tuple[Any, ...], tuple[Prompt, list[tuple[str, str]], str]] = {}
    for draw in draws:
        right, *others = [filled(target, draw.where, "target") for target in draw.targets]
        aliases = tuple(dict.fromkeys(other for other in others if other != right))
        key = (filled(draw.text, draw.where, "prompt"), right, aliases, draw.before)
        if key not in groups:
            groups[key] = Prompt(str(len(groups)), *key), [], draw.where
        if not isinstance(draw.said, str):
            raise InputError(f"{draw.where}: the completion is {draw.said!r:.60}: not a text")
        groups[key][1].append((encodable(draw.said, draw.where, "completion"), draw.reason))
    return tuple(Asked(prompt, tuple(said), where) for prompt, said, where in groups.values())


NEUTRAL: dict[str, float] = {
    "frequency_penalty": 0, "presence_penalty": 0, "no_repeat_ngram_size": 0, "diversity_penalty": 0,
    "penalty_alpha": 0, "epsilon_cutoff": 0, "eta_cutoff": 0, "min_length": 0, "min_tokens": 0,
    "repetition_penalty": 1, "length_penalty": 1, "typical_p": 1, "num_beams": 1, "num_beam_groups": 1,
    "num_return_sequences": 1, "n": 1, "best_of": 1, "num_choices": 1,
}  # fmt: skip
"""Settings that change nothing at this value."""


def others(given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The settings that are set, not neutral, and not among the ``known`` ones: nothing here models them."""
    return {
        name: value
        for name, value in given.items()
        if name not in known and value is not None and value not in ("", [], {}) and value != NEUTRAL.get(name)
    }


def one_file(path: Path, pattern: str) -> Path:
    """The file, or the only one of this name in the folder or below it."""
    if not path.is_dir():
        return path
    found = sorted(path.rglob(pattern))
    if len(found) != 1:
        names = ", ".join(str(f.relative_to(path)) for f in found[:5])
        raise InputError(f"path is {str(path)!r}: it holds {len(found)} {pattern} ({names}): name one of them")
    return found[0]
