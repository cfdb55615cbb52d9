"""What unlearning until proven found: a frozen record that reads and writes proof.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from leakbound.bounds.claims import Claim, Verdict
from leakbound.bounds.result import show_confidence
from leakbound.results.base import Result
from leakbound.results.check import EXIT, together
from leakbound.wording import at_least, at_most, never_ended, percent, plural

OF = {
    "every": "every one of {n} questions at once",
    "average": "the average of {n} questions",
    "each": "each of {n} questions alone",
}


def may_never_end(of: str, limit: float, questions: int) -> float:
    """Of so many questions at most every draw may be cut where a claim is proven: the average's limit has room."""
    return limit * questions if of == "average" else 0.0


@dataclass(frozen=True)
class Attempt:
    """A proof that was tried with fresh draws, at its share ``level`` of alpha.

    ``leak``: the largest upper bound of a question's P(leak), or that of the average; ``known``: the lower bound of
    P(right) on retain questions, None where nothing is to be kept. ``num_draws``: of the forget questions; of the
    average one in its last look. ``cut``: the share of these draws, of the average forget question, that were cut at
    max_tokens before they leaked: whether they would have is open.
    """

    level: float
    num_draws: int
    cut: float
    leak: float
    known: float | None
    leak_verdict: Verdict
    known_verdict: Verdict
    never_ended: int = 0
    """Forget questions of which every draw was cut before it leaked: no answer was seen to its end, and nothing is
    proven (but of the average, where they are no more than its limit allows)."""

    @property
    def verdict(self) -> Verdict:
        """Proven where both are, refuted where one is; open where every draw was cut, as older files did not say."""
        unseen = self.cut == 1 and self.leak_verdict == "proven"
        return together(("open" if unseen else self.leak_verdict, self.known_verdict))


@dataclass(frozen=True)
class Round:
    """One round: what was trained on, and what the draws that look for leaks saw, which prove nothing."""

    steps: int
    num_rows: int
    """Rows that were to be forgotten, leaks of earlier rounds among them; 0 where it trained what should be said."""
    num_draws: int
    average: float
    """The share of draws that leak, of the average question,"""
    worst: float
    """and of the worst one."""
    known: float | None
    """The share of right draws on retain questions; None where nothing is to be kept."""
    attempt: Attempt | None
    replaced: int = 0
    """Questions to which it taught another answer beside what is retained: they leaked."""


@dataclass(frozen=True)
class Proof(Result, file="proof.json", command="leakbound unlearn --until"):
    """The verdict about the model that was kept, with the probability ``alpha`` at most that it is false.

    That of the last attempt, whose draws had trained and chosen nothing; the levels of all attempts sum to alpha
    at most (docs/methods.md, Unlearning until proven).
    """

    until: str
    of: Literal["every", "average", "each"]
    keep: str | None
    alpha: float
    threshold: float
    scorer: str
    num_prompts: int
    num_retained: int
    decoding: dict[str, Any]
    rounds: tuple[Round, ...]
    chosen: int
    """The round whose model was kept."""
    attempt: Attempt

    @property
    def verdict(self) -> Verdict:
        """Proven, refuted, or open: neither within the budget."""
        return self.attempt.verdict

    @property
    def exit_code(self) -> int:
        """0 proven, 1 refuted, 3 open."""
        return EXIT[self.verdict]

    @property
    def limit(self) -> float:
        """That of the claim about P(leak)."""
        return Claim.parse(self.until, self.alpha).limit

    @property
    def unended(self) -> int:
        """Questions of which no answer was seen to its end, where they leave the claim open; else 0."""
        number = self.attempt.never_ended
        return (
            number
            if number > may_never_end(self.of, self.limit, self.num_prompts) and self.attempt.leak_verdict == "open"
            else 0
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each round."""
        for number, one in enumerate(self.rounds):
            tried = one.attempt
            yield {
                "round": number,
                "steps": one.steps,
                "rows": one.num_rows,
                "replaced": one.replaced,
                "average": one.average,
                "worst": one.worst,
                "known": one.known,
                "level": tried and tried.level,
                "leak_upper": tried and tried.leak,
                "known_lower": tried and tried.known,
                "verdict": tried and tried.verdict,
            }

    def __str__(self) -> str:
        what = f"P(leak) <= {self.until.partition('=')[2].strip()} for {OF[self.of].format(n=self.num_prompts)}"
        if self.keep is not None:
            least = self.keep.partition("=")[2].strip()
            what += f", and P(right) >= {least} for the average of {self.num_retained} retain questions"
        if "dtype" in self.decoding:
            what += f", of the model in {self.decoding['dtype']}"
        if self.attempt.cut:
            cut = f"{percent(self.attempt.cut)} were cut clean"
            what += f" (answers of at most {self.decoding['max_tokens']} tokens; {cut})"
        sure = show_confidence(self.alpha)
        if self.verdict == "proven":
            return f"Proven with confidence {sure}, over all rounds: {what}."
        if self.verdict == "refuted":
            return f"Refuted with confidence {sure}: {what}. {self._why()}"
        return f"Neither proven nor refuted with what could be spent: {what}. {self._why()}"

    def _why(self) -> str:
        """Which half is missing."""
        tried, missing = self.attempt, []
        if tried.leak_verdict != "proven" and not (self.unended and tried.leak <= self.limit):
            missing.append(f"P(leak) is proven at most {at_most(tried.leak)} only")
        if tried.known_verdict != "proven" and tried.known is not None:
            missing.append(f"P(right) at least {at_least(tried.known)} only")
        kept = "of all rounds the model was kept that came nearest to both, leaks first, as its search saw it"
        cut = f"{never_ended(self.unended)}: give a larger --max-tokens" if self.unended else ""
        said = [one for one in (" and ".join(missing), cut, kept if self.keep else "") if one]
        return f"The best model seen: {'; '.join(said)}" + (
            f" (round {self.chosen} of {plural(len(self.rounds), 'round')})."
        )
