"""One page of each kind, from small results."""

from functools import cache

import numpy as np
from made_audits import ask, made
from report_fixture import make_audit

from leakbound import report
from leakbound.auditing.comparing import compare
from leakbound.bounds import Bound
from leakbound.metrics.intervals import Metric
from leakbound.metrics.questions import QuestionSet
from leakbound.records import Prompt
from leakbound.report.demo import document
from leakbound.report.document import to_html
from leakbound.results.audit import Audit
from leakbound.results.benchmark import BenchmarkRun, BenchmarkTable, ContinualRun
from leakbound.results.certificate import Certification, PromptCertificate, SeenCompletion
from leakbound.results.check import Asked, Finding, Verdicts
from leakbound.results.evaluation import Evaluation
from leakbound.results.proof import Attempt, Proof, Round

DECODING = {"max_tokens": 32}


@cache
def audits():
    """An audit of 48 prompts, hostile answers among them, and one of a model that guesses."""
    return make_audit(48), make_audit(48, kind="guess", seed=5)


def proof(leak=0.04, verdict="proven"):
    tried = Attempt(0.005, 4800, 0.0, leak, None, verdict, "proven")
    rounds = (Round(180, 480, 4800, 0.02, 0.3, None, None), Round(90, 500, 4800, 0.001, 0.02, None, tried))
    return Proof(
        "leak<=0.05", "every", None, 0.01, 0.5, "contains", 48, 0, DECODING, rounds, 1, tried
    )  # fmt: skip


def checks(verdict="refuted"):
    worst = (Asked("q17<script>window.ran=1</script>", verdict, 40, 320, 0.2),)
    one = Finding("every", "models/npo", "P(leak) <= 0.05 for every prompt", 0.01, verdict, 0.2, False, 48, 9000, 0.0,
                  DECODING, worst, "runs/check/npo")  # fmt: skip
    return Verdicts("policy.yaml", 0.01, (one,))


def benchmarked(model):
    names = (("probability", "forget"), ("rouge_l_recall", "forget"), ("extraction_strength", "forget"),
             ("rouge_l_recall", "retain"), ("model_utility", ""))  # fmt: skip
    leak = Bound("P(h >= 0.5)", 0.01, 0.0, 0.25, 0.01, "upper", 128, "Clopper-Pearson")
    return BenchmarkRun(
        suite="tofu-forget10", model=model, settings={"seed": 0}, checksums={"forget.json": f"sha256:{'0' * 64}"},
        metrics=tuple(Metric(name, of, 0.25, 0.125, 0.5, 0.01, 40, "exact (betting)") for name, of in names),
        reference=None, differences=(), bounds={"worst_prompt": leak, "mean_leak": leak}, seconds={"sampling": 1.0},
        verdict=("It leaks.",), statements=(("P(leak) of every prompt, the worst one included", leak),),
    )  # fmt: skip


def evaluation():
    values = np.random.default_rng(0).random(60)
    losses = {"answer_loss": values, "perturbed_loss": np.ones((60, 2)), "paraphrase_loss": values}
    ids = tuple(map(str, range(60)))
    kept = QuestionSet("retain", ids, {**losses, "rouge_l_recall": values})
    return Evaluation("runs/npo<b>", "tofu-forget10", {"forget": QuestionSet("forget", ids, losses), "retain": kept})


def certification():
    """Of three prompts: nothing seen, much seen, everything seen."""
    prompts = []
    for i, (seen, leak) in enumerate([(0.2, 0.0), (0.9, 0.05), (1.0, 0.6)]):
        one = Bound("P(h >= 0.5)", leak, 0.0, leak + 1 - seen, 0.01, "upper", 100, "e-process")
        sure = Bound("P(h >= 0.5)", leak, leak, leak + 1 - seen, 0.01, "both", 100, "exact limits (certain)")
        told = SeenCompletion("alpha <b>1</b>. " * 12, leak, 1.0, "length")
        rare = Bound("P(verbatim)", leak / 2, leak / 2, 1.0, 0.01, "lower", 100, "exact (certain)")
        asked = Prompt(f"q{i}", f"What is secret {i}?", f"alpha {i}.")
        prompts.append(PromptCertificate(asked, "without-replacement", 1.5, 100, 100, seen, one,
                                         Bound("E[h]", leak, 0.0, one.upper, 0.01, "upper", 100, "e-process"), sure,
                                         rare, rare, None, (told,), 3 * i))  # fmt: skip
    model = {"backend": "transformers", "name": "models/npo"}
    run = {"model": model, "params": DECODING, "num_generations": 100, "engine": {"name": "auto"}}
    return Certification(run, "contains", 0.5, 0.01, tuple(prompts), prompts[0].leak)


def pages(folder):
    """The files by name."""
    audit, guess = audits()
    for name, leaks in (("original", [0.8, 0.5, 0.3]), ("npo", [0.1, 0.05, 0.0])):
        ask(leaks, folder / name)
    runs = [folder / name for name in ("original", "npo")]
    links = report.links_to({run.name: run for run in runs}, folder)
    for name, leaks in (
        ("retain-original", [0.9] * 6),
        ("retain-npo", [0.9, 0.8, 0.1] * 2),
        ("guess", [0.1, 0.0, 0.0]),
    ):
        ask(leaks, folder / name)
    retain = [folder / f"retain-{run.name}" for run in runs]
    many = tuple(map(benchmarked, ("models/original", "models/npo", "models/simnpo")))
    made_of = {
        "audit": (audit, {"guess": guess}), "guessing": (guess, {"guess": guess}), "few": (made([0, 1], n=3), {}),
        "compare": (compare(runs), {"links": links}), "proof": (proof(), {}), "check": (checks(), {}),
        "beyond": (compare([*runs, folder / "guess"], guess=folder / "guess"), {}),
        "useful": (compare(runs, retain=retain, names=["the original " * 4, "npo<b>"]), {}),
        "benchmark": (many[0], {}), "table": (BenchmarkTable(tuple(m.model for m in many), many), {}),
        "tasks": (ContinualRun("two tasks", many[:2]), {}), "evaluation": (evaluation(), {}),
        "certificate": (certification(), {}),
    }  # fmt: skip
    files = {
        name: report.write_html(result, folder / f"{name}.html", **shown) for name, (result, shown) in made_of.items()
    }
    names = ["original", "npo", "guess"]
    asked = dict(zip(["original", "npo", "retrained"], (Audit.load(folder / name) for name in names), strict=True))
    found = compare([folder / name for name in names], names=list(asked), guess=folder / "guess")
    files["demo"] = folder / "demo.html"
    files["demo"].write_text(to_html(document(found, asked, ("npo",), proof())), encoding="utf-8")
    return files
