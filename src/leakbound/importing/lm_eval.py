"""lm-evaluation-harness: ``samples_<task>_<time>.jsonl``, written with ``--log_samples`` and ``repeats`` in the task.

A line is one document under one filter: ``doc_id``, ``target``, ``arguments.gen_args_0`` with the prompt ``arg_0`` and
the generation settings ``arg_1``, ``resps[0]`` with the repeats, ``filter``. Filters repeat a document: it counts once.
"""

import ast
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing.drawn import one_file, others
from leakbound.importing.imported import Asked, Log
from leakbound.importing.values import texts
from leakbound.plugging.copies import all_but_few
from leakbound.reading.parsing import read_json
from leakbound.reading.rows import filled, read_rows
from leakbound.records import Prompt

SEEDED = re.compile(r"(local|openai|azure-openai)-(chat-)?completions|litellm(-chat(-completions)?)?")
"""What the harness calls its models behind a server: it sends the seed 1234 with each of their requests."""

GREEDY = ("gguf", "ggml")
"""What it calls its models that are always sent temperature 0."""

SAMPLING = ("vllm", "vllm-vlm", "sglang", "sglang-generate")
"""What the harness calls its models that sample at a temperature without do_sample."""

MODELLED = (
    "temperature", "top_p", "top_k", "min_p", "max_gen_toks", "max_new_tokens", "max_tokens", "until", "do_sample",
    "seed", "use_cache", "pad_token_id",
)  # fmt: skip
"""Settings that are read, or change no answer."""


def read(path: Path) -> Log:
    """The documents of a samples file, or of the one in a folder; the results file beside it names the model."""
    file = one_file(path, "samples_*.jsonl")
    asked: dict[str, tuple[Asked, set[str]]] = {}
    settings: dict[str, Any] | None = None
    given: Mapping[str, Any] = {}
    more: dict[str, Any] | None = None
    seed = None
    for found in read_rows(file, what="prompts", foreign=True):
        where, row = found.where, found.values
        if isinstance(row.get("doc_id"), bool) or not isinstance(row.get("doc_id"), int | str):
            raise InputError(f"{where}: doc_id is {row.get('doc_id')!r}: every line needs one")
        text, given = _request(row, where)
        decoding, besides = _decoding(given, where), others(given, MODELLED)
        if settings is not None and (decoding, besides) != (settings, more):
            raise InputError(
                f"{where}: decoded with {decoding | besides}, the lines before with {settings | (more or {})}: import "
                "them apart"
            )
        settings, more, seed = decoding, besides, given.get("seed") if seed is None else seed
        one = Asked(_prompt(row, text, where), _responses(row, where), where)
        name, kept = str(row.get("filter", "none")), asked.get(one.prompt.id)
        if kept is None:
            asked[one.prompt.id] = one, {name}
            continue
        if name in kept[1]:
            raise InputError(f"{where}: doc_id {one.prompt.id} with filter {name!r} stood before ({kept[0].where})")
        if (one.prompt, one.completions) != (kept[0].prompt, kept[0].completions):
            raise InputError(f"{where}: doc_id {one.prompt.id} differs from its other filter ({kept[0].where})")
        kept[1].add(name)
    documents, results = tuple(one for one, _ in asked.values()), _results(file)
    task = file.name.removeprefix("samples_").rpartition("_")[0]
    wanted = ((results.get("n-samples") or {}).get(task) or {}).get("effective", len(documents))
    if len(documents) < wanted:
        raise IncompleteRunError(
            f"{file}: {len(documents)} of {wanted} documents are in it: which are missing may depend on their answers; "
            "evaluate again"
        )
    model = str(results.get("model_name") or "unnamed")
    log = Log("lm-eval", file, model, documents, settings or {}, seed=seed, others=more or {})
    if any(len(one.completions) > 1 for one in documents):
        _check_drawn_anew(log, results.get("config") or {}, given)
    return log


