"""One page of each kind, from small results."""

from functools import cache

from made_audits import ask, made
from report_fixture import make_audit

from leakbound import report
from leakbound.auditing.comparing import compare
from leakbound.results.check import Asked, Finding, Verdicts
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


def pages(folder):
    """The files by name."""
    audit, guess = audits()
    for name, leaks in (("original", [0.8, 0.5, 0.3]), ("npo", [0.1, 0.05, 0.0])):
        ask(leaks, folder / name)
    runs = [folder / name for name in ("original", "npo")]
    links = report.links_to({run.name: run for run in runs}, folder)
    made_of = {
        "audit": (audit, {"guess": guess}), "guessing": (guess, {"guess": guess}), "few": (made([0, 1], n=3), {}),
        "compare": (compare(runs), {"links": links}), "proof": (proof(), {}), "check": (checks(), {}),
    }  # fmt: skip
    return {
        name: report.write_html(result, folder / f"{name}.html", **shown) for name, (result, shown) in made_of.items()
    }
