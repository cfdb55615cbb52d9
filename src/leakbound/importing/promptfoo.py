"""promptfoo: the JSON of ``promptfoo eval --repeat N --no-cache --output FILE.json``.

A result has ``prompt.raw``, ``response.output``, and in ``testCase.assert`` the text that must, or must not, be said:
the secret. Results of one prompt and one secret are its draws, in the order of ``testIdx``. Its grades are not taken
over. What promptfoo's cache answered is no draw, and is refused.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing.drawn import Drawn, grouped, one_file, others
from leakbound.importing.imported import Log
from leakbound.reading.parsing import read_json

REASONS = {"stop": "stop", "length": "length", None: "unknown", "unknown": "unknown"}
"""promptfoo's finish reasons; any other one withholds or replaces what the model would have said."""

GREEDY = ("openai:", "azure:", "azureopenai:", "anthropic:")
"""Providers that are sent temperature 0 where the configuration says nothing, as many others are."""

SENT = ("passthrough", "body")
"""Settings that hold what is sent to the server beside the others, or as it is."""

ELSEWHERE = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed", "omitDefaults",
    "showThinking", "apiKey", "apiKeyEnvar", "apiKeyRequired", "apiHost", "apiBaseUrl", "organization", "headers",
    "cost", "inputCost", "outputCost", "maxRetries", "timeout", "messages", "prompt", "model", "stream", "method",
)  # fmt: skip
"""Settings that are read, or change no answer."""

ONE, ANY = ("equals", "contains", "icontains", "starts-with"), ("contains-any", "icontains-any")
"""The types of assertion, with or without not-, whose value is a text, or texts of which each counts."""

GONE = ("[REDACTED]", "[output stripped]", "[prompt stripped]")
"""What promptfoo writes in the place of what it does not keep."""


