from . import report
from .auditing.attesting import attest
from .auditing.certifying import certify
from .auditing.comparing import compare
from .auditing.drawing import Statement, sample
from .auditing.scoring import score
from .auditing.steps import audit, bound
from .auditing.verifying import verify
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
from .checking.policy import Demand, Policy
from .checking.running import check
from .errors import (
    IncompleteRunError,
    InputError,
    LeakboundError,
    ModelError,
    PromptsError,
    RunMismatchError,
    StorageError,
    TrainingError,
    WorkerError,
)
from .evaluating.config import Answering, BenchmarkConfig, ContinualConfig, HowAsked, LoadingModel, Sampled
from .evaluating.running import benchmark
from .importing import import_log
from .importing.imported import Import
from .importing.repeats import Repeats
from .metrics.intervals import Metric
from .metrics.questions import QuestionSet
from .models import FakeModel, Likelihood, OpenAIModel, Sampler
from .models.base import ForcedAnswer, Generation, TokenLikelihood
from .models.hf import HFModel, Work
from .models.openai import ServedAnswer
from .models.opening import Loading
from .proving.goal import Goal
from .proving.rounds import unlearn_until
from .reading.prompts import load_prompts
from .records import Branch, Draw, Prompt, SamplingParams, Shard
from .results.attestation import Attestation
from .results.audit import Audit, PromptAudit, ScoredCompletion
from .results.benchmark import BenchmarkRun
from .results.certificate import Certification, PromptCertificate
from .results.check import Finding, Verdicts
from .results.comparison import Comparison
from .results.evaluation import Evaluation
from .results.judged import JudgedAudit
from .results.proof import Attempt, Proof, Round
from .results.verification import Verification
from .runs.layout import Part
from .runs.store import Run
from .scoring import SCORERS, get_scorer
from .suites.base import Asking, QuestionAnswer, Suite
from .suites.biographies import biographies
from .unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn
from .viewing.serving import view
from .workers import Workers

__version__: str

__all__ = [
    "SCORERS",
    "Answering",
    "Asking",
    "Attempt",
    "Attestation",
    "Audit",
    "BenchmarkConfig",
    "BenchmarkRun",
    "Bound",
    "Branch",
    "Certification",
    "Comparison",
    "ContinualConfig",
    "Demand",
    "Draw",
    "Evaluation",
    "FakeModel",
    "Finding",
    "FinetuneConfig",
    "ForcedAnswer",
    "Generation",
    "Goal",
    "HFModel",
    "HowAsked",
    "Import",
    "IncompleteRunError",
    "InputError",
    "JudgedAudit",
    "LeakboundError",
    "Likelihood",
    "Loading",
    "LoadingModel",
    "Metric",
    "ModelError",
    "OpenAIModel",
    "Part",
    "Policy",
    "Prompt",
    "PromptAudit",
    "PromptCertificate",
    "PromptsError",
    "Proof",
    "QuestionAnswer",
    "QuestionSet",
    "Repeats",
    "Round",
    "Run",
    "RunMismatchError",
    "Sampled",
    "Sampler",
    "SamplingParams",
    "ScoredCompletion",
    "ServedAnswer",
    "Shard",
    "Statement",
    "StorageError",
    "Suite",
    "SurvivalBand",
    "TokenLikelihood",
    "TrainingError",
    "UnlearnConfig",
    "Verdicts",
    "Verification",
    "Work",
    "WorkerError",
    "Workers",
    "attest",
    "audit",
    "average_mean_bound",
    "average_proportion_bound",
    "benchmark",
    "biographies",
    "bound",
    "certify",
    "check",
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
    "unlearn_until",
    "verify",
    "view",
    "worst_prompt_bound",
]
