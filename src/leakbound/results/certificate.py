"""What a certification found: frozen records that read and write certificate.json."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from leakbound.bounds import Bound, draws_to_extract
from leakbound.records import Prompt
from leakbound.results.base import Result
from leakbound.results.outdated import refuse_outdated
from leakbound.wording import never_ended, plural


@dataclass(frozen=True)
class SeenCompletion:
    """One distinct completion with its exact probability and its score."""

    text: str
    probability: float
    score: float
    finish_reason: str


@dataclass(frozen=True)
class PromptCertificate:
    """What is proven about one prompt; each statement holds for itself, at the certification's ``alpha`` or better."""

    prompt: Prompt
    engine: str
    """``without-replacement`` or ``iid``: how the judged completions were drawn."""
    entropy: float
    """Entropy of the completion in nats, estimated from pilot draws that are not judged."""
    num_generations: int
    num_distinct: int
    """Distinct token sequences among the generations."""
    seen_mass: float
    """Their total probability, exact."""
    leak: Bound
    """P(h >= threshold), upper."""
    mean: Bound
    """E[h], upper."""
    limits: Bound
    """P(h >= threshold) between the seen leak and that plus the unseen mass: certain."""
    verbatim: Bound
    """P(the completion begins with the tokens of the target or an alias): exact, stated as a lower limit."""
    near_verbatim: Bound
    """P(its beginning is within a few token edits of the target), lower, certain."""
    still_leaks: Bound | None
    """P(h >= threshold), lower, by importance sampling from a model that knows the secret; where one was given."""
    worst: tuple[SeenCompletion, ...]
    """The most leaking completions, highest score first."""
    num_cut: int | None = None
    """Generations that were cut at max_tokens before they leaked: whether they would is open; None in older files."""

    def draws_to_extract(self, p: float) -> int | None:
        """So many independent draws begin with the target or an alias at least once with probability >= ``p``: certain,
        as ``verbatim`` is. None where its probability is too small for a float."""
        return draws_to_extract(math.log(self.verbatim.lower), p) if self.verbatim.lower > 0 else None


@dataclass(frozen=True)
class Certification(Result, file="certificate.json", command="leakbound certify"):
    """The certificates of one model, prompt by prompt, and the statement about every prompt."""

    run: dict[str, Any]
    """run.json: the model, its weights' checksum, the prompts' checksum, sampling parameters, seed, versions."""
    scorer: str
    threshold: float
    alpha: float
    prompts: tuple[PromptCertificate, ...]
    worst_prompt: Bound
    """Every prompt's P(h >= threshold) is at most this."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The certification that :meth:`to_json` wrote. ValueError where an older one claimed more than it proved."""
        found = super().from_json(data)
        refuse_outdated(found.run, (p.mean for p in found.prompts))
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each prompt: how it was drawn, and its limits."""
        for p in self.prompts:
            yield {
                "id": p.prompt.id,
                "text": p.prompt.text,
                "target": p.prompt.target,
                "engine": p.engine,
                "entropy": p.entropy,
                "num_generations": p.num_generations,
                "num_distinct": p.num_distinct,
                "num_cut": p.num_cut,
                "seen_mass": p.seen_mass,
                "leak_lower": p.limits.lower,
                "leak_upper": p.leak.upper,
                "mean_upper": p.mean.upper,
                "verbatim": p.verbatim.lower,
                "near_verbatim": p.near_verbatim.lower,
                "still_leaks": None if p.still_leaks is None else p.still_leaks.lower,
            }

    @property
    def cut_said(self) -> str:
        """What cutting at max_tokens leaves open; empty where nothing was cut before it leaked."""
        if any(p.num_cut is None for p in self.prompts):
            return "How many generations were cut at max_tokens before they leaked is not known: an older file."
        cut, total = sum(p.num_cut or 0 for p in self.prompts), sum(p.num_generations for p in self.prompts)
        if not cut:
            return ""
        never = sum(p.num_cut == p.num_generations for p in self.prompts)
        return (
            f"{cut:,} of {plural(total, 'generation')} {'was' if cut == 1 else 'were'} cut at max_tokens before "
            f"{'it' if cut == 1 else 'they'} leaked: of longer answers nothing is proven"
            + (f"; {never_ended(never, 'generation')}: give a larger --max-tokens." if never else ".")
        )

    def __str__(self) -> str:
        return f"{self.worst_prompt}\n{self.cut_said}".strip()
