"""The one orchestration: prompts -> draws -> scores -> bounds -> :class:`Audit`.

:func:`sample`, :func:`score` and :func:`bound` are separate steps joined by the files of a run folder; only the first
needs the model. :func:`audit` does all three.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from leakbound.auditing.concluding import METHODS, Collected, Levels, average_leak, average_score, spread_judge
from leakbound.auditing.drawing import Prompts, Statement, open_scorable, sample, watch
from leakbound.auditing.scoring import crew_on, named_scorer, score
from leakbound.auditing.stopping import StoppingRule
from leakbound.bounds import worst_prompt_bound
from leakbound.errors import InputError
from leakbound.models.opening import Loading
from leakbound.records import Draw, SamplingParams, check_choice
from leakbound.report.door import write_html
from leakbound.results.audit import Audit
from leakbound.runs.files import kept
from leakbound.runs.layout import Part
from leakbound.runs.store import Run
from leakbound.scoring import BatchScorer, code_of, get_scorer
from leakbound.workers import Workers

__all__ = ["Statement", "audit", "bound", "sample", "score"]


def audit(
    model: Any,
    prompts: Prompts,
    *,
    scorer: str = "rouge_l",
    threshold: float = 0.5,
    num_samples: int = 1024,
    alpha: float = 0.01,
    params: SamplingParams | None = None,
    seed: int = 0,
    until: str | None = None,
    width: float | None = None,
    engine: str = "iid",
    draws_per_shard: int | None = None,
    tokenizer: Any = None,
    template: str = "auto",
    loading: Loading | None = None,
    out: str | Path | None = None,
    guess: Audit | None = None,
    method: str = "default",
    page: bool = True,
    progress: bool = True,
) -> Audit:
    """How much does this model leak when it is sampled? Draw, score, bound.

    ``model``: a folder, a hub id, a model of transformers (with ``tokenizer``), or any Sampler. ``prompts``: a file, a
    hub data set, or a list of mappings with text and target. A completion leaks when ``scorer`` gives it ``threshold``
    or more. Each statement of the result is false with probability at most ``alpha``. With ``out`` the draws, scores,
    audit.json and report.html stay in that folder, and an interrupted audit goes on there; without ``page`` there is no
    report.html, which would call right answers to retain questions leaks. ``until`` ("leak<=0.01",
    "mean<=0.05") or ``width`` stops each prompt as soon as that is proven or refuted, with ``num_samples`` as budget.
    ``engine`` "auto" draws prompts of low entropy without replacement and bounds them by their exact probabilities.
    ``draws_per_shard`` as in :func:`sample`. ``loading`` says how a folder or hub id is loaded.

    Raises InputError for anything that cannot be audited, and never drops a draw.
    """
    check_choice("method", method, METHODS)
    with kept(out) as folder:
        run = sample(
            model, prompts, folder, num_samples=num_samples, params=params, seed=seed,
            statement=Statement(scorer, threshold, alpha), until=until, width=width, engine=engine,
            draws_per_shard=draws_per_shard, tokenizer=tokenizer, template=template, loading=loading, progress=progress,
        )  # fmt: skip
        score(run, progress=progress)
        result = bound(run, method=method, progress=progress)
    if page and out is not None:
        write_html(result, run.path / "report.html", guess=guess)
    return result


def bound(
    run: Run,
    *,
    scorer: str | None = None,
    threshold: float | None = None,
    alpha: float | None = None,
    method: str = "default",
    workers: Workers | None = None,
    progress: bool = False,
) -> Audit:
    """Bound what the run's scores say, and write audit.json; no model is needed.

    What is not given is as run.json fixed it; a scorer that is not built in must be named again where the run was
    opened, not started. A statement chosen after the draws is allowed, and marked as not planned.
    ``method`` "paper" gives the bounds of arXiv 2410.03523 throughout. Where prompts may have stopped early, every
    bound is one that holds at whatever round that was. ``workers`` as in :func:`score`.
    """
    chosen = {"scorer": scorer, "threshold": threshold, "alpha": alpha}
    result = concluded(run, chosen, method=method, workers=workers, progress=progress)
    result.save(run.path / "audit.json")
    return result


def concluded(
    run: Run, given: Mapping[str, Any], *, method: str, workers: Workers | None = None, progress: bool = False
) -> Audit:
    """:func:`bound` without writing it down; ``given``: its scorer, threshold and alpha."""
    check_choice("method", method, METHODS)
    run.check_withheld()
    fixed = run.info["statement"]
    given = {**given, "scorer": named_scorer(run, given["scorer"])}
    chosen = {**fixed, **{name: value for name, value in given.items() if value is not None}}
    statement = Statement(**chosen)
    code = code_of(statement.scorer)
    as_fixed = chosen == fixed and run.info.get("scorer_code", code) == code
    # what was opened may be older than the check before the first draw; a model behind a scorer is asked nothing here
    unchecked = not run.ours and not isinstance(get_scorer(statement.scorer), BatchScorer)
    if chosen != fixed or unchecked:
        open_scorable(run.prompts, statement)
    rule = None
    if run.rule:
        rule = StoppingRule.from_json(run.rule, threshold=fixed["threshold"], alpha=fixed["alpha"])
    watched = (statement.scorer, statement.threshold) == (fixed["scorer"], fixed["threshold"])
    levels = Levels(statement, len(run.prompts), rule, watched)
    collected = {p.id: Collected(p, ordered=not levels.binary) for p in run.prompts}

    def collect(part: Part, draw: Draw, value: float) -> None:
        if levels.binary and value not in (0.0, 1.0):
            raise InputError(
                f"scorer {statement.scorer!r} declares that it gives 0 and 1 only, and {part.name} holds the score "
                f"{value!r} of prompt {draw.prompt_id!r}: score again, or drop the declaration"
            )
        collected[draw.prompt_id].add(part, draw, value)

    once = bool(run.rule) and statement.scorer == fixed["scorer"]  # the rounds are read by watch, with these scores
    watches = watch(run, each=collect if once else None, code=code if once else "") if run.rule else {}
    drawn = [p for p in run.parts if p.greedy or (p.judged and not once and (not run.rule or run.has_draws(p)))]
    with run.going_through("bounding", drawn, show=progress) as parts:
        for part in parts:
            for draw, value in run.read_scored(part, statement.scorer, code):
                collect(part, draw, value)
    everyone = list(collected.values())
    for one in everyone:
        if not run.rule:
            one.check(run.info["num_samples"])
    results = tuple(spread_judge(everyone, levels, method, watches, crew_on(run, workers)))
    units = {p.leak.unit for p in results}
    unit = units.pop() if len(units) == 1 else "draws, some without replacement"
    worst = replace(worst_prompt_bound([p.leak for p in results]), unit=unit)
    if len(results) == 1:  # the average of one prompt is that prompt: one question has one number
        mean_leak, mean_score = (replace(b, scope="the average prompt") for b in (results[0].leak, results[0].mean))
    else:
        mean_leak = average_leak(everyone, levels)
        mean_score = replace(mean_leak, estimand="E[h]") if levels.binary else average_score(everyone, levels)
    return Audit(
        run=run.info,
        scorer=statement.scorer,
        threshold=statement.threshold,
        alpha=statement.alpha,
        planned=as_fixed and ("imported" not in run.info or bool(run.rule)),
        prompts=results,
        worst_prompt=worst,
        mean_leak=mean_leak,
        mean_score=mean_score,
    )
