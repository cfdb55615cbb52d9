"""Guaranteed bounds from scores in [0, 1]: pure statistics on numpy and scipy.special."""

from leakbound.bounds.average import average_mean_bound, average_proportion_bound, product_average_bound
from leakbound.bounds.claims import Claim, Look, MeanEvidence, final_verdict, leak_look
from leakbound.bounds.comparison import Ranking, difference_bound, rank_models
from leakbound.bounds.distribution import quantile_bound, survival_bound
from leakbound.bounds.engines.evidence import Evidence
from leakbound.bounds.extraction import (
    draws_to_extract,
    extraction_probability,
    leak_at_k,
    leak_at_k_bound,
    max_score_at_k,
    max_score_at_k_bound,
)
from leakbound.bounds.groups import GroupPlan, group_bound, plan_groups
from leakbound.bounds.judged import judged_bound, judged_proportion_bound
from leakbound.bounds.looks import PlannedLooks, look_shares, plan_looks
from leakbound.bounds.mean import mean_bound, mean_bounds
from leakbound.bounds.multiplicity import (
    e_holm,
    holm,
    kth_worst_bound,
    leak_p_value,
    simultaneous_alpha,
    worst_prompt_bound,
)
from leakbound.bounds.planning import LeakPlan, WidthPlan, plan_leak_claim, plan_mean_claim, plan_width
from leakbound.bounds.population import population_mean_bound, population_share_bound
from leakbound.bounds.proportion import proportion_bound
from leakbound.bounds.result import Bound, SurvivalBand
from leakbound.bounds.sequences import (
    ed_sequence_bound,
    leak_sequence_bound,
    mean_sequence_bound,
    std_sequence_bound,
    survival_look,
)
from leakbound.bounds.spread import bounds_of_binary, ed_bound, ed_bounds, ed_score, std_bound, std_bounds

__all__ = [
    "Bound", "Claim", "Evidence", "GroupPlan", "LeakPlan", "Look", "MeanEvidence", "PlannedLooks", "Ranking",
    "SurvivalBand", "WidthPlan", "average_mean_bound", "average_proportion_bound", "bounds_of_binary",
    "difference_bound", "draws_to_extract", "e_holm", "ed_bound", "ed_bounds", "ed_score", "ed_sequence_bound",
    "extraction_probability", "final_verdict", "group_bound", "holm", "judged_bound", "judged_proportion_bound",
    "kth_worst_bound", "leak_at_k", "leak_at_k_bound", "leak_look", "leak_p_value", "leak_sequence_bound",
    "look_shares", "max_score_at_k", "max_score_at_k_bound", "mean_bound", "mean_bounds", "mean_sequence_bound",
    "plan_groups", "plan_leak_claim", "plan_looks", "plan_mean_claim", "plan_width", "population_mean_bound",
    "population_share_bound", "product_average_bound", "proportion_bound", "quantile_bound", "rank_models",
    "simultaneous_alpha", "std_bound", "std_bounds", "std_sequence_bound", "survival_bound", "survival_look",
    "worst_prompt_bound",
]  # fmt: skip
