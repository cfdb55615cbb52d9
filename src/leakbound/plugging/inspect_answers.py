"""What a sample of inspect_ai says, as JSON: its one answer, and the settings that its request had.

The importer reads a log by it and the scorer ``leak`` a sample that has just ended: what the one refuses, the other
leaves unscored.
"""

from collections.abc import Mapping
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.reading.rows import encodable

REASONS = {"stop": "stop", "max_tokens": "length", "model_length": "length", "unknown": "unknown"}
"""inspect_ai's stop reasons; any other one (content_filter) withholds what the model would have said."""

ELSEWHERE = (
    "max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections", "adaptive_connections",
    "batch", "logprobs", "top_logprobs", "prompt_logprobs", "parallel_tool_calls", "max_tool_output", "cache_prompt",
    "fail_on_refusal", "extra_headers", "reasoning_summary", "reasoning_history", "num_choices",
)  # fmt: skip
"""Fields of a GenerateConfig that do not change the law of an answer; several choices are refused by their number."""


def settings(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a GenerateConfig sets of the law of an answer, with what it sends to the server beside it."""
    given = config or {}
    flat = {**given, **(given.get("extra_body") or {})}
    return {k: v for k, v in flat.items() if v is not None and k not in ELSEWHERE and k != "extra_body"}


def settings_of(sample: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of the request that gave the answer; None where no event of the sample tells."""
    name = _message(sample).get("id")
    for event in sample.get("events") or ():
        if not isinstance(event, dict) or event.get("event") != "model":
            continue
        if name is None or _message(event).get("id") == name:
            return settings(event.get("config"))
    return None


def model_of(sample: Mapping[str, Any]) -> str:
    """Who answered, as the server said; empty where it did not."""
    return str((sample.get("output") or {}).get("model") or "")


def answer(sample: Mapping[str, Any], where: str) -> tuple[str, str, bool]:
    """The text of the one answer, its finish reason, and whether a reasoning text was left out.

    :raises IncompleteRunError: a sample that failed, was declared invalid, or whose answer is missing or withheld.
    :raises InputError: there is more in it than the text that would be judged, or it is no new draw.
    """
    if sample.get("error"):
        raise IncompleteRunError(f"{where}, failed: no statement can be made without it")
    if sample.get("invalidation"):
        raise IncompleteRunError(
            f"{where}, was declared invalid: it is no evidence, and to leave it out would choose by the answer; "
            "evaluate again"
        )
    if sample.get("error_retries"):
        raise IncompleteRunError(
            f"{where}, failed and was drawn again: what fails may be what is long, so that the answer that is left is "
            "no draw of the model; evaluate without retry_on_error"
        )
    output = sample.get("output") or {}
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices or output.get("error"):
        raise IncompleteRunError(f"{where}, has no output: a draw is missing")
    if len(choices) > 1:
        raise InputError(
            f"{where}, has {len(choices)} answers, of which servers put the likeliest first: evaluate with num_choices "
            "1 and more epochs"
        )
    if any(isinstance(event, dict) and event.get("cache") == "read" for event in sample.get("events") or ()):
        raise InputError(
            f"{where}: the answer came from inspect_ai's cache, so it is no new draw: evaluate without cache"
        )
    message = _message(sample)
    said_before = _num_answers(sample.get("messages")) - _num_answers(sample.get("input"))
    if message.get("tool_calls") or said_before > 1:
        what = "calls a tool" if message.get("tool_calls") else f"took {said_before} turns"
        raise InputError(
            f"{where}: the model {what}, and only the text of the last turn would be judged: import a task that "
            "generates one answer"
        )
    reason = choices[0].get("stop_reason", "unknown")
    if reason not in REASONS:
        raise IncompleteRunError(f"{where}, ended with {reason!r}: an answer is withheld")
    text, reasoned = content(message.get("content"), where)
    return encodable(text, where, "completion"), "length" if sample.get("limit") else REASONS[reason], reasoned


def content(given: Any, where: str) -> tuple[str, bool]:
    """The text of a message, joined as inspect_ai does, and whether it holds a reasoning text beside it.

    InputError where it holds anything else, a call of a server's own tool or a picture.
    """
    if isinstance(given, str):
        return given, False
    if not isinstance(given, list) or not all(isinstance(part, dict) for part in given):
        raise InputError(f"{where}: content is {given!r:.60}: neither a text nor a list of parts")
    for part in given:
        if part.get("type") not in ("text", "reasoning"):
            raise InputError(
                f"{where}: a message holds a part of type {part.get('type')!r:.40}, and only texts would be judged: "
                "import a task of texts without tools"
            )
    said = "\n".join(part.get("text", "") for part in given if part["type"] == "text")
    return said, any(part["type"] == "reasoning" for part in given)


def _message(holder: Mapping[str, Any]) -> dict[str, Any]:
    """The message of the first choice of a sample's or an event's output; empty where there is none."""
    choices = (holder.get("output") or {}).get("choices") or [{}]
    found: dict[str, Any] = (choices[0].get("message") if isinstance(choices, list) else None) or {}
    return found


def _num_answers(messages: Any) -> int:
    """How many messages of the model stand among these."""
    given = messages if isinstance(messages, list) else []
    return sum(isinstance(message, dict) and message.get("role") == "assistant" for message in given)
