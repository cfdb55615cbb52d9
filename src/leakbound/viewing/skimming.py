"""audit.json of thousands of prompts in a tenth of the time: its numbers, without curves, looks and completions."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from leakbound.bounds import Bound
from leakbound.records import Prompt
from leakbound.results.audit import Audit, PromptAudit
from leakbound.runs.seals import SEALED, unsealed

_TEXT, _NUMBER, _WHOLE = pa.string(), pa.float64(), pa.int64()
_BOUND = pa.struct(
    [
        ("estimand", _TEXT), ("estimate", _NUMBER), ("lower", _NUMBER), ("upper", _NUMBER), ("alpha", _NUMBER),
        ("side", _TEXT), ("n", _WHOLE), ("method", _TEXT), ("scope", _TEXT), ("unit", _TEXT),
    ]
)  # fmt: skip
_BOUNDS = ("leak", "leak_jointly", "mean", "std", "ed_bound")
_PROMPT = pa.struct(
    [
        ("prompt", pa.struct([("id", _TEXT)])),
        ("greedy_text", _TEXT), ("greedy_score", _NUMBER), ("greedy_finish", _TEXT), ("verdict", _TEXT),
        *((name, _WHOLE) for name in ("num_samples", "num_distinct", "num_truncated", "num_leaks")),
        *((name, _NUMBER) for name in ("max_score", "ed", "seen_mass", "cut_clean")),
        *((name, _BOUND) for name in (*_BOUNDS, "limits")),
    ]
)  # fmt: skip
_AUDIT = pa.schema(
    [
        ("scorer", _TEXT), ("threshold", _NUMBER), ("alpha", _NUMBER), ("planned", pa.bool_()),
        ("prompts", pa.list_(_PROMPT)), *((name, _BOUND) for name in ("worst_prompt", "mean_leak", "mean_score")),
    ]
)  # fmt: skip
_MAY_MISS = {"greedy_text", "greedy_score", "greedy_finish", "verdict", "seen_mass", "cut_clean", "limits"}


def skim(file: Path, prompts: tuple[Prompt, ...]) -> Audit:
    """The audit in a file; of each prompt ``survival`` is None, and ``worst`` and ``looks`` are empty.

    ``prompts`` are those of its run. What is not as this version writes it (a number that is not finite, a field that
    an older one did not have) is read in full. :raises InputError: it cannot be read at all.
    """
    try:
        return _skimmed(file, prompts)
    except (ValueError, TypeError, LookupError, OSError):  # the whole reader says what is wrong, if anything is
        return Audit.load(file)


def _skimmed(file: Path, prompts: tuple[Prompt, ...]) -> Audit:
    import pyarrow.json as pj

    data, seal = unsealed(file, needed=False)
    head = data[: data.index(b'\n "scorer":')].decode()
    run = json.loads(head[: head.rindex(",")] + "}")["run"]
    if not seal and run.get("format", 0) >= SEALED:
        raise ValueError("its checksum is missing")
    table = pj.read_json(
        pa.BufferReader(data),
        read_options=pj.ReadOptions(block_size=len(data) + 1, use_threads=False),
        parse_options=pj.ParseOptions(
            explicit_schema=_AUDIT, newlines_in_values=True, unexpected_field_behavior="ignore"
        ),
    )
    (found,) = table.to_pylist()
    if [p["prompt"]["id"] for p in found["prompts"]] != [p.id for p in prompts]:
        raise ValueError("it is about other prompts")
    audit = Audit(
        run=run,
        scorer=found["scorer"],
        threshold=found["threshold"],
        alpha=found["alpha"],
        planned=found["planned"],
        prompts=tuple(map(partial(_prompt, {}), prompts, found["prompts"])),
        worst_prompt=Bound(**found["worst_prompt"]),
        mean_leak=Bound(**found["mean_leak"]),
        mean_score=Bound(**found["mean_score"]),
    )
    audit.check_outdated()
    return audit


def _prompt(known: dict[tuple[Any, ...], Bound], prompt: Prompt, found: dict[str, Any]) -> PromptAudit:
    """One prompt; prompts with the same counts have the same bounds, which are made once."""

    def bound(values: dict[str, Any]) -> Bound:
        key = tuple(values.values())
        if key not in known:
            known[key] = Bound(**values)
        return known[key]

    if missing := [name for name, value in found.items() if value is None and name not in _MAY_MISS]:
        raise ValueError(f"a prompt has no {missing[0]}")
    found |= {name: bound(found[name]) for name in _BOUNDS}
    found |= {
        "prompt": prompt,
        "verdict": found["verdict"] or "",
        "limits": found["limits"] and bound(found["limits"]),
    }
    return partial(PromptAudit, survival=cast(Any, None), worst=())(**found)
