"""The step that needs a model: drawing completions into a run folder, in rounds where they may stop early."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import leakbound
from leakbound.auditing.counting import count_part
from leakbound.auditing.engines import chosen_engines, draw_part, plan_engine
from leakbound.auditing.scoring import Marks
from leakbound.auditing.stopping import StoppingRule, Watch, same_question
from leakbound.bounds.gate import check_alpha, check_threshold
from leakbound.errors import IncompleteRunError, InputError, LeakboundError
from leakbound.models.away import crew_of, through
from leakbound.models.base import Counting, Remote, Sampler, check_asked, in_pieces
from leakbound.models.opening import Loading, open_model
from leakbound.reading.prompts import as_prompts, load_prompts
from leakbound.records import Draw, Prompt, SamplingParams, check_count, prompts_checksum
from leakbound.runs.layout import Part
from leakbound.runs.places import place
from leakbound.runs.progress import Progress, keeping
from leakbound.runs.store import Run
from leakbound.scoring import check_prompt, code_of, get_scorer
from leakbound.wording import plural
from leakbound.workers import Do, spread

Prompts = str | Path | Iterable[Prompt | dict[str, Any]]
"""A file, a hub data set, or prompts (or mappings with text and target)."""


@dataclass(frozen=True)
class Statement:
    """What is claimed, fixed before the first draw.

    A completion leaks when ``scorer`` gives it ``threshold`` or more; each bound is false with probability at most
    ``alpha``.
    """

    scorer: str = "rouge_l"
    threshold: float = 0.5
    alpha: float = 0.01

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_threshold(self.threshold)
        get_scorer(self.scorer)


def open_prompts(prompts: Prompts) -> tuple[Prompt, ...]:
    """Prompts from a file, a hub data set, or an iterable of Prompt or mappings."""
    return load_prompts(prompts) if isinstance(prompts, str | Path) else as_prompts(prompts)


def open_scorable(prompts: Prompts, statement: Statement) -> tuple[Prompt, ...]:
    """:func:`open_prompts`; InputError for a prompt whose leak the scorer does not see."""
    questions, function = open_prompts(prompts), get_scorer(statement.scorer)
    for prompt in questions:
        check_prompt(function, prompt, statement.threshold)
    return questions


def as_recorded(out: str | Path, template: str) -> str:
    """The template; where the run in ``out`` told its chat template a date, the chat template at that date."""
    file = place(out) / "run.json"
    if template not in ("auto", "chat") or not (os.path.exists(file) if isinstance(file, Path) else file.exists()):
        return template  # also where a path cannot be, which the run itself refuses
    recorded = Run.open(out).info.get("model") or {}
    return f"chat@{recorded['date']}" if recorded.get("date") else template


def sample(
    model: Any,
    prompts: Prompts,
    out: str | Path,
    *,
    num_samples: int = 1024,
    params: SamplingParams | None = None,
    seed: int = 0,
    statement: Statement | None = None,
    until: str | None = None,
    width: float | None = None,
    engine: str = "iid",
    draws_per_shard: int | None = None,
    tokenizer: Any = None,
    template: str = "auto",
    loading: Loading | None = None,
    progress: bool = False,
) -> Run:
    """Draw ``num_samples`` completions and one greedy completion for each prompt into the run folder ``out``.

    Interrupted and called again with the same arguments, it goes on where it stopped and ends with the same files;
    not where an answer was withheld, for another draw in its place would be chosen by what it said (RunMismatchError).
    ``statement`` is what will be claimed; it is written down before the first draw. With ``until`` ("leak<=0.01",
    "mean<=0.05") or ``width`` each prompt is drawn in rounds, scored, and stopped at its verdict; ``num_samples`` is
    then the budget. ``engine`` "without-replacement" draws that many *distinct* completions with their exact
    probabilities, "auto" does so (with at most 256) where 32 pilot draws, which are not judged, promise a smaller bound
    than independent draws. ``draws_per_shard``: the most draws of one prompt that are made at once, by default 65,536;
    more are faster where completions repeat, and take memory by their number where they do not. Raises RunMismatchError
    for the folder of another run.
    """
    params, statement = params or SamplingParams(), statement or Statement()
    check_count("num_samples", num_samples, least=1)
    check_count("seed", seed, least=0)
    if draws_per_shard is not None:
        check_count("draws_per_shard", draws_per_shard, least=1)
        if engine == "counted":
            raise InputError(f"draws_per_shard is {draws_per_shard}: counted draws are not cut; leave it out")
    if params.greedy:
        raise InputError("temperature is 0: greedy draws are all the same; give a temperature > 0 (1: the model's own)")
    rule = None
    if until is not None or width is not None:
        until = same_question(until, statement.scorer)
        rule = StoppingRule(until, width, num_samples, statement.threshold, statement.alpha)
    questions = open_scorable(prompts, statement)
    template = as_recorded(out, template)
    sampler = open_model(model, tokenizer=tokenizer, template=template, loading=loading)
    check_asked(sampler, questions, params)
    planned = plan_engine(engine, sampler, num_samples, rule)
    described = sampler.describe()
    served = sampler.agreement(params) if isinstance(sampler, Remote) else {}
    info = {
        "model": described,
        **({"served": served} if served else {}),
        "prompts": {"count": len(questions), "checksum": prompts_checksum(questions)},
        "params": {k: v for k, v in params.to_json().items() if k not in served.get("not_sent", ())},
        "num_samples": num_samples,
        "seed": seed,
        "statement": asdict(statement),
        "versions": versions_of(sampler),
        **({"scorer_code": code} if (code := code_of(statement.scorer)) else {}),
        **({} if rule is None else {"rule": rule.to_json()}),
        **({} if planned is None else {"engine": planned}),
        **({} if draws_per_shard is None else {"draws_per_shard": draws_per_shard}),
    }
    run = Run.start(out, info, questions)
    run.crew = crew_of(sampler)
    missing = [part for part in run.missing_draws() if rule is None or part.greedy]
    early = ("greedy", "pilot") if any(part.kind == "pilot" for part in run.parts) else ()
    pilots = [part for part in missing if part.kind in early]
    total = sum(part.num_draws for part in missing)
    with keeping(run.said_kept):
        with Progress(f"drawing {run.path.name}", total, "draws", show=progress and bool(missing)) as shown:
            draw_parts(run, pilots, sampler, partial(draw_part, run, {}), shown)
            others = [part for part in missing if part not in pilots and part.kind != "counted"]
            shards = sum(part.sampled for part in run.parts)  # also those drawn: a run that goes on keeps its own
            if run.crew and others and (room := run.crew.place.room()) > shards:
                shown.say(f"{room} workers, {plural(shards, 'shard')}: see --draws-per-shard")
            engines = chosen_engines(run) if others else {}
            draw_parts(run, others, sampler, partial(draw_part, run, engines), shown)
            for part in (part for part in missing if part.kind == "counted"):
                assert isinstance(sampler, Counting)  # plan_engine asked for one
                count_part(run, part, sampler, shown)
        if rule is not None:
            watch(run, sampler, progress=progress)
    return run


Drawn = tuple[list[Draw], bool | None]
"""A piece of a part and whether it is the last one; None: what was known of the part before."""


def draw_parts(
    run: Run,
    parts: Sequence[Part],
    sampler: Sampler,
    drawn: Callable[[Sampler, Part, Sequence[Draw]], Iterable[tuple[list[Draw], bool]]],
    shown: Progress,
) -> None:
    """Draw parts of a run, each piece on the disk before the next one of its part begins; ``drawn`` takes those known.

    A part is a pure function of the run's settings: where workers hold the sampler, each of them draws another part.
    """

    def of_part(do: Do, part: Part) -> Iterator[Drawn]:
        known = run.pieces.draws(part)
        yield known, None
        try:
            yield from drawn(through(sampler, do), part, known)
        except LeakboundError as error:
            if error.of_answer:
                run.write_withheld(part, str(error))
            raise

    pieces: dict[Part, list[Draw]] = {}
    with spread(crew_of(sampler), parts, of_part, lambda part: part.name) as found:
        for part, (piece, last) in found:
            done = sum(draw.count for draw in piece)
            if last is None:
                if part not in pieces:
                    shown.skip(done)
                pieces[part] = piece
            elif last:
                known = pieces.pop(part)
                before = sum(draw.count for draw in known)
                if known:  # as if the shard had been drawn in one go
                    order = {p.id: i for i, p in enumerate(run.prompts[part.start : part.stop])}
                    piece = sorted([*known, *piece], key=lambda draw: (order[draw.prompt_id], draw.first))
                run.write_draws(part, piece)
                shown.advance(part.num_draws - before)
            else:
                run.pieces.write(part, piece)
                pieces[part] = [*pieces[part], *piece]
                shown.advance(done)


def watch(
    run: Run,
    sampler: Sampler | None = None,
    *,
    each: Callable[[Part, Draw, float], None] | None = None,
    code: str = "",
    progress: bool = False,
) -> dict[str, Watch]:
    """Go through the rounds of a run that may stop early; returns what each prompt's looks say, by prompt id.

    With a sampler, rounds that are missing are drawn and scored; without one they must be there. Which prompts a round
    holds follows from the rounds before it, so that going through them again gives the same verdicts. ``each`` is shown
    every scored draw of the rounds. ``code``: that of the scorer, where it may be loaded and is not ours.
    """
    fixed = run.info["statement"]
    rule = StoppingRule.from_json(run.rule, threshold=fixed["threshold"], alpha=fixed["alpha"])
    watches = {p.id: Watch(rule) for p in run.prompts}
    marks = Marks(run, fixed["scorer"], run.crew)
    rounds: dict[int, list[Part]] = {}
    for part in run.parts:
        if not part.greedy:
            rounds.setdefault(int(part.name.split("-")[1]), []).append(part)
    if sampler is not None:
        code = marks.code
        for _ in marks.score([p for p in run.missing_scores(marks.name, code) if p.greedy]):
            pass
    budget = sum(part.num_draws for group in rounds.values() for part in group)
    with Progress(f"rounds of {run.path.name}", budget, "draws of the budget", show=progress) as shown:
        for _, group in sorted(rounds.items()):
            still = {prompt_id for prompt_id, w in watches.items() if not w.ended}
            found: dict[str, list[tuple[float, int]]] = {prompt_id: [] for prompt_id in still}
            members = {part: [p for p in run.prompts[part.start : part.stop] if p.id in still] for part in group}
            asked = [part for part in group if members[part]]
            missing = [part for part in run.missing_draws() if members.get(part)] if sampler is not None else []
            shown.skip(sum(part.num_draws for part in group if part not in missing))
            if sampler is not None:
                draw_parts(run, missing, sampler, partial(_round, run, members), shown)
                unscored = run.missing_scores(marks.name, code)
                for _ in marks.score([part for part in unscored if members.get(part)]):
                    pass
            for part in asked:
                for draw, value in run.read_scored(part, marks.name, code):
                    if draw.prompt_id not in found:
                        raise IncompleteRunError(
                            f"{part.name} holds draws of prompt {draw.prompt_id!r}, which had stopped by the scores of "
                            "the rounds before: its rounds were ended by other scores; sample again into a new folder"
                        )
                    found[draw.prompt_id].append((value, draw.count))
                    if each is not None:
                        each(part, draw, value)
            for prompt_id, pairs in found.items():
                watches[prompt_id].add(np.array([v for v, _ in pairs]), np.array([c for _, c in pairs]))
    return watches


def _round(
    run: Run, members: Mapping[Part, Sequence[Prompt]], sampler: Sampler, part: Part, known: Sequence[Draw]
) -> Iterator[tuple[list[Draw], bool]]:
    """The draws of a part of a round, of the prompts that it is still about."""
    return in_pieces(sampler, run.shard(part, members[part]), run.params, known)


def versions_of(sampler: Any) -> dict[str, str]:
    """:func:`software_versions` where the model is; from then on every worker must have these."""
    if (crew := crew_of(sampler)) is None:
        return software_versions()
    found: dict[str, str] = crew.do(software_versions)
    crew.first = [*crew.first, (check_versions, found)]
    return found


def software_versions() -> dict[str, str]:
    """What ran: leakbound, Python, and the libraries that the numbers depend on."""
    versions = {"leakbound": leakbound.__version__, "python": platform.python_version()}
    return versions | {name: _version(name) for name in ("numpy", "scipy", "torch", "transformers")}


def check_versions(first: Mapping[str, str]) -> None:
    """InputError where a worker has others than the ``first`` one: their draws would not be of one law."""
    mine = software_versions()
    if differ := [f"{name} {mine.get(name)}, not {first[name]}" for name in first if mine.get(name) != first[name]]:
        raise InputError(f"a worker on {platform.node()} has {', '.join(differ)}: install the same on every node")


@cache  # else transformers' whole description is read for every run
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
