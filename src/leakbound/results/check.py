"""What checking a policy found: a frozen record that reads and writes check.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from leakbound.bounds.claims import Verdict
from leakbound.bounds.result import show_confidence
from leakbound.results.base import Result
from leakbound.wording import at_least, at_most, never_ended, percent, plural, visible

EXIT: dict[Verdict, int] = {"proven": 0, "refuted": 1, "open": 3}
"""The exit code of a verdict; 2 is bad input."""


def together(verdicts: Iterable[str]) -> Verdict:
    """That of several claims at once: refuted where one is, proven where all are."""
    found = set(verdicts)
    return "refuted" if "refuted" in found else "proven" if found == {"proven"} else "open"


@dataclass(frozen=True)
class Asked:
    """What became of one prompt. ``upper``: the bound on its P(leak), or E[h], alone."""

    id: str
    verdict: str
    num_leaks: int
    num_draws: int
    upper: float


@dataclass(frozen=True)
class Finding:
    """The verdict of one claim about one model, wrong with probability ``level`` at most.

    ``claim`` is a sentence; ``bound`` the number that decides: the largest upper bound of a prompt alone, or the bound
    on the average (``at least`` where ``lower``). ``cut``: the share of draws, of the average prompt, that were cut at
    max_tokens before they leaked. ``worst``: the prompts that stand in the way first. ``run``: the folder of its draws.
    """

    name: str
    model: str
    claim: str
    level: float
    verdict: Verdict
    bound: float
    lower: bool
    num_prompts: int
    num_draws: int
    cut: float
    decoding: dict[str, Any]
    worst: tuple[Asked, ...]
    run: str
    scorer: str = ""
    """What calls an answer a leak, at ``threshold`` or more; empty in files of an older version."""
    threshold: float = 0.5
    never_ended: int = 0
    """Prompts of which every draw was cut before it leaked: no answer was seen to its end, and nothing is proven."""

    @property
    def found(self) -> str:
        """The bound with its sign."""
        return f"≥ {at_least(self.bound)}" if self.lower else f"≤ {at_most(self.bound)}"

    @property
    def details(self) -> str:
        """The bound, and the prompts that stand in the way, a line for each."""
        if self.verdict == "proven":
            return f"Bound: {self.found}."
        lines = [f"Bound: {self.found}, from {self.num_draws:,} draws in {self.run}."]
        lines += [
            f"prompt {visible(p.id)}: {p.num_leaks:,} of {p.num_draws:,} draws, ≤ {at_most(p.upper)}"
            for p in self.worst
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        said = {"proven": "proven", "refuted": "refuted", "open": "neither proven nor refuted"}[self.verdict]
        cut = f", {percent(self.cut)} of the draws were cut clean at {self.decoding.get('max_tokens')} tokens"
        if self.never_ended and self.verdict == "open":
            cut += f"; {never_ended(self.never_ended)}: give a larger max-tokens"
        return f"{self.model}: {self.claim}: {said}{cut if self.cut else ''}"


@dataclass(frozen=True)
class Verdicts(Result, file="check.json", command="leakbound check"):
    """All verdicts of a policy; with probability ``alpha`` at most any of them is wrong."""

    policy: str
    alpha: float
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """Proven where all are, refuted where one is."""
        return together(finding.verdict for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 proven, 1 refuted, 3 open."""
        return EXIT[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The record, its verdict and exit code with it."""
        return {"format": 1, "verdict": self.verdict, "exit_code": self.exit_code, **super().to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The record that :meth:`to_json` wrote."""
        return super().from_json({k: v for k, v in data.items() if k not in ("format", "verdict", "exit_code")})

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each verdict."""
        for one in self.findings:
            yield {
                "model": one.model,
                "name": one.name,
                "claim": one.claim,
                "verdict": one.verdict,
                "bound": one.bound,
                "level": one.level,
                "prompts": one.num_prompts,
                "draws": one.num_draws,
                "cut": one.cut,
                "run": one.run,
            }

    def __str__(self) -> str:
        sure, counts = show_confidence(self.alpha), Counter(finding.verdict for finding in self.findings)
        total = plural(len(self.findings), "claim")
        if self.verdict == "proven":
            return f"Passed: {total} proven, all with confidence {sure} at once."
        some = ", ".join(f"{counts[v]} {v}" for v in ("refuted", "open", "proven") if counts[v])
        if self.verdict == "refuted":
            return f"Failed: of {total} {some}; with confidence {sure} none of these verdicts is wrong."
        remedy = "more draws (num-samples)"
        if number := sum(finding.never_ended for finding in self.findings if finding.verdict == "open"):
            remedy = f"{never_ended(number)}; a larger max-tokens"
        return f"Undecided: of {total} {some}; {remedy} may settle what is open."
