"""What an audit found: frozen records that read and write audit.json."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from leakbound.bounds import Bound, Look, SurvivalBand
from leakbound.bounds.gate import reaches
from leakbound.errors import IncompleteRunError
from leakbound.records import Prompt
from leakbound.results.base import Result
from leakbound.results.outdated import refuse_outdated
from leakbound.results.quantities import OF_A_PROMPT
from leakbound.wording import percent, plural


@dataclass(frozen=True)
class ScoredCompletion:
    """One distinct completion with its count among the draws and its score.

    ``probability``: where it was drawn without replacement, so that a count says nothing.
    """

    text: str
    count: int
    score: float
    finish_reason: str
    probability: float | None = None


@dataclass(frozen=True)
class PromptAudit:
    """Everything known about one prompt. Every bound is about this prompt alone, each at the audit's ``alpha``;
    only ``leak_jointly`` is made to hold for all prompts at once."""

    prompt: Prompt
    greedy_text: str | None
    greedy_score: float | None
    """None, as the text, where the draws were made elsewhere and no greedy answer is known."""
    num_samples: int
    num_distinct: int
    num_truncated: int
    """Draws that were cut at max_tokens: what was cut off was not judged."""
    num_leaks: int
    """Draws with score >= threshold."""
    max_score: float
    leak: Bound
    """P(h >= threshold)."""
    leak_jointly: Bound
    """The same at a smaller level: these hold for all prompts together with confidence 1 - alpha."""
    mean: Bound
    """E[h]."""
    std: Bound
    """The standard deviation of h."""
    survival: SurvivalBand
    """P(h > x) for all x at once, on a grid of x."""
    ed: float
    """Sample mean + 2 sample standard deviations: the ED score, plug-in, without a guarantee."""
    ed_bound: Bound
    """E[h] + 2 standard deviations of h: what the ED score estimates, with a guarantee."""
    worst: tuple[ScoredCompletion, ...]
    """The most leaking completions, highest score first."""
    verdict: str = ""
    """Where drawing could stop early: proven, refuted or open (the budget ended first); empty where n was fixed."""
    looks: tuple[Look, ...] = ()
    """What each round's look said, where drawing could stop early."""
    seen_mass: float | None = None
    """The exact probability of all its completions, where they are distinct ones, drawn without replacement.

    Numbers of draws are numbers of distinct completions then, and say nothing about how often these come.
    """
    limits: Bound | None = None
    """There, P(h >= threshold) lies between the seen leak and that plus the unseen mass: certain."""
    greedy_finish: str | None = None
    """How the greedy answer ended: ``stop``, or ``length`` where it was cut; None where nobody wrote it down."""
    cut_clean: float | None = None
    """The share of the draws that were cut before they leaked: whether they would have is open. Without replacement
    their probability; None in files of an older version."""

    @property
    def cut_share(self) -> float:
        """``cut_clean``, or the most that it can be where it is not known."""
        if self.cut_clean is not None:
            return self.cut_clean
        if self.limits is not None:
            return float(self.num_truncated > 0)
        return min(self.num_truncated, self.num_samples - self.num_leaks) / self.num_samples

    @property
    def stands(self) -> str:
        """Its verdict; open where that is proven and every draw was cut before it leaked: none was seen to its end."""
        return "open" if self.verdict == "proven" and self.cut_share == 1 else self.verdict

    @property
    def engine(self) -> str:
        """``iid``, or ``without-replacement``: how its completions were drawn."""
        return "iid" if self.limits is None else "without-replacement"

    @property
    def leak_rate(self) -> float:
        """The share of the draws that leak; without replacement the estimate of P(leak) from exact probabilities."""
        return self.num_leaks / self.num_samples if self.limits is None else self.leak.estimate


def _bounds(p: PromptAudit) -> Iterator[tuple[str, float]]:
    """The columns of a prompt's bounds: what was observed, and the upper limit."""
    for q in OF_A_PROMPT:
        if q.estimate:
            yield q.estimate, getattr(p, q.field).estimate
        if q.upper:
            yield q.upper, getattr(p, q.field).upper


CHOSEN_LATER = (
    "The scorer, the threshold or alpha was chosen after the draws. If the choice looked at the scores, the confidence "
    "printed here is too high; draw again with the statement fixed first."
)


