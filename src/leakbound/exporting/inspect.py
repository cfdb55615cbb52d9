"""Writing a run folder as a log of inspect_ai, by its own writer: each draw a sample, with its score.

``inspect view`` shows it, and ``leakbound import inspect`` makes the same draws of it. Prompts, targets and completions
are written: those are the secrets.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leakbound.bounds.gate import reaches
from leakbound.errors import InputError
from leakbound.plugging.in_order import MANAGER
from leakbound.records import Draw, Prompt
from leakbound.results.audit import Audit
from leakbound.results.verdicts import audit_verdict
from leakbound.runs.store import Run

NO_TIME = "1970-01-01T00:00:00+00:00"
"""A run folder does not know when it was drawn."""
REASONS = {"stop": "stop", "length": "max_tokens"}


def export(run: Run, audit: Audit) -> dict[str, Any]:
    """The log as one JSON object: samples with their scores, and what the audit says of each prompt.

    InputError for completions drawn without replacement, which are no epochs.
    """
    if any(part.kind == "distinct" for part in run.parts):
        raise InputError(f"run is {str(run.path)!r}: completions drawn without replacement are no epochs of a sample")
    samples = [sample for prompt, drawn in _drawn(run, audit) for sample in _samples(prompt, drawn, audit)]
    options = {"scorer": audit.scorer, "threshold": audit.threshold}
    rate = sum(p.num_leaks / p.num_samples for p in audit.prompts) / len(audit.prompts)
    said = {
        "average P(leak)": audit.mean_leak.claim,
        "P(leak) of the worst prompt": audit.worst_prompt.claim,
        "alpha": audit.alpha,
    }
    ids = [prompt.id for prompt in run.prompts]
    most = max(p.num_samples for p in audit.prompts)
    number = {"total_samples": len(ids) * most, "completed_samples": len(samples)}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": "leakbound",
            "eval_id": run.id,
            "run_id": run.id,
            "task_id": run.id,
            "model": audit.model,
            "dataset": {"name": run.path.name, "samples": len(ids), "sample_ids": ids, "shuffled": False},
            "config": {"epochs": run.info["num_samples"]},
            "metadata": {"statements": said, **({"imported": run.info["imported"]} if "imported" in run.info else {})},
            "scorers": [{"name": "leakbound/leak", "options": options}],
        },
        "plan": {"config": _config(run, audit)},
        "results": {
            **number,
            "scores": [{"name": "leak", "scorer": "leak", "metrics": {"mean": {"name": "mean", "value": rate}}}],
            **_stopped(run, audit),
        },
        "stats": {"started_at": NO_TIME, "completed_at": NO_TIME},
        "samples": samples,
    }


def write(run: Run, audit: Audit, out: str | Path) -> Path:
    """Write :func:`export` by inspect_ai, as .eval or .json after the name of ``out``."""
    try:
        from inspect_ai.log import EvalLog, write_eval_log
    except ImportError as error:
        raise InputError(
            "format is 'inspect': its log is written by inspect_ai itself: pip install inspect_ai"
        ) from error
    file = Path(out).expanduser()
    if file.suffix not in (".eval", ".json"):
        raise InputError(f"out is {str(out)!r}: a log of inspect_ai is called NAME.eval or NAME.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_eval_log(EvalLog.model_validate(export(run, audit)), str(file.absolute()))
    return file


def _config(run: Run, audit: Audit) -> dict[str, Any]:
    """How it was decoded, as far as that is known: what the log of an imported run did not say is left out.

    inspect_ai has no field for min_p and adaptive_temperature: they stand where a server would be sent them.
    """
    known = {k: v for k, v in run.params.to_json().items() if k not in audit.not_in_log}
    config: dict[str, Any] = {k: known[k] for k in ("temperature", "top_p", "top_k", "max_tokens") if k in known}
    body: dict[str, Any] = {k: known[k] for k in ("min_p", "adaptive_temperature") if known.get(k)}
    return {**config, "stop_seqs": list(known.get("stop", ())) or None, **({"extra_body": body} if body else {})}


def _drawn(run: Run, audit: Audit) -> list[tuple[Prompt, list[tuple[Draw, float]]]]:
    """The draws of each prompt with their scores, in the run's order of prompts."""
    if run.engine["name"] == "counted":
        raise InputError(
            f"run is {str(run.path)!r}, whose draws were counted: a log of inspect_ai has a sample for each draw; "
            "audit with engine='iid'"
        )
    found: dict[str, list[tuple[Draw, float]]] = {prompt.id: [] for prompt in run.prompts}
    for part in run.parts:
        if part.kind == "sample" and (not run.rule or run.has_draws(part)):
            for draw, value in run.read_scored(part, audit.scorer):
                found[draw.prompt_id].append((draw, value))
    leaks = [sum(d.count for d, value in some if reaches(value, audit.threshold)) for some in found.values()]
    audit.check_leaks(leaks, run.path)
    return [(prompt, found[prompt.id]) for prompt in run.prompts]


def _samples(prompt: Prompt, drawn: list[tuple[Draw, float]], audit: Audit) -> list[dict[str, Any]]:
    """One sample for each draw; its epoch is its number where the order is known."""
    numbered: list[tuple[int, Draw, float]] = []
    for draw, value in drawn:
        places = draw.places if draw.places is not None else range(draw.first, draw.first + draw.count)
        numbered += [(place, draw, value) for place in places]
    numbered.sort(key=lambda one: one[0])
    asked: Any = prompt.messages() if prompt.before else prompt.text
    target = [prompt.target, *prompt.aliases]
    return [
        {
            "id": prompt.id,
            "epoch": epoch,
            "input": asked,
            "target": target if prompt.aliases else prompt.target,
            "output": {
                "model": audit.model,
                "choices": [
                    {
                        "message": {"role": "assistant", "content": draw.text, "source": "generate"},
                        "stop_reason": REASONS.get(draw.finish_reason, "unknown"),
                    }
                ],
            },
            "messages": [*prompt.messages(), {"role": "assistant", "content": draw.text}],
            "scores": {
                "leak": {
                    "value": float(reaches(value, audit.threshold)),
                    "answer": draw.text,
                    "metadata": {"scorer": audit.scorer, "threshold": audit.threshold, "score": value},
                }
            },
        }
        for epoch, (_, draw, value) in enumerate(numbered, start=1)
    ]


def _stopped(run: Run, audit: Audit) -> dict[str, Any]:
    """Where a rule ended the draws: its summary, as early stopping writes it."""
    if not run.rule:
        return {}
    if run.rule["until"] is None:
        raise InputError(
            f"run is {str(run.path)!r}: its rule stops at a width, which inspect_ai's logs have no word for"
        )
    budget = int(run.rule["budget"])
    stops = [
        {"id": p.prompt.id, "epoch": epoch, "reason": f"{run.rule['until']} is {p.stands}"}
        for p in audit.prompts
        for epoch in range(p.num_samples + 1, budget + 1)
    ]
    prompts = {
        p.prompt.id: {"verdict": p.stands, "draws": p.num_samples, "leaks": p.num_leaks, "upper": p.leak.upper}
        for p in audit.prompts
    }
    return {
        "early_stopping": {
            "manager": MANAGER,
            "early_stops": stops,
            "metadata": {
                "statement": dict(run.info["statement"]),
                "rule": run.rule,
                "every": audit_verdict(audit),
                "prompts": prompts,
            },
        }
    }
