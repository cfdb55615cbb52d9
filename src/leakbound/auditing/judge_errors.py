"""The errors of a judge in an audit's statements: P(the judge says leak) becomes P(leak)."""

import re
from collections.abc import Iterator

from leakbound.bounds import average_proportion_bound, judged_bound, judged_proportion_bound, worst_prompt_bound
from leakbound.bounds.engines.search import fewest
from leakbound.bounds.judged import WEIGHT, Rate
from leakbound.bounds.planning import MOST_DRAWS, USEFUL
from leakbound.errors import InputError
from leakbound.results.audit import Audit
from leakbound.results.judged import JudgedAudit
from leakbound.wording import percent, plural


def judged_audit(audit: Audit, *, sensitivity: Rate, specificity: Rate) -> JudgedAudit:
    """Widen an audit's statements on P(leak) by the errors of its judge; see :func:`leakbound.bounds.judged_bound`.

    ``sensitivity`` is P(says leak | leak) and ``specificity`` P(says clean | clean), known or as (right, labelled). Two
    parts of the audit's alpha go to the draws, one to each rate that was estimated. InputError for an audit whose draws
    are not independent ones with n fixed before the first: its bounds cannot be made again from counts.
    """
    distinct = any(p.limits is not None for p in audit.prompts)
    if distinct or audit.run.get("rule"):
        raise InputError(
            "the audit stopped early or drew without replacement: a judge's errors can be counted where n independent "
            "draws were fixed beforehand; pass the bounds to leakbound.bounds.judged_bound, at a smaller alpha"
        )
    alpha, n, leaks = audit.alpha, [p.num_samples for p in audit.prompts], [p.num_leaks for p in audit.prompts]
    single = [
        judged_proportion_bound(k, size, sensitivity=sensitivity, specificity=specificity, alpha=alpha)
        for k, size in zip(leaks, n, strict=True)
    ]
    unknown = sum(isinstance(rate, tuple) for rate in (sensitivity, specificity))
    rest = alpha * unknown / (WEIGHT + unknown)
    flags = average_proportion_bound(leaks, n, alpha=alpha - rest)
    return JudgedAudit(
        ids=tuple(p.prompt.id for p in audit.prompts),
        flagged=tuple(p.leak_rate for p in audit.prompts),
        prompts=tuple(single),
        worst_prompt=worst_prompt_bound(single),
        mean_leak=judged_bound(flags, sensitivity=sensitivity, specificity=specificity, alpha=rest),
        enough=_enough(alpha, sensitivity=sensitivity, specificity=specificity),
        sensitivity=_written(sensitivity),
        specificity=_written(specificity),
        cautions=(*audit.caveats, *_cut(audit)),
    )


def _cut(audit: Audit) -> Iterator[str]:
    """What was not judged, if anything."""
    largest, average = audit.cut_shares
    if largest:
        yield (
            f"{percent(average)} of a prompt's draws on average, {percent(largest)} at most, were cut at max_tokens "
            "before they were flagged; whether a leak would have followed is open."
        )
    if audit.cut_unknown:
        yield (
            f"Of {plural(audit.cut_unknown, 'draw')} the log does not say whether they were cut: a leak after a cut is "
            "not in these numbers."
        )


def _written(rate: Rate) -> str:
    """The rate as :func:`parse_rate` reads it."""
    return f"{rate[0]}/{rate[1]}" if isinstance(rate, tuple | list) else repr(float(rate))


def _enough(alpha: float, sensitivity: Rate, specificity: Rate) -> int | None:
    def proven(n: int) -> bool:
        found = judged_proportion_bound(0, n, sensitivity=sensitivity, specificity=specificity, alpha=alpha)
        return found.upper <= USEFUL

    return fewest(proven) if proven(MOST_DRAWS) else None


def parse_rate(name: str, text: str) -> Rate:
    """A rate as on the command line: ``47/50`` as counted on labelled completions, ``0.94`` if known exactly."""
    if counted := re.fullmatch(r"(\d+)/(\d+)", text):
        return int(counted[1]), int(counted[2])
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{name} is {text!r}: write 47/50 (right verdicts of labelled completions) or 0.94") from error
