"""garak: ``*.report.jsonl``. An attempt is one prompt with the generations of it; its triggers are the secret.

Its detectors' scores are not taken over. Attempts without triggers (of probes that look for a manner, not for a text)
are left out. How answers were decoded is not in the log: garak 0.17.1 writes the generator's defaults there, and not
what the run was told instead of them.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing.drawn import one_file
from leakbound.importing.imported import Asked, Log
from leakbound.plugging.copies import all_but_few
from leakbound.reading.rows import Row, encodable, filled, read_rows
from leakbound.records import Prompt

COMPLETE = 2
"""The status of an attempt that its detectors have seen; with status 1 it stands in the log before."""


def read(path: Path) -> Log:
    """The attempts of a run. IncompleteRunError for a run that did not end, and for a generation that failed."""
    file = one_file(path, "*.report.jsonl")
    rows = read_rows(file, what="entries", foreign=True)
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(str(row.values.get("entry_type")), []).append(row)
    if "start_run setup" not in kinds:
        raise InputError(f"{file}: no entry 'start_run setup' in it; give the *.report.jsonl (not the hitlog) of a run")
    if "completion" not in kinds:
        raise IncompleteRunError(f"{file}: no entry 'completion' in it: the run did not end; run garak again")
    setup = kinds["start_run setup"][0].values
    attempts = kinds.get("attempt", [])
    ended = [row for row in attempts if row.values.get("status") == COMPLETE]
    known: dict[Any, str] = {}
    for row in ended:
        name = row.values.get("uuid")
        if name in known:
            raise InputError(f"{row.where}: attempt {name} stood before ({known[name]}): give a report with each once")
        known[name] = row.where
    for row in attempts:
        if row.values.get("uuid") not in known:
            raise IncompleteRunError(f"{row.where}: attempt {row.values.get('uuid')} never ended; run garak again")
    with_triggers = [row for row in ended if _triggers(row.values)]
    if not with_triggers:
        raise InputError(
            f"{file}: none of {len(ended)} attempts has triggers, the texts that must not be said; give a run of "
            "probes that set them (leakreplay, propile, ...)"
        )
    mixed = bool(setup.get("system.parallel_requests"))
    asked = _asked(with_triggers, random.Random(0) if mixed else None)
    notes = [
        "garak does not log the settings of its generator: temperature, what it cuts out (skip_seq_start) and where it "
        "stops; one that speaks the OpenAI protocol stops at # and ; and after 150 tokens by default."
    ]
    if left := len(ended) - len(with_triggers):
        notes.append(f"{left:,} of {len(ended):,} attempts have no triggers, so nothing to look for: left out.")
    if mixed:
        notes.append("Parallel requests stand in the order they were done in; they are put in an order made by chance.")
    for row in kinds.get("eval", []):
        judged = f"{row.values.get('fails')} of {row.values.get('total_evaluated')} generations"
        notes.append(f"garak's {row.values.get('detector')} hit {judged}; that is not taken over.")
    model = " ".join(str(setup[key]) for key in ("plugins.target_type", "plugins.target_name") if setup.get(key))
    log = Log("garak", file, model or "unnamed", asked, {}, tuple(notes))
    alike = all_but_few(log.distinct)  # else: choices of one request have seeds apart
    return replace(log, seed=setup.get("run.seed")) if alike else log


def _triggers(values: Mapping[str, Any]) -> list[Any]:
    """What the answer is searched for."""
    notes = values.get("notes") or {}
    found = notes.get("triggers") or values.get("targets") or []
    return found if isinstance(found, list) else [found]


def _asked(rows: Sequence[Row], mix: random.Random | None) -> tuple[Asked, ...]:
    """Each attempt as a prompt, named by its probe and its number there.

    Generations of parallel requests stand in the order in which they were done, the short ones first: an order made by
    chance, whatever they are, makes them independent draws in a row again.
    """
    rows = sorted(rows, key=lambda row: (str(row.values.get("probe_classname")), _number(row)))
    seen: Counter[str] = Counter()
    asked = []
    for row in rows:
        values, where = row.values, row.where
        name = f"{values.get('probe_classname')}[{_number(row)}]"
        seen[name] += 1
        prompt = _prompt(values, name if seen[name] == 1 else f"{name}#{seen[name]}", where)
        said = [(text, "unknown") for text in _generations(values, len(prompt.before) + 1, where)]
        if mix is not None:
            mix.shuffle(said)
        asked.append(Asked(prompt, tuple(said), where))
    return tuple(asked)


def _number(row: Row) -> int:
    number = row.values.get("seq")
    return number if isinstance(number, int) else -1


def _prompt(values: Mapping[str, Any], name: str, where: str) -> Prompt:
    turns = (values.get("prompt") or {}).get("turns")
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{where}: attempt {name!r} has no prompt with turns: garak 0.13 or later is needed")
    said = [(str(turn.get("role")), filled((turn.get("content") or {}).get("text"), where, "prompt")) for turn in turns]
    if any(role == "assistant" for role, _ in said):
        raise InputError(
            f"{where}: attempt {name!r} took several turns, and only the text of the last would be judged: import a "
            "probe of one turn"
        )
    if any((turn.get("content") or {}).get("data_path") for turn in turns):
        raise InputError(f"{where}: attempt {name!r} has an attachment beside its text: import a probe of texts")
    right, *others = [filled(trigger, where, "trigger") for trigger in _triggers(values)]
    aliases = tuple(dict.fromkeys(other for other in others if other != right))
    return Prompt(name, said[-1][1], right, aliases, tuple(said[:-1]))


def _generations(values: Mapping[str, Any], asked: int, where: str) -> list[str]:
    """The texts of all generations of an attempt, whose prompt has so many turns."""
    outputs, threads = values.get("outputs"), values.get("conversations")
    if not isinstance(outputs, list) or not isinstance(threads, list) or len(outputs) != len(threads):
        raise IncompleteRunError(f"{where}: outputs and conversations do not match: a generation is missing")
    if (values.get("notes") or {}).get("original_responses"):
        raise InputError(f"{where}: a buff rewrote the answers (original_responses): import a run without it")
    for thread in threads:
        after = len(thread.get("turns") or []) - asked
        if after != 1:
            raise InputError(
                f"{where}: a conversation has {after} turns after the prompt, and only the text of the last would be "
                "judged: import a probe of one turn"
            )
    texts = []
    for i, output in enumerate(outputs):
        text = None if output is None else output.get("text")
        if not isinstance(text, str):
            raise IncompleteRunError(f"{where}: outputs[{i}] is null: a generation failed; run garak again")
        texts.append(encodable(text, where, f"outputs[{i}]"))
    return texts
