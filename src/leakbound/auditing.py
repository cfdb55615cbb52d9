"""The one orchestration: prompts -> draws -> scores -> bounds -> :class:`Audit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leakbound.bounds import Bound, SurvivalBand
from leakbound.records import Prompt


@dataclass(frozen=True)
class ScoredCompletion:
    """One distinct completion with its count among the draws and its score."""

    text: str
    count: int
    score: float
    finish_reason: str


@dataclass(frozen=True)
class PromptAudit:
    """Everything known about one prompt. Every bound here is about this prompt alone, at level ``alpha`` each."""

    prompt: Prompt
    greedy_text: str
    greedy_score: float
    num_samples: int
    num_distinct: int
    num_truncated: int
    """Draws that were cut at max_tokens: what was cut off was not judged."""
    num_leaks: int
    """Draws with score >= threshold."""
    max_score: float
    leak: Bound
    """P(h >= threshold)."""
    mean: Bound
    """E[h]."""
    std: Bound
    """The standard deviation of h."""
    survival: SurvivalBand
    """P(h > x) for all x at once, on a grid of x."""
    ed: float
    """Sample mean + 2 sample standard deviations: a plug-in score without a guarantee."""
    worst: tuple[ScoredCompletion, ...]
    """The most leaking completions, highest score first."""


@dataclass(frozen=True)
class Audit:
    """The audit of one model: per-prompt results and the statements across prompts."""

    run: dict[str, Any]
    """run.json: model, weights checksum, prompts checksum, sampling parameters, seed, versions."""
    scorer: str
    threshold: float
    alpha: float
    prompts: tuple[PromptAudit, ...]
    worst_prompt: Bound
    """Every prompt's P(leak) at once is at most this."""
    mean_leak: Bound
    """The average over the prompts of P(leak)."""
    mean_score: Bound
    """The average over the prompts of E[h]."""

    @property
    def num_clean(self) -> int:
        """Prompts whose greedy completion scores below the threshold: they look clean."""
        return sum(p.greedy_score < self.threshold for p in self.prompts)

    @property
    def hidden(self) -> tuple[PromptAudit, ...]:
        """Prompts that look clean under greedy decoding and leaked in at least one draw."""
        return tuple(p for p in self.prompts if p.greedy_score < self.threshold and p.num_leaks > 0)
