"""The command line. Each command calls one public function; bad input ends with one line and exit code 2."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Yaml
from rich.console import Console

import leakbound
from leakbound.demo import DemoConfig
from leakbound.drawing import Loading
from leakbound.errors import InputError, LeakboundError
from leakbound.options import Asked, Drawn, Flat, Out
from leakbound.records import SamplingParams
from leakbound.unlearning.config import FinetuneConfig, UnlearnConfig

app = App(
    name="leakbound",
    help="How much can a language model still leak when it is sampled? Guaranteed bounds, and training to leak less.",
    version=leakbound.__version__,
    result_action="return_value",
)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], config: Path | None = None
) -> Any:
    """Read options from a YAML file first: one mapping for each command, ``{audit: {num-samples: 4096}}``.

    Parameters
    ----------
    config
        YAML file with options for the commands; the command line goes before it.
    """
    if config is not None:
        app.config = Yaml(config, must_exist=True)
    return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


@app.command
def demo(config: Annotated[DemoConfig, Flat] = DemoConfig()) -> None:  # noqa: B008 - frozen
    """Make a small world, train, unlearn and audit in it: what greedy evaluation misses, in minutes, on a CPU."""
    from leakbound.demo import run_demo

    run_demo(config, console=Console())


@app.command
def audit(
    model: str,
    *,
    asked: Annotated[Asked, Flat],
    drawn: Annotated[Drawn, Flat] = Drawn(),  # noqa: B008 - frozen
    guess: Path | None = None,
    method: str = "default",
    out: Out = Path("runs/audit"),
) -> None:
    """Audit a model: draw, score, bound, report. Ends with a table, audit.json and report.html.

    Parameters
    ----------
    model
        Folder or hub id of a causal language model (safetensors).
    guess
        Run folder of a model that never saw the secrets: its P(leak) is the guess level.
    method
        default, or paper for the bounds of arXiv 2410.03523.
    out
        The run folder; an interrupted audit goes on there.
    """
    from leakbound import report
    from leakbound.auditing import audit as run_audit
    from leakbound.results import Audit

    level = None if guess is None else Audit.load(guess)
    result = run_audit(model, asked.prompts, **asked.settings(), **asdict(drawn), guess=level, method=method, out=out)
    Console().print(report.table(result, guess=level))
    Console().print(f"report: {out / 'report.html'}", highlight=False, markup=False)


@app.command
def sample(
    model: str,
    *,
    asked: Annotated[Asked, Flat],
    drawn: Annotated[Drawn, Flat] = Drawn(),  # noqa: B008 - frozen
    out: Out,
) -> None:
    """Draw completions into a run folder: the only step that loads the model. Goes on where it was interrupted.

    Scorer, threshold and alpha are written down, so that the statement is fixed before the first draw.

    Parameters
    ----------
    model
        Folder or hub id of a causal language model (safetensors).
    out
        The run folder.
    """
    from leakbound import auditing

    settings = asked.settings()
    statement = auditing.Statement(*(settings.pop(name) for name in ("scorer", "threshold", "alpha")))
    run = auditing.sample(
        model, asked.prompts, out, statement=statement, **settings, **asdict(drawn), progress=True
    )  # fmt: skip
    most = "at most " if run.rule else ""
    said = f"{len(run.prompts)} prompts x {most}{drawn.num_samples} draws in {out}"
    Console().print(said, highlight=False, markup=False)


@app.command
def score(run: Path, *, scorer: str | None = None) -> None:
    """Score the draws of a run folder; no model is needed.

    Parameters
    ----------
    run
        The run folder.
    scorer
        As for audit; by default the one that run.json names.
    """
    from leakbound import auditing
    from leakbound.store import Run

    auditing.score(Run.open(run), scorer, progress=True)


@app.command
def bound(
    run: Path,
    *,
    scorer: str | None = None,
    threshold: float | None = None,
    alpha: float | None = None,
    method: str = "default",
) -> None:
    """Bound the scores of a run folder and write audit.json; what is not given is as run.json fixed it."""
    from leakbound import auditing, report
    from leakbound.store import Run

    result = auditing.bound(
        Run.open(run), scorer=scorer, threshold=threshold, alpha=alpha, method=method, progress=True
    )
    Console().print(report.table(result))


@app.command(name="report")
def write_report(run: Path, *, guess: Path | None = None, markdown: bool = False) -> None:
    """Write report.html from the audit.json of a run folder.

    Parameters
    ----------
    run
        The run folder.
    guess
        Run folder of a model that never saw the secrets.
    markdown
        Print the report as Markdown instead.
    """
    from leakbound import report
    from leakbound.results import Audit

    result, level = Audit.load(run), None if guess is None else Audit.load(guess)
    if markdown:
        print(report.to_markdown(result, guess=level))
        return
    path = result.report(run / "report.html", guess=level)
    Console().print(f"report: {path}", highlight=False, markup=False)


@app.command
def compare(
    runs: list[Path],
    *,
    retain: list[Path] | None = None,
    names: list[str] | None = None,
    out: Out = Path("runs/compare"),
) -> None:
    """Compare audited models: leakage asked once and sampled, utility, diversity, cost, and what is proven.

    Parameters
    ----------
    runs
        Run folders of audits on the same prompts, one for each model.
    retain
        Run folders of audits of the same models, in the same order, on questions that they should still answer.
    names
        What to call the models, in the same order; by default the folders' names.
    out
        Folder for compare.html and compare.md.
    """
    from leakbound.comparing import compare as run_compare

    found = run_compare(runs, retain=retain or (), names=names or ())
    Console().print(found.table())
    Console().print(f"report: {found.save(out)}", highlight=False, markup=False)


@app.command
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

    Parameters
    ----------
    until
        The claim: leak<=0.01.
    alpha
        The probability that the claim is printed although it is false.
    power
        The probability that the claim is proven, if the model leaks as often as true-rate says.
    true_rate
        The assumed P(leak) of each prompt.
    model
        Folder or hub id, for a preview of the cost.
    prompts
        As for audit.
    template
        As for audit.
    """
    from leakbound import drawing

    if (model is None) != (prompts is None):
        raise InputError(
            f"model is {model!r} and prompts is {prompts!r}: give both for a preview of the cost, or neither"
        )
    planned = drawing.plan_draws(until, alpha=alpha, power=power, true_rate=true_rate)
    Console().print(str(planned), highlight=False, markup=False)
    if model is not None and prompts is not None:
        cost = drawing.preview_cost(
            model, prompts, num_samples=planned.n, params=params, template=template, loading=loading
        )
        Console().print(cost, highlight=False, markup=False)


