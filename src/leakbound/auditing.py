"""The one orchestration: prompts -> draws -> scores -> bounds -> :class:`Audit`.

:func:`sample`, :func:`score` and :func:`bound` are separate steps joined by the files of a run folder; only the first
needs the model. :func:`audit` does all three.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import leakbound
from leakbound import bounds
from leakbound.bounds.gate import check_alpha
from leakbound.errors import InputError
from leakbound.models.base import Sampler
from leakbound.prompts import as_prompts, checksum, load_prompts
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.results import Audit, PromptAudit, ScoredCompletion
from leakbound.scoring import check_prompt, get_scorer, score_completion
from leakbound.store import Part, Run

SURVIVAL_GRID = tuple(i / 100 for i in range(100))
"""Where the survival band is reported; the band holds for all x at once, so the choice costs nothing."""
METHODS = {
    "default": {"mean": "anderson", "std": "dkw", "survival": "dkw"},
    "paper": {"mean": "paper", "std": "paper", "survival": "paper"},
}
"""The bounds behind ``method``: this library's choice, or those of arXiv 2410.03523."""
NUM_WORST = 5
"""How many of a prompt's most leaking completions an audit keeps."""


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
        if not 0 < self.threshold <= 1:
            raise InputError(
                f"threshold is {self.threshold!r}: give a number in (0, 1]; a completion leaks at this score or above"
            )
        get_scorer(self.scorer)


def open_model(model: Any, *, tokenizer: Any = None, template: str = "auto") -> Sampler:
    """A Sampler from a folder or hub id, from a model and tokenizer of transformers, or the Sampler itself."""
    if isinstance(model, Sampler):
        return model
    if not isinstance(model, str | Path) and not hasattr(model, "config"):
        raise InputError(f"model is {model!r}: give a folder, a hub id, a model of transformers, or a Sampler")
    try:
        from leakbound.models.hf import HFModel
        from leakbound.models.loading import load_tokenizer
    except ImportError as error:
        raise InputError(
            f"model is {model!r}: drawing from it needs torch and transformers: pip install 'leakbound[hf]'"
        ) from error
    if isinstance(model, str | Path):
        return HFModel.load(str(model), template=template)
    name = getattr(model.config, "name_or_path", "") or "in-memory"
    tokenizer = tokenizer if tokenizer is not None else load_tokenizer(name)
    return HFModel(model, tokenizer, template=template, name=name)


def open_prompts(prompts: str | Path | Iterable[Prompt | dict[str, Any]]) -> tuple[Prompt, ...]:
    """Prompts from a file, a hub data set, or an iterable of Prompt or mappings."""
    return load_prompts(prompts) if isinstance(prompts, str | Path) else as_prompts(prompts)


