"""A run folder as the viewer sees it: its prompts, what was stated of them, and what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

from leakbound.bounds.gate import reaches
from leakbound.errors import InputError, LeakboundError
from leakbound.records import SamplingParams
from leakbound.report.findings import Findings, find
from leakbound.report.parts import Tone
from leakbound.report.rows import Row
from leakbound.results.audit import Audit
from leakbound.results.certificate import Certification, PromptCertificate
from leakbound.runs.store import Run
from leakbound.scoring.table import SCORERS
from leakbound.viewing.answers import Shards, Tally
from leakbound.viewing.marking import marker
from leakbound.viewing.skimming import skim
from leakbound.wording import plural


@dataclass(frozen=True)
class Problem:
    """What is missing or does not fit, and the command that helps, where there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Line:
    """One prompt: its place in the file, and what was stated of it, as an audit's row or as a certificate.

    ``rank`` is its place when the worst stands first; ``status`` is None where nothing was stated.
    """

    index: int
    rank: int
    status: Tone | None = None
    row: Row | None = None
    certificate: PromptCertificate | None = None

    @property
    def rate(self) -> float | None:
        """The observed share of leaks, or the mass that surely leaks; None where nothing was stated."""
        if self.row is not None:
            return self.row.result.leak_rate
        return None if self.certificate is None else self.certificate.limits.lower


class Folder:
    """One run, opened once; a folder that has changed since is opened again by :meth:`fresh`.

    ``retain``: its questions are to be answered, so that what its scorer finds is right and no leak.
    """

    def __init__(self, path: Path, name: str, guess: Audit | None = None, retain: bool = False) -> None:
        self.path, self.name, self.guess, self.retain = path, name, guess, retain
        self.seen = _looks(path)
        self.run = Run.open(path)
        self.places = {prompt.id: i for i, prompt in enumerate(self.run.prompts)}
        self.certified = self.run.info.get("kind") == "certificate"
        self.problems: list[Problem] = []
        self.audit: Audit | None = None
        self.certification: Certification | None = None
        self._state()
        statement = self.audit or self.certification
        fixed = self.run.info.get("statement") or {}
        self.scorer = str(statement.scorer if statement else fixed.get("scorer", ""))
        self.threshold = float(statement.threshold if statement else fixed.get("threshold", 0.5))
        self.shards = Shards(self.run, self.scorers)
        self.marker = marker(self.scorer)
        self.counting = False
        self.tally = Tally(self.run, self.scorer, self.threshold)

    def fresh(self) -> Folder:
        """This folder, or what it is now, where files were added or changed."""
        return self if _looks(self.path) == self.seen else Folder(self.path, self.name, self.guess, self.retain)

    def command(self, step: str) -> str:
        """A command about this folder."""
        return f"leakbound {step} {shlex.quote(str(self.path))}"

    @cached_property
    def scorers(self) -> tuple[str, ...]:
        """The scorers that judged some shard, that of the statement first.

        A folder of scores is named by its scorer, where that is a plain word.
        """
        fixed = str((self.run.info.get("statement") or {}).get("scorer", ""))
        there = sorted(p.name for p in (self.path / "scores").glob("*") if p.is_dir())
        known = dict.fromkeys((self.scorer, fixed, *(name for name in there if name in SCORERS)))
        scored = [n for n in known if n and len(self.run.missing_scores(n)) < sum(p.judged for p in self.run.parts)]
        return tuple(scored) or ((self.scorer,) if self.certified else ())

    @property
    def temperature(self) -> str:
        """The temperature of the draws, and what else there is of decoding."""
        return _decoding(self.run.params)

    @cached_property
    def findings(self) -> Findings | None:
        """What the report says of the audit."""
        return None if self.audit is None else find(self.audit, self.guess)

    @cached_property
    def lines(self) -> list[Line]:
        """The prompts in the order of the file. Of retain questions the worst is the one that is right least often."""
        found = self._lines()
        if not self.retain:
            return found
        order = sorted(found, key=lambda line: (line.rate or 0.0, -line.rank))
        ranked = (replace(x, rank=rank) for rank, x in enumerate(order))
        calm = (replace(x, status="seen") if x.status == "hidden" else x for x in ranked)  # that is no alarm here
        return sorted(calm, key=lambda line: line.index)

    def _lines(self) -> list[Line]:
        if self.findings is not None:
            ranked = [
                Line(self.places[row.result.prompt.id], rank, row.status, row)
                for rank, row in enumerate(self.findings.shortlist(len(self.findings.rows)))
            ]
            return sorted(ranked, key=lambda line: line.index)
        if self.certification is not None:
            found = self.certification.prompts
            order = sorted(range(len(found)), key=lambda i: (-found[i].limits.lower, -found[i].leak.upper))
            ranks = {i: rank for rank, i in enumerate(order)}
            seen = [any(reaches(c.score, self.threshold) for c in p.worst) for p in found]
            return [Line(i, ranks[i], "seen" if seen[i] else "unseen", certificate=p) for i, p in enumerate(found)]
        return [Line(i, i) for i in range(len(self.run.prompts))]

    def _state(self) -> None:
        """Find what was stated, and what is missing or does not fit."""
        run, fixed = self.run, self.run.info.get("statement") or {}
        if self.certified:
            self.problems += self._read(Certification, "certificate.json", "certification")
            return
        late = [p for p in run.missing_draws() if not (run.rule and p.kind == "sample")]
        if late or any((self.path / "pieces").glob("*.parquet")):
            self.problems.append(
                Problem(
                    f"This run is not complete: {_kept(run)}. No statement can be made from it yet: run the "
                    "command that began it again, and it goes on"
                )
            )
        self.problems += self._read(Audit, "audit.json", "audit")
        scorer = self.audit.scorer if self.audit else str(fixed.get("scorer", ""))
        drawn = set(run.drawn())
        unscored = [p for p in run.missing_scores(scorer) if p in drawn]
        if unscored:
            judged = sum(p.judged for p in drawn)
            said = f"{len(unscored)} of {plural(judged, 'shard')} of draws are not scored by {scorer}"
            self.problems.append(Problem(f"{said}: of their answers nothing is known", self.command("score")))
        if self.audit is not None and self.audit.run != run.info:
            self.audit = None
            said = "audit.json is of another run than this folder holds, so that nothing of it is shown"
            self.problems.append(Problem(said, self.command("bound")))
        if self.audit is None and run.rule:
            said = "Whether all rounds were drawn is not known without audit.json"
            self.problems.append(Problem(said, self.command("bound")))

    def _read(self, kind: type[Audit] | type[Certification], file: str, what: str) -> Iterator[Problem]:
        """The statement in a file; without one, what to do."""
        path = self.path / file
        if not path.exists():
            said = f"There is no {file}: what is seen below are single answers, and of no prompt anything is proven"
            yield Problem(said, self.command("bound") if kind is Audit else "")
            return
        try:
            found: Any = skim(path, self.run.prompts) if kind is Audit else kind.load(path)
            if [p.prompt for p in found.prompts] != list(self.run.prompts):
                raise InputError(f"{file} is about other prompts than this folder holds")
            setattr(self, what, found)
        except LeakboundError as error:
            yield Problem(f"{error}. Nothing of it is shown", self.command("bound") if kind is Audit else "")

    def begin_counting(self) -> None:
        """Count leaks and draws in the shards, beside everything else."""
        if not self.certified and not self.counting:
            self.counting = True
            Thread(target=self.tally.count, daemon=True).start()

    def counted(self) -> list[Problem]:
        """Where what was counted contradicts what is stated, as far as it was counted."""
        tally = self.tally
        if tally.error:
            return [Problem(f"{tally.error}. The statements of its prompts cannot be checked")]
        if self.audit is None or not tally.complete:
            return []
        wrong = [p for i, p in enumerate(self.audit.prompts) if (p.num_leaks, p.num_samples) != tally.of(i)]
        if not wrong:
            return []
        said = (
            f"audit.json is not about these draws: of {plural(len(wrong), 'prompt')} it states other numbers of leaks"
        )
        return [Problem(f"{said} or draws than the folder holds", self.command("bound"))]


