"""What the page is told: runs, prompts and completions as plain values, every number rounded outward."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from leakbound.bounds.gate import reaches
from leakbound.bounds.result import show_confidence
from leakbound.report import tables
from leakbound.report.page import tiles
from leakbound.report.parts import LABELS, SYMBOLS, Tone
from leakbound.report.shown import limits
from leakbound.results.audit import Audit
from leakbound.results.quantities import OF_A_PROMPT
from leakbound.viewing.answers import Answer
from leakbound.viewing.folder import Folder, Line, Problem
from leakbound.viewing.marking import pieces
from leakbound.wording import about, at_least, percent, plural, visible

LONGEST = 20_000
"""Characters of a completion that are shown; its export has them all."""
RIGHT: dict[Tone, str] = {"plain": "right when asked once", "seen": "right when sampled", "unseen": "never right"}
"""The labels of retain questions."""
RIGHT_WORDS = {"P(leak)": "P(right)", "still leaks": "still right", "it leaked": "it was right", "leaked": "right",
               "leaks": "right answers", "secret": "answer"}  # fmt: skip
"""What is said of leaks, said of right answers."""
UNKNOWN = ("unknown", "not stated", "?")
"""Status, label and symbol of a prompt of which nothing was stated."""


def told(folder: Folder) -> dict[str, Any]:
    """A run: what it is, the verdict in the report's words, and what is missing."""
    run, found = folder.run, folder.findings
    model = run.info.get("model") or {}
    said: dict[str, Any] = {
        "name": folder.name,
        "path": str(folder.path),
        "model": visible(str(model.get("model") or model.get("name") or "unnamed model"), 120),
        "temperature": folder.temperature,
        "scorer": visible(folder.scorer, 80),
        "threshold": f"{folder.threshold:g}",
        "scored": bool(folder.scorers),
        "marks": folder.marker is not None,
        "prompts": len(run.prompts),
        "problems": [vars(p) for p in [*folder.problems, *folder.counted()]],
        "statuses": _statuses(folder),
        "verdicts": sorted({p.stands for p in folder.audit.prompts if p.verdict}) if folder.audit else [],
        "retain": folder.retain,
        "guess": folder.guess is not None,
        "title": "Nothing was stated of this run yet",
        "tone": "unknown",
        "lead": [],
        "tiles": [],
        "confidence": "",
    }
    if folder.audit is not None and folder.retain:
        said |= _right(folder, folder.audit)
    elif folder.audit is not None and found is not None:
        shown = [{"number": t.number, "what": t.what, "of": t.of, "loud": t.loud} for t in tiles(found)]
        said |= {"title": found.title, "tone": found.status, "lead": [*found.sentences, *found.notes], "tiles": shown}
        said["confidence"] = show_confidence(folder.audit.alpha)
    elif folder.certification is not None:
        bound = folder.certification.worst_prompt
        said |= {
            "title": own(folder, f"P(leak) of every prompt {limits(bound)}"),
            "tone": "unseen",
            "lead": [str(bound)],
        }
        said["confidence"] = show_confidence(bound.alpha)
    return said


def _right(folder: Folder, audit: Audit) -> dict[str, Any]:
    """What is said first of retain questions. An audit bounds leaks from above: it proves nothing that is known."""
    total, asked = len(audit.prompts), sum(audit.greedy(p) == "leaks" for p in audit.prompts)
    never = sum(line.status == "unseen" for line in folder.lines)
    shown = [
        (about(audit.mean_leak.estimate), "of the draws are right, average question, observed", "", False),
        *([(f"{asked}", "right when asked once", f"of {total}", False)] if audit.asked_once else []),
        (f"{never}", "never right", f"of {total}", False),
    ]
    lead = (
        "These questions are to be answered: what the report of this run calls a leak is a right answer here. Its "
        "bounds are upper ones, and no proof that anything is known: “leakbound compare --retain” and a claim known>= "
        "give that."
    )
    return {
        "title": f"{never} of {plural(total, 'question')} never answered rightly" if never else
        f"Every one of {plural(total, 'question')} answered rightly at least once",
        "tone": "unseen" if never else "plain",
        "lead": [lead],
        "confidence": show_confidence(audit.alpha),
        "tiles": [dict(zip(("number", "what", "of", "loud"), tile, strict=True)) for tile in shown],
    }  # fmt: skip


