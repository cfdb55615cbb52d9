"""Prompts: questions with the secret that their answers must not reveal."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from leakbound.errors import InputError, PromptsError
from leakbound.reading.parsing import parse
from leakbound.reading.rows import QUESTION, Row, as_row, filled, open_rows, spelled
from leakbound.records import Prompt

SYSTEM = ("system", "system_prompt", "system_message")
"""Columns whose name says that the model is told something before it is asked."""


def load_prompts(source: str | Path, *, split: str | None = None) -> tuple[Prompt, ...]:
    """Prompts from a .jsonl, .json, .csv, .tsv or .parquet file, or from a data set of the hub.

    A row has ``text`` (or ``question``), ``target`` (or ``answer``) and optionally ``id`` and ``aliases``. Where both
    ``target`` and ``answer`` stand, ``target`` counts. Instead of the text a row may have ``messages``, a conversation
    whose last message is the user's: objects with ``role`` and ``content`` (in CSV as JSON). Rows without an id are
    numbered from 0. The hub's data set is ``NAME`` or ``hub:NAME[:SPLIT]``; ``split`` defaults to "train". Raises
    PromptsError.
    """
    return _collect(open_rows(source, what="prompts", split=split))


def as_prompts(rows: Iterable[Prompt | dict[str, Any]]) -> tuple[Prompt, ...]:
    """Prompts from Prompt objects or from mappings with the keys of :func:`load_prompts`."""
    found = _collect(as_row(_as_mapping(row), i + 1, f"row {i}") for i, row in enumerate(rows))
    if not found:
        raise PromptsError("prompts: there are no prompts in it; give at least one row with text and target")
    return found


def with_system(prompts: Iterable[Prompt], system: str) -> tuple[Prompt, ...]:
    """The prompts behind a system message; PromptsError for one that has its own, and for an empty message."""
    if not system.strip():
        raise PromptsError(f"system is {system!r}: give a non-empty text, or leave it out")
    for prompt in (prompts := tuple(prompts)):
        if prompt.before and prompt.before[0][0] == "system":
            raise PromptsError(f"prompt {prompt.id!r} has a system message of its own: leave system out")
    return tuple(replace(prompt, before=(("system", system), *prompt.before)) for prompt in prompts)


def _as_mapping(row: Any) -> Any:
    if not isinstance(row, Prompt):
        return row
    return {**row.to_json(), **({"messages": row.messages(), "text": None} if row.before else {})}


def _conversation(row: Row) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What the user says last, and the turns before it."""
    row.check_names(*QUESTION, "messages", "target", "answer")
    told = (name for name, value in row.values.items() if spelled(name) in SYSTEM and value not in (None, ""))
    if (other := next(told, None)) is not None:
        raise PromptsError(
            f"{row.where}: the column {other!r} would not be read: give messages, the first with the role system, or "
            "--system for all, or leave the column out"
        )
    given = row.values.get("messages")
    if given is None or given == "":
        return row.question(), ()
    if other := next((column for column in QUESTION if row.values.get(column) not in (None, "")), None):
        raise PromptsError(f"{row.where}: the row has messages and {other}: give one of them")
    turns = parse(given, f"{row.where}: messages") if isinstance(given, str) else given
    wanted = 'give a list of {"role": ..., "content": ...}, the last one the user\'s'
    if not isinstance(turns, list | tuple) or not turns:
        raise PromptsError(f"{row.where}: messages is {given!r:.60}: {wanted}")
    for turn in turns:
        if not isinstance(turn, Mapping) or {k for k, v in turn.items() if v is not None} != {"role", "content"}:
            raise PromptsError(f"{row.where}: messages holds {turn!r:.60}: {wanted}")
        filled(turn["content"], row.where, f"content of {turn['role']!r:.20}")
    *before, last = ((turn["role"], turn["content"]) for turn in turns)
    if last[0] != "user":
        raise PromptsError(f"{row.where}: the last of its messages is of {last[0]!r:.20}: {wanted}")
    return last[1], tuple(before)


def _collect(rows: Iterable[Row]) -> tuple[Prompt, ...]:
    prompts: dict[str, Prompt] = {}
    seen: dict[str, str] = {}
    for row in rows:
        name = row.id(str(row.number - 1))
        if name in seen:
            raise PromptsError(f"{row.where}: id {name!r} was used before ({seen[name]}): give every row its own")
        seen[name] = row.where
        text, before = _conversation(row)
        try:
            prompts[name] = Prompt(name, text, row.text("target", "answer"), row.aliases(), before)
        except PromptsError:
            raise
        except InputError as error:
            raise PromptsError(f"{row.where}: {error}") from error
    return tuple(prompts.values())
