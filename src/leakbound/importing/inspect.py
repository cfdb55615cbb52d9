"""inspect_ai: ``.eval`` (a zip of JSON) and ``.json`` logs. Samples of one id are the draws of one prompt, by epoch.

A sample is ``id``, ``epoch``, ``input`` (a text or messages), ``target``, and ``output.choices[0]`` with ``message``
and ``stop_reason``. Its scores are not taken over. How it was decoded say the plan, its solvers and each request.
Where the zip cannot be read here (Zstandard compression, another layout), inspect_ai itself is asked, if it is there.
"""

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing.drawn import others
from leakbound.importing.imported import Asked, Log
from leakbound.importing.values import entry
from leakbound.plugging.in_order import MANAGER
from leakbound.plugging.inspect_answers import answer, content, model_of, settings, settings_of
from leakbound.reading.parsing import decode, parse, read_json
from leakbound.reading.rows import filled
from leakbound.records import Prompt

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
    if len(models := sorted({name for _, one in samples if (name := model_of(one))})) > 1:
        raise InputError(f"{path}: several models answered ({', '.join(models)}): import a log of one model")
    given = _given(data, samples, path)
    model = str(spec.get("model", "unnamed"))
    return Log(
        "inspect", path, model, tuple(asked), _decoding(given), notes, given.get("seed"), stopped, _others(given, data)
    )


def _stopped(data: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """Rule and statement of leakbound's own rule, where it ended samples; InputError where any other one did."""
    found = (data.get("results") or {}).get("early_stopping") or {}
    if found.get("manager") == MANAGER:
        metadata, place = found.get("metadata") or {}, f"{path}: results.early_stopping.metadata"
        told = {name: entry(metadata, name, place) for name in ("rule", "statement")}
        budget, epochs = told["rule"].get("budget"), ((data.get("eval") or {}).get("config") or {}).get("epochs")
        if budget != epochs:
            raise InputError(f"{path}: its rule has a budget of {budget!r} draws, not of its {epochs!r} epochs")
        return told
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
    text, reason, reasoned = answer(sample, f"{where}: sample {name!r}, epoch {epoch}")
    target = sample.get("target")
    several = target if isinstance(target, list) and target else [target]
    right, *aliases = [filled(t, where, "target") for t in several]
    prompt = Prompt(
        name, filled(_asked(sample.get("input"), where), where, "input"), right, tuple(dict.fromkeys(aliases))
    )
    return prompt, _epoch(epoch, where), (text, reason), reasoned


def _time(said: Any) -> datetime | None:
    """A moment of a log; None where it does not tell."""
    try:
        found = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _epoch(epoch: Any, where: str) -> int:
    if isinstance(epoch, bool) or not isinstance(epoch, int):
        raise InputError(f"{where}: epoch is {epoch!r}: not a whole number")
    return epoch


def _asked(given: Any, where: str) -> str:
    """The input as one text: a single user message as it is, several messages with their roles."""
    if not isinstance(given, list):
        return given if isinstance(given, str) else ""
    messages = [(m.get("role", "user"), content(m.get("content"), where)[0]) for m in given if isinstance(m, dict)]
    if len(messages) == 1:
        return str(messages[0][1])
    return "\n\n".join(f"{role}: {text}" for role, text in messages)


SOLVERS = (
    "temperature", "top_p", "top_k", "max_tokens", "stop_seqs", "seed", "best_of", "frequency_penalty",
    "presence_penalty", "logit_bias", "system_message", "extra_body", "reasoning_effort", "reasoning_tokens",
)  # fmt: skip
"""Parameters of a solver that are settings of its requests."""

MODELLED = ("temperature", "top_p", "top_k", "min_p", "max_tokens")
"""Settings that are fields of SamplingParams of the same name."""


def _given(data: Mapping[str, Any], samples: Sequence[tuple[str, Mapping[str, Any]]], path: Path) -> dict[str, Any]:
    """The settings of all requests: of the model's arguments, then the plan's, its solvers', and each request's own.

    InputError where two solvers, two requests, or a solver and a request differ.
    """
    spec, plan = data.get("eval") or {}, data.get("plan") or {}
    of_solvers: dict[str, Any] = {}
    for step in plan.get("steps") or ():
        params = step.get("params") or {}
        found = settings({name: params.get(name) for name in SOLVERS})
        _agree(f"{path}: solver {step.get('solver')!r}", found, of_solvers, found.keys() & of_solvers.keys())
        of_solvers |= found
    asked: dict[str, Any] | None = None
    for place, sample in samples:
        one = settings_of(sample)
        if one is not None:
            asked = one if asked is None else asked
            _agree(f"{path}: {place}", one, of_solvers, one.keys() & of_solvers.keys())
            _agree(f"{path}: {place}", one, asked, one.keys() | asked.keys())
    base = {**settings(spec.get("model_generate_config")), **settings(plan.get("config"))}
    return {**base, **of_solvers, **(asked or {})}


def _agree(where: str, one: Mapping[str, Any], before: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in sorted(names):
        if one.get(name) != before.get(name):
            raise InputError(
                f"{where}: {name} is {one.get(name)!r:.60}, elsewhere {before.get(name)!r:.60}: draws of several "
                "settings are not of one law; evaluate with one"
            )


def _others(given: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What else is set that changes an answer: settings without a field here, and solvers that change what is asked."""
    solvers = [str(step.get("solver")) for step in (data.get("plan") or {}).get("steps") or ()]
    more = [name for name in solvers if name.rpartition("/")[2] != "generate"]
    return others(given, {*MODELLED, "stop_seqs", "seed"}) | ({"solvers": more} if more else {})


def _decoding(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of SamplingParams in the generation settings."""
    found = {k: given[k] for k in MODELLED if given.get(k) is not None}
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
