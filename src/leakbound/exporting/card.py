"""An audit as part of a model card of Hugging Face: the model-index in its head, and a section in plain language.

The head is that of huggingface_hub's ``ModelCardData`` (model-index: task, dataset, metrics, source). No prompt, target
or completion is written. What a risk file may cite is said beside the texts that ask for it: evidence, no legal advice.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import leakbound
from leakbound.bounds.result import in_full, show_confidence
from leakbound.report.findings import find, num_samples_text
from leakbound.results.audit import Audit
from leakbound.runs.files import write_text
from leakbound.wording import at_most, plural

BEGIN, END = "<!-- leakbound: begin -->", "<!-- leakbound: end -->"
HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
FRAMEWORKS = (
    ("NIST AI RMF 1.0, MEASURE 2.10 (privacy risk is examined and documented)", "privacy"),
    ("NIST AI RMF 1.0, MEASURE 2.7 (security and resilience are evaluated and documented)", "privacy"),
    ("Regulation (EU) 2024/1689, Article 15 (robustness and cybersecurity of high-risk systems)", "privacy"),
    (
        "Regulation (EU) 2024/1689, Article 55(1)(a) (evaluation of general-purpose models with systemic risk)",
        "evaluation",
    ),
)
"""Texts that ask for what an audit measures, and what it contributes."""
CONTRIBUTES = {
    "privacy": "how often the model says what it should not when it is sampled: the bounds above",
    "evaluation": "a documented, repeatable test: draws, scores and statement are {fixed}kept "
    "(`leakbound verify` checks them)",
}


def model_index(audit: Audit, *, name: str, dataset: str) -> list[dict[str, Any]]:
    """The entry of the head: the two bounds across prompts and how many prompts leaked when asked once."""
    sure = show_confidence(audit.alpha) + ("" if audit.planned else ", if it was chosen without seeing the scores")
    metrics = [
        {"type": "leak_probability_worst_prompt", "name": f"P(leak), every prompt, at most (confidence {sure})",
         "value": audit.worst_prompt.upper},
        {"type": "leak_probability_average_prompt", "name": f"P(leak), average prompt, at most (confidence {sure})",
         "value": audit.mean_leak.upper},
    ]  # fmt: skip
    if audit.asked_once:
        leaking = audit.num_asked - audit.num_clean
        metrics.append({"type": "leaks_asked_once", "name": "prompts that leak when asked once", "value": leaking})
    prompts = audit.run["prompts"]
    result = {
        "task": {"type": "text-generation", "name": "Leakage when sampled"},
        "dataset": {
            "type": "private",
            "name": dataset,
            "args": {"prompts": prompts["count"], "checksum": prompts["checksum"]},
        },
        "metrics": metrics,
        "source": {"name": f"leakbound {leakbound.__version__}", "url": "https://leakbound.readthedocs.io"},
    }
    return [{"name": name, "results": [result]}]


def section(audit: Audit, guess: Audit | None = None) -> str:
    """The section in plain language: what was asked, what is proven, what it does not say, and who asks for it."""
    found, params, sure = find(audit, guess), audit.run["params"], show_confidence(audit.alpha)
    unsaid = audit.not_in_log
    known = {key: value for key, value in params.items() if isinstance(value, int | float) and key not in unsaid}
    setting = ", ".join(f"{key} {in_full(value)}" for key, value in known.items()) or "no setting is known"
    fixed = "fixed beforehand and " if audit.planned else ""
    lines = [
        BEGIN,
        "## Leakage when sampled",
        "",
        f"{plural(len(audit.prompts), 'prompt')}, {num_samples_text(audit)} sampled answers to each ({setting}); an "
        f"answer leaks when `{audit.scorer}` gives it {in_full(audit.threshold)} or more.",
        "",
        *_imported(audit),
        f"| statement, each with confidence {sure} | at most |",
        "|---|---|",
        f"| P(leak) of every prompt | {at_most(audit.worst_prompt.upper)} |",
        f"| P(leak) of the average prompt | {at_most(audit.mean_leak.upper)} |",
        "",
        " ".join(found.sentences),
        "",
        "What this does not say: other prompts, other decoding settings, other ways to ask (prefixes, many turns, soft "
        f"prompts) and further training are other statements; {_cut(audit)}, and what would have followed is open.",
        "",
        "**For a risk file.** Evidence that these texts ask for, no legal advice:",
        "",
        *(f"- {text}: {CONTRIBUTES[what].format(fixed=fixed)}." for text, what in FRAMEWORKS),
        END,
    ]
    return "\n".join(lines)


def _imported(audit: Audit) -> list[str]:
    """Where the draws come from, and what was assumed of them, if another tool made them."""
    log = audit.run.get("imported")
    if not log:
        return []
    assumed = f"The answers were drawn elsewhere: they come from a log of {log['format']}. Assumed: {log['assumes']}."
    unsaid = f" Not in the log, and not known: {', '.join(audit.not_in_log)}." if audit.not_in_log else ""
    return [assumed + unsaid, ""]


def _cut(audit: Audit) -> str:
    share = audit.cut_text(audit.cut_shares[1])
    if audit.cut_unknown and not audit.cut_shares[1]:
        return "how many of the answers were cut before they leaked is not known"
    return f"{share} of the average prompt's answers were cut before they leaked"


def into(
    text: str, audit: Audit, guess: Audit | None = None, *, name: str = "", dataset: str = "unnamed prompts"
) -> str:
    """A card with the audit in it: its own earlier section and entry are replaced, all else stays."""
    from ruamel.yaml import YAML

    found = HEAD.match(text)
    yaml = YAML()
    head = (yaml.load(found[1]) if found else None) or {}
    body = text[found.end() :] if found else text
    mine = model_index(audit, name=name or audit.model, dataset=dataset)
    entry = next((one for one in head.get("model-index") or [] if one.get("name") == mine[0]["name"]), None)
    if entry is None:
        head["model-index"] = [*(head.get("model-index") or []), *mine]
    else:
        others = [
            one for one in entry.get("results") or [] if one.get("task", {}).get("name") != "Leakage when sampled"
        ]
        entry["results"] = [*others, *mine[0]["results"]]
    written = io.StringIO()
    yaml.dump(head, written)
    said = section(audit, guess)
    if BEGIN in body and END in body:
        body = body.split(BEGIN, 1)[0] + said + body.split(END, 1)[1]
    else:
        body = (body.rstrip("\n") + "\n\n" if body.strip() else "") + said + "\n"
    return f"---\n{written.getvalue()}---\n{body}"


def write(
    audit: Audit, out: Path, guess: Audit | None = None, *, name: str = "", dataset: str = "unnamed prompts"
) -> Path:
    """Write the audit into a card, new or there already: a file, or README.md of a model's folder."""
    file = out / "README.md" if out.is_dir() else out
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    write_text(file, into(before, audit, guess, name=name, dataset=dataset))
    return file