def read(path: Path) -> Log:
    """The results of an eval. IncompleteRunError where one failed, was filtered, came from the cache, or is missing."""
    file = one_file(path, "*.json")
    data = read_json(file)
    rows = (data.get("results") or {}).get("results") if isinstance(data.get("results"), dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise InputError(f"{file}: there is no list results.results in it; give what promptfoo eval --output wrote")
    placed = [(row, f"{file}: results[{i}]") for i, row in enumerate(rows)]
    placed.sort(key=lambda one: tuple(_number(one[0], one[1], name) for name in ("testIdx", "promptIdx")))
    _all_there([row for row, _ in placed], file)
    asked = grouped(_drawn(row, where) for row, where in placed)
    options = data.get("runtimeOptions") or {}
    repeat = options.get("repeat") or 1
    for one in asked:
        if len(one.completions) % repeat:
            raise IncompleteRunError(
                f"{one.where}: prompt {one.prompt.id!r} has {len(one.completions)} completions, no multiple of the "
                f"{repeat} repeats that were asked for: the eval ended before; run it again"
            )
    answered = [_called(row.get("provider") or {}) for row in rows]
    if len(models := list(dict.fromkeys(answered))) > 1:
        names = ", ".join(f"{label or name} ({name})" if label else name for name, label in models)
        raise InputError(f"{file}: several providers answered ({names}): run each with --filter-providers")
    given, provider = _settings(data, rows, file, models[0]), models[0][0]
    decoding = _decoding(given)
    if "temperature" not in decoding and not given.get("omitDefaults"):
        if any(len(one.completions) > 1 for one in asked):
            raise InputError(
                f"{file}: provider {provider!r} has no temperature in the configuration, and promptfoo sends 0 then to "
                "most: greedy repeats are all the same; state config.temperature and run again"
            )
        if provider.startswith(GREEDY):
            decoding["temperature"] = 0.0
    notes, besides = _notes(rows, options, given), others(given, ELSEWHERE)
    return Log("promptfoo", file, provider, asked, decoding, notes, given.get("seed"), others=besides)


def _number(row: Mapping[str, Any], where: str, name: str) -> int:
    number = row.get(name)
    if isinstance(number, bool) or not isinstance(number, int):
        raise InputError(f"{where}: {name} is {number!r}: not a whole number")
    return number


def _all_there(rows: list[dict[str, Any]], file: Path) -> None:
    """Every prompt has a result for every test, once."""
    places = [(row["testIdx"], row["promptIdx"]) for row in rows]
    prompts = {prompt for _, prompt in places}
    wanted = [(test, prompt) for test in range(max(places)[0] + 1) for prompt in sorted(prompts)]
    if places != wanted:
        lost = next((place for place in wanted if place not in set(places)), None)
        what = "a result stands twice" if lost is None else f"test {lost[0]} of prompt {lost[1]} is missing"
        raise IncompleteRunError(f"{file}: {what}: what is missing may depend on the answer; run the eval again")


def _drawn(row: Mapping[str, Any], where: str) -> Drawn:
    response = row.get("response")
    if row.get("failureReason") == 2 or not isinstance(response, dict) or response.get("error"):
        why = str(row.get("error") or (response or {}).get("error") or "no response")
        raise IncompleteRunError(f"{where}: the provider failed ({why:.60}): a draw is missing; run the eval again")
    if response.get("cached"):
        raise InputError(f"{where}: the answer came from promptfoo's cache, so it is no new draw: run with --no-cache")
    reason = response.get("finishReason")
    if reason not in REASONS or (response.get("guardrails") or {}).get("flagged"):
        why = f"finishReason {reason!r}" if reason not in REASONS else "guardrails.flagged"
        raise IncompleteRunError(f"{where}: the answer is withheld ({why}): no statement can be made without it")
    if any("History" in key for key in {**(row.get("metadata") or {}), **(response.get("metadata") or {})}):
        raise InputError(f"{where}: an attack of several turns, each chosen by the answers before: import single turns")
    if (((row.get("testCase") or {}).get("options") or {}).keys()) & {"transform", "postprocess"}:
        raise InputError(f"{where}: options.transform rewrote the answer: import an eval without it")
    said = response.get("output")
    if not isinstance(said, str):
        raise InputError(f"{where}: response.output is {said!r:.60}: not a text")
    before, text = _asked((row.get("prompt") or {}).get("raw"))
    for kept in (said, text):
        if isinstance(kept, str) and any(gone in kept for gone in GONE):
            raise InputError(f"{where}: {kept!r:.60} is not all that was there: promptfoo did not keep it")
    return Drawn(text, _targets(row, where), said, REASONS[reason], where, before)


def _asked(raw: Any) -> tuple[tuple[tuple[str, str], ...], Any]:
    """What was said before, and the question: of a text as it is, or of a JSON list of messages."""
    try:
        turns = [(str(turn["role"]), turn["content"]) for turn in json.loads(raw)]
    except (ValueError, TypeError, KeyError):
        return (), raw
    if not turns or not all(isinstance(text, str) for _, text in turns):
        return (), raw
    return tuple(turns[:-1]), turns[-1][1]


def _targets(row: Mapping[str, Any], where: str) -> list[str]:
    """The values of the assertions that look for a text, with the test's variables in them."""
    rendered = {
        json.dumps(part.get("assertion"), sort_keys=True): (part.get("metadata") or {}).get("renderedAssertionValue")
        for part in (row.get("gradingResult") or {}).get("componentResults") or []
        if isinstance(part, dict)
    }
    found: list[str] = []
    for one in _assertions((row.get("testCase") or {}).get("assert") or []):
        kind, value = str(one.get("type")).removeprefix("not-"), one.get("value")
        if kind in ONE:
            known = rendered.get(json.dumps(one, sort_keys=True))
            found.append(known if isinstance(known, str) else _filled_in(value, row, where))
        elif kind in ANY:
            texts = [text.strip() for text in value.split(",")] if isinstance(value, str) else value or []
            found += [_filled_in(text, row, where) for text in texts]
    if not found:
        raise InputError(
            f"{where}: no assertion says what must not be said: give each test one of type not-icontains with that text"
        )
    return found


def _assertions(given: list[Any]) -> Iterator[Mapping[str, Any]]:
    for one in given:
        if isinstance(one, dict) and one.get("type") == "assert-set":
            yield from _assertions(one.get("assert") or [])
        elif isinstance(one, dict):
            yield one


def _filled_in(value: Any, row: Mapping[str, Any], where: str) -> str:
    """A text with {{name}} replaced by the variable; what cannot be known is refused."""
    known = row.get("vars") or {}
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{where}: the assertion's value is {value!r:.60}: not a text, and no answer would hold it so")
    text = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: str(known.get(found[1], found[0])), str(value))
    if any(sign in text for sign in ("{{", "{%", "file://", *GONE)):
        raise InputError(
            f"{where}: the assertion's value is {text!r:.60}, not the text that was looked for: promptfoo hides "
            "variables with names such as secret, password, token: name it answer"
        )
    return text


