"""The gate: may these models ship?"""

import os
from pathlib import Path
from typing import Annotated

from leakbound.cli.app import say, show
from leakbound.cli.options import Flat, Out
from leakbound.workers import Workers


def check(
    policy: Path,
    *,
    model: str | None = None,
    junit: Path | None = None,
    summary: Path | None = None,
    workers: Annotated[Workers, Flat] = Workers(),  # noqa: B008 - frozen
    out: Out = Path("runs/check"),
) -> None:
    """Check models against a policy: draw until each claim is settled. Exit code 0 proven, 1 refuted, 3 undecided.

    Bad input ends with 2. All verdicts together are wrong with the policy's alpha at most. Where GitHub Actions runs
    it, annotations are printed and the job's summary is written too.

    :param policy: YAML file: alpha, model or models, defaults, and claims.
    :param model: In place of the policy's model.
    :param junit: Also write JUnit XML to this file.
    :param summary: Also append the verdicts as Markdown to this file.
    :param out: Folder for check.json, check.html, and the draws, which serve the next check of an unchanged model.
    """
    from leakbound import report
    from leakbound.checking.policy import Policy
    from leakbound.checking.running import check as run_check
    from leakbound.exporting.ci import to_annotations, to_junit
    from leakbound.results.check import Finding, Verdicts
    from leakbound.runs.files import write_text

    def each(finding: Finding, before: bool) -> None:
        say(f"{finding}{' (nothing has changed since it was found)' if before else ''}")

    for old in (out / Verdicts.FILE, out / "check.html", junit):
        if old is not None:
            old.unlink(missing_ok=True)  # a check that fails must not leave the verdict of another time
    found = run_check(Policy.read(policy, model=model), out, name=policy.name, workers=workers, each=each)
    found.save(out)
    report.write_html(found, out / "check.html")
    on_github = os.environ.get("GITHUB_ACTIONS") == "true"
    if on_github and summary is None and "GITHUB_STEP_SUMMARY" in os.environ:
        summary = Path(os.environ["GITHUB_STEP_SUMMARY"])
    if junit is not None:  # files first: a pipe that is closed ends what is printed
        write_text(junit, to_junit(found))
    if summary is not None:
        before = summary.read_text(encoding="utf-8") if summary.exists() else ""
        write_text(summary, before + report.to_markdown(found))
    show(found)
    if on_github:
        print(to_annotations(found), end="")
    say(f"report: {out / 'check.html'}")
    raise SystemExit(found.exit_code)