def _looks(path: Path) -> tuple[object, ...]:
    """What tells that a folder has changed: size and time of its results, and which shards there are."""
    stats = []
    for name in ("run.json", "audit.json", "certificate.json", "draws", "pieces", "scores", "facts"):
        try:
            found = (path / name).stat()
            stats.append((name, found.st_size, found.st_mtime_ns))
        except OSError:
            stats.append((name, 0, 0))
    scores = path / "scores"
    inner = [(p.name, p.stat().st_mtime_ns) for p in sorted(scores.iterdir())] if scores.is_dir() else []
    return (*stats, *inner)


def _kept(run: Run) -> str:
    try:
        return run.said_kept()
    except LeakboundError as error:
        return str(error)


def _decoding(params: SamplingParams) -> str:
    """Temperature, and whatever is not the model's own law."""
    said = [f"{params.temperature:g}"]
    said += [f"top-p {params.top_p:g}"] if params.top_p < 1 else []
    said += [f"top-k {params.top_k}"] if params.top_k else []
    said += [f"min-p {params.min_p:g}"] if params.min_p else []
    said += [f"greedy where sure of {params.adaptive_temperature:g}"] if params.adaptive_temperature else []
    return ", ".join(said)


def open_folders(found: Mapping[Path, bool], guess: Path | None = None) -> list[Folder]:
    """The runs in these folders, each with whether it is on retain questions; InputError where one cannot be read."""
    level = None if guess is None else Audit.load(guess, "guess")
    names = [path.resolve().name for path in found]
    return [
        Folder(
            path,
            f"{path.resolve().parent.name}/{name}" if names.count(name) > 1 else name,
            None if of_retain else level,
            of_retain,
        )
        for (path, of_retain), name in zip(found.items(), names, strict=True)
    ]
