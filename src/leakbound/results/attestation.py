"""What a test of a server's law found: a frozen record that reads and writes attestation.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leakbound.bounds.result import show_confidence
from leakbound.results.base import Result
from leakbound.wording import about, plural


@dataclass(frozen=True)
class Fault:
    """A named way in which a server may differ from what was asked, and the evidence for it: the logarithm of what a
    bet on it has become, 0 at the start."""

    name: str
    log_evidence: float


@dataclass(frozen=True)
class Attestation(Result, file="attestation.json", command="leakbound attest"):
    """Whether answers of a server are refuted to come from the stated law of the stated weights, independently.

    ``refuted``: false with probability at most ``alpha`` if the server is within ``slack`` of the stated law, however
    many answers there are (docs/methods.md). Not refuted is no proof: it says that no fault of the list was found.
    """

    server: dict[str, Any]
    weights: dict[str, Any]
    params: dict[str, Any]
    alpha: float
    slack: float
    num_answers: int
    num_tokens: int
    refuted: bool
    log_evidence: float
    """The largest logarithm that the mean of all bets ever had; log(1 / alpha) refutes."""
    faults: tuple[Fault, ...]
    """Largest evidence first. Which one it is, is an estimate."""
    contradictions: tuple[str, ...] = ()
    """What needs no statistics: an answer that was cut before max_tokens, say."""

    @property
    def nearest(self) -> str:
        """The fault with the most evidence; none where a contradiction needed no bets."""
        return self.faults[0].name if self.faults else ""

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each fault."""
        for fault in self.faults:
            yield {"fault": fault.name, "log_evidence": fault.log_evidence}

    def __str__(self) -> str:
        seen = f"{plural(self.num_answers, 'answer')} with {plural(self.num_tokens, 'token')}"
        if self.contradictions:
            return f"The server does not do what it was asked: {self.contradictions[0]}."
        if self.refuted:
            return (
                f"The stated law is refuted by {seen}, with confidence {show_confidence(self.alpha)}: the answers look "
                f"most like “{self.nearest}” (evidence e^{about(self.faults[0].log_evidence)})."
            )
        return f"The stated law is not refuted by {seen}: none of {len(self.faults)} faults was found."
