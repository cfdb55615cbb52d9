"""The command that counts a judge's errors."""

from pathlib import Path

from leakbound.cli.app import show


def judge_errors(run: Path, *, sensitivity: str, specificity: str) -> None:
    """Widen the statements of a run that a judge scored by the judge's errors, as counted on labelled completions.

    Ends with a table and judged.json.

    :param run: The run folder, bounded before.
    :param sensitivity: How often the judge says leak of a leak: 47/50 as counted on labelled leaks, or 0.94 if
        known exactly.
    :param specificity: How often it says clean of a clean completion: 95/100, or 0.95.
    """
    from leakbound.auditing.judge_errors import judged_audit, parse_rate
    from leakbound.results.audit import Audit

    rates = {"sensitivity": parse_rate("sensitivity", sensitivity)}
    rates["specificity"] = parse_rate("specificity", specificity)
    found = judged_audit(Audit.load(run, "run"), **rates)
    found.save(run)
    show(found)
