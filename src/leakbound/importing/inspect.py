"""inspect_ai: ``.eval`` (a zip of JSON) and ``.json`` logs. Samples of one id are the draws of one prompt, by epoch.

A sample is ``id``, ``epoch``, ``input`` (a text or messages), ``target``, and ``output.choices[0]`` with ``message``
and ``stop_reason``. Its scores are not taken over. Where the zip cannot be read here (Zstandard compression, another
layout), inspect_ai itself is asked, if it is installed.
"""

import zipfile
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing.imported import Asked, Log
from leakbound.plugging.in_order import MANAGER
from leakbound.reading.parsing import decode, parse, read_json
from leakbound.reading.rows import encodable, filled
from leakbound.records import Prompt

REASONS = {"stop": "stop", "max_tokens": "length", "model_length": "length", "unknown": "unknown"}
"""inspect_ai's stop reasons; any other one (content_filter) withholds what the model would have said."""

MOST_BYTES, MOST_TIMES = 2**28, 100
"""A log may unpack to this many bytes, or to this many times its size, whatever is more."""


def read(path: Path) -> Log:
    """The samples of a log. IncompleteRunError for one that did not end with success, or holds a failed sample."""
    data = _from_zip(path) if zipfile.is_zipfile(path) else _from_json(path)
    if data.get("status") != "success":
        raise IncompleteRunError(
            f"{path}: status is {data.get('status')!r}, not success: samples may be missing; evaluate again"
        )
    samples = data.get("samples")
    if not isinstance(samples, list) or not samples:
        raise InputError(f"{path}: there are no samples in it")
    groups: dict[str, dict[int, tuple[Prompt, tuple[str, str]]]] = {}
    hidden = 0
    for place, sample in samples:
        where = f"{path}: {place}"
        prompt, epoch, said, reasoned = _sample(sample, where)
        hidden += reasoned
        group = groups.setdefault(prompt.id, {})
        if epoch in group:
            raise InputError(f"{where}: sample {prompt.id!r} has epoch {epoch} twice")
        if group and next(iter(group.values()))[0] != prompt:
            raise InputError(f"{where}: sample {prompt.id!r} has another input or target than in its other epochs")
        group[epoch] = prompt, said
    asked = []
    for name, group in groups.items():
        if set(group) != set(range(1, len(group) + 1)):
            raise InputError(f"{path}: sample {name!r} has epochs {sorted(group)}: epoch 1 to {max(group)} are needed")
        prompt = group[1][0]
        asked.append(Asked(prompt, tuple(group[e][1] for e in sorted(group)), f"{path}: sample {name!r}"))
    notes = (f"{hidden:,} completions have a reasoning text, which is not judged: answers only.",) if hidden else ()
    spec = data.get("eval") or {}
    wanted = _num_samples(spec)
    if len(asked) < wanted:
        raise IncompleteRunError(
            f"{path}: {len(asked)} of {wanted} samples are in it: which prompts are missing may depend on their "
            "answers; evaluate again"
        )
    begun = _time((data.get("stats") or {}).get("started_at"))
    kept = sum(begun is not None and (_time(one.get("started_at")) or begun) < begun for _, one in samples)
    if kept:
        raise InputError(
            f"{path}: {kept} of {len(samples)} samples are of an evaluation before, which was interrupted "
            "(eval-retry): what was under way then, the long answers, was drawn again; evaluate anew"
        )
    stopped = _stopped(data, path)
    planned = (spec.get("config") or {}).get("epochs")
    short = next((one for one in asked if isinstance(planned, int) and len(one.completions) < planned), None)
    if short is not None and stopped is None:
        raise IncompleteRunError(
            f"{short.where} has {len(short.completions)} of {planned} epochs: which are missing may depend on their "
            "answers; evaluate again"
        )
    given = _given(data)
    if (given.get("best_of") or 1) > 1:
        raise InputError(f"{path}: best_of is {given['best_of']}: the likeliest of several answers is no draw")
    model = str(spec.get("model", "unnamed"))
    return Log("inspect", path, model, tuple(asked), _decoding(given), notes, given.get("seed"), stopped)


