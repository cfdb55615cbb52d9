"""What draws of several models prove when they are paired by their numbers: differences, and the order of all.

Draw i of one model and draw i of another may depend on each other, as where both have one seed; pairs of different
numbers must not. So models are paired only where every draw has randomness of its own, or every run a seed of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from leakbound.auditing.concluding import Collected
from leakbound.bounds import Bound, difference_bound
from leakbound.bounds.gate import reaches
from leakbound.results.audit import Audit
from leakbound.runs.store import Run
from leakbound.workers import Crew
from leakbound.workers.crew import collected

KEYED = ("transformers", "openai", "fake")
"""Back ends whose draw i is decided by the seed, its prompt and i alone, wherever they know which draw is which."""
Leaks = list[NDArray[np.float64]]
"""For each prompt, which draws leaked (1) and which did not (0), in the order of generation."""


def pairable(audits: Sequence[Audit]) -> bool:
    """Whether the draws of models can be paired, as far as their audits say.

    They can where the statement was planned, n was fixed beforehand and is the same, all draws are independent ones
    whose numbers are known, and those of different numbers are independent across the models. Nothing of this depends
    on the scores.
    """
    if any(audit.run.get("rule") or not audit.planned or any(p.limits for p in audit.prompts) for audit in audits):
        return False
    if len({audit.run["num_samples"] for audit in audits}) > 1:
        return False
    own_seeds = len({audit.run["seed"] for audit in audits}) == len(audits)
    return own_seeds or all(_backend(audit) in KEYED for audit in audits)


def leaks_in_order(
    runs: Sequence[Run],
    audits: Sequence[Audit],
    crew: Crew | None = None,
    each: Callable[[], None] = lambda: None,
) -> list[Leaks] | None:
    """The leaks of each model, draw by draw; None where its draws cannot be paired with those of the others.

    ``each`` is called when a run has been read. IncompleteRunError where its scores are not those of its audit.
    """
    if not pairable(audits):
        return None
    both = [(run, audit.scorer, audit.threshold) for run, audit in zip(runs, audits, strict=True)]
    found = collected(crew, both, lambda do, one: do(_leaks, *one), "leaks of {0[0].path}".format, each)
    for run, audit, leaks in zip(runs, audits, found, strict=True):
        if leaks is not None:
            audit.check_leaks([int(some.sum()) for some in leaks], run.path)
    known = [leaks for leaks in found if leaks is not None]
    return known if len(known) == len(found) else None


def _backend(audit: Audit) -> str:
    model = audit.run.get("model")
    return str(model.get("backend")) if isinstance(model, dict) else ""


def _leaks(run: Run, scorer: str, threshold: float) -> Leaks | None:
    collected = {p.id: Collected(p) for p in run.prompts}
    for part in run.parts:
        if part.judged:
            for draw, value in run.read_scored(part, scorer):
                collected[draw.prompt_id].add(part, draw, value)
    draws = [one.draws for one in collected.values()]
    if any(counts is not None for _, counts in draws):
        return None
    return [reaches(scores, threshold).astype(np.float64) for scores, _ in draws]


def against_first(models: Sequence[Leaks], alpha: float, what: str = "P(leak)") -> tuple[Bound, ...]:
    """The average over the prompts of P(leak) of each other model minus that of the first, all at once at ``alpha``.

    Each has alpha / (M - 1), by the union bound. ``what``: what is said for P(leak), such as P(right).
    """
    first, others = models[0], models[1:]
    found = [difference_bound(leaks, first, alpha=alpha / len(others), in_order=True) for leaks in others]
    together = f", at alpha / {len(others)}" if len(others) > 1 else ""
    scope = "the average prompt" + (f", jointly with {len(others)} differences" if together else "")
    name = f"{what} - {what} of the first model"
    return tuple(replace(b, estimand=name, alpha=alpha, method=b.method + together, scope=scope) for b in found)