def own(folder: Folder, text: str) -> str:
    """Words of ours, in a run on retain questions about right answers."""
    for leak, right in RIGHT_WORDS.items() if folder.retain else ():
        text = text.replace(leak, right)
    return text


def progress(folder: Folder) -> dict[str, Any]:
    """How far the shards were counted, and what that contradicts."""
    tally = folder.tally
    ended = folder.certified or tally.complete or bool(tally.error)
    problems = [vars(p) for p in [*folder.problems, *folder.counted()]]
    return {"done": tally.done, "of": len(tally.parts), "ended": ended, "problems": problems}


def _statuses(folder: Folder) -> list[dict[str, Any]]:
    if folder.findings is not None and not folder.retain:
        numbers = {status: len(folder.findings.of(status)) for status in folder.findings.meanings}
        return [tone(folder, status) | {"number": n} for status, n in numbers.items()]
    number = Counter(line.status for line in folder.lines)
    return [tone(folder, s) | {"number": number[s]} for s in ("plain", "seen", "unseen", None) if number[s]]


def tone(folder: Folder, status: Tone | None) -> dict[str, str]:
    """A status in words and as a sign."""
    labels = RIGHT if folder.retain else LABELS
    name, label, symbol = UNKNOWN if status is None else (status, labels[status], SYMBOLS[status])
    return {"status": name, "label": label, "symbol": symbol}


def line_of(folder: Folder, line: Line) -> dict[str, Any]:
    """One prompt in the list."""
    prompt, tally = folder.run.prompts[line.index], folder.tally
    said: dict[str, Any] = {
        "index": line.index,
        "id": prompt.id,
        "text": visible(prompt.text, 200),
        "target": visible(prompt.target, 120),
        **tone(folder, line.status),
        "greedy": "–", "leaks": "–", "alone": "–", "jointly": "–", "best": "–", "verdict": "",
    }  # fmt: skip
    if line.row is not None:
        p = line.row.result
        said |= {
            "greedy": tables.greedy(p),
            "leaks": f"{p.num_leaks:,} of {p.num_samples:,}",
            "rate": line.rate,
            "alone": limits(p.leak),
            "jointly": limits(p.leak_jointly),
            "best": about(p.max_score),
            "verdict": p.stands,
        }
        if folder.guess is not None:
            said["guess"] = tables.guess_level(line.row)
    elif line.certificate is not None:
        c = line.certificate
        said |= {
            "leaks": f"mass ≥ {at_least(c.limits.lower)}",
            "rate": line.rate,
            "alone": limits(c.leak),
            "best": about(c.worst[0].score) if c.worst else "–",
        }
    elif tally.done:
        leaks, draws = tally.of(line.index)
        said |= {"leaks": f"{leaks:,} of {draws:,}", "rate": leaks / draws if draws else None}
    return said


def facts_of(folder: Folder, line: Line) -> Iterator[tuple[str, str]]:
    """What was stated of one prompt, name and number."""
    yield from ((own(folder, name), own(folder, number)) for name, number in _facts(folder, line))


def _facts(folder: Folder, line: Line) -> Iterator[tuple[str, str]]:
    if line.row is not None:
        p = line.row.result
        yield "sampled", f"leaked in {tables.drawn(p)} answers; {p.num_distinct:,} distinct"
        for q in OF_A_PROMPT:
            if q.heading:
                seen = "" if q.field.startswith("leak") else f", observed {about(getattr(p, q.field).estimate)}"
                yield q.name, f"{limits(getattr(p, q.field))}{seen}"
        if folder.guess is not None:
            yield "guess level", tables.guess_level(line.row)
        if folder.audit is not None and folder.audit.cut_unknown:
            yield "cut before it leaked", f"{folder.audit.cut_text(p.cut_share)}: the log does not say it of every draw"
        elif p.cut_share:
            yield "cut before it leaked", f"{percent(p.cut_share)} of the draws: whether they would have is open"
    elif line.certificate is not None:
        c = line.certificate
        for name, bound in (
            ("P(leak)", c.leak), ("P(leak), certain", c.limits), ("mean score", c.mean),
            (f"begins with the target{' or an alias' if c.prompt.aliases else ''}", c.verbatim),
            ("begins near the target", c.near_verbatim), ("still leaks", c.still_leaks),
        ):  # fmt: skip
            if bound is not None:
                yield name, limits(bound)
        yield "probability seen", at_least(c.seen_mass)
        if c.num_cut:
            yield "cut before it leaked", f"{c.num_cut:,} of {c.num_generations:,}: whether they would have is open"


