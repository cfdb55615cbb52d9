from . import report
from .auditing.certifying import certify
from .auditing.comparing import compare
from .auditing.steps import Loading, Statement, audit, bound, sample, score
from .bounds import (
    Bound,
    SurvivalBand,
    average_mean_bound,
    average_proportion_bound,
    ed_score,
    judged_bound,
    judged_proportion_bound,
    mean_bound,
    proportion_bound,
    quantile_bound,
    simultaneous_alpha,
    std_bound,
    survival_bound,
    worst_prompt_bound,
)
from .errors import (
    IncompleteRunError,
    InputError,
    LeakboundError,
    ModelError,
    PromptsError,
    RunMismatchError,
    TrainingError,
)
from .evaluating.evaluation import Evaluation
from .evaluating.running import benchmark
from .importing import import_log
from .models import FakeModel, Likelihood, OpenAIModel, Sampler
from .models.hf import HFModel
from .reading.prompts import load_prompts
from .records import Draw, Prompt, SamplingParams, Shard
from .results.audit import Audit, PromptAudit, ScoredCompletion
from .results.certificate import Certification, PromptCertificate
from .results.comparison import Compared, Comparison, Diversity
from .results.judged import JudgedAudit
from .runs.store import Run
from .scoring import SCORERS, get_scorer
from .suites.biographies import biographies
from .unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn

__version__: str

__all__ = [
    "SCORERS",
    "Audit",
    "Bound",
    "Certification",
    "Compared",
    "Comparison",
    "Diversity",
    "Draw",
    "Evaluation",
    "FakeModel",
    "FinetuneConfig",
    "HFModel",
    "IncompleteRunError",
    "InputError",
    "JudgedAudit",
    "LeakboundError",
    "Likelihood",
    "Loading",
    "ModelError",
    "OpenAIModel",
    "Prompt",
    "PromptAudit",
    "PromptCertificate",
    "PromptsError",
    "Run",
    "RunMismatchError",
    "Sampler",
    "SamplingParams",
    "ScoredCompletion",
    "Shard",
    "Statement",
    "SurvivalBand",
    "TrainingError",
    "UnlearnConfig",
    "audit",
    "average_mean_bound",
    "average_proportion_bound",
    "benchmark",
    "biographies",
    "bound",
    "certify",
    "compare",
    "ed_score",
    "finetune",
    "get_scorer",
    "import_log",
    "judged_bound",
    "judged_proportion_bound",
    "load_prompts",
    "mean_bound",
    "proportion_bound",
    "quantile_bound",
    "report",
    "sample",
    "score",
    "simultaneous_alpha",
    "std_bound",
    "survival_bound",
    "unlearn",
    "worst_prompt_bound",
]
