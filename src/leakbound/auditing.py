"""The one orchestration: prompts -> draws -> scores -> bounds -> :class:`Audit`.

:func:`sample`, :func:`score` and :func:`bound` are separate steps joined by the files of a run folder; only the first
needs the model. :func:`audit` does all three.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakbound import bounds
from leakbound.bounds import Bound
from leakbound.drawing import Loading, Prompts, Statement, open_model, open_prompts, sample, score, steps, watch
from leakbound.errors import InputError
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.results import Audit, PromptAudit, ScoredCompletion
from leakbound.stopping import Watch
from leakbound.store import Run

__all__ = ["Loading", "Statement", "audit", "bound", "open_model", "open_prompts", "sample", "score"]

SURVIVAL_GRID = tuple(i / 100 for i in range(100))
"""Where the survival band is reported; the band holds for all x at once, so the choice costs nothing."""
METHODS = {
    "default": {"mean": "betting", "std": "betting", "survival": "hybrid"},
    "paper": {"mean": "paper", "std": "paper", "survival": "paper"},
}
"""The bounds behind ``method``: this library's choice, or those of arXiv 2410.03523."""
NUM_WORST = 5
"""How many of a prompt's most leaking completions an audit keeps."""


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
    tokenizer: Any = None,
    template: str = "auto",
    loading: Loading | None = None,
    out: str | Path | None = None,
    guess: Audit | None = None,
    method: str = "default",
    progress: bool = True,
) -> Audit:
    """How much does this model leak when it is sampled? Draw, score, bound.

    ``model``: a folder, a hub id, a model of transformers (with ``tokenizer``), or any Sampler. ``prompts``: a file, a
    hub data set, or a list of mappings with text and target. A completion leaks when ``scorer`` gives it ``threshold``
    or more. Each statement of the result is false with probability at most ``alpha``. With ``out`` the draws, scores,
    audit.json and report.html stay in that folder, and an interrupted audit goes on there. ``until`` ("leak<=0.01",
    "mean<=0.05") or ``width`` stops each prompt as soon as that is proven or refuted, with ``num_samples`` as budget.
    ``loading`` says how a folder or hub id is loaded.

    Raises InputError for anything that cannot be audited, and never drops a draw.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}: give one of {', '.join(METHODS)}")
    with tempfile.TemporaryDirectory(prefix="leakbound-") as temporary:
        run = sample(
            model,
            prompts,
            Path(temporary) / "run" if out is None else out,
            num_samples=num_samples,
            params=params,
            seed=seed,
            statement=Statement(scorer, threshold, alpha),
            until=until,
            width=width,
            tokenizer=tokenizer,
            template=template,
            loading=loading,
            progress=progress,
        )
        score(run, progress=progress)
        result = bound(run, method=method, progress=progress)
    if out is not None:
        result.report(run.path / "report.html", guess=guess)
    return result


def bound(
    run: Run,
    *,
    scorer: str | None = None,
    threshold: float | None = None,
    alpha: float | None = None,
    method: str = "default",
    progress: bool = False,
) -> Audit:
    """Bound what the run's scores say, and write audit.json; no model is needed.

    What is not given is as run.json fixed it. A statement chosen after the draws is allowed, and marked as not planned.
    ``method`` "paper" gives the bounds of arXiv 2410.03523 throughout. Where prompts may have stopped early, every
    bound is one that holds at whatever round that was.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}: give one of {', '.join(METHODS)}")
    fixed = run.info["statement"]
    given = {"scorer": scorer, "threshold": threshold, "alpha": alpha}
    chosen = {**fixed, **{name: value for name, value in given.items() if value is not None}}
    statement = Statement(**chosen)
    watches = watch(run) if run.rule else {}
    collected = {p.id: _Collected(p) for p in run.prompts}
    drawn = [part for part in run.parts if not run.rule or run.has_draws(part)]
    with steps("bounding", run, drawn, progress) as parts:
        for part in parts:
            for draw, value in run.read_scored(part, statement.scorer):
                collected[draw.prompt_id].add(draw, value, greedy=part.greedy)
    everyone = list(collected.values())
    levels = _Levels(statement, len(everyone), len(run.rule["sizes"]) if run.rule else 0)
    values, counts = [c.values for c in everyone], [c.counts for c in everyone]
    means = levels.all_looks(bounds.mean_bounds, values, counts, METHODS[method]["mean"])
    stds = levels.all_looks(bounds.std_bounds, values, counts, METHODS[method]["std"])
    eds = levels.all_looks(bounds.ed_bounds, values, counts)
    results = tuple(
        _prompt_audit(c, statement, levels, mean, std, ed, METHODS[method]["survival"], watches.get(c.prompt.id))
        for c, mean, std, ed in zip(everyone, means, stds, eds, strict=True)
    )
    leaks, sizes = [p.num_leaks for p in results], [p.num_samples for p in results]
    if run.rule:
        mean_leak = _average([p.leak_jointly for p in results], statement.alpha)
        joint = levels.all_looks(bounds.mean_bounds, values, counts, METHODS[method]["mean"], jointly=True)
        mean_score = _average(joint, statement.alpha)
    else:
        mean_leak = bounds.average_proportion_bound(
            leaks, sizes, alpha=statement.alpha, estimand=results[0].leak.estimand
        )
        mean_score = bounds.average_mean_bound(values, alpha=statement.alpha, counts=counts)
    result = Audit(
        run=run.info,
        scorer=statement.scorer,
        threshold=statement.threshold,
        alpha=statement.alpha,
        planned=chosen == fixed,
        prompts=results,
        worst_prompt=bounds.worst_prompt_bound([p.leak for p in results]),
        mean_leak=mean_leak,
        mean_score=mean_score,
    )
    result.save(run.path / "audit.json")
    return result


