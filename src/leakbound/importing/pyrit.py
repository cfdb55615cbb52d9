"""PyRIT: the SQLite file of its memory, ``SQLiteMemory(db_path=...)``. An attack of one turn is one draw.

The secret is what the attack's SubStringScorer looks for, or the label ``target``. Attacks with one prompt and one
secret are draws of it, in the order in which they were sent. What its scorers said is not taken over. An attack that
tries until it succeeds, or chooses its words by the answers, gives no independent draws, and is refused.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing.drawn import Drawn, grouped, one_file, others
from leakbound.importing.imported import Log
from leakbound.reading.parsing import read_bytes

REASONS = {"stop": "stop", "length": "length", "completed": "stop", "max_output_tokens": "length", None: "unknown"}
"""What a model says of its end, in either of OpenAI's protocols; any other reason withholds an answer."""

LOST = ("EmptyResponseException", "InvalidJsonException")
"""Errors for which PyRIT throws an answer away and asks again: what is left was chosen by its content."""

KNOWN = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_output_tokens", "max_completion_tokens", "seed",
    "hash", "class_name", "class_module", "pyrit_version", "endpoint", "model_name", "underlying_model_name",
    "max_requests_per_minute", "supported_capabilities", "children",
)  # fmt: skip
"""What a target says of itself that is read, or changes no answer."""

Row = Mapping[str, Any]


def read(path: Path) -> Log:
    """The attacks of a memory. IncompleteRunError where one failed, was blocked, or has no answer."""
    file = one_file(path, "*.db")
    read_bytes(file, 0)  # a missing file says so first
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as memory:
        memory.row_factory = sqlite3.Row
        attacks = [dict(row) for row in memory.execute("SELECT * FROM AttackResultEntries ORDER BY timestamp, id")]
        talks = {row["conversation_id"]: dict(row) for row in memory.execute("SELECT * FROM Conversations")}
        pieces: dict[str, list[Row]] = {}
        for row in memory.execute("SELECT * FROM PromptMemoryEntries ORDER BY sequence, timestamp"):
            pieces.setdefault(row["conversation_id"], []).append(dict(row))
    if not attacks:
        raise InputError(f"{file}: there are no attacks in it: send prompts by an attack, such as PromptSendingAttack")
    named = [(attack, f"{file}: attack {attack['id']}") for attack in attacks]
    sent = {}
    for attack, where in named:
        name = attack["conversation_id"]
        if name in sent:
            raise InputError(f"{where}: its conversation {name} is that of another attack: each draw needs its own")
        sent[name] = _single(attack, talks.get(name) or {}, pieces.get(name) or [], where)[0]["timestamp"]
    named.sort(key=lambda one: str(sent[one[0]["conversation_id"]]))
    asked = grouped(_drawn(attack, pieces[attack["conversation_id"]], where) for attack, where in named)
    target = _target([talks.get(name) or {} for name in sent], file)
    decoding = {k: target[k] for k in ("temperature", "top_p", "top_k", "min_p") if target.get(k) is not None}
    for name in ("max_tokens", "max_output_tokens", "max_completion_tokens"):
        if target.get(name) is not None:
            decoding["max_tokens"] = target[name]
    model = str(target.get("model_name") or target.get("class_name") or "unnamed")
    notes, besides = tuple(_notes(attacks, pieces)), others(target, KNOWN)
    return Log("pyrit", file, model, asked, decoding, notes, target.get("seed"), others=besides)


def _single(attack: Row, talk: Row, pieces: list[Row], where: str) -> list[Row]:
    """What the user said in an attack that asked once and kept what came, whatever it was."""
    if attack["outcome"] == "error" or attack["error_message"]:
        why = attack["error_type"] or attack["error_message"] or "error"
        raise IncompleteRunError(f"{where}: it failed ({why:.60}): a draw is missing; send it again in a new memory")
    kind = (_attack(attack).get("class_name") or "the attack")[:60]
    if _json(attack["pruned_conversation_ids"]):
        raise InputError(
            f"{where}: {kind} tried again after an answer without success (max_attempts_on_failure): what is left was "
            "chosen by its outcome; set it to 0"
        )
    if _json(attack["adversarial_chat_conversation_ids"]):
        raise InputError(f"{where}: {kind} chose its words by the answers before: use an attack of one turn")
    lost = [
        e.get("exception_type") for e in _json(attack["retry_events_json"]) or [] if e.get("exception_type") in LOST
    ]
    if lost or _json(talk.get("retries")):
        raise InputError(
            f"{where}: an answer was thrown away and asked for again ({lost[0] if lost else 'json_parsing'}): what is "
            "left was chosen by its content"
        )
    if len({piece["sequence"] for piece in pieces if piece["role"] == "assistant"}) > 1:
        raise InputError(f"{where}: {kind} took several turns, each after the answers before: use one of one turn")
    said = [piece for piece in pieces if piece["role"] == "user"]
    if not said:
        raise IncompleteRunError(f"{where}: nothing was sent in its conversation: a draw is missing")
    return said[-1:]


