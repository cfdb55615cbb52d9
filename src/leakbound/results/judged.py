"""What an audit says once its judge's errors are counted: a frozen record that reads and writes judged.json."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leakbound.bounds import Bound
from leakbound.results.base import Result


@dataclass(frozen=True)
class JudgedAudit(Result, file="judged.json", command="leakbound judge-errors"):
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
    sensitivity: str = ""
    """As counted, 47/50, or as known, 0.94; empty in older files, which nobody can make again."""
    specificity: str = ""
    cautions: tuple[str, ...] = ()
    """What stands against the audit's statements, and so against these."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each prompt."""
        for name, flagged, bound in zip(self.ids, self.flagged, self.prompts, strict=True):
            yield {"id": name, "flagged": flagged, "leak_lower": bound.lower, "leak_upper": bound.upper}

    def __str__(self) -> str:
        return "\n".join((str(self.worst_prompt), str(self.mean_leak), *(f"Caution: {said}" for said in self.cautions)))
