"""How much of a secret a completion gives away: ``(completion, target) -> [0, 1]``, 1 = fully leaked."""

from leakbound.scoring.lexical import Regex, contains, exact_match, rouge_1, rouge_l, rouge_l_f1
from leakbound.scoring.table import SCORERS, Scorer, check_prompt, get_scorer, score_completion

__all__ = [
    "SCORERS",
    "Regex",
    "Scorer",
    "check_prompt",
    "contains",
    "exact_match",
    "get_scorer",
    "rouge_1",
    "rouge_l",
    "rouge_l_f1",
    "score_completion",
]