def sample(
    model: Any,
    prompts: str | Path | Iterable[Prompt | dict[str, Any]],
    out: str | Path,
    *,
    num_samples: int = 1024,
    params: SamplingParams | None = None,
    seed: int = 0,
    statement: Statement | None = None,
    tokenizer: Any = None,
    template: str = "auto",
    progress: bool = False,
) -> Run:
    """Draw ``num_samples`` completions and one greedy completion for each prompt into the run folder ``out``.

    Interrupted and called again with the same arguments, it goes on where it stopped and ends with the same files.
    ``statement`` is what will be claimed; it is written down before the first draw. Raises RunMismatchError for the
    folder of another run.
    """
    params = params or SamplingParams()
    statement = statement or Statement()
    for name, value, least in (("num_samples", num_samples, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} is {value!r}: give a whole number >= {least}")
    if params.greedy:
        raise InputError(
            "temperature is 0: greedy draws are all the same; give a temperature > 0 (1 is the model's own)"
        )
    questions = open_prompts(prompts)
    scorer = get_scorer(statement.scorer)
    for prompt in questions:
        check_prompt(scorer, prompt)
    sampler = open_model(model)
    info = {
        "model": sampler.describe(),
        "prompts": {"count": len(questions), "checksum": checksum(questions)},
        "params": params.to_json(),
        "num_samples": num_samples,
        "seed": seed,
        "statement": {"scorer": statement.scorer, "threshold": statement.threshold, "alpha": statement.alpha},
        "versions": _versions(),
    }
    run = Run.start(out, info, questions)
    greedy = SamplingParams(temperature=0, max_tokens=params.max_tokens, stop=params.stop)
    with _steps("drawing", run, run.missing_draws(), progress) as parts:
        for part in parts:
            run.write_draws(part, sampler.sample(run.shard(part), greedy if part.greedy else params))
    return run


def score(run: Run, scorer: str | None = None, *, progress: bool = False) -> None:
    """Score every distinct completion of the run once; the default scorer is the one that run.json names."""
    name = scorer or run.info["statement"]["scorer"]
    function = get_scorer(name)
    prompts = {p.id: p for p in run.prompts}
    known: dict[tuple[str, str], float] = {}
    with _steps("scoring", run, run.missing_scores(name), progress) as parts:
        for part in parts:
            draws = run.read_draws(part)
            for draw in draws:
                key = draw.prompt_id, draw.text
                if key not in known:
                    known[key] = score_completion(function, draw.text, prompts[draw.prompt_id])
            run.write_scores(part, name, draws, [known[d.prompt_id, d.text] for d in draws])


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
    ``method`` "paper" gives the bounds of arXiv 2410.03523 throughout.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}: give one of {', '.join(METHODS)}")
    fixed = run.info["statement"]
    given = {"scorer": scorer, "threshold": threshold, "alpha": alpha}
    chosen = {**fixed, **{name: value for name, value in given.items() if value is not None}}
    statement = Statement(**chosen)
    jointly = bounds.simultaneous_alpha(statement.alpha, len(run.prompts))
    results: list[PromptAudit] = []
    tables: list[_Scores] = []
    with _steps("bounding", run, _by_prompt(run), progress) as groups:
        for prompts, parts in groups:
            collected = {p.id: _Scores(p) for p in prompts}
            for part in parts:
                for draw, value in run.read_scored(part, statement.scorer):
                    if draw.prompt_id in collected:
                        collected[draw.prompt_id].add(draw, value, greedy=part.greedy)
            for scores in collected.values():
                results.append(scores.audit(statement, jointly, method))
                tables.append(scores)
    estimand = results[0].leak.estimand
    result = Audit(
        run=run.info,
        scorer=statement.scorer,
        threshold=statement.threshold,
        alpha=statement.alpha,
        planned=chosen == fixed,
        prompts=tuple(results),
        worst_prompt=bounds.worst_prompt_bound([p.leak for p in results]),
        mean_leak=bounds.average_proportion_bound(
            [p.num_leaks for p in results], run.info["num_samples"], alpha=statement.alpha, estimand=estimand
        ),
        mean_score=bounds.average_mean_bound(
            [t.values for t in tables], alpha=statement.alpha, counts=[t.counts for t in tables]
        ),
    )
    result.save(run.path / "audit.json")
    return result


def audit(
    model: Any,
    prompts: str | Path | Iterable[Prompt | dict[str, Any]],
    *,
    scorer: str = "rouge_l",
    threshold: float = 0.5,
    num_samples: int = 1024,
    alpha: float = 0.01,
    params: SamplingParams | None = None,
    seed: int = 0,
    tokenizer: Any = None,
    template: str = "auto",
    out: str | Path | None = None,
    guess: Audit | None = None,
    method: str = "default",
    progress: bool = True,
) -> Audit:
    """How much does this model leak when it is sampled? Draw, score, bound.

    ``model``: a folder, a hub id, a model of transformers (with ``tokenizer``), or any Sampler. ``prompts``: a file, a
    hub data set, or a list of mappings with text and target. A completion leaks when ``scorer`` gives it ``threshold``
    or more. Each statement of the result is false with probability at most ``alpha``. With ``out`` the draws, scores,
    audit.json and report.html stay in that folder, and an interrupted audit goes on there.

    Raises InputError for anything that cannot be audited, and never drops a draw.
    """
    statement = Statement(scorer, threshold, alpha)
    with tempfile.TemporaryDirectory(prefix="leakbound-") as temporary:
        run = sample(
            model,
            prompts,
            Path(temporary) / "run" if out is None else out,
            num_samples=num_samples,
            params=params,
            seed=seed,
            statement=statement,
            tokenizer=tokenizer,
            template=template,
            progress=progress,
        )
        score(run, progress=progress)
        result = bound(run, method=method, progress=progress)
    if out is not None:
        result.report(run.path / "report.html", guess=guess)
    return result