def _request(row: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    """The prompt and the generation settings, in the saved or in the older shape."""
    arguments = row.get("arguments")
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    if not isinstance(requests, list) or len(requests) != 1:
        size = len(requests) if isinstance(requests, list) else "no"
        raise InputError(
            f"{where}: {size} requests in arguments: only tasks that generate, one request each, have repeats"
        )
    request = requests[0]
    if isinstance(request, dict):
        request = [request.get("arg_0"), request.get("arg_1")]
    if not isinstance(request, list) or not request:
        raise InputError(f"{where}: arguments is {arguments!r:.60}: there is no prompt in it")
    given = request[1] if len(request) > 1 and request[1] is not None else {}
    return filled(request[0], where, "the prompt in arguments"), _settings(given, where)


def _settings(given: Any, where: str) -> Mapping[str, Any]:
    """The generation settings, which older versions store as the text of a Python or JSON object."""
    for read in (ast.literal_eval, json.loads) if isinstance(given, str) else ():
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            given = read(given)
            break
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: the generation settings are {given!r:.60}: an object is needed")
    return given


def _prompt(row: Mapping[str, Any], text: str, where: str) -> Prompt:
    target = row.get("target")
    several = target if isinstance(target, list) and target else [target]
    texts = [str(t) if isinstance(t, int) and not isinstance(t, bool) else t for t in several]
    right, *aliases = [filled(t, where, "target") for t in texts]
    return Prompt(str(row["doc_id"]), text, right, tuple(dict.fromkeys(a for a in aliases if a != right)))


def _responses(row: Mapping[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    resps = row.get("resps")
    if not isinstance(resps, list) or len(resps) != 1:
        raise InputError(f"{where}: resps is {resps!r:.60}: a list with one list of repeats is needed")
    return tuple((text, "unknown") for text in texts(resps[0], where, "repeat"))


def _decoding(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of SamplingParams in the generation settings; sampling must be on for a temperature to count."""
    found: dict[str, Any] = {
        k: given[k] for k in ("temperature", "top_p", "top_k", "min_p") if given.get(k) is not None
    }
    for name in ("max_gen_toks", "max_new_tokens", "max_tokens"):
        if given.get(name) is not None:
            found["max_tokens"] = given[name]
    if given.get("do_sample") not in (None, True, False):
        raise InputError(f"{where}: do_sample is {given['do_sample']!r}: give true or false")
    until = given.get("until")
    if until is not None:
        found["stop"] = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
    greedy = "temperature" not in found and given.get("do_sample") is not True  # the harness's default
    if given.get("do_sample") is False or (given and greedy):
        found["temperature"] = 0.0
    for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens"):
        value = found.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{where}: {name} is {value!r}: not a number")
    return found


def _check_drawn_anew(log: Log, config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """InputError where the harness itself made copies of an answer, as its results say."""
    file = log.file
    unsaid = given.get("do_sample") is None and log.decoding.get("temperature")
    if unsaid and all_but_few(log.distinct) and config.get("model") not in SAMPLING:
        raise InputError(
            f"{file}: the repeats of a document are all equal, and do_sample is not set: transformers take the "
            "likeliest token then, whatever the temperature; give do_sample: true"
        )
    if SEEDED.fullmatch(str(config.get("model"))):
        raise InputError(
            f"{file}: model {config['model']} sends one seed with every request, so that the repeats of a document are "
            "copies of one draw, or nearly: let the harness run the model itself (hf, vllm), or ask the server by "
            "leakbound sample URL"
        )
    if config.get("model") in GREEDY:
        raise InputError(
            f"{file}: model {config['model']} of the harness is always greedy: let hf or vllm run the model"
        )
    if config.get("use_cache") and given.get("do_sample") is not True:
        raise InputError(
            f"{file}: the harness took answers from its cache (use_cache), where all repeats of a document are one "
            "answer: run without --use_cache, or with do_sample: true"
        )


def _results(file: Path) -> Mapping[str, Any]:
    """The results file of the same time, if it is there."""
    stamp = re.search(r"_(\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl$", file.name)
    results = file.with_name(f"results_{stamp[1]}.json") if stamp else None
    return {} if results is None or not results.is_file() else read_json(results)
