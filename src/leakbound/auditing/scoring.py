"""The step that needs a scorer: each distinct completion of a run is judged once."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

from leakbound.errors import InputError
from leakbound.records import Draw, Prompt
from leakbound.runs.files import sweep
from leakbound.runs.layout import Part
from leakbound.runs.progress import Progress
from leakbound.runs.store import Run
from leakbound.scoring import Scorer, code_of, get_scorer, is_built_in, score_completions
from leakbound.workers import Crew, Do, Workers, crew_for, spread
from leakbound.workers.crew import here


def score(run: Run, scorer: str | None = None, *, workers: Workers | None = None, progress: bool = False) -> None:
    """Score every distinct completion of the run once; the default scorer is the one that run.json names.

    ``workers`` do it; by default those that drew, where it was drawn here.

    InputError where that is not built in and the run was opened, not started: a folder is data, name it again.
    """
    name = named_scorer(run, scorer)
    drawn = set(run.drawn() if run.rule else run.parts)
    code = code_of(name)
    missing = [part for part in run.missing_scores(name, code) if part in drawn]
    if missing and run.rule and name == run.info["statement"]["scorer"] and run.info.get("scorer_code", code) != code:
        raise InputError(
            f"run is {str(run.path)!r}: looks at scores by other code of {name} ended its rounds; give that code back, "
            "or score by a copy of another name"
        )
    if missing:
        sweep(run.path)
    total = sum(part.num_draws for part in missing)
    with Progress(f"scoring {run.path.name}", total, "draws", show=progress and bool(missing)) as shown:
        for part in Marks(run, name, crew_on(run, workers)).score(missing):
            shown.advance(part.num_draws)


def crew_on(run: Run, workers: Workers | None) -> Crew | None:
    """Those who work on a run: whom the caller names, or those who drew it."""
    return run.crew if workers is None else crew_for(workers)


def named_scorer(run: Run, given: str | None = None) -> str:
    """The scorer that the caller named, here or by starting the run; else that of run.json, if it is built in."""
    name = given or str(run.info["statement"]["scorer"])
    if not (given or run.ours or is_built_in(name)):
        again = f"leakbound score {shlex.quote(str(run.path))} --scorer {shlex.quote(name)}"
        raise InputError(
            f"run is {str(run.path)!r}: its run.json names the scorer {name!r}, which is not built in; a folder is "
            f"data, and nothing that it names is run. If you trust that scorer, name it yourself: `{again}`, and so "
            "for bound and verify"
        )
    return name


class Marks:
    """The scores that one scorer gives in a run: each distinct completion of a prompt is judged once."""

    def __init__(self, run: Run, name: str, crew: Crew | None = None) -> None:
        self.run, self.name, self.crew = run, name, crew
        self.prompts = {p.id: p for p in run.prompts}
        self.known: dict[tuple[str, str], float] = {}
        """The scores; NaN of what is being judged."""

    @cached_property
    def scorer(self) -> Scorer:
        """Loaded when something is scored: what only reads scores needs none."""
        return get_scorer(self.name)

    @cached_property
    def code(self) -> str:
        """The scorer's code, where it is not ours; loads it."""
        return code_of(self.name)

    def score(self, parts: Sequence[Part]) -> Iterator[Part]:
        """Score the draws of these parts and store the results, in this order; each part when it is stored."""

        def to_judge() -> Iterator[tuple[Part, tuple[list[Draw], str], list[tuple[str, str]]]]:
            for part in parts:
                draws, seal = self.run.read_sealed(part)
                new = list(dict.fromkeys(k for d in draws if (k := (d.prompt_id, d.text)) not in self.known))
                self.known.update(dict.fromkeys(new, math.nan))
                yield part, (draws, seal), new

        def judged(do: Do, job: tuple[Part, tuple[list[Draw], str], list[tuple[str, str]]]) -> Iterator[list[float]]:
            pairs = [(text, self.prompts[prompt_id]) for prompt_id, text in job[2]]
            yield score_completions(self.scorer, pairs) if do is here else do(_scored, self.name, self.code, pairs)

        waiting = list(parts)
        done: dict[Part, tuple[list[Draw], str]] = {}
        with spread(self.crew, to_judge(), judged, lambda job: f"scores of {job[0].name}") as found:
            for (part, sealed, new), scores in found:
                self.known.update(zip(new, scores, strict=True))
                done[part] = sealed
                while waiting and waiting[0] in done:  # its completions stand in it or in those before it
                    part, (draws, seal) = waiting[0], done.pop(waiting.pop(0))
                    values = [self.known[d.prompt_id, d.text] for d in draws]
                    self.run.write_scores(part, self.name, draws, values, seal, self.code)
                    yield part


def _scored(scorer: str, code: str, pairs: Sequence[tuple[str, Prompt]]) -> list[float]:
    """:func:`score_completions`, by a worker, which loads a scorer once. InputError where it has other ``code``."""
    if code_of(scorer) != code:
        raise InputError(f"a worker on {platform.node()} has other code of {scorer}: give every node the same")
    return score_completions(_loaded(scorer), pairs)


_loaded = lru_cache(maxsize=1)(get_scorer)
