"""How much of a secret a completion gives away: ``(completion, target) -> [0, 1]``, 1 = fully leaked."""

from leakbound.scoring.complying import complies
from leakbound.scoring.judge import Judge
from leakbound.scoring.lexical import Regex, binary, contains, exact_match, rouge_1, rouge_l, rouge_l_f1
from leakbound.scoring.new_words import new_words, with_question
from leakbound.scoring.semantic import Embedding, Entailment
from leakbound.scoring.table import (
    SCORERS,
    BatchScorer,
    Scorer,
    check_prompt,
    code_of,
    get_scorer,
    is_binary,
    is_built_in,
    is_pinned,
    score_completion,
    score_completions,
)

__all__ = [
    "SCORERS", "BatchScorer", "Embedding", "Entailment", "Judge", "Regex", "Scorer", "binary", "check_prompt",
    "code_of", "complies", "contains", "exact_match", "get_scorer", "is_binary", "is_built_in", "is_pinned",
    "new_words", "rouge_1", "rouge_l", "rouge_l_f1", "score_completion", "score_completions", "with_question",
]  # fmt: skip