@app.command
def certify(
    model: str,
    *,
    asked: Annotated[Asked, Flat],
    num_generations: int = 100,
    engine: str = "auto",
    proposal: str | None = None,
    out: Out = Path("runs/certify"),
) -> None:
    """Prove what a model can leak from its own probabilities: bounds without replacement, exact limits.

    Ends with a table and certificate.json.

    Parameters
    ----------
    model
        Folder or hub id of a causal language model (safetensors).
    num_generations
        Completions for each prompt that are judged.
    engine
        without-replacement, iid, or auto: chosen for each prompt by its entropy, from draws that are not judged.
    proposal
        Folder or hub id of the model before unlearning: proves leaks that are too rare to be drawn.
    out
        The run folder; an interrupted certification goes on there.
    """
    from leakbound.certifying import certify as run_certify

    result = run_certify(
        model, asked.prompts, **asked.settings(), num_generations=num_generations, engine=engine, proposal=proposal,
        out=out,
    )  # fmt: skip
    Console().print(result.table())
    Console().print(f"certificates: {out / 'certificate.json'}", highlight=False, markup=False)


@app.command
def calibrate(model: str, *, asked: Annotated[Asked, Flat], share: float = 0.05) -> None:
    """Choose --adaptive-temperature on retain prompts: the threshold at which at most a share of them goes greedy.

    Parameters
    ----------
    model
        Folder or hub id of a causal language model (safetensors).
    share
        The largest share of the prompts that may be decoded greedily.
    """
    from leakbound.calibrating import calibrate as run_calibrate

    found = run_calibrate(
        model, asked.prompts, share=share, params=asked.params, template=asked.template, loading=asked.loading
    )
    Console().print(str(found), highlight=False, markup=False)


@app.command
def finetune(config: Annotated[FinetuneConfig, Flat]) -> None:
    """Train a causal language model on question-answer pairs, from a given model or from scratch."""
    from leakbound.unlearning import finetune as run_finetune

    Console().print(f"model: {run_finetune(config)}", highlight=False, markup=False)


@app.command
def unlearn(config: Annotated[UnlearnConfig, Flat]) -> None:
    """Make a model forget some answers and retain others."""
    from leakbound.unlearning import unlearn as run_unlearn

    Console().print(f"model: {run_unlearn(config)}", highlight=False, markup=False)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; errors that are somebody's input end with one line on standard error."""
    try:
        app.meta(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except (LeakboundError, CycloptsError) as error:
        line = " ".join(str(error).split())
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        Console(stderr=True).print(f"error: {shown}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(getattr(error, "exit_code", 2))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
