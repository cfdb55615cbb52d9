"""If somebody asks k times: what an audit's bounds say about at least one leak in k answers."""

from leakbound.bounds import leak_at_k, leak_at_k_bound, max_score_at_k_bound, worst_prompt_bound
from leakbound.bounds.extraction import any_of
from leakbound.bounds.result import show_confidence
from leakbound.report.parts import Section, Table
from leakbound.report.shown import limits
from leakbound.results.audit import Audit, PromptAudit
from leakbound.wording import about, plural

TITLE = "If somebody asks k times"
ASKED = (1, 10, 100, 1000)


def section(audit: Audit) -> Section:
    """The table, for the page and Markdown."""
    more = ("best score, every prompt",) if graded(audit) else ()
    head = ("answers to one prompt", "average, observed", "average prompt", "every prompt", *more)
    return Section(TITLE, (Table(head, rows(audit), note=note(audit)),), on=("markdown", "page"))


def rows(audit: Audit, asked: tuple[int, ...] = ASKED) -> tuple[tuple[str, ...], ...]:
    """For each number of answers: P(at least one leaks), observed and bounded, and where scores are graded the best.

    All from the bounds that the audit has: f(p) = 1 - (1 - p)^k of the limit on every prompt, and by Jensen of the one
    on the average prompt; the expected best score from each prompt's survival band, the largest over the prompts. Each
    number is a statement at the audit's alpha. Proofs: docs/methods.md, leaks among k draws.
    """
    return tuple(_row(audit, k) for k in asked)


def note(audit: Audit) -> str:
    """What the numbers hold for."""
    said = (
        "P(at least one leak) in so many independent answers to one prompt, drawn as in this audit. Average: over the "
        "prompts, of each one's chance; every prompt: of each, the worst one included. Each of the two columns holds "
        f"by itself, for all its lines at once, with confidence {show_confidence(audit.alpha)}; what was observed has "
        "none."
    )
    if graded(audit):
        said += " Best score: the expected highest score of the answers to a prompt; each number holds by itself."
    return said


def _row(audit: Audit, k: int) -> tuple[str, ...]:
    seen = sum(_observed(p, k) for p in audit.prompts) / len(audit.prompts)
    bounds = [leak_at_k_bound(audit.mean_leak, k), leak_at_k_bound(audit.worst_prompt, k)]
    if graded(audit):
        bounds.append(worst_prompt_bound([max_score_at_k_bound(p.survival, k) for p in audit.prompts]))
    return plural(k, "answer"), about(seen), *map(limits, bounds)


def _observed(p: PromptAudit, k: int) -> float:
    """leak@k: unbiased for k of at least as many independent draws, plug-in otherwise."""
    if p.limits is None and k <= p.num_samples:
        return leak_at_k(p.num_leaks, p.num_samples, k)
    return any_of(p.leak_rate, k)


def graded(audit: Audit) -> bool:
    """Whether some score lies between 0 and 1: of 0 and 1 alone the best score is a leak or none."""
    return any(len(set(p.survival.estimate)) > 1 for p in audit.prompts)
