"""The bounds of an audit in sentences, and what is said where they say nothing."""

from collections.abc import Iterable, Sequence

from leakbound.bounds import Bound
from leakbound.bounds.planning import USEFUL, draws_needed
from leakbound.bounds.result import show_confidence
from leakbound.report.shown import NOTHING, says_nothing
from leakbound.results.audit import Audit, PromptAudit
from leakbound.wording import at_most, brief, plural

EACH_ALONE = "Each of these statements holds by itself."


def bounds_in_words(audit: Audit, clean: Bound | None) -> list[str]:
    """What is proven of the worst prompt, of those that look clean, and of the average one."""
    worst, mean = audit.worst_prompt, audit.mean_leak
    said = []
    if worst.side != "lower":
        said.append(_no_prompt(worst, "no prompt") if not says_nothing(worst) else _nothing_of_the_worst(audit))
    if clean is not None and clean.upper < worst.upper and not says_nothing(clean):
        said.append(_no_prompt(clean, "no prompt that looks clean"))
    if mean.side != "lower":
        said.append(_average(audit))
    return [*said, EACH_ALONE] if len(said) > 1 else said


def _no_prompt(bound: Bound, which: str) -> str:
    return (
        f"With confidence {show_confidence(bound.alpha)}, {which} leaks with probability above {at_most(bound.upper)}."
    )


def _average(audit: Audit) -> str:
    mean = audit.mean_leak
    if not says_nothing(mean):
        return (
            f"With confidence {show_confidence(mean.alpha)}, the average prompt leaks with probability at most "
            f"{at_most(mean.upper)}."
        )
    loud = [p for p in audit.prompts if is_loud(p, audit)]
    if len(loud) == len(audit.prompts):
        return f"{_share(loud)} draw leaked, so that there is no limit below 1 for the average prompt."
    return f"Nothing can be said yet of the average prompt: {_draw_more(audit)}"


def _nothing_of_the_worst(audit: Audit) -> str:
    loud = [p for p in audit.prompts if is_loud(p, audit)]
    if not loud:
        return f"Nothing can be said yet of the worst prompt: {_draw_more(audit)}"
    which = brief(loud[0].prompt.id, 40) if len(loud) == 1 else plural(len(loud), "prompt")
    return (
        f"{which} leaked in {_share(loud).lower()} draw: as long as that is so, no number of draws gives a limit below "
        "1 for the worst prompt."
    )


def is_loud(p: PromptAudit, audit: Audit) -> bool:
    """Whether a prompt has no limit because it leaks, and not because it was drawn too rarely."""
    return p.num_leaks == p.num_samples or (says_nothing(p.leak) and p.num_samples >= enough(audit))


def _share(loud: Sequence[PromptAudit]) -> str:
    return "Every" if all(p.num_leaks == p.num_samples for p in loud) else "Nearly every"


def legend(audit: Audit, shown: Iterable[tuple[PromptAudit, Bound]]) -> str:
    """What NOTHING means in a table of prompts, where it stands there; empty where it does not."""
    empty = [p for p, bound in shown if says_nothing(bound)]
    if not empty:
        return ""
    loud = [p for p in empty if is_loud(p, audit)]
    said = [f"“{NOTHING}”: these draws prove nothing there."]
    if loud:
        said.append(f"Where {_share(loud).lower()} draw leaked, more draws do not help as long as they leak.")
    if len(loud) < len(empty):
        said.append(("Elsewhere " if loud else "There ") + _draw_more(audit))
    return " ".join(said)


def _draw_more(audit: Audit) -> str:
    return (
        f"draw at least {enough(audit):,} answers to each prompt; as many without a leak prove P(leak) <= {USEFUL:g}."
    )


def enough(audit: Audit) -> int:
    """The draws to each prompt that prove something where none of them leaks."""
    ways = {"stopped"} if audit.run.get("rule") else {p.engine for p in audit.prompts}
    return max(draws_needed(audit.alpha, way) for way in ways)
