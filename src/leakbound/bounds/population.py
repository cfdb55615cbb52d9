"""Prompts as a sample from a population: the unit is the prompt, and the statement is about prompts not yet seen."""

import dataclasses
from collections.abc import Sequence

from leakbound.bounds.engines.clopper import clopper_pearson_upper
from leakbound.bounds.gate import Scores, Side, check_alpha, check_fraction
from leakbound.bounds.mean import BETTING, mean_bound
from leakbound.bounds.multiplicity import check_alike
from leakbound.bounds.result import Bound
from leakbound.errors import InputError


def population_share_bound(bounds: Sequence[Bound], level: float, *, alpha: float) -> Bound:
    """Upper bound on the share of the population of prompts whose value exceeds ``level``.

    With f of N prompts whose own upper bound, at level gamma each, exceeds ``level``:
    P(theta > level) <= CP(f, N, alpha) / (1 - gamma), because a prompt with theta > level is flagged with probability
    >= 1 - gamma. gamma of 0.05 to 0.1 serves best; the number of prompts costs nothing.

    Assumes prompts drawn independently from the population. Derived in docs/methods.md.
    """
    first, alpha = check_alike(bounds), check_alpha(alpha)
    level = check_fraction("level", level)
    if first.side != "upper":
        raise InputError("bounds have side 'lower': give upper bounds")
    gamma = max(bound.alpha for bound in bounds)
    flags, size = sum(bound.upper > level for bound in bounds), len(bounds)
    upper = min(1.0, float(clopper_pearson_upper(flags, size, alpha)) / (1 - gamma) * (1 + 1e-15))
    estimate = sum(bound.estimate > level for bound in bounds) / size
    name = f"the share of prompts with {first.estimand} > {level!r}"
    method = f"Clopper-Pearson on {flags} prompts not certified at alpha {gamma:g}"
    return Bound(name, estimate, 0.0, upper, alpha, "upper", size, method, "the population of prompts", "prompts")


def population_mean_bound(
    prompt_means: Scores, *, alpha: float, side: Side = "upper", method: str = BETTING, estimand: str = "E[h]"
) -> Bound:
    """Bound the population average of E[h], or of P(leak), from the average score of each sampled prompt.

    The averages are N independent draws in [0, 1] with the wanted mean, whatever the number of draws behind each, so
    :func:`~leakbound.bounds.mean_bound` applies to them. Pooling all draws as if independent would not be valid.

    Assumes prompts drawn independently from the population, each with the same number of draws or one fixed beforehand.
    """
    bound = mean_bound(prompt_means, alpha=alpha, side=side, method=method, estimand=estimand)
    return dataclasses.replace(bound, scope="a future prompt, on average", unit="prompts")
