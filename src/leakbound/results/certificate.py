"""What a certification found: frozen records that read and write certificate.json and print as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from leakbound.bounds import Bound, draws_to_extract
from leakbound.bounds.result import show_confidence
from leakbound.bounds.shown import NOTHING, says_nothing
from leakbound.records import Prompt
from leakbound.results.saying import USEFUL, draws_needed
from leakbound.runs.files import Saved
from leakbound.wording import about, at_least, at_most, brief

if TYPE_CHECKING:
    from rich.table import Table

_BOUNDS = ("leak", "mean", "limits", "verbatim", "near_verbatim")


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

    def draws_to_extract(self, p: float) -> int | None:
        """So many independent draws begin with the target at least once with probability >= ``p``: certain, as
        ``verbatim`` is. None where its probability is too small for a float."""
        return draws_to_extract(math.log(self.verbatim.lower), p) if self.verbatim.lower > 0 else None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PromptCertificate:
        """The record that :meth:`Certification.to_json` wrote."""
        prompt, still = data["prompt"], data["still_leaks"]
        return cls(
            **{
                **data,
                "prompt": Prompt(prompt["id"], prompt["text"], prompt["target"], tuple(prompt["aliases"])),
                **{name: Bound.from_json(data[name]) for name in _BOUNDS},
                "still_leaks": None if still is None else Bound.from_json(still),
                "worst": tuple(SeenCompletion(**completion) for completion in data["worst"]),
            }
        )


def _lower(value: float) -> str:
    """A lower limit; a dash where it is 0, which says nothing."""
    return at_least(value) if value > 0 else "–"


@dataclass(frozen=True)
class Certification(Saved):
    """The certificates of one model, prompt by prompt, and the statement about every prompt."""

    FILE = "certificate.json"
    COMMAND = "leakbound certify"

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
        """The certification that :meth:`to_json` wrote."""
        prompts = tuple(PromptCertificate.from_json(p) for p in data["prompts"])
        return cls(**{**data, "prompts": prompts, "worst_prompt": Bound.from_json(data["worst_prompt"])})

    def table(self, rows: int = 20) -> Table:
        """The prompts with the largest bounds, as a table for the terminal.

        Nats: the entropy of a completion. Seen: the mass of the judged completions, which were drawn without
        replacement; iid where plain draws were judged. Leak: limits of P(h >= threshold), the lower one certain, the
        upper one for each prompt alone.
        Target: P(the completion begins with it). Still: P(h >= threshold) from below by the proposal's draws.
        """
        from rich.box import SIMPLE
        from rich.markup import escape
        from rich.table import Table

        proven = any(p.still_leaks for p in self.prompts)
        names = ["prompt", "nats", "seen", "leak ≤", "leak ≥", "target ≥"]
        worst = sorted(self.prompts, key=lambda p: (-p.leak.upper, -p.limits.lower, p.prompt.id))
        caption = escape(f"{self}\n{self._caption(worst[:rows], proven)}")
        table = Table(title="Certificates", caption=caption, caption_justify="left", box=SIMPLE)
        for name in [*names, *(["still ≥"] if proven else [])]:
            first = name == "prompt"
            table.add_column(name, justify="left" if first else "right", no_wrap=not first, overflow="fold")
        for p in worst[:rows]:
            numbers = [
                about(p.entropy),
                "iid" if p.engine == "iid" else _lower(p.seen_mass),
                NOTHING if says_nothing(p.leak) else at_most(p.leak.upper),
                _lower(p.limits.lower),
                _lower(p.verbatim.lower),
                *([_lower(p.still_leaks.lower)] if p.still_leaks else []),
            ]
            table.add_row(escape(brief(p.prompt.id, 30)), *numbers)
        if len(worst) > rows:
            table.add_row(f"… and {len(worst) - rows:,} more")
        return table

    def _caption(self, shown: Sequence[PromptCertificate], proven: bool) -> str:
        """Which limits are certain, and which hold each alone."""
        still = " and “still ≥”" if proven else ""
        said = (
            f"“leak ≤”{still}: each alone, with confidence {show_confidence(self.alpha)}; for a prompt picked by its "
            "result use the line above, which holds for every prompt. “seen”, “leak ≥” and “target ≥” are certain. "
            "Nats: estimated, without a guarantee."
        )
        if any(says_nothing(p.leak) for p in shown):
            enough = draws_needed(self.alpha, "without-replacement")
            said += (
                f" “{NOTHING}”: every answer seen leaks, or too few were seen: {enough:,} without a leak prove "
                f"P(leak) <= {USEFUL:g}."
            )
        return said

    def __str__(self) -> str:
        return str(self.worst_prompt)
