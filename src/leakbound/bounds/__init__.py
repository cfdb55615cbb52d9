"""Guaranteed bounds from scores in [0, 1]: pure statistics on numpy and scipy.special."""

from leakbound.bounds.distribution import quantile_bound, survival_bound
from leakbound.bounds.mean import mean_bound, mean_bounds
from leakbound.bounds.multiplicity import (
    average_mean_bound,
    average_proportion_bound,
    simultaneous_alpha,
    worst_prompt_bound,
)
from leakbound.bounds.proportion import proportion_bound
from leakbound.bounds.result import Bound, SurvivalBand
from leakbound.bounds.spread import ed_bound, ed_score, std_bound, std_bounds

__all__ = [
    "Bound",
    "SurvivalBand",
    "average_mean_bound",
    "average_proportion_bound",
    "ed_bound",
    "ed_score",
    "mean_bound",
    "mean_bounds",
    "proportion_bound",
    "quantile_bound",
    "simultaneous_alpha",
    "std_bound",
    "std_bounds",
    "survival_bound",
    "worst_prompt_bound",
]
