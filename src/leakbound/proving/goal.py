"""What is to be proven of a model that forgets, and what may be spent on it."""

from dataclasses import dataclass
from typing import Any, Literal

from leakbound.bounds import Claim
from leakbound.bounds.claims import at_least_claim
from leakbound.errors import InputError
from leakbound.records import check_count


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Train, look for leaks by sampling, train on them too, and stop when fresh draws prove the claim."""

    until: str | None = None
    """Go on until this is proven by fresh draws: leak<=0.01. Without it the method is run once, and nothing is
    proven."""
    of: Literal["every", "average", "each"] = "every"
    """Whose P(leak): every prompt's at once, the average prompt's, or each one's alone."""
    keep: str | None = None
    """And that the retain questions are still answered: known>=0.95, the average P(right) over them."""
    rounds: int = 4
    """The most rounds of training after the first one; each also trains on the leaks that were found before."""
    budget: int | None = None
    """The most optimiser steps of all rounds together, an equal share for each; by default each trains as given."""
    alpha: float = 0.01
    """The probability that what is printed as proven or refuted is false is at most this, over all rounds."""
    temperature: float = 1.0
    """The temperature at which it is proven, and leaks are looked for."""
    top_p: float = 1.0
    """The top-p of the same."""
    proof_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The number type in which the model is asked, that of its deployment: what is proven holds for it; auto: as its
    weights are stored."""
    proof_samples: int = 4096
    """The most fresh draws of each forget question in one proof; it stops where that question is settled. Of the
    average one: in its last look, after those with a 64th, a 16th and a quarter of it, each with draws of its own."""
    keep_samples: int = 64
    """Draws of each retain question, to look and to prove."""
    keep_questions: int = 100
    """The first so many retain questions are asked."""

    def __post_init__(self) -> None:
        if self.until is None:
            return
        if Claim.parse(self.until, self.alpha).quantity != "leak":
            raise InputError(f"until is {self.until!r}: an unlearned model is proven by leak<=LIMIT")
        self.kept  # noqa: B018 - raises for a claim that cannot be read
        for name, least in (("rounds", 0), ("proof_samples", 1), ("keep_samples", 1), ("keep_questions", 1)):
            check_count(name, getattr(self, name), least=least)
        check_count("budget", self.budget, least=self.rounds + 1, needed=False)
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature!r}: a proof needs draws: give a number above 0")

    def to_json(self) -> dict[str, Any]:
        """The settings by name; the youngest only where it is not the usual one: older folders have none."""
        return {name: value for name, value in vars(self).items() if (name, value) != ("proof_dtype", "auto")}

    @property
    def limit(self) -> float:
        """The limit of ``until``."""
        return Claim.parse(str(self.until), self.alpha).limit

    @property
    def kept(self) -> float | None:
        """The limit of ``keep``; None without one."""
        if self.keep is None:
            return None
        return at_least_claim(self.keep, "keep")
