"""A benchmark run: one model on one suite, classic metrics and sampling, against the model that never knew.

Everything is written into one folder and resumed there::

    parts/             per-question values, one file for each part that was computed
    audit/             the run folder of the audit on the forget questions
    retained/          the same for the retrained model, where it is evaluated as well
    evaluation.json    all per-question values
    benchmark.json     metrics, bounds, settings, checksums of the data, seconds
    evaluation.md
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import numpy as np

from leakbound import report
from leakbound.auditing.steps import audit
from leakbound.errors import InputError
from leakbound.evaluating.config import BenchmarkConfig
from leakbound.evaluating.differences import compared
from leakbound.evaluating.measuring import Meaning, measure, with_leak_rates, with_reference_losses
from leakbound.metrics.questions import QuestionSet
from leakbound.models.opening import open_model
from leakbound.report.findings import find
from leakbound.report.tables import statements
from leakbound.results.audit import Audit
from leakbound.results.benchmark import BenchmarkRun, Line
from leakbound.results.evaluation import Evaluation
from leakbound.runs.files import write_text
from leakbound.suites.base import Asking, Suite, SuiteKind
from leakbound.suites.table import SUITES
from leakbound.wording import about

BOUNDS = ("worst_prompt", "mean_leak", "mean_score")
"""The bounds of an audit that benchmark.json holds."""


def benchmark(suite: str, config: BenchmarkConfig, *, progress: bool = True) -> BenchmarkRun:
    """Run one suite on one model and write everything into ``config.out``.

    :raises InputError: a suite, data, model or reference that cannot be used.
    """
    kind = SUITES.find(suite)
    config = settled(suite, kind, config)
    return run_on(kind.open(config.split, config.data, config.revision), kind, config, progress=progress)


def run_on(questions: Suite, kind: SuiteKind, config: BenchmarkConfig, *, progress: bool = True) -> BenchmarkRun:
    """:func:`benchmark` on questions of this kind that are there already, with settings that are settled."""
    reference, guess = _reference(questions, kind, config, progress)
    if kind.ask is not None:
        start = time.perf_counter()
        asked = Evaluation(config.model, questions.name, kind.ask(config.model, config.max_questions))
        return _finish(questions, kind, asked, reference, config, {"lm-eval": time.perf_counter() - start})
    model = open_model(config.model, template=config.how.template, loading=config.how.loading)
    evaluation: Evaluation | None = None
    audited: Audit | None = None
    seconds: dict[str, float] = {}
    if not kind.rubric:
        measured = measure(
            model, questions, max_tokens=config.how.params.max_tokens, max_questions=config.max_questions,
            gradient_norms=config.gradient_norms, meaning=_meaning(config), out=config.out, progress=progress,
        )  # fmt: skip
        evaluation, seconds = measured.evaluation, dict(measured.seconds)
        if reference is not None:
            evaluation = with_reference_losses(evaluation, reference)
    if config.drawn.num_samples:
        audited, seconds["sampling"] = _timed(config, lambda: _audit(model, questions, config, guess, progress))
        evaluation = evaluation or _judged(audited, questions)
        # the share of leaks estimates P(leak) without bias only among a number of independent draws fixed beforehand
        if "rule" not in audited.run and all(p.engine == "iid" for p in audited.prompts):
            evaluation = with_leak_rates(evaluation, {p.prompt.id: p.leak_rate for p in audited.prompts})
    assert evaluation is not None  # a judged suite is always sampled
    return _finish(questions, kind, evaluation, reference, config, seconds, audited, guess)


def settled(suite: str, kind: SuiteKind, config: BenchmarkConfig) -> BenchmarkConfig:
    """The settings with the suite's own where none were given. InputError for what the suite cannot use."""
    how, draws = config.how, config.drawn.num_samples
    if kind.rubric and (not draws or not how.scorer.startswith("judge:")):
        raise InputError(
            f"num_samples is {draws} and scorer is {how.scorer!r}: {suite} is sampled and judged; give "
            "the draws for each request, and judge:FILE or judge:module:function (docs/benchmarks.md)"
        )
    if kind.ask is not None and how.loading.revision is not None:
        raise InputError(f"model_revision is {how.loading.revision!r}: {suite} cannot take it, give a folder")
    template = kind.template if how.template == "auto" else how.template
    scorer = kind.scorer if how.scorer == "auto" else how.scorer
    return replace(config, how=replace(how, template=template, scorer=scorer))


def _finish(
    questions: Suite,
    kind: SuiteKind,
    evaluation: Evaluation,
    reference: Evaluation | None,
    config: BenchmarkConfig,
    seconds: Mapping[str, float],
    audited: Audit | None = None,
    guess: Audit | None = None,
) -> BenchmarkRun:
    """Compute the metrics and write the run's files."""
    lines = compared(evaluation, reference, convention=config.convention, alpha=config.how.alpha)
    run = BenchmarkRun(
        suite=questions.name,
        model=evaluation.model,
        settings=config.to_json(),
        checksums=questions.checksums,
        reference=None if reference is None else reference.model,
        metrics=tuple(line.metric for line in lines),
        differences=tuple(line.gap for line in lines if line.gap is not None),
        bounds={} if audited is None else {name: getattr(audited, name) for name in BOUNDS},
        seconds=seconds,
        verdict=tuple(_verdict(lines, reference, audited, guess)),
        beside=tuple(line.other for line in lines if line.other is not None),
        statements=() if audited is None else tuple(statements(find(audited, guess))),
        columns=kind.columns,
    )
    evaluation.save(config.out)
    run.save(config.out)
    write_text(config.out / "evaluation.md", report.to_markdown(run))
    return run


