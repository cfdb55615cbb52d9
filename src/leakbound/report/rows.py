"""The prompts of an audit, worst first, each with its status and beside it the same prompt of a model that guesses."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from leakbound.bounds import Bound, average_proportion_bound, leak_sequence_bound, proportion_bound
from leakbound.bounds.result import in_full
from leakbound.errors import InputError
from leakbound.report.parts import Tone
from leakbound.results.audit import Audit, PromptAudit


@dataclass(frozen=True)
class Row:
    """One prompt with its status and the same prompt of a model that never saw the secret.

    ``more_than_guess``: whether it provably leaks more often than that model guesses (for all rows at once), None
    where nothing is known about guessing.
    """

    result: PromptAudit
    status: Tone
    guess: PromptAudit | None
    more_than_guess: bool | None


@lru_cache(maxsize=1024)
def _limit(leaks: int, n: int, alpha: float, side: Literal["lower", "upper"], stopped: bool) -> float:
    bound = (leak_sequence_bound if stopped else proportion_bound)(leaks, n, alpha=alpha, side=side)
    return bound.lower if side == "lower" else bound.upper


def _end(p: PromptAudit, alpha: float, side: Literal["lower", "upper"], stopped: bool) -> float:
    """A limit on P(leak) at ``alpha``; what exact probabilities say is certain and costs no alpha."""
    if p.limits:
        return p.limits.lower if side == "lower" else p.limits.upper
    return _limit(p.num_leaks, p.num_samples, alpha, side, stopped)


def _stopped(*audits: Audit | None) -> bool:
    return any(a.run.get("rule") for a in audits if a is not None)


def excess(rows: Iterable[Row], audit: Audit, guess: Audit, alpha: float) -> Bound | None:
    """Bound P(leak) minus P(guess) of every prompt from above; None where the guess level of some is not known.

    The largest over the prompts of an upper limit on one minus a lower limit on the other, both at ``alpha`` / 2: of
    the prompt where the difference is largest, whichever it is, one of its two limits must be wrong. Draws of the two
    models may depend on each other.
    """
    pairs = [(row.result, row.guess) for row in rows if row.guess]
    if len(pairs) < len(audit.prompts):
        return None
    stopped, half = _stopped(audit, guess), alpha / 2
    return Bound(
        f"{audit.worst_prompt.estimand} - P(guess)",
        max(p.leak.estimate - g.leak.estimate for p, g in pairs),
        -1.0,
        max(_end(p, half, "upper", stopped) - _end(g, half, "lower", stopped) for p, g in pairs),
        alpha,
        "upper",
        min(min(p.num_samples, g.num_samples) for p, g in pairs),
        "limits of both models at alpha / 2, the largest difference",
        scope="every prompt",
    )


def more_on_average(rows: Iterable[Row], audit: Audit, guess: Audit) -> bool:
    """Whether the average P(leak) is provably above that of the model that guesses, at the audit's alpha.

    Assumes as many draws as were planned, independent ones; False where they were not such.
    """
    pairs = [(row.result, row.guess) for row in rows if row.guess]
    if _stopped(audit, guess) or not pairs or any(p.limits or g.limits for p, g in pairs):
        return False
    (leaks, draws), (guesses, guessed) = (
        ([p.num_leaks for p in some], [p.num_samples for p in some]) for some in zip(*pairs, strict=True)
    )
    low = average_proportion_bound(leaks, draws, alpha=audit.alpha / 2, side="lower")
    return low.lower > average_proportion_bound(guesses, guessed, alpha=audit.alpha / 2).upper


def read_rows(audit: Audit, guess: Audit | None, alpha: float) -> tuple[Row, ...]:
    """The prompts, worst first; what is proven of guessing holds for all of them at once at level ``alpha``."""
    known = {p.prompt.id: p for p in guess.prompts} if guess else {}
    paired = [p for p in audit.prompts if p.prompt.id in known]
    if guess is not None:
        if (guess.scorer, guess.threshold) != (audit.scorer, audit.threshold):
            raise InputError(
                f"guess was judged by {guess.scorer} at {in_full(guess.threshold)}, the audit by {audit.scorer} at "
                f"{in_full(audit.threshold)}: bound the guess run again with the audit's scorer and threshold"
            )
        if not paired:
            raise InputError("guess shares no prompt id with the audit: audit both models on the same prompts file")
        for p in paired:
            if known[p.prompt.id].prompt != p.prompt:
                raise InputError(
                    f"guess has another prompt under the id {p.prompt.id!r}: audit both models on one prompts file"
                )
    stopped = _stopped(audit, guess)
    rows = []
    for p in audit.prompts:
        status: Tone = "seen" if p.num_leaks else "unseen"
        if audit.greedy(p) != "unknown":
            status = "plain" if audit.greedy(p) == "leaks" else "hidden" if p.num_leaks else "unseen"
        other = known.get(p.prompt.id)
        more = None
        if other is not None:
            half = alpha / len(paired) / 2
            more = _end(p, half, "lower", stopped) > _end(other, half, "upper", stopped)
        leaked = p.num_leaks > 0 or audit.greedy(p) == "leaks"
        rows.append(Row(p, "guessed" if leaked and more is False else status, other, more))
    return tuple(sorted(rows, key=_badness))


def _badness(row: Row) -> tuple[float, float, float, float, str]:
    p = row.result
    return -p.leak.estimate, -p.leak.upper, -p.max_score, -p.mean.estimate, p.prompt.id
