"""Is a run folder what it says? Checksums, counts and places, scores and statements made again, bounds another way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from leakbound.auditing.certifying import concluded as certified
from leakbound.auditing.concluding import METHODS
from leakbound.auditing.judge_errors import judged_audit, parse_rate
from leakbound.auditing.scoring import named_scorer
from leakbound.auditing.second import claims
from leakbound.auditing.steps import concluded
from leakbound.errors import IncompleteRunError, LeakboundError, StorageError
from leakbound.records import Draw, Prompt
from leakbound.results.audit import Audit
from leakbound.results.base import Result
from leakbound.results.certificate import Certification
from leakbound.results.judged import JudgedAudit
from leakbound.results.verification import Check, Verification
from leakbound.runs.layout import plan_layout, sizes
from leakbound.runs.store import Run
from leakbound.scoring import BatchScorer, Scorer, get_scorer, is_binary, score_completions

SEMANTIC = 1e-5
"""Scores of a model are floats of other batches: so far they may differ when they are made again."""
MADE_AGAIN = 1e-7
"""So far may numbers of a result differ, relatively, from those made again on another machine."""


def verify(path: str | Path, *, scorer: str | None = None) -> Verification:
    """Check a whole run folder of an audit or a certification; nothing in it is changed, and nothing raised.

    Checksums and places of every file; ids and counts against the layout; every score made again from its draws, where
    the scorer is built in or named here; audit.json against run.json and against what is concluded from the scores, and
    judged.json against audit.json; every limit a second way (:mod:`leakbound.auditing.second`): P(leak) and P(h > x) by
    exact sums, E[h], sd, mean + 2 sd and averages by their bets, what was drawn without replacement with 60 digits.
    That the draws came from the model only the model can say, and pages and tables made of a result are not looked at.
    A folder of an old format, without checksums, is refused.
    """
    checks: list[Check] = []

    def check(what: str, look: Callable[[], int]) -> bool:
        try:
            checks.append(Check(what, look()))
        except StorageError:  # what cannot be read now is neither right nor wrong
            raise
        except Exception as error:  # somebody else's folder: whatever it makes us raise, it is not right
            said = str(error) if isinstance(error, LeakboundError) else f"{type(error).__name__}: {error}"
            checks.append(Check(what, 0, said))
        return not checks[-1].wrong

    opened: list[Run] = []
    if check("run.json and prompts", lambda: _opened(path, opened)):
        run = opened[0]
        if run.info.get("kind") == "certificate":
            check("certificate.json made again", lambda: _again(run, Certification, scorer))
            check("certificates a second way", lambda: claims.proven(_certified(run, scorer)))
        elif check("draws", lambda: _draws(run)):
            check("scores made again", lambda: _scores(run, scorer))
            check("audit.json made again", lambda: _again(run, Audit, scorer))
            drawn = cache(lambda: _drawn(run, scorer))
            for what, said in claims.CHECKS.items():
                check(what, lambda said=said: claims.proven(said(drawn())))  # type: ignore[misc]
            if (run.path / JudgedAudit.FILE).exists():
                check(f"{JudgedAudit.FILE} made again", lambda: _judged_again(run))
    return Verification(str(path), tuple(checks))


def _opened(path: str | Path, opened: list[Run]) -> int:
    run = Run.open(path)
    if not run.id:
        raise IncompleteRunError(
            f"format {run.info['format']} has no checksums, so nobody can say that the folder is as it was written: "
            "draw again into a new one"
        )
    layout = [asdict(p) for p in plan_layout(len(run.prompts), run.info["num_samples"], **sizes(run.info))]
    if run.info["layout"] != layout or run.info["prompts"]["count"] != len(run.prompts):
        raise IncompleteRunError("the layout is not that of the prompts and draws that run.json names")
    opened.append(run)
    return len(run.prompts)


def _draws(run: Run) -> int:
    """Each part as the layout has it; of a run that may stop early those that are there, which bounding looks at."""
    drawn = [part for part in run.parts if part.greedy or not run.rule or run.has_draws(part)]
    return sum(draw.count for part in drawn for draw in run.read_draws(part))


def _scores(run: Run, named: str | None) -> int:
    names = {Audit.load(run.path).scorer, *([run.info["statement"]["scorer"]] if run.rule else [])}
    return sum(_scored(run, name, named) for name in names)


def _scored(run: Run, name: str, named: str | None) -> int:
    function = _allowed(run, name, named)
    prompts: dict[str, Prompt] = {p.id: p for p in run.prompts}
    near, number = SEMANTIC if isinstance(function, BatchScorer) else 0.0, 0
    for part in run.parts:
        if not part.judged or (run.rule and not run.has_draws(part)):
            continue
        rows = list(run.read_scored(part, name))
        again = score_completions(function, [(draw.text, prompts[draw.prompt_id]) for draw, _ in rows])
        for (draw, value), now in zip(rows, again, strict=True):
            if not abs(value - now) <= near:
                raise IncompleteRunError(
                    f"{part.name}: {draw.text[:60]!r} of prompt {draw.prompt_id!r} has the score {value!r}, and {name} "
                    f"gives {now!r}"
                )
        number += len(rows)
    return number


def _allowed(run: Run, name: str, named: str | None) -> Scorer:
    """The scorer of a result: as that of run.json, only what is built in or named by the caller."""
    foreign = Run(run.path, {**run.info, "statement": {"scorer": name}}, run.prompts)
    return get_scorer(named_scorer(foreign, named if named == name else None))


def _again(run: Run, kind: type[Audit] | type[Certification], named: str | None) -> int:
    """The result in the folder against what its files give today."""
    there = kind.load(run.path)
    _allowed(run, there.scorer, named)
    if there.run != run.info:
        raise IncompleteRunError(f"{kind.FILE} was made of another run.json")
    wrong = []
    for again in _made_again(run, there, named):
        if (said := _difference(again.to_json(), there.to_json())) is None:
            return len(there.prompts)
        wrong.append(said)
    raise IncompleteRunError(f"{kind.FILE} says otherwise than the folder's files: {wrong[0]}")


def _judged_again(run: Run) -> int:
    """The judge's errors counted again, with the rates that the file names."""
    there = JudgedAudit.load(run.path)
    if not (there.sensitivity and there.specificity):
        raise IncompleteRunError(
            f"{JudgedAudit.FILE} is of an older version and does not name its rates: run `{JudgedAudit.COMMAND}` again"
        )
    rates = {name: parse_rate(name, getattr(there, name)) for name in ("sensitivity", "specificity")}
    again = judged_audit(Audit.load(run.path), **rates)
    if said := _difference(again.to_json(), there.to_json()):
        raise IncompleteRunError(f"{JudgedAudit.FILE} says otherwise than {Audit.FILE} and its rates: {said}")
    return len(there.prompts)