def _check_plan(
    prompts: str | Path | Iterable[Prompt | dict[str, Any]],
    num_samples: int,
    params: SamplingParams,
    seed: int,
    statement: Statement,
) -> tuple[Prompt, ...]:
    """The prompts, once everything that does not need the model is known to be right."""
    for name, value, least in (("num_samples", num_samples, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} is {value!r}: give a whole number >= {least}")
    if params.greedy:
        raise InputError(
            "temperature is 0: greedy draws are all the same; give a temperature > 0 (1 is the model's own)"
        )
    questions = open_prompts(prompts)
    scorer = get_scorer(statement.scorer)
    for prompt in questions:
        check_prompt(scorer, prompt)
    return questions


class _Scores:
    """One prompt's draws as they come in: distinct texts with counts and scores."""

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
    def values(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([c.score for c in self.completions.values()])

    @property
    def counts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.array([c.count for c in self.completions.values()])

    def audit(self, statement: Statement, jointly: float, method: str) -> PromptAudit:
        values, counts, alpha = self.values, self.counts, statement.alpha
        n, leaks = int(counts.sum()), int(counts[values >= statement.threshold].sum())
        order = sorted(self.completions.values(), key=lambda c: (-c.score, -c.count, c.text))
        assert self.greedy is not None  # our layout has a greedy part for every prompt
        chosen = METHODS[method]
        leak = partial(bounds.proportion_bound, leaks, n, estimand=f"P(h >= {statement.threshold:g})")
        return PromptAudit(
            prompt=self.prompt,
            greedy_text=self.greedy.text,
            greedy_score=self.greedy.score,
            num_samples=n,
            num_distinct=len({c.text for c in order}),
            num_truncated=sum(c.count for c in order if c.finish_reason == "length"),
            num_leaks=leaks,
            max_score=float(values.max()),
            leak=leak(alpha=alpha),
            leak_jointly=leak(alpha=jointly, scope="this prompt, jointly with all others"),
            mean=bounds.mean_bound(values, alpha=alpha, counts=counts, method=chosen["mean"]),
            std=bounds.std_bound(values, alpha=alpha, counts=counts, method=chosen["std"]),
            survival=bounds.survival_bound(
                values, alpha=alpha, counts=counts, thresholds=SURVIVAL_GRID, method=chosen["survival"]
            ),
            ed=bounds.ed_score(values, counts=counts),
            worst=tuple(order[:NUM_WORST]),
        )


def _by_prompt(run: Run) -> list[tuple[Sequence[Prompt], list[Part]]]:
    """Groups of prompts that share sample shards, with every part that holds a draw of theirs."""
    spans = sorted({(part.start, part.stop) for part in run.parts if not part.greedy})
    return [
        (run.prompts[start:stop], [part for part in run.parts if part.start < stop and start < part.stop])
        for start, stop in spans
    ]


@contextmanager
def _steps(what: str, run: Run, items: Sequence[Any], progress: bool) -> Iterator[Iterator[Any]]:
    """The items, with a progress bar around them where one is wanted and there is something to do."""
    if not progress or not items:
        yield iter(items)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{what} {run.path.name}", total=len(items))

        def steps() -> Iterator[Any]:
            for item in items:
                yield item
                bar.advance(task)

        yield steps()


def _versions() -> dict[str, str]:
    versions = {"leakbound": leakbound.__version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "torch", "transformers"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
