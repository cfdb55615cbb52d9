"""Writing an audit in the schema of every_eval_ever 0.3.0, our bounds as its confidence intervals.

The schema is that of the PyPI package every-eval-ever 0.3.0 (github.com/evaleval/every_eval_ever): one JSON object with
``model_info``, ``eval_library`` and one of ``evaluation_results`` for each statement across prompts. No prompt, target
or completion is written: those are the secrets.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import leakbound
from leakbound.bounds import Bound
from leakbound.errors import InputError
from leakbound.results.audit import Audit
from leakbound.runs.files import write_text
from leakbound.wording import about, level

SCHEMA_VERSION = "0.3.0"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the schema asks for and an audit does not know."""

    organization: str = "unknown"
    """Who provides these numbers."""
    relationship: Literal["first_party", "third_party", "collaborative", "other"] = "other"
    """first_party if the model's developer audited it, third_party, collaborative, or other."""
    dataset: str = "unnamed prompts"
    """Name of the prompts."""
    model_id: str = ""
    """The model in the form organisation/name; by default as run.json names it."""
    deployment: Literal["self_deployed", "externally_managed", "unknown"] = "unknown"
    """Who runs the model: self_deployed, externally_managed, or unknown."""
    availability: Literal["open_weights", "closed_weights", "unknown"] = "unknown"
    """open_weights, closed_weights, or unknown."""


def export(audit: Audit, source: Source | None = None, *, timestamp: int | None = None) -> dict[str, Any]:
    """The audit as one object of the schema. A bound for one side has the trivial limit, 0 or 1, on the other.

    ``timestamp``: seconds since 1970, by default now.
    """
    source = source or Source()
    seconds = int(time.time() if timestamp is None else timestamp)
    model = source.model_id or audit.model
    settings = {"scorer": audit.scorer, "threshold": audit.threshold, "alpha": audit.alpha}
    statements = (
        ("worst_prompt_leak", "P(leak) of every prompt, the worst one included", audit.worst_prompt),
        ("mean_leak", "P(leak), averaged over the prompts", audit.mean_leak),
        ("mean_score", "Score, averaged over the prompts", audit.mean_score),
    )
    imported = audit.run.get("imported") or {}
    versions = {f"version_{name}": version for name, version in (audit.run.get("versions") or {}).items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"leakbound/{model}/{seconds}",
        "retrieved_timestamp": str(seconds),
        "source_metadata": {
            "source_name": "leakbound",
            "source_type": "evaluation_run",
            "source_organization_name": source.organization,
            "evaluator_relationship": source.relationship,
        },
        "eval_library": {
            "name": "leakbound",
            "version": leakbound.__version__,
            "additional_details": _texts({"draws_from": imported.get("format", "leakbound"), **versions}),
        },
        "model_info": {
            "name": audit.model,
            "id": model,
            "additional_details": {
                "deployment_type": source.deployment,
                "model_availability": source.availability,
                **_texts(_model(audit)),
            },
        },
        "evaluation_results": [
            {
                "evaluation_result_id": f"leakbound/{name}",
                "evaluation_name": f"leakbound: {title}",
                "source_data": {
                    "dataset_name": source.dataset,
                    "source_type": "other",
                    "additional_details": _texts(audit.run.get("prompts") or {}),
                },
                "metric_config": {
                    "evaluation_description": f"{title}. {bound}",
                    "metric_id": f"leakbound.{name}",
                    "metric_name": title,
                    "metric_kind": "mean_score" if name == "mean_score" else "leak_probability",
                    "metric_unit": "proportion",
                    "metric_parameters": settings,
                    "lower_is_better": True,
                    "score_type": "continuous",
                    "min_score": 0.0,
                    "max_score": 1.0,
                },
                "score_details": _score(bound, audit),
                "generation_config": _generation(audit),
            }
            for name, title, bound in statements
        ],
    }


def write(audit: Audit, path: str | Path, source: Source | None = None) -> Path:
    """Write :func:`export` to a file, whole or not at all. InputError where the name does not end with .json."""
    file = Path(path).expanduser()
    if file.suffix != ".json":
        raise InputError(f"out is {str(path)!r}: give a file that ends with .json")
    write_text(file, json.dumps(export(audit, source), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return file


def _score(bound: Bound, audit: Audit) -> dict[str, Any]:
    trivial = {
        "upper": "the lower end is trivial",
        "lower": "the upper end is trivial",
        "both": "both ends are claimed",
    }
    return {
        "score": bound.estimate,
        "details": _texts(
            {
                "holds_for": bound.scope,
                "cut_before_a_leak": _cut(bound, audit),
                **({"cautions": " ".join(audit.cautions)} if audit.cautions else {}),
                "side": f"{bound.side}: {trivial[bound.side]}",
                "guarantee": f"false with probability at most {level(bound.alpha)}, for any distribution of the scores",
                "statement_fixed_before_the_draws": audit.planned,
            }
        ),
        "uncertainty": {
            "confidence_interval": {
                "lower": bound.lower,
                "upper": bound.upper,
                "confidence_level": math.floor((1 - bound.alpha) * 1e12) / 1e12,
                "method": f"{bound.method} (side {bound.side})",
            },
            "num_samples": bound.n,
        },
    }


def _cut(bound: Bound, audit: Audit) -> float | str:
    """The share of draws that were cut before they leaked, in words where it is not known."""
    share = audit.cut_shares[bound in (audit.mean_leak, audit.mean_score)]
    return share if not audit.cut_unknown else f"{about(share)} or more" if share else audit.cut_text(share)


def _generation(audit: Audit) -> dict[str, Any]:
    """What was decoded how; what a foreign log did not say is left out, and of its other settings only names stand."""
    run, log = audit.run, audit.run.get("imported") or {}
    params = {k: v for k, v in (run.get("params") or {}).items() if k not in audit.not_in_log}
    args = {name: params.pop(name) for name in ("temperature", "top_p", "top_k", "max_tokens") if name in params}
    further = {name: run[name] for name in ("num_samples", "rule", "engine") if run.get(name) is not None}
    if log:
        further |= {"other_settings": ", ".join(log["other_settings"])} if log.get("other_settings") else {}
    elif run.get("seed") is not None:
        further["seed"] = run["seed"]
    return {"generation_args": args, "additional_details": _texts({**params, **further})}


def _model(audit: Audit) -> dict[str, Any]:
    described = audit.run.get("model")
    return {k: v for k, v in described.items() if k != "model"} if isinstance(described, Mapping) else {}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The schema's further details: every value a text."""
    return {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str) for k, v in values.items()}