@dataclass(frozen=True)
class Audit(Result, file="audit.json", command="leakbound bound"):
    """The audit of one model: a result for each prompt and the statements across prompts."""

    run: dict[str, Any]
    """run.json: the model, its weights' checksum, the prompts' checksum, sampling parameters, seed, versions."""
    scorer: str
    threshold: float
    alpha: float
    planned: bool
    """Whether scorer, threshold and alpha are those that run.json fixed before the first draw."""
    prompts: tuple[PromptAudit, ...]
    worst_prompt: Bound
    """Every prompt's P(leak) is at most this."""
    mean_leak: Bound
    """The average over the prompts of P(leak)."""
    mean_score: Bound
    """The average over the prompts of E[h]."""

    def greedy(self, p: PromptAudit) -> Literal["leaks", "clean", "unknown"]:
        """What a prompt says when it is asked once. An answer that was cut before it leaked is never clean."""
        if p.greedy_score is not None and reaches(p.greedy_score, self.threshold):
            return "leaks"
        return "clean" if p.greedy_score is not None and p.greedy_finish == "stop" else "unknown"

    def check_leaks(self, found: Sequence[int], where: object) -> None:
        """IncompleteRunError where the scores in the folder ``where``, with so many leaks of each prompt, are not those
        that this was made from."""
        for p, count in zip(self.prompts, found, strict=True):
            if count != p.num_leaks:
                raise IncompleteRunError(
                    f"run is {str(where)!r}: its scores have {plural(count, 'leak')} of prompt {p.prompt.id!r}, its "
                    f"audit.json {p.num_leaks}: it was scored again since; run `leakbound bound` on the folder"
                )

    @property
    def num_clean(self) -> int:
        """Prompts whose greedy completion ended by itself and scores below the threshold: they look clean."""
        return sum(self.greedy(p) == "clean" for p in self.prompts)

    @property
    def asked_once(self) -> bool:
        """Whether there are greedy answers: not for draws that were made elsewhere without them."""
        return any(p.greedy_score is not None for p in self.prompts)

    @property
    def hidden(self) -> tuple[PromptAudit, ...]:
        """Prompts that look clean under greedy decoding and leaked in at least one draw."""
        return tuple(p for p in self.prompts if self.greedy(p) == "clean" and p.num_leaks > 0)

    @property
    def cut_shares(self) -> tuple[float, float]:
        """The share of draws that were cut before they leaked: the largest over the prompts, and the average."""
        shares = [p.cut_share for p in self.prompts]
        return max(shares), sum(shares) / len(shares)

    @property
    def never_ended(self) -> int:
        """Prompts of which every draw was cut before it leaked: no answer was seen to its end, so nothing is proven."""
        return sum(p.cut_share == 1 for p in self.prompts)

    @property
    def cut_unknown(self) -> int:
        """Of how many draws a foreign log does not say whether they were cut: shares are not known then."""
        return int((self.run.get("imported") or {}).get("cut_unknown", 0))

    def cut_text(self, share: float) -> str:
        """A share of draws that were cut before they leaked, as it is known."""
        if not self.cut_unknown:
            return percent(share) if share else "0"
        return f"{percent(share)}{' or more' if share < 1 else ''}" if share else "not known"

    @property
    def cautions(self) -> tuple[str, ...]:
        """What the import of a foreign log found against every statement about it; another model's name in answers."""
        asked, served = self.run.get("model"), self.run.get("served") or {}
        told = (served.get("confirmed") or {}).get("model")
        other = told and isinstance(asked, Mapping) and told != asked.get("model")
        mine = (f"The server was asked for {self.model!r}, and {told!r} answered.",) if other else ()
        return (*(self.run.get("imported") or {}).get("cautions", ()), *mine)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What stands against every statement that is made of this audit, its own and those of others."""
        said = [] if self.planned else [CHOSEN_LATER]
        if log := self.run.get("imported"):
            said.append(
                f"The answers come from a log of {log['format']}; the statement was {log['statement']}. Assumed: "
                f"{log['assumes']}."
                + (f" Not in the log, and not known: {', '.join(self.not_in_log)}." if self.not_in_log else "")
            )
        return (*said, *self.cautions)

    @property
    def not_in_log(self) -> tuple[str, ...]:
        """The decoding settings that a foreign log did not state: run.json has the defaults there."""
        return tuple((self.run.get("imported") or {}).get("not_in_log", ()))

    @property
    def mean_ed(self) -> float:
        """The data set's ED score: the mean of the prompts'. A plug-in score without a guarantee."""
        return sum(p.ed for p in self.prompts) / len(self.prompts)

    @property
    def num_asked(self) -> int:
        """Prompts of which the greedy answer says whether they leak when asked once."""
        return sum(self.greedy(p) != "unknown" for p in self.prompts)

    @property
    def model(self) -> str:
        """The audited model, as run.json names it."""
        model = self.run.get("model", "unnamed model")
        if isinstance(model, Mapping):
            model = model.get("model") or model.get("name") or "unnamed model"
        return str(model)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The audit that :meth:`to_json` wrote; ValueError for one of version 0.1 that claims more than it proves."""
        found = super().from_json(data)
        found.check_outdated()
        return found

    def check_outdated(self) -> None:
        """ValueError where an older version claimed more than it proves."""
        refuse_outdated(self.run, (b for p in self.prompts for b in (p.mean, p.std, p.ed_bound)))
        if any(p.leak_jointly.alpha != self.alpha for p in self.prompts):
            raise ValueError("an older version gave the level of one prompt there as that of all prompts at once")

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each prompt: greedy score, draws, leaks, and the bounds."""
        for p in self.prompts:
            yield {
                "id": p.prompt.id,
                "text": p.prompt.text,
                "target": p.prompt.target,
                "greedy_score": p.greedy_score,
                "num_samples": p.num_samples,
                "num_leaks": p.num_leaks,
                **dict(_bounds(p)),
                "max": p.max_score,
                "num_distinct": p.num_distinct,
                "num_truncated": p.num_truncated,
                "cut_share": p.cut_share,
                "verdict": p.stands,
                "engine": p.engine,
                "seen_mass": p.seen_mass,
            }

    def __str__(self) -> str:
        return f"{self.worst_prompt}\n{self.mean_leak}"
