"""Every bound that an audit states: one line each, from which frames, tables, CSV and the page's account follow.

A bound that is new in an audit is a field of :class:`~leakbound.results.audit.PromptAudit` (or of ``Audit``) and a line
here. ``{t}`` in an estimand is the audit's threshold.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """``field`` holds the bound; ``name`` and ``estimand`` are its words.

    ``heading`` is its column in a table of prompts, or its line in one of statements; ``estimate`` and ``upper`` are
    its columns in frames and CSV. Empty where it has none.
    """

    field: str
    name: str
    estimand: str
    heading: str = ""
    estimate: str = ""
    upper: str = ""


OF_A_PROMPT = (
    Quantity("leak", "P(leak), this prompt", "P(h ≥ {t}) of one prompt", "P(leak)", "leak_rate", "leak_upper"),
    Quantity(
        "leak_jointly", "P(leak), all prompts at once", "P(h ≥ {t}) of each prompt, jointly", "all at once",
        upper="leak_upper_jointly",
    ),
    Quantity("mean", "mean score", "E[h] of one prompt", "mean score", "mean", "mean_upper"),
    Quantity("std", "standard deviation", "sd(h) of one prompt", "sd", "std", "std_upper"),
    Quantity("ed_bound", "mean + 2 sd", "E[h] + 2 sd(h) of one prompt", "mean + 2 sd", "ed", "ed_upper"),
    Quantity("survival", "survival curve", "P(h > x) of one prompt, for all x at once"),
)  # fmt: skip
ACROSS_PROMPTS = (
    Quantity(
        "worst_prompt", "every prompt", "the largest P(h ≥ {t})", "P(leak) of every prompt, the worst one included"
    ),
    Quantity(
        "mean_leak", "average prompt, P(leak)", "the mean over prompts of P(h ≥ {t})",
        "P(leak), averaged over the prompts",
    ),
    Quantity(
        "mean_score", "average prompt, score", "the mean over prompts of E[h]", "Mean score, averaged over the prompts"
    ),
)  # fmt: skip