def _drawn(attack: Row, pieces: list[Row], where: str) -> Drawn:
    answers = [piece for piece in pieces if piece["role"] == "assistant"]
    texts = [piece for piece in answers if piece["original_value_data_type"] == "text"]
    for piece in answers:
        if piece["response_error"] not in (None, "none"):
            raise IncompleteRunError(
                f"{where}: the answer's response_error is {piece['response_error']!r}: it is withheld"
            )
    if not answers:
        raise IncompleteRunError(f"{where}: there is no answer in its conversation: a draw is missing")
    other = [
        p["original_value_data_type"] for p in answers if p["original_value_data_type"] not in ("text", "reasoning")
    ]
    if other or len(texts) != 1:
        kinds = ", ".join(p["original_value_data_type"] for p in answers)
        raise InputError(f"{where}: the answer is of {kinds}: one text is needed, for only that would be judged")
    given = _json(answers[0]["prompt_metadata"]) or {}
    reason = given.get("finish_reason") or given.get("incomplete_reason") or given.get("status")
    if reason not in REASONS:
        raise IncompleteRunError(f"{where}: the answer ended with {reason!r}: it is withheld")
    asked = [piece for piece in pieces if piece["role"] != "assistant"]
    if any(piece["converted_value_data_type"] != "text" for piece in asked):
        raise InputError(f"{where}: more than text was sent: import attacks of texts")
    before = tuple((_role(piece), str(piece["converted_value"])) for piece in asked[:-1])
    cut = "length" if given.get("truncated") else REASONS[reason]
    return Drawn(asked[-1]["converted_value"], [_secret(attack, where)], texts[0]["original_value"], cut, where, before)


def _role(piece: Row) -> str:
    """``simulated_assistant``: what the conversation began with, and no model said."""
    return str(piece["role"]).removeprefix("simulated_")


def _secret(attack: Row, where: str) -> Any:
    scorer = ((_attack(attack).get("children") or {}).get("objective_scorer")) or {}
    found = (_json(attack["labels"]) or {}).get("target") or scorer.get("substring")
    if found is None:
        raise InputError(
            f"{where}: nothing says what must not be said: give the attack a SubStringScorer as objective_scorer, or "
            "memory_labels={'target': TEXT}"
        )
    return found


def _attack(row: Row) -> Mapping[str, Any]:
    """The identifier of the attack within that of its technique, or {}."""
    found: Any = _json(row["atomic_attack_identifier"]) or {}
    for name in ("attack_technique", "attack"):
        found = (found.get("children") or {}).get(name) or {}
    return found if isinstance(found, dict) else {}


def _target(talks: list[Row], file: Path) -> Mapping[str, Any]:
    """Who answered: the one target of all attacks."""
    found = {json.dumps(_json(talk.get("target_identifier")) or {}, sort_keys=True) for talk in talks}
    if len(found) > 1:
        names = ", ".join(sorted(str(json.loads(one).get("model_name")) for one in found))
        raise InputError(
            f"{file}: {len(found)} targets or settings answered ({names}): give each a memory of its own, "
            "SQLiteMemory(db_path=...)"
        )
    target: dict[str, Any] = json.loads(found.pop())
    return target | (target.pop("extra_body_parameters", None) or {})


def _json(text: Any) -> Any:
    return json.loads(text) if text else None


def _notes(attacks: list[dict[str, Any]], pieces: Mapping[str, list[Row]]) -> Iterator[str]:
    won = sum(attack["outcome"] == "success" for attack in attacks)
    yield f"PyRIT's scorers call {won:,} of {len(attacks):,} attacks a success; that is not taken over."
    if again := sum(bool(attack["total_retries"]) for attack in attacks):
        yield f"{again:,} attacks were sent again after an error of the server, before there was an answer."
    mine = {attack["conversation_id"] for attack in attacks}
    if hidden := sum(piece["original_value_data_type"] == "reasoning" for name in mine for piece in pieces[name]):
        yield f"{hidden:,} answers have a reasoning text, which is not judged: answers only."
