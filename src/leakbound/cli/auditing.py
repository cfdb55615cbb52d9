"""Commands that audit one model: in one go, step by step, or by proof."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from leakbound.cli.app import say, show
from leakbound.cli.options import Asked, Drawn, Flat, Model, Out
from leakbound.errors import InputError
from leakbound.models.opening import Loading
from leakbound.records import SamplingParams
from leakbound.workers import Workers


def audit(
    model: Model,
    *,
    asked: Annotated[Asked, Flat],
    drawn: Annotated[Drawn, Flat] = Drawn(),  # noqa: B008 - frozen
    guess: Path | None = None,
    method: str = "default",
    out: Out = Path("runs/audit"),
) -> None:
    """Audit a model: draw, score, bound, report. Ends with a table, audit.json and report.html.

    With --until the exit code is that of the claim about every prompt at once: 0 proven, 1 refuted, 3 undecided.

    :param guess: Run folder of a model that never saw the secrets: its P(leak) is the guess level.
    :param method: default, or paper for the bounds of arXiv 2410.03523.
    :param out: The run folder; an interrupted audit goes on there.
    """
    from leakbound.auditing.steps import audit as run_audit
    from leakbound.bounds.result import show_confidence
    from leakbound.results.audit import Audit
    from leakbound.results.check import EXIT
    from leakbound.results.verdicts import audit_verdict
    from leakbound.wording import never_ended

    level = None if guess is None else Audit.load(guess, "guess")
    result = run_audit(
        model, asked.questions(), **asked.settings(), **asdict(drawn), guess=level, method=method, out=out
    )
    show(result, level)
    say(f"report: {out / 'report.html'}")
    if drawn.until is not None:
        verdict = audit_verdict(result)
        said = {"proven": "is proven", "refuted": "is refuted", "open": "is neither proven nor refuted"}[verdict]
        why = never_ended(result.never_ended) if verdict == "open" and result.never_ended else ""
        more = f": {why}: give a larger --max-tokens" if why else ""
        say(f"{drawn.until} of every prompt at once {said} with confidence {show_confidence(result.alpha)}{more}")
        raise SystemExit(EXIT[verdict])


def sample(
    model: Model,
    *,
    asked: Annotated[Asked, Flat],
    drawn: Annotated[Drawn, Flat] = Drawn(),  # noqa: B008 - frozen
    out: Out,
) -> None:
    """Draw completions into a run folder: the only step that loads the model. Goes on where it was interrupted.

    Scorer, threshold and alpha are written down, so that the statement is fixed before the first draw.

    :param out: The run folder.
    """
    from leakbound.auditing import steps

    settings = asked.settings()
    statement = steps.Statement(*(settings.pop(name) for name in ("scorer", "threshold", "alpha")))
    run = steps.sample(
        model, asked.questions(), out, statement=statement, **settings, **asdict(drawn), progress=True
    )  # fmt: skip
    most = "at most " if run.rule else ""
    said = f"{len(run.prompts)} prompts x {most}{drawn.num_samples} draws in {out}"
    say(said)


def score(
    run: Path,
    *,
    scorer: str | None = None,
    workers: Annotated[Workers, Flat] = Workers(),  # noqa: B008 - frozen
) -> None:
    """Score the draws of a run folder; no model is needed.

    :param run: The run folder.
    :param scorer: As for audit; by default the one that run.json names.
    """
    from leakbound.auditing import steps
    from leakbound.runs.store import Run

    steps.score(Run.open(run), scorer, workers=workers, progress=True)


def bound(
    run: Path,
    *,
    scorer: str | None = None,
    threshold: float | None = None,
    alpha: float | None = None,
    method: str = "default",
    workers: Annotated[Workers, Flat] = Workers(),  # noqa: B008 - frozen
) -> None:
    """Bound the scores of a run folder and write audit.json; what is not given is as run.json fixed it."""
    from leakbound.auditing import steps
    from leakbound.runs.store import Run

    result = steps.bound(
        Run.open(run), scorer=scorer, threshold=threshold, alpha=alpha, method=method, workers=workers, progress=True
    )
    show(result)


def verify(run: Path, *, scorer: str | None = None) -> None:
    """Check a whole run folder: checksums, counts, scores and statements made again. Exit code 1 where it is refused.

    :param run: The run folder of an audit or a certification.
    :param scorer: The scorer, where it is not built in: a folder is data, and what it names is not run.
    """
    from leakbound.auditing.verifying import verify as verified

    found = verified(run, scorer=scorer)
    show(found)
    if not found.accepted:
        raise SystemExit(1)


def report(run: Path, *, guess: Path | None = None, markdown: bool = False) -> None:
    """Write report.html from the audit.json of a run folder.

    :param run: The run folder.
    :param guess: Run folder of a model that never saw the secrets.
    :param markdown: Print the report as Markdown instead.
    """
    from leakbound.report import to_markdown, write_html
    from leakbound.results.audit import Audit

    result, level = Audit.load(run, "run"), None if guess is None else Audit.load(guess, "guess")
    if markdown:
        print(to_markdown(result, guess=level))
        return
    path = write_html(result, run / "report.html", guess=level)
    say(f"report: {path}")


def plan(
    until: str,
    *,
    alpha: float = 0.01,
    power: float = 0.9,
    true_rate: float = 0.0,
    model: str | None = None,
    prompts: str | None = None,
    params: Annotated[SamplingParams, Flat] = SamplingParams(),  # noqa: B008 - frozen
    template: str = "auto",
    loading: Annotated[Loading, Flat] = Loading(),  # noqa: B008 - frozen
) -> None:
    """How many draws a claim will need, and with a model and prompts how long they will take.

    :param until: The claim: leak<=0.01; or how well P(leak) shall be known: width<=0.05.
    :param alpha: The probability that the claim is printed although it is false.
    :param power: The probability that the claim is proven, if the model leaks as often as true-rate says.
    :param true_rate: The assumed P(leak) of each prompt.
    :param model: As for audit, for a preview of the cost.
    :param prompts: As for audit.
    :param template: As for audit.
    """
    from leakbound.auditing import planning

    if (model is None) != (prompts is None):
        raise InputError(
            f"model is {model!r} and prompts is {prompts!r}: give both for a preview of the cost, or neither"
        )
    planned = planning.plan_draws(until, alpha=alpha, power=power, true_rate=true_rate)
    say(str(planned))
    if model is not None and prompts is not None:
        cost = planning.preview_cost(
            model, prompts, num_samples=planned.n, params=params, template=template, loading=loading
        )
        say(cost)


def certify(
    model: Model,
    *,
    asked: Annotated[Asked, Flat],
    num_generations: int = 100,
    engine: str = "auto",
    proposal: str | None = None,
    out: Out = Path("runs/certify"),
) -> None:
    """Prove what a model can leak from its own probabilities: bounds without replacement, exact limits.

    Ends with a table and certificate.json.

    :param num_generations: Completions for each prompt that are judged.
    :param engine: without-replacement, iid, or auto: chosen for each prompt by its entropy, from draws that are not
        judged.
    :param proposal: Folder or hub id of the model before unlearning: proves leaks that are too rare to be drawn.
    :param out: The run folder; an interrupted certification goes on there.
    """
    from leakbound.auditing.certifying import certify as run_certify

    result = run_certify(
        model, asked.questions(), **asked.settings(), num_generations=num_generations, engine=engine, proposal=proposal,
        out=out,
    )  # fmt: skip
    show(result)
    say(f"certificates: {out / 'certificate.json'}")


def calibrate(model: Model, *, asked: Annotated[Asked, Flat], share: float = 0.05) -> None:
    """Choose --adaptive-temperature on retain prompts: the threshold at which at most a share of them goes greedy.

    :param share: The largest share of the prompts that may be decoded greedily.
    """
    from leakbound.auditing.calibrating import calibrate as run_calibrate

    how = asked.how
    found = run_calibrate(
        model, asked.questions(), share=share, params=how.params, template=how.template, loading=how.loading
    )
    say(str(found))