def _verdict(
    lines: Sequence[Line], reference: Evaluation | None, audited: Audit | None, guess: Audit | None
) -> Iterator[str]:
    """The run in a few plain sentences."""
    quality = next((line.metric.value for line in lines if line.metric.name == "forget_quality"), None)
    if quality is not None and reference is not None:
        told = "differ from" if quality < 0.05 else "cannot be told, at 0.05, from"
        yield (
            f"Truth ratios on the forget set {told} those of {reference.model}: forget quality (p-value of a "
            f"Kolmogorov-Smirnov test) {about(quality)}."
        )
    if audited is not None:
        yield report.summary(audited, guess)


def _judged(audited: Audit, questions: Suite) -> Evaluation:
    """What the judge says of the greedy answers, and which of them were cut before they were harmful."""
    ids = tuple(p.prompt.id for p in audited.prompts)
    cut = [float(audited.greedy(p) == "unknown") for p in audited.prompts]
    values = {"harmful": np.array([p.greedy_score for p in audited.prompts]), "cut": np.array(cut)}
    said = tuple((p.prompt.text, p.greedy_text or "", p.prompt.target) for p in audited.prompts)
    return Evaluation(
        str(audited.run["model"].get("model")), questions.name, {"harmful": QuestionSet("harmful", ids, values, said)}
    )


def _meaning(config: BenchmarkConfig) -> Meaning | None:
    """The models that compare texts by meaning, where they are asked for."""
    if not (config.semantic or config.embedding_model or config.entailment_model):
        return None
    from leakbound.scoring import semantic

    embedding = config.embedding_model or (semantic.EMBEDDING_MODEL if config.semantic else None)
    entailment = config.entailment_model or (semantic.ENTAILMENT_MODEL if config.semantic else None)
    similarities = entails = None
    if embedding:
        similar = semantic.Embedding(embedding)
        similar.ready()
        similarities = partial(similar.similarities, windows=False)  # as the authors' code reads texts
    if entailment:
        judge = semantic.Entailment(entailment)  # its premise stands first in each pair, as ours does
        judge.ready()
        entails = judge.entailed
    return Meaning(f"{embedding}, {entailment}", similarities, entails)


def _timed(config: BenchmarkConfig, work: Callable[[], Audit]) -> tuple[Audit, float]:
    """The audit and the seconds it took, those before an interruption included."""
    file, complete = config.out / "parts" / "sampling-seconds.json", (config.out / "audit" / "audit.json").exists()
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else 0.0
    start = time.perf_counter()
    try:
        found = work()
    finally:
        seconds = before if complete else before + time.perf_counter() - start
        write_text(file, json.dumps(seconds))
    return found, seconds


def _audit(model: Any, questions: Suite, config: BenchmarkConfig, guess: Audit | None, progress: bool) -> Audit:
    """Sample the forget questions, as they are asked in the suite."""
    how, rows = config.how, questions.forget[: config.max_questions]
    if config.sampled_questions is not None and config.sampled_questions < len(rows):
        chosen = Random(f"{how.seed}/sampled").sample(range(len(rows)), k=config.sampled_questions)
        rows = tuple(rows[i] for i in sorted(chosen))
    name = next((name for name, asked in questions.sets.items() if asked == questions.forget), "")
    asking = questions.asking.get(name, Asking())
    params = replace(
        how.params, max_tokens=asking.max_tokens or how.params.max_tokens, stop=asking.stop or how.params.stop
    )
    settings = {name: getattr(how, name) for name in ("scorer", "threshold", "alpha", "seed")} | vars(config.drawn)
    return audit(
        model,
        [row.to_prompt() for row in rows],
        params=params,
        out=config.out / "audit",
        guess=guess,
        progress=progress,
        **settings,
    )


def _reference(
    questions: Suite, kind: SuiteKind, config: BenchmarkConfig, progress: bool
) -> tuple[Evaluation | None, Audit | None]:
    """The evaluation of the model that never knew, and its audit where there is one."""
    if config.retain_model is not None:
        loading = replace(config.how.loading, revision=None)  # that of the other model
        settings = replace(
            config, model=config.retain_model, retain_model=None, out=config.out / "retained",
            how=replace(config.how, loading=loading),
        )  # fmt: skip
        run = run_on(questions, kind, settings, progress=progress)
        retained = config.out / "retained"
        return Evaluation.load(retained), Audit.load(retained / "audit") if run.bounds else None
    if config.reference is None:
        return None, None
    path = config.reference.expanduser()
    folder = path if path.is_dir() else path.parent
    audited = config.drawn.num_samples and (folder / "audit" / "audit.json").exists()
    return Evaluation.load(path), Audit.load(folder / "audit") if audited else None
