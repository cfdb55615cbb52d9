"""Prompts: questions with the secret that their answers must not reveal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leakbound.errors import PromptsError
from leakbound.reading.rows import QUESTION, Row, as_row, open_rows
from leakbound.records import Prompt


def load_prompts(source: str | Path, *, split: str | None = None) -> tuple[Prompt, ...]:
    """Prompts from a .jsonl, .json, .csv, .tsv or .parquet file, or from a data set of the hub.

    A row has ``text`` (or ``question``), ``target`` (or ``answer``) and optionally ``id`` and ``aliases``. Where both
    ``target`` and ``answer`` stand, ``target`` counts. Rows without an id are numbered from 0. The hub's data set is
    ``NAME`` or ``hub:NAME[:SPLIT]``; ``split`` defaults to "train". Raises PromptsError.
    """
    return _collect(open_rows(source, what="prompts", split=split))


def as_prompts(rows: Iterable[Prompt | dict[str, Any]]) -> tuple[Prompt, ...]:
    """Prompts from Prompt objects or from mappings with the keys of :func:`load_prompts`."""
    found = _collect(
        as_row(row.to_json() if isinstance(row, Prompt) else row, i + 1, f"row {i}") for i, row in enumerate(rows)
    )
    if not found:
        raise PromptsError("prompts: there are no prompts in it; give at least one row with text and target")
    return found


def _collect(rows: Iterable[Row]) -> tuple[Prompt, ...]:
    prompts: dict[str, Prompt] = {}
    seen: dict[str, str] = {}
    for row in rows:
        name = row.id(str(row.number - 1))
        if name in seen:
            raise PromptsError(f"{row.where}: id {name!r} was used before ({seen[name]}): give every row its own")
        seen[name] = row.where
        prompts[name] = Prompt(name, row.text(*QUESTION), row.text("target", "answer"), row.aliases())
    return tuple(prompts.values())