def _called(provider: Mapping[str, Any]) -> tuple[str, str]:
    """Id and label: providers may share either."""
    return str(provider.get("id")), str(provider.get("label") or "")


def _settings(data: Mapping[str, Any], rows: list[dict[str, Any]], file: Path, name: tuple[str, str]) -> dict[str, Any]:
    """The settings of the provider of that id and label, and of the prompts, with what they send as it is."""
    listed = (data.get("config") or {}).get("providers")
    known: list[Mapping[str, Any]] = []
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict):
            one = {"id": one}
        known += [one] if "id" in one else [{"id": key, **(inside or {})} for key, inside in one.items()]
    mine = [one for one in known if _called(one) == name] or known
    if any(one.get("transform") for one in mine):
        raise InputError(f"{file}: the provider's transform rewrote the answers: import an eval without it")
    settings = [one.get("config") or {} for one in mine] or [{}]
    if any(one != settings[0] for one in settings):
        raise InputError(
            f"{file}: {name[1] or name[0]} stands in it with several settings: give each a label, and run it alone"
        )
    given: dict[str, Any] = settings[0]
    of_prompts = [(row.get("prompt") or {}).get("config") or {} for row in rows]
    if any(one != of_prompts[0] for one in of_prompts):
        raise InputError(f"{file}: the prompts have settings of their own, not all alike: import them apart")
    flat = {**given, **of_prompts[0]}
    sent = [flat.pop(part, None) for part in SENT]
    return flat | {key: value for one in sent if isinstance(one, dict) for key, value in one.items()}


def _decoding(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of SamplingParams in the settings."""
    found = {k: given[k] for k in ("temperature", "top_p", "top_k", "min_p") if given.get(k) is not None}
    for name in ("max_tokens", "max_completion_tokens"):
        if given.get(name) is not None:
            found["max_tokens"] = given[name]
    if given.get("stop"):
        found["stop"] = (given["stop"],) if isinstance(given["stop"], str) else tuple(given["stop"])
    return found


def _notes(rows: list[dict[str, Any]], options: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    failed = sum(row.get("success") is False for row in rows)
    notes = [f"promptfoo's assertions failed {failed:,} of {len(rows):,} results; that is not taken over."]
    if options.get("cache") is not False:
        notes.append(
            "promptfoo's cache was on; no answer is marked as coming from it, but a provider may keep its own."
        )
    if given.get("showThinking") is False:
        notes.append("Where the model reasons, its reasoning texts were left out (showThinking): they are not judged.")
    kinds = {
        str(one.get("type")) for row in rows for one in _assertions((row.get("testCase") or {}).get("assert") or [])
    }
    if skipped := sorted(kind for kind in kinds if kind.startswith("not-") and kind[4:] not in (*ONE, *ANY)):
        notes.append(
            f"Assertions of type {', '.join(skipped)} name no text to look for: what they forbid is not "
            "judged, unless the scorer that you name does."
        )
    return tuple(notes)