def _made_again(run: Run, there: Audit | Certification, named: str | None) -> Iterator[Result]:
    """What the folder's files give; of an audit by each method, for which it was is not on record."""
    if not isinstance(there, Audit):
        again = certified(run, named)
        if all(p.num_cut is None for p in there.prompts):  # an older version did not count them
            again = replace(again, prompts=tuple(replace(p, num_cut=None) for p in again.prompts))
        yield again
        return
    statement = {"scorer": there.scorer, "threshold": there.threshold, "alpha": there.alpha}
    for method in METHODS:
        yield concluded(run, statement, method=method)


def _difference(now: Any, there: Any, name: str = "") -> str | None:
    """Where two JSON values differ by more than rounding; None where they do not."""
    if isinstance(now, dict) and isinstance(there, dict) and now.keys() == there.keys():
        pairs = [(now[key], there[key], f"{name}.{key}".strip(".")) for key in now]
    elif isinstance(now, list) and isinstance(there, list) and len(now) == len(there):
        pairs = [(a, b, f"{name}[{i}]") for i, (a, b) in enumerate(zip(now, there, strict=True))]
    else:
        numbers = type(now) is type(there) is float
        alike = math.isclose(now, there, rel_tol=MADE_AGAIN, abs_tol=1e-300) if numbers else now == there
        return None if alike else f"{name} is {str(there)[:60]}, made again {str(now)[:60]}"
    return next((found for pair in pairs if (found := _difference(*pair)) is not None), None)


def _drawn(run: Run, named: str | None) -> claims.Claims:
    """The audit in the folder, with its judged draws."""
    audit = Audit.load(run.path)
    drawn: dict[str, list[tuple[Draw, float]]] = {p.prompt.id: [] for p in audit.prompts}
    for part in run.parts:
        if part.sampled and (not run.rule or run.has_draws(part)):
            for draw, value in run.read_scored(part, audit.scorer):
                drawn[draw.prompt_id].append((draw, value))
    return claims.Claims(audit, drawn, is_binary(_allowed(run, audit.scorer, named)))


def _certified(run: Run, named: str | None) -> claims.Said:
    """The claims of the certification in the folder, its completions scored again."""
    there = Certification.load(run.path)
    function = _allowed(run, there.scorer, named)
    facts = [fact for file in sorted((run.path / "facts").glob("*.json")) for fact in run.read_facts(file.stem)]
    scores = [
        score_completions(function, [(g["text"], p) for g in (*fact["generations"], *fact.get("weighted", ()))])
        for p, fact in zip(run.prompts, facts, strict=True)
    ]
    return claims.certificates(there, facts, scores, is_binary(function))
