"""What a comparison of audited models found: frozen records that read and write comparison.json."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from leakbound.bounds import Bound, Ranking
from leakbound.results.base import Result


@dataclass(frozen=True)
class Diversity:
    """How different the sampled answers to one prompt are, averaged over the prompts; plug-in, without a guarantee."""

    distinct: float
    """Distinct answers among the draws, as a share of them."""
    unlike: float
    """Mean of 1 - ROUGE-L F1 over random pairs of draws."""
    entropy: float
    """Entropy of the answers' observed frequencies, nats."""


@dataclass(frozen=True)
class Compared:
    """One model: what its audit found on what it should not say and, where there is one, on what it should still know.

    The bounds are those of the audits, each at its alpha for this model and this statement alone.
    """

    name: str
    num_asked: int
    """Prompts of which the greedy answer, cut or not, says whether they leak when asked once."""
    greedy_leaks: int
    """Of these, the prompts that leak already when asked once,"""
    num_hidden: int
    """and those that look clean and leaked in at least one draw."""
    planned: bool
    """Whether scorer, threshold and alpha were fixed before the first draw."""
    mean_leak: Bound
    worst_prompt: Bound
    mean_score: Bound
    mean_ed: float
    utility: Bound | None
    """The share of retain questions answered rightly when asked once, the questions taken as a random sample.

    None without retain questions, or where some of their greedy answers are not known.
    """
    sampled_utility: float | None
    """The average over the retain questions of the share of right draws; None without retain questions."""
    diversity: Diversity
    cost: dict[str, Any] | None
    """training.json of the model's folder: steps, seconds, peak_memory_bytes; None where there is none."""
    cut_share: float | None = None
    """The share of draws that were cut before they leaked, averaged over the prompts; None where a foreign log does not
    say it, and in older files."""
    beyond: tuple[int, int] | None = None
    """Of ``greedy_leaks`` and of ``num_hidden``, the prompts that provably leak more often than a model that never saw
    the secrets, for all prompts of all models at once; None where no such model is known."""
    excess: Bound | None = None
    """P(leak) minus P(guess) of every prompt, for all models at once; None as ``beyond``, and of that model itself."""
    cautions: tuple[str, ...] = ()
    """What else stands against the statements of its audits, and so against what is said of it here."""

    @property
    def told(self) -> tuple[int, int]:
        """The leaks asked once, and those that look clean: beyond guessing where that is known, else all."""
        return (self.greedy_leaks, self.num_hidden) if self.beyond is None else self.beyond


@dataclass(frozen=True)
class Comparison(Result, file="comparison.json", command="leakbound compare"):
    """Models that were audited on the same prompts by the same scorer, and what is proven of all of them at once."""

    num_prompts: int
    alpha: float
    models: tuple[Compared, ...]
    jointly: tuple[Bound, ...] | None
    """Each model's average P(leak) from both sides, all of them at once; None where nothing of the kind can be said."""

    order: Ranking | None = None
    """What paired draws prove about the order of the averages, all of it at once; None where draws are not paired."""
    differences: tuple[Bound, ...] | None = None
    """Average P(leak) of each other model minus that of the first, from both sides, all at once; None as ``order``."""
    retained: tuple[Bound, ...] | None = None
    """The same of retain prompts, P(right); None without retain runs or pairs of their draws."""
    guess: str = ""
    """The model that never saw the secrets, one of these or another; empty where none is known."""
    guess_level: float | None = None
    """The share of its draws that leaked, averaged over the prompts."""
    asked_otherwise: tuple[str, ...] = ()
    """The models that were asked in another template than the first, or whose template named another day."""

    @property
    def useful(self) -> bool:
        """Whether of all models it is known how much they still answer rightly."""
        return all(m.utility is not None for m in self.models)

    @cached_property
    def proven(self) -> tuple[tuple[int, int], ...] | None:
        """Pairs (i, j): model i's average P(leak) is below model j's, all at once; None as for ``jointly``.

        From paired draws where there are some, else from intervals that do not meet.
        """
        if self.order is not None:
            return self.order.proven
        if self.jointly is None:
            return None
        models = range(len(self.jointly))
        return tuple((i, j) for i in models for j in models if self.jointly[i].upper < self.jointly[j].lower)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each model."""
        for i, m in enumerate(self.models):
            yield {
                "model": m.name,
                "num_asked": m.num_asked,
                "greedy_leaks": m.greedy_leaks,
                "num_hidden": m.num_hidden,
                "hidden_beyond_guessing": m.beyond and m.beyond[1],
                "excess_upper": m.excess and m.excess.upper,
                "mean_leak": m.mean_leak.estimate,
                "mean_leak_upper": m.mean_leak.upper,
                "cut_share": m.cut_share,
                "mean_leak_lower_jointly": None if self.jointly is None else self.jointly[i].lower,
                "mean_leak_upper_jointly": None if self.jointly is None else self.jointly[i].upper,
                "best_rank": None if self.order is None else self.order.best_rank[i],
                "worst_rank": None if self.order is None else self.order.worst_rank[i],
                **_limits("leak_against_first", self.differences, i),
                **_limits("right_against_first", self.retained, i),
                "worst_prompt_upper": m.worst_prompt.upper,
                "mean_score": m.mean_score.estimate,
                "mean_score_upper": m.mean_score.upper,
                "ed": m.mean_ed,
                "utility": None if m.utility is None else m.utility.estimate,
                "utility_lower": None if m.utility is None else m.utility.lower,
                "utility_upper": None if m.utility is None else m.utility.upper,
                "sampled_utility": m.sampled_utility,
                "distinct": m.diversity.distinct,
                "unlike": m.diversity.unlike,
                "entropy": m.diversity.entropy,
            }

    def __str__(self) -> str:
        bounds = self.jointly or [m.mean_leak for m in self.models]
        return "\n".join(f"{m.name}: {bound}" for m, bound in zip(self.models, bounds, strict=True))


def _limits(name: str, differences: tuple[Bound, ...] | None, model: int) -> dict[str, float | None]:
    """The difference of one model from the first, as columns; None for the first and where there are none."""
    bound = differences[model - 1] if differences and model else None
    return {
        f"{name}_lower": None if bound is None else bound.lower,
        f"{name}_upper": None if bound is None else bound.upper,
    }
