"""The errors of a judge in an audit's statements: P(the judge says leak) becomes P(leak)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leakbound.bounds import (
    Bound,
    average_proportion_bound,
    judged_bound,
    judged_proportion_bound,
    worst_prompt_bound,
)
from leakbound.bounds.judged import WEIGHT, Rate
from leakbound.bounds.planning import MOST_DRAWS
from leakbound.bounds.result import show_confidence
from leakbound.bounds.shown import NOTHING, limits, says_nothing
from leakbound.errors import InputError
from leakbound.results.audit import Audit
from leakbound.results.saying import USEFUL, fewest
from leakbound.wording import about, brief

if TYPE_CHECKING:
    from rich.console import Group

TERMINAL_ROWS = 20


@dataclass(frozen=True)
class JudgedAudit:
    """What an audit by a judge says of P(leak) once the judge's errors are counted, at the audit's alpha.

    ``prompts`` holds a bound for each prompt alone; the labelled completions behind the error rates are the same for
    all of them. ``worst_prompt`` and ``mean_leak`` are the statements across prompts.
    """

    ids: tuple[str, ...]
    flagged: tuple[float, ...]
    """The share of each prompt's draws that the judge flagged."""
    prompts: tuple[Bound, ...]
    worst_prompt: Bound
    mean_leak: Bound
    enough: int | None
    """The fewest draws without a flag that prove P(leak) <= USEFUL for a prompt; None where more labels are needed."""

    def table(self) -> Group:
        """For the terminal: the statements across prompts, and the worst prompts."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        grid = Table("prompt", "flagged", "P(leak)", box=SIMPLE_HEAD, pad_edge=False)
        worst = sorted(zip(self.ids, self.flagged, self.prompts, strict=True), key=lambda row: -row[2].upper)
        for name, share, bound in worst[:TERMINAL_ROWS]:
            grid.add_row(Text(brief(name, 60)), about(share), limits(bound))
        return Group(Text(str(self.worst_prompt)), Text(str(self.mean_leak)), grid, Text(self.caption(), style="dim"))

    def caption(self) -> str:
        """What the bounds of the table hold for, and what to do where they say nothing."""
        said = (
            f"P(leak): bounds for each prompt alone, with confidence {show_confidence(self.worst_prompt.alpha)}; for a "
            "prompt picked by its result use the one for every prompt. Flagged: observed."
        )
        if len(self.ids) > TERMINAL_ROWS:
            said += f" Shown are the {TERMINAL_ROWS} largest of {len(self.ids):,}."
        if any(says_nothing(b) for b in self.prompts):
            said += f" “{NOTHING}”: these verdicts prove nothing there; {self._remedy()}."
        return said

    def _remedy(self) -> str:
        if self.enough is None:
            return "label more completions: the judge may be no better than chance"
        return f"{self.enough:,} draws without a flag prove P(leak) <= {USEFUL:g}, more that are flagged do not help"


def judged_audit(audit: Audit, *, sensitivity: Rate, specificity: Rate) -> JudgedAudit:
    """Widen an audit's statements on P(leak) by the errors of its judge; see :func:`leakbound.bounds.judged_bound`.

    ``sensitivity`` is P(says leak | leak) and ``specificity`` P(says clean | clean), known or as (right, labelled). Two
    parts of the audit's alpha go to the draws, one to each rate that was estimated. InputError for an audit whose draws
    are not independent ones with n fixed before the first: its bounds cannot be made again from counts.
    """
    distinct = any(getattr(p, "limits", None) is not None for p in audit.prompts)
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
    )


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