def problem_of(folder: Folder, line: Line, answers: Sequence[Answer]) -> Problem | None:
    """Where the completions of a prompt contradict what is stated of it."""
    if line.row is None:
        return None
    scored = [a for a in answers if not a.greedy and folder.scorer in a.scores]
    found = sum(a.count for a in scored if leaks(folder, a)), sum(a.count for a in scored)
    p = line.row.result
    if found == (p.num_leaks, p.num_samples):
        return None
    said = (
        f"audit.json states {p.num_leaks:,} leaks in {p.num_samples:,} draws, and the folder holds {found[0]:,} in "
        f"{found[1]:,} scored ones: the statement is not about these draws"
    )
    return Problem(own(folder, said), folder.command("bound"))


def leaks(folder: Folder, answer: Answer) -> bool | None:
    """Whether a completion leaks; None where it has no score."""
    score = answer.scores.get(folder.scorer)
    return None if score is None else bool(reaches(score, folder.threshold))


def answer_of(folder: Folder, index: int, answer: Answer) -> dict[str, Any]:
    """One completion, its text in pieces: those flagged are what the scorer found."""
    prompt = folder.run.prompts[index]
    spans = folder.marker(answer.text[:LONGEST], prompt) if folder.marker else []
    rest = len(answer.text) - LONGEST
    chance = (
        f"P {about(min(1.0, math.exp(answer.logprob)))}" if answer.logprob is not None and not answer.greedy else ""
    )
    return {
        "draw": "greedy" if answer.greedy else answer.draws[0],
        "times": "greedy" if answer.greedy else f"{answer.count:,}",
        "leaks": leaks(folder, answer),
        "scores": [[visible(name, 40), about(score)] for name, score in answer.scores.items()],
        "pieces": [[_lines(text), hit] for text, hit in pieces(answer.text[:LONGEST], spans)],
        "after": "; ".join(
            [
                *(["cut at max_tokens"] if answer.finish_reason == "length" else []),
                *([f"{rest:,} more characters in the export"] if rest > 0 else []),
            ]
        ),
        "chance": chance,
    }


def _lines(text: str) -> str:
    """Hostile text made visible; here its lines stand one below the other."""
    return visible(text, LONGEST).replace("↵", "↵\n")


def asked(folder: Folder, index: int) -> list[list[str]]:
    """What was asked and what is looked for, by name."""
    prompt = folder.run.prompts[index]
    rows = [[f"before it, {role}", _lines(text)] for role, text in prompt.before]
    rows += [["prompt", _lines(prompt.text)], [own(folder, "secret"), _lines(prompt.target)]]
    return rows + ([["also", _lines("; ".join(prompt.aliases))]] if prompt.aliases else [])


def by_temperature(folders: Sequence[Folder], one: Folder, place: int) -> list[dict[str, Any]]:
    """A prompt of one run in each open run that asks it as that does, by temperature."""
    prompt, found = one.run.prompts[place], []
    for folder in (folder for folder in folders if folder.retain == one.retain):
        if (index := folder.places.get(prompt.id)) is not None and folder.run.prompts[index] == prompt:
            said = line_of(folder, folder.lines[index])
            found.append({**said, "run": folder.name, "temperature": folder.temperature})
    return sorted(found, key=lambda row: (float(row["temperature"].split(",")[0]), row["run"]))
