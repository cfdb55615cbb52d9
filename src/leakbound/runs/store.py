"""The run folder: run.json, prompts.parquet, and immutable Parquet shards of draws and scores.

::

    run.json                     what is drawn from what, fixed before the first draw
    prompts.parquet
    draws/greedy-00000.parquet   one row for each distinct completion of a prompt within a shard, and which draws it was
    draws/sample-00000.parquet
    scores/<scorer>/*.parquet    the score of each of those rows
    pieces/*.parquet             draws of a shard that is not complete yet
    withheld.json                which draw failed by its answer, where one did: nothing is drawn here any more
    audit.json  report.html      derived

A file is written under a temporary name, synced and renamed: it is there whole or not at all, also after kill -9.
run.json comes after prompts.parquet: without it nothing has begun. Each file holds a checksum (see the module seals) of
its bytes and its place: which run and shard, and, of scores, which draws. Nothing in the folder depends on when, where
or how often the run was interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from leakbound.errors import IncompleteRunError, RunMismatchError, StorageError
from leakbound.records import Branch, Draw, Prompt, SamplingParams, Shard, prompts_checksum
from leakbound.runs.cache import check_same
from leakbound.runs.columns import ASCENDING, BEFORE, COUNTS, DRAWS, PROMPTS, SCORES, draw_of, storable
from leakbound.runs.files import (
    code_in,
    json_bytes,
    loading,
    read_columns,
    read_json,
    read_table,
    reading,
    storing,
    sweep,
    write_json,
    write_table,
)  # fmt: skip
from leakbound.runs.layout import Part, plan_layout, sizes
from leakbound.runs.pieces import Pieces
from leakbound.runs.places import place
from leakbound.runs.progress import steps
from leakbound.runs.seals import SEALED, has_seal, unsealed
from leakbound.runs.whole import check_whole
from leakbound.workers import Crew

FORMAT = SEALED
COUNTED = 4
"""The format of folders of counted draws: a version that does not know them reads none."""
NO_ORDER = (1,)
"""Formats that hold no order of the draws, so that their bounds are those that need none."""
OLD_FORMATS = (*NO_ORDER, 2)
"""Formats that can still be read, and have no checksums."""

COPY = "copy the folder again, or give another one"


class Run:
    """A run folder, open for reading and for adding shards."""

    def __init__(self, path: Path, info: dict[str, Any], prompts: tuple[Prompt, ...], id: str = "") -> None:
        self.path = path
        self.info = info
        self.id = id
        """The checksum of run.json; "" for a folder of a format without checksums, of which nobody can say that it is
        as it was written."""
        self.prompts = prompts
        self.params = SamplingParams.from_json(info["params"])
        self.parts = [Part(**part) for part in info["layout"]]
        self.rule: dict[str, Any] = info.get("rule") or {}
        engine = info.get("engine")
        self.engine: dict[str, Any] = engine if isinstance(engine, dict) else {"name": "iid"}
        self.ours = False
        """Whether the caller gave what run.json says, so that it may be acted on; a folder that was opened is data."""
        self.crew: Crew | None = None
        """The workers that draw it; they score and bound it as well."""

    @classmethod
    def start(cls, path: str | Path, info: dict[str, Any], prompts: Sequence[Prompt]) -> Run:
        """Begin a run in ``path``, or go on with the one that is there if it is the same run.

        ``info`` must hold ``params``, ``num_samples`` and ``seed``, and what :func:`leakbound.runs.layout.sizes` reads
        where it is not the usual; the layout is added. A folder whose run.json says otherwise is refused
        (RunMismatchError) and stays as it is; only ``versions`` may differ.
        """
        path = place(path)
        parts = plan_layout(len(prompts), info["num_samples"], **sizes(info))
        layout = [asdict(part) for part in parts]
        form = COUNTED if sizes(info).get("engine") == "counted" else FORMAT
        info = json.loads(json.dumps({"format": form, **info, "layout": layout}))
        with storing(path):
            there = (path / "run.json").exists()
            taken = _taken(path)
        if there:
            run = cls.open(path)
            if run.info["format"] in NO_ORDER:
                raise RunMismatchError(
                    f"out is {str(path)!r}, a folder of format {run.info['format']} without the order of the draws: "
                    "score, bound and report read it; to draw more, give a new folder"
                )
            own = () if run.rule else ("scorer_code",)  # what is drawn follows from it where rounds are judged
            check_same(f"out is {str(path)!r}, which", run.info, info, but=("format", "versions", "layout", *own))
            run.check_withheld()
            sweep(path)
            if run.pieces:  # asked before threads do; it was killed between a part's draws and the end of its pieces
                run.pieces.drop(run.drawn())
            run.ours = True
            return run
        if taken:
            raise RunMismatchError(f"out is {str(path)!r}: it exists and is not a run folder; give a new or empty one")
        sweep(path)
        _, id = json_bytes(info)
        schema = PROMPTS.append(BEFORE) if any(p.before for p in prompts) else PROMPTS
        table = pa.Table.from_pylist([p.to_json() for p in prompts], schema=schema)
        write_table(path / "prompts.parquet", table, where=f"{id} prompts")
        write_json(path / "run.json", info, new=True)
        run = cls(path, info, tuple(prompts), id)
        run.ours = True
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run in ``path``; RunMismatchError where there is none."""
        path = place(path)
        try:
            info, id = read_json(path / "run.json")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunMismatchError(f"run is {str(path)!r}: there is no run.json in it; give a run folder") from error
        except StorageError:
            raise
        except Exception as error:  # somebody else's file: whatever it raises, it is no run
            raise RunMismatchError(f"run is {str(path)!r}: its run.json cannot be read: {error}") from error
        if info.get("format") not in (FORMAT, COUNTED, *OLD_FORMATS):
            raise RunMismatchError(
                f"run is {str(path)!r}: format {info.get('format')!r}, but this version reads "
                f"{', '.join(map(str, (*OLD_FORMATS, FORMAT, COUNTED)))}"
            )
        if info["format"] >= SEALED and not id:
            raise RunMismatchError(f"run is {str(path)!r}: its run.json has no checksum: {COPY}")
        with loading(path / "prompts.parquet", COPY):
            rows, _ = read_table(path / "prompts.parquet", PROMPTS.append(BEFORE), f"{id} prompts" if id else None)
            prompts = tuple(map(Prompt.from_json, rows))
            said = info.get("prompts", {}).get("checksum")
            if said is not None and said != prompts_checksum(prompts):
                raise ValueError("it holds other prompts than run.json says")
        with loading(path / "run.json", COPY):
            run = cls(path, info, prompts, id)
            if {info["format"] == COUNTED} != {
                run.engine["name"] == "counted",
                *(p.kind == "counted" for p in run.parts if p.sampled),
            }:
                raise RunMismatchError(
                    f"run is {str(path)!r}: format {info['format']} with engine {run.engine['name']!r}: {COUNTED} is "
                    f"that of counted draws, and of no others; {COPY}"
                )
            return run

    def check_withheld(self) -> None:
        """RunMismatchError where an answer was withheld: draws that replace it would be chosen by what it said."""
        file = self.path / "withheld.json"
        if file.exists():
            with loading(file, COPY):
                said, _ = read_json(file, f"{self.id} withheld")
                raise RunMismatchError(
                    f"out is {str(self.path)!r}, where a draw of {said['part']} failed by its answer ({said['said']}): "
                    "to draw it again would choose by the answer, so nothing is drawn or claimed here any more; lift "
                    "what withholds answers, and give another folder"
                )

    def write_withheld(self, part: Part, said: str) -> None:
        """Close the run: a draw of one part failed by what was answered, as ``said``."""
        write_json(self.path / "withheld.json", {"part": part.name, "said": said}, f"{self.id} withheld")

    def shard(self, part: Part, prompts: Sequence[Prompt] | None = None) -> Shard:
        """The shard of one part of the layout, or of those of its prompts that are still drawn."""
        chosen = self.prompts[part.start : part.stop] if prompts is None else tuple(prompts)
        return Shard(chosen, part.first, part.num_samples, self.info["seed"])

    def going_through(self, what: str, parts: Sequence[Part], *, show: bool) -> AbstractContextManager[Iterator[Part]]:
        """The parts, and how many draws of them are done."""
        title = f"{what} {self.path.name}"
        return steps(parts, title, unit="draws", weight=lambda part: part.num_draws, show=show)

    def said_kept(self) -> str:
        """How many draws are on the disk, in words."""
        drawn = set(self.drawn())
        counts = [p.num_draws if p in drawn else sum(d.count for d in self.pieces.draws(p)) for p in self.parts]
        return f"{sum(counts):,} of {sum(p.num_draws for p in self.parts):,} draws are kept in {self.path}"

    def drawn(self) -> list[Part]:
        """The parts drawn by now, in the order of the layout; the folder is asked once, not for each of them."""
        there = self._names("draws")
        return [part for part in self.parts if self._draws(part).name in there]

    def missing_draws(self) -> list[Part]:
        """The parts not drawn yet, in the order of the layout."""
        drawn = set(self.drawn())
        return [part for part in self.parts if part not in drawn]

    def has_draws(self, part: Part) -> bool:
        """Whether one part has been drawn."""
        return self._draws(part).exists()

    def write_draws(self, part: Part, draws: Sequence[Draw]) -> None:
        """Store the draws of one part, once they have been counted. Scores of earlier draws of that part go first."""
        rows = storable(draws)
        self._check(part, rows)
        for stale in (self.path / "scores").glob(f"*/{part.name}.parquet"):
            stale.unlink()  # a server that is asked again says something else
        table = pa.Table.from_pylist(rows, schema=DRAWS)
        write_table(self._draws(part), table, ascending=ASCENDING, where=self._where("draws", part.name))
        self.pieces.drop([part])

    @cached_property
    def pieces(self) -> Pieces:
        """What is kept of parts that are not complete; looked for once."""
        return Pieces(self.path / "pieces", self._names("pieces"), self._where)

    def branches(self, part: Part) -> list[Branch]:
        """Where a part of counted draws goes on: at its prompts, or at the prefixes that its last piece left open."""
        roots = [Branch(p.id, (), part.num_samples) for p in self.prompts[part.start : part.stop]]
        open = self.pieces.open(part)
        return roots if open is None else open

    def _names(self, *folder: str) -> set[str]:
        """What lies in one of the folders, by one list; nothing where there is no such folder."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return {file.name for file in self.path.joinpath(*folder).iterdir()}
        return set()

    def read_draws(self, part: Part) -> list[Draw]:
        """The draws of one part; IncompleteRunError where they are missing or do not add up."""
        return self.read_sealed(part)[0]

    def read_sealed(self, part: Part) -> tuple[list[Draw], str]:
        """What :meth:`read_draws` reads, and its seal."""
        file = self._draws(part)
        with reading(file, "leakbound sample"):
            rows, seal = read_table(file, DRAWS, self._where("draws", part.name))
            self._check(part, rows)
            return [draw_of(row) for row in rows], seal

    def missing_scores(self, scorer: str, code: str = "") -> list[Part]:
        """The parts to judge that were not scored yet by this scorer, or by other ``code`` of it."""
        there = self._names("scores", _slug(scorer))
        return [
            part
            for part in self.parts
            if part.judged and (f"{part.name}.parquet" not in there or (code and self._code(part, scorer) != code))
        ]

    def _code(self, part: Part, scorer: str) -> str:
        with reading(self._scores(part, scorer), "leakbound score"):
            return code_in(self._scores(part, scorer))

    def has_scores(self, part: Part, scorer: str) -> bool:
        """Whether one part has been scored by this scorer."""
        return self._scores(part, scorer).exists()

    def write_scores(
        self,
        part: Part,
        scorer: str,
        draws: Sequence[Draw],
        scores: Sequence[float],
        seal: str | None = None,
        code: str = "",
    ) -> None:
        """Store the score of each draw of one part, and the scorer's ``code``, where it is not ours.

        ``seal``: that of the draws that were judged; by default of those that are there. IncompleteRunError where
        others are there by now: another process has drawn the part anew.
        """
        rows = [{"prompt_id": d.prompt_id, "first": d.first, "score": s} for d, s in zip(draws, scores, strict=True)]
        there = ""
        if place := self._where("draws", part.name):
            with reading(self._draws(part), "leakbound sample"):
                _, there = unsealed(self._draws(part), place)
        if seal not in (None, there):
            raise IncompleteRunError(
                f"{self._draws(part)} was written anew while its draws were scored: another process draws this run; "
                "end one of them and run the same again"
            )
        seal = there
        where = self._where("scores", scorer, part.name, seal)
        write_table(self._scores(part, scorer), pa.Table.from_pylist(rows, schema=SCORES), where=where, code=code)

    def read_scored(self, part: Part, scorer: str, code: str = "") -> Iterator[tuple[Draw, float]]:
        """Each draw of one part with its score; IncompleteRunError where one has none, or one by other ``code``."""
        draws, seal = self.read_sealed(part)
        file = self._scores(part, scorer)
        if code and self._code(part, scorer) != code:
            raise IncompleteRunError(
                f"{file} was scored by other code than {scorer} is now: run `leakbound score` on the folder, with "
                f"--scorer {shlex.quote(scorer)}"
            )
        with reading(file, "leakbound score"):
            rows, _ = read_table(file, SCORES, self._where("scores", scorer, part.name, seal))
            if [(d.prompt_id, d.first) for d in draws] != [(r["prompt_id"], r["first"]) for r in rows]:
                raise ValueError("its scores belong to other draws")
        for draw, row in zip(draws, rows, strict=True):
            yield draw, row["score"]

    def read_counts(self, part: Part, scorer: str) -> pa.Table:
        """What :meth:`read_scored` reads of one part, without texts and places: prompt_id, first, count, score.

        Whether a prompt has all of its draws is not looked at.
        """
        file, scores = self._draws(part), self._scores(part, scorer)
        with reading(file, "leakbound sample"):
            draws, seal = read_columns(file, COUNTS, self._where("draws", part.name))
        with reading(scores, "leakbound score"):
            found, _ = read_columns(scores, SCORES, self._where("scores", scorer, part.name, seal))
            if any(draws[name] != found[name] for name in ("prompt_id", "first")):
                raise ValueError("its scores belong to other draws")
        return draws.append_column("score", found["score"])

    def write_facts(self, name: str, facts: Sequence[Mapping[str, Any]]) -> None:
        """Store what a certification computed of some prompts."""
        write_json(self.path / "facts" / f"{name}.json", {"facts": facts}, f"{self.id} facts {name}")

    def read_facts(self, name: str) -> list[dict[str, Any]]:
        """What :meth:`write_facts` stored; a list alone in a folder without checksums."""
        file = self.path / "facts" / f"{name}.json"
        with reading(file, "leakbound certify"):
            if not self.id and file.read_bytes().startswith(b"["):
                return json.loads(file.read_bytes())  # type: ignore[no-any-return]
            value, seal = read_json(file, f"{self.id} facts {name}")
            if not seal:
                raise ValueError("its checksum is missing")
            return value["facts"]  # type: ignore[no-any-return]

    def _where(self, *place: str) -> str | None:
        """Where in which run a file belongs; None in a folder of a format without checksums."""
        return " ".join((self.id, *place)) if self.id else None

    def _draws(self, part: Part) -> Path:
        return self.path / "draws" / f"{part.name}.parquet"

    def _scores(self, part: Part, scorer: str) -> Path:
        return self.path / "scores" / _slug(scorer) / f"{part.name}.parquet"

    def _check(self, part: Part, rows: Sequence[Mapping[str, Any]]) -> None:
        """Every prompt has its draws of the part, or none where it has stopped or another engine draws it."""
        others = bool(self.rule) or self.engine["name"] != "iid"
        check_whole(part, [p.id for p in self.prompts[part.start : part.stop]], rows, absent=others)


def _taken(path: Path) -> bool:
    """Whether the folder holds anything but a run that was killed before its run.json was there."""
    if not path.is_dir():
        return path.exists()
    return any(
        not file.name.startswith((".prompts.parquet.", ".run.json."))
        and not (file.name == "prompts.parquet" and has_seal(file))  # one without may be the caller's own
        for file in path.iterdir()
    )


def _slug(scorer: str) -> str:
    """A folder name for a scorer: its own name where that is plain, else one made safe, with a hash of it."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", scorer):
        return scorer
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", scorer)[:40]
    return f"{safe}-{hashlib.sha256(scorer.encode()).hexdigest()[:12]}"
