"""What a request tells a server of the law that is asked for, and how its answers are read: nothing is left unsaid."""

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

from leakbound.errors import IncompleteRunError, InputError
from leakbound.records import SamplingParams

Kind = Literal["vllm", "llama.cpp", "openai", "other"]
KINDS: tuple[str, ...] = get_args(Kind)

_PROTOCOL: dict[str, Any] = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": {}}
_VLLM: dict[str, Any] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
_LLAMA: dict[str, Any] = {
    "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "typical_p": 1.0, "top_n_sigma": -1.0, "dry_multiplier": 0.0,
    "xtc_probability": 0.0, "dynatemp_range": 0.0, "mirostat": 0, "min_keep": 0, "ignore_eos": False, "grammar": "",
    "samplers": ["temperature", "top_k", "top_p", "min_p"],
}  # fmt: skip
OFF: dict[str, dict[str, Any]] = {
    "vllm": _PROTOCOL | _VLLM,
    "llama.cpp": _PROTOCOL | _LLAMA,
    "openai": _PROTOCOL,
    "other": _PROTOCOL | _LLAMA | _VLLM,
}
"""What each kind of server is sent so that its own defaults do not count: vLLM's come from the model's
generation_config.json, those of llama.cpp are top_k 40 and min_p .05 and act before the temperature. A server of
another kind is sent all names that are known."""
_UNKNOWN = {"openai": ("min_p", "repetition_penalty", "top_k")}
"""What the law depends on and a kind of server refuses or ignores."""
_LEAST_TEMPERATURE = {"vllm": 0.01, "other": 0.01}
"""vLLM raises a lower one to this, unseen."""


def law_fields(kind: str, api: str, params: SamplingParams, not_sent: Collection[str]) -> dict[str, Any]:
    """The fields of a request that the law depends on; InputError for what this kind of server would not honour.

    ``not_sent`` names fields to leave out: only such as are asked to be off.
    """
    if params.adaptive_temperature:
        raise InputError("adaptive_temperature is set: a server does not show its confidence; leave it at 0")
    left_out = unsent(kind, not_sent)
    if hidden := [name for name in ("top_k", "min_p") if getattr(params, name) and name in left_out]:
        raise InputError(
            f"{' and '.join(f'{name} is {getattr(params, name)}' for name in hidden)}: it is not sent, for the OpenAI "
            'protocol has no such parameter; leave it at 0, or give server="vllm" or "llama.cpp"'
        )
    if 0 < params.temperature < (least := _LEAST_TEMPERATURE.get(kind, 0.0)):
        raise InputError(
            f"temperature is {params.temperature:g}: vLLM raises it to {least:g} unseen; give {least:g} or more, or 0"
        )
    if kind == "vllm" and params.min_p and params.top_p < 1:
        raise InputError(
            f"top_p is {params.top_p} and min_p {params.min_p}: vLLM applies min_p first; give one of them"
        )
    if len(params.stop) > 4 and kind in ("openai", "other"):
        raise InputError(f"stop has {len(params.stop)} texts: the OpenAI protocol takes at most 4")
    limit = "max_completion_tokens" if kind == "openai" and api == "chat" else "max_tokens"
    fields: dict[str, Any] = {"temperature": params.temperature, "top_p": params.top_p, limit: params.max_tokens}
    if params.stop:
        fields["stop"] = list(params.stop)
    off = OFF[kind]
    asked = {name: getattr(params, name) or off[name] for name in ("top_k", "min_p") if name in off}
    return {name: value for name, value in (fields | off | asked).items() if name not in not_sent}


def may_be_left_out(kind: str) -> tuple[str, ...]:
    """What the user may name as not sent: what is sent as off, and the seed."""
    return ("seed", *OFF[kind])


def check_not_sent(kind: str, not_sent: Collection[str]) -> None:
    """InputError for a name that must be sent."""
    for name in not_sent:
        if name not in (known := may_be_left_out(kind)):
            raise InputError(f"not_sent holds {name!r}: give some of {', '.join(known)}; the rest must be sent")


def unsent(kind: str, not_sent: Collection[str]) -> list[str]:
    """What the law depends on and the server is not told: its own default counts."""
    return sorted({*_UNKNOWN.get(kind, ()), *not_sent})


def contradicted(sent: Mapping[str, Any], reported: Mapping[str, Any]) -> list[str]:
    """What the server reports otherwise than it was sent; numbers to the precision of float32."""
    return [
        f"{name} {reported[name]!r}, not {value!r}"
        for name, value in sent.items()
        if name in reported and not _same(value, reported[name])
    ]