def _stopped(data: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """Rule and statement of leakbound's own rule, where it ended samples; InputError where any other one did."""
    found = (data.get("results") or {}).get("early_stopping") or {}
    if found.get("manager") == MANAGER:
        metadata = found.get("metadata") or {}
        if metadata["rule"]["budget"] != data["eval"]["config"]["epochs"]:
            raise InputError(f"{path}: its rule has a budget of {metadata['rule']['budget']} draws, not of its epochs")
        return {"rule": metadata["rule"], "statement": metadata["statement"]}
    if found.get("early_stops"):
        raise InputError(
            f"{path}: {len(found['early_stops'])} epochs were left out by {found.get('manager')!r}, whose rule is not "
            "known here: how many draws a sample has depends on what they say, so that no bound for a fixed number "
            "holds; evaluate without early stopping, or with leakbound.plugging.inspect.UntilProven"
        )
    return None


def _num_samples(spec: Mapping[str, Any]) -> int:
    """How many samples the log's header promises, 0 where it does not tell."""
    dataset, config = spec.get("dataset") or {}, spec.get("config") or {}
    if isinstance(dataset.get("sample_ids"), list):
        return len(dataset["sample_ids"])
    some = config.get("limit") or config.get("sample_id")
    return 0 if some or not isinstance(dataset.get("samples"), int) else dataset["samples"]


def _sample(sample: Any, where: str) -> tuple[Prompt, int, tuple[str, str], bool]:
    """Prompt, epoch, (completion, finish reason), and whether a reasoning text was left out."""
    if not isinstance(sample, dict) or "id" not in sample or "epoch" not in sample:
        raise InputError(f"{where}: not a sample with id and epoch")
    name, epoch = str(sample["id"]), sample["epoch"]
    if sample.get("error"):
        raise IncompleteRunError(
            f"{where}: sample {name!r}, epoch {epoch}, failed: no statement can be made without it"
        )
    if sample.get("error_retries"):
        raise IncompleteRunError(
            f"{where}: sample {name!r}, epoch {epoch}, failed and was drawn again: what fails may be what is long, so "
            "that the answer that is left is no draw of the model; evaluate without retry_on_error"
        )
    output = sample.get("output") or {}
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices or output.get("error"):
        raise IncompleteRunError(f"{where}: sample {name!r}, epoch {epoch}, has no output: a draw is missing")
    if len(choices) > 1:
        raise InputError(
            f"{where}: sample {name!r}, epoch {epoch}, has {len(choices)} answers, of which servers put the likeliest "
            "first: evaluate with num_choices 1 and more epochs"
        )
    if any(isinstance(event, dict) and event.get("cache") == "read" for event in sample.get("events") or ()):
        raise InputError(
            f"{where}: sample {name!r}, epoch {epoch}: the answer came from inspect_ai's cache, so it is no new draw: "
            "evaluate without cache"
        )
    reason = choices[0].get("stop_reason", "unknown")
    if reason not in REASONS:
        raise IncompleteRunError(
            f"{where}: sample {name!r}, epoch {epoch}, ended with {reason!r}: an answer is withheld"
        )
    message = choices[0].get("message") or {}
    said_before = _num_answers(sample.get("messages")) - _num_answers(sample.get("input"))
    if message.get("tool_calls") or said_before > 1:
        what = "calls a tool" if message.get("tool_calls") else f"took {said_before} turns"
        raise InputError(
            f"{where}: sample {name!r}, epoch {epoch}: the model {what}, and only the text of the last turn would be "
            "judged: import a task that generates one answer"
        )
    text, reasoned = _content(message.get("content"), where)
    encodable(text, where, "completion")
    target = sample.get("target")
    several = target if isinstance(target, list) and target else [target]
    right, *aliases = [filled(t, where, "target") for t in several]
    said = text, "length" if sample.get("limit") else REASONS[reason]
    prompt = Prompt(
        name, filled(_asked(sample.get("input"), where), where, "input"), right, tuple(dict.fromkeys(aliases))
    )
    return prompt, _epoch(epoch, where), said, reasoned


def _time(said: Any) -> datetime | None:
    """A moment of a log; None where it does not tell."""
    try:
        found = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _num_answers(messages: Any) -> int:
    """How many messages of the model stand among these."""
    given = messages if isinstance(messages, list) else []
    return sum(isinstance(message, dict) and message.get("role") == "assistant" for message in given)


def _epoch(epoch: Any, where: str) -> int:
    if isinstance(epoch, bool) or not isinstance(epoch, int):
        raise InputError(f"{where}: epoch is {epoch!r}: not a whole number")
    return epoch


def _asked(given: Any, where: str) -> str:
    """The input as one text: a single user message as it is, several messages with their roles."""
    if not isinstance(given, list):
        return given if isinstance(given, str) else ""
    messages = [(m.get("role", "user"), _content(m.get("content"), where)[0]) for m in given if isinstance(m, dict)]
    if len(messages) == 1:
        return str(messages[0][1])
    return "\n\n".join(f"{role}: {text}" for role, text in messages)


def _content(content: Any, where: str) -> tuple[str, bool]:
    """The text of a message, and whether it holds a reasoning text beside it."""
    if isinstance(content, str):
        return content, False
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InputError(f"{where}: content is {content!r:.60}: neither a text nor a list of parts")
    said = "\n".join(part.get("text", "") for part in content if part.get("type") == "text")
    return said, any(part.get("type") == "reasoning" for part in content)


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    """The log's generation settings: of the model's arguments, and before them those of the plan."""
    spec, plan = data.get("eval") or {}, data.get("plan") or {}
    return {**(spec.get("model_generate_config") or {}), **(plan.get("config") or {})}


def _decoding(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of SamplingParams in the generation settings."""
    found = {k: given[k] for k in ("temperature", "top_p", "top_k", "max_tokens") if given.get(k) is not None}
    if given.get("stop_seqs"):
        found["stop"] = tuple(given["stop_seqs"])
    return found


def _from_json(path: Path) -> dict[str, Any]:
    data = read_json(path)
    samples = data.get("samples")
    numbered = [(f"samples[{i}]", s) for i, s in enumerate(samples)] if isinstance(samples, list) else samples
    return {**data, "samples": numbered}


def _from_zip(path: Path) -> dict[str, Any]:
    """header.json and samples/*.json of a .eval file."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path)
            names = archive.namelist()
            if "header.json" not in names:
                state = "a log that was never finished" if "_journal/start.json" in names else "no header.json in it"
                raise IncompleteRunError(f"{path}: {state}: evaluate again")
            header = _member(archive, "header.json", path)
            inside = sorted(n for n in names if n.startswith("samples/") and n.endswith(".json"))
            samples = [(name, _member(archive, name, path)) for name in inside]
    except (RuntimeError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:  # unknown compression, or damage
        return _by_inspect(path, error)
    return {**header, "samples": samples} if samples else _by_inspect(path, None)


def _check_size(archive: zipfile.ZipFile, path: Path) -> None:
    """JSON packs to a tenth or so; what unpacks to far more than it takes on the disk was made to fill the memory."""
    packed, size = path.stat().st_size, sum(member.file_size for member in archive.infolist())
    if size > max(MOST_BYTES, MOST_TIMES * packed):
        raise InputError(
            f"{path}: it unpacks from {packed:,} to {size:,} bytes, more than {MOST_TIMES} times as much: if you trust "
            "it, convert it with `inspect log convert --to json`"
        )


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    place = f"{path}: {name}"
    return parse(decode(archive.read(name), place), place, foreign=True)


def _by_inspect(path: Path, error: Exception | None) -> dict[str, Any]:
    """The log as inspect_ai reads it."""
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise InputError(
            f"{path}: its samples cannot be read here ({error or 'no samples/*.json in it'}): pip install inspect_ai, "
            "or convert it with `inspect log convert --to json`"
        ) from error
    data: dict[str, Any] = read_eval_log(str(path)).model_dump(mode="json", exclude_none=True)
    return {**data, "samples": [(f"samples[{i}]", s) for i, s in enumerate(data.get("samples") or [])]}