class _Collected:
    """One prompt's draws as they come in: distinct completions with counts and scores."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.completions: dict[tuple[str, str], ScoredCompletion] = {}
        self.greedy: ScoredCompletion | None = None

    def add(self, draw: Draw, value: float, *, greedy: bool) -> None:
        if greedy:
            self.greedy = ScoredCompletion(draw.text, draw.count, value, draw.finish_reason)
            return
        key = draw.text, draw.finish_reason
        count = draw.count + (self.completions[key].count if key in self.completions else 0)
        self.completions[key] = ScoredCompletion(draw.text, count, value, draw.finish_reason)

    @property
    def values(self) -> NDArray[np.float64]:
        return np.array([c.score for c in self.completions.values()])

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.array([c.count for c in self.completions.values()])


@dataclass(frozen=True)
class _Levels:
    """At which level each bound is made, so that its statement holds at ``statement.alpha``.

    ``looks`` is 0 where n was fixed before the first draw. Otherwise a prompt may have stopped at any of that many
    rounds of sizes fixed in advance, and a fixed-n bound is made at level alpha / looks: it fails at some round with
    probability at most alpha.
    """

    statement: Statement
    num_prompts: int
    looks: int

    @property
    def jointly(self) -> float:
        """The level of each prompt's statement for all prompts' to hold together."""
        return bounds.simultaneous_alpha(self.statement.alpha, self.num_prompts)

    def leak(self, leaks: int, n: int, *, jointly: bool) -> Bound:
        """P(h >= threshold)."""
        estimand = f"P(h >= {self.statement.threshold:g})"
        alpha = self.jointly if jointly else self.statement.alpha
        make = bounds.leak_sequence_bound if self.looks else bounds.proportion_bound
        result = make(leaks, n, alpha=alpha, estimand=estimand)
        return dataclasses.replace(result, scope="this prompt, jointly with all others") if jointly else result

    def all_looks(
        self, make: Any, values: Any, counts: Any, method: str | None = None, *, jointly: bool = False
    ) -> list[Bound]:
        """Fixed-n bounds for many prompts, made to hold at every look."""
        alpha = self.jointly if jointly else self.statement.alpha
        chosen = {} if method is None else {"method": method}
        found = make(values, alpha=alpha / max(self.looks, 1), counts=counts, **chosen)
        return [dataclasses.replace(b, alpha=alpha, method=self.name(b.method)) for b in found]

    def name(self, method: str) -> str:
        """The method's name, with what was done for the looks."""
        return f"{method}, valid at each of {self.looks} looks" if self.looks else method


def _prompt_audit(
    collected: _Collected,
    statement: Statement,
    levels: _Levels,
    mean: Bound,
    std: Bound,
    ed: Bound,
    survival: str,
    watched: Watch | None,
) -> PromptAudit:
    values, counts, alpha = collected.values, collected.counts, statement.alpha
    n, leaks = int(counts.sum()), int(counts[values >= statement.threshold].sum())
    order = sorted(collected.completions.values(), key=lambda c: (-c.score, -c.count, c.text))
    assert collected.greedy is not None  # our layout has a greedy part for every prompt
    share = alpha / max(levels.looks, 1)
    band = bounds.survival_bound(values, alpha=share, counts=counts, thresholds=SURVIVAL_GRID, method=survival)
    return PromptAudit(
        prompt=collected.prompt,
        greedy_text=collected.greedy.text,
        greedy_score=collected.greedy.score,
        num_samples=n,
        num_distinct=len({c.text for c in order}),
        num_truncated=sum(c.count for c in order if c.finish_reason == "length"),
        num_leaks=leaks,
        max_score=float(values.max()),
        leak=levels.leak(leaks, n, jointly=False),
        leak_jointly=levels.leak(leaks, n, jointly=True),
        mean=mean,
        std=std,
        survival=dataclasses.replace(band, alpha=alpha, method=levels.name(band.method)),
        ed=bounds.ed_score(values, counts=counts),
        ed_bound=ed,
        worst=tuple(order[:NUM_WORST]),
        verdict=watched.verdict if watched else "",
        looks=tuple(watched.looks) if watched else (),
    )


def _average(parts: list[Bound], alpha: float) -> Bound:
    """The average over the prompts of what bounds that hold jointly are about."""
    first, size = parts[0], len(parts)
    return Bound(
        first.estimand,
        math.fsum(b.estimate for b in parts) / size,
        0.0,
        min(math.fsum(b.upper for b in parts) / size * (1 + 1e-12), 1.0),
        alpha,
        "upper",
        sum(b.n for b in parts),
        f"average of {size} bounds that hold jointly: {first.method}",
        "the average prompt",
    )