def _same(sent: Any, reported: Any) -> bool:
    numbers = isinstance(sent, int | float) and isinstance(reported, int | float)
    if numbers and not isinstance(sent, bool):
        return math.isclose(sent, reported, rel_tol=1e-6)
    return bool(sent == reported) or (not sent and not reported)


REASONING = (
    "reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks", "thoughts", "reasoning_text",
)  # fmt: skip
"""Where servers put a text that they split off."""
_WITHHELD = ("refusal", "tool_calls", "function_call")
_MESSAGE = ("role", "content", *REASONING, *_WITHHELD)
_COMPLETION = (
    "text", "index", "finish_reason", "stop_reason", "native_finish_reason", "matched_stop", "logprobs",
    "prompt_logprobs", "token_ids", "prompt_token_ids", "tokens", "content_filter_results", "content_filter_result",
    *REASONING, *_WITHHELD,
)  # fmt: skip
"""What is known of a choice where it is the message itself: the rest of it could hold what the model said."""


def read_choice(choice: Any, who: str, api: str, reasoning: str, *, judged: bool = True) -> tuple[str, str]:
    """Text and finish reason of one choice of an answer, ``who`` asked for it.

    :raises IncompleteRunError: the answer is withheld, lacks its text, or calls a tool; or it is to be ``judged``, and
        was cut before any text: that is no empty answer.
    :raises InputError: a part of it would not be judged: a reasoning text, a part that is no text, an unknown field.
    """
    message = choice if api == "completions" or not isinstance(choice, dict) else choice.get("message")
    if not isinstance(message, dict):
        raise IncompleteRunError(f"{who}: a completion of the server has no message: {str(choice)[:80]}")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise IncompleteRunError(
            f"{who}: the server ended a completion with finish_reason {reason!r}: what the model would have said is "
            "withheld, so this draw failed and no statement can be made"
        )
    for name in _WITHHELD:
        if message.get(name):
            raise IncompleteRunError(
                f"{who}: the server's answer is a {name}: {str(message[name])[:80]}; it is not a text that can be "
                "judged, so this draw failed and no statement can be made"
            )
    known = _COMPLETION if api == "completions" else _MESSAGE
    for name, value in message.items():
        if name not in known and value and not isinstance(value, bool | int | float):
            raise InputError(
                f"{who}: the server's answer has a field {name!r}, which is not known and would not be judged: "
                f"{str(value)[:80]}; have the server leave it out"
            )
    text = message.get("text" if api == "completions" else "content")
    if isinstance(text, list):
        text = "".join(_part(part, who) for part in text)
    split_off = [message[name] for name in REASONING if message.get(name)]
    if split_off and reasoning == "raise":
        raise InputError(
            f"{who}: the server splits a reasoning text off, which would not be judged; give "
            'reasoning="keep" to judge it before the answer, or "drop" to make a statement about answers alone'
        )
    kept = list(dict.fromkeys(line for one in split_off for line in _lines(one, who))) if reasoning == "keep" else []
    if text is None and kept:
        text = ""  # cut while it was reasoning, and that is judged
    if not isinstance(text, str):
        raise IncompleteRunError(
            f"{who}: the server gave {text!r} for a text: that is no empty answer, so this draw failed and no "
            "statement can be made"
        )
    if judged and reason == "length" and not any([*kept, text]):
        raise IncompleteRunError(
            f"{who}: the server cut an answer at max_tokens before its first visible letter, so nothing of it can be "
            "judged and no statement can be made; give a larger --max-tokens, or have the server show its reasoning, "
            'and reasoning="keep"'
        )
    return "\n".join([*kept, text]), str(reason)


def _part(part: Any, who: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InputError(
        f"{who}: the server's answer holds a part that is no text and would not be judged: {str(part)[:80]}"
    )


def _lines(said: Any, who: str) -> list[str]:
    """The texts of a reasoning field: a text, or a list of parts with a text or a summary each."""
    if isinstance(said, str):
        return [said]
    parts = said if isinstance(said, list) else [said]
    lines = [
        part.get("text") or part.get("summary") or part.get("thinking") if isinstance(part, dict) else part
        for part in parts
    ]
    if not all(isinstance(line, str) for line in lines):
        raise InputError(
            f"{who}: the server splits off a reasoning that is no text and cannot be judged: {str(said)[:80]}"
        )
    return [line for line in lines if line]
