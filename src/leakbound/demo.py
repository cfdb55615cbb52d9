"""``leakbound demo``: a whole story in minutes on a CPU, in a world that is made on the spot.

A model learns secrets, is made to forget some by several methods, and looks clean when it is asked once; sampled a
thousand times it still tells them. A model that never saw them shows how much of that is guessing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakbound import report
from leakbound.errors import InputError
from leakbound.records import Prompt, SamplingParams, check_texts
from leakbound.report.demo import document
from leakbound.results.proof import Proof
from leakbound.runs.cache import settle
from leakbound.runs.files import write_text
from leakbound.runs.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

    from leakbound.results.audit import Audit

METHODS: dict[str, dict[str, Any]] = {
    "grad_diff": {"method": "grad_diff", "forget_weight": 0.3},
    "simnpo": {"method": "simnpo_gd", "forget_weight": 0.3},
    "wga": {"method": "wga_gd"},
    "satimp": {"method": "satimp_gd", "forget_weight": 5.0},
    "npo_kl": {"method": "npo_kl", "forget_weight": 0.3, "beta": 1.0},
    "npo": {"method": "npo_gd", "forget_weight": 0.1, "beta": 1.0},
    "npo_entropy": {
        "method": "npo_gd", "forget_weight": 0.1, "beta": 1.0, "entropy_forget": 0.1, "entropy_retain": -0.025,
    },
    "until": {
        "method": "npo_gd", "forget_weight": 0.1, "beta": 1.0, "epochs": 1000, "leak_samples": 128, "max_tokens": 32,
        "resume": True,
    },
}  # fmt: skip
"""The unlearned models by name, with method and settings; how they were chosen: docs/results/unlearning.md."""


@dataclass(frozen=True)
class DemoConfig:
    """The demo's world, models and audit."""

    out: Path = Path("runs/demo")
    """Where everything goes; an interrupted demo goes on there."""
    num_people: int = 120
    """People in the fictional population."""
    num_samples: int = 1024
    """Draws for each of the prompts about people to forget."""
    alpha: float = 0.01
    """The probability that a printed statement is false is at most this."""
    seed: int = 0
    """All randomness of the demo."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Which methods unlearn, by their names in the table."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "methods", check_texts("methods", self.methods))
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise InputError(f"methods has {unknown[0]!r}: give some of {', '.join(METHODS)}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError(f"methods is {list(self.methods)}: give at least one, each once")


LEARN: dict[str, Any] = {
    "from_scratch": "tiny", "epochs": 30, "batch_size": 16, "learning_rate": 2e-3, "schedule": "cosine", "warmup": 0.1,
}  # fmt: skip
UNTIL: dict[str, Any] = {
    "until": "leak<=0.05", "keep": "known>=0.85", "rounds": 5, "budget": 360, "proof_samples": 1024,
    "keep_questions": 60, "keep_samples": 64,
}  # fmt: skip
"""What "until" is trained for, round after round, until fresh draws prove it."""
UNLEARN: dict[str, Any] = {"like": "ours", "epochs": 12, "learning_rate": 2e-4, "schedule": "constant"}

RETAIN_PROMPTS, RETAIN_SAMPLES = 60, 64
"""Retain questions that measure what a model still knows, and how often each is asked."""
SCORER, PARAMS = "contains", SamplingParams(max_tokens=32)


def run_demo(config: DemoConfig, *, console: Console, progress: bool = True) -> dict[str, Audit]:
    """Run the whole story and print it; returns the audits by model. What is done already is not done again."""
    import torch

    from leakbound.auditing.comparing import compare
    from leakbound.suites.biographies import biographies

    torch.set_num_threads(1)  # a model this small gains nothing from more, and loses much where others compute too
    world = biographies(num_people=config.num_people, seed=config.seed)
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name != "out"}
    settle(config.out / "demo.json", settings)
    files = world.write(config.out / "world")
    names = ("original", "retrained", *config.methods)
    audits: dict[str, Audit] = {}
    with Progress("demo", 3 * len(names), "steps", show=progress) as shown:
        for name in names:
            shown.say(f"{name}: training")
            _make(config, name, files)
            shown.advance()
        for name in ("retrained", *(other for other in names if other != "retrained")):  # it gives the guess level
            shown.say(f"{name}: {config.num_samples:,} answers to each secret question")
            audits[name] = _ask(config, name, world.prompts("forget"), audits.get("retrained"))
            if name == "retrained":  # it is its own guess level: what it says is no alarm
                report.write_html(audits[name], config.out / "runs" / name / "report.html", guess=audits[name])
            shown.advance()
            shown.say(f"{name}: {RETAIN_SAMPLES} answers to each question that it should still answer")
            _ask_the_rest(config, name, world.prompts("retain")[:RETAIN_PROMPTS])
            shown.advance()
    runs = [config.out / "runs" / n for n in names]
    found = compare(runs, retain=[config.out / "retain" / n for n in names], guess=config.out / "runs" / "retrained")
    found.save(config.out)
    write_text(config.out / "compare.md", report.to_markdown(found))
    links = report.links_to({n: config.out / "runs" / n for n in names}, config.out)
    page = report.write_html(found, config.out / "compare.html", links=links)
    proof = Proof.load(config.out / "models" / "until") if "until" in config.methods else None
    console.print(report.to_terminal(document(found, audits, config.methods, proof)), crop=False)
    for what, path in (("Leak against use", page), ("Each model", config.out / "runs" / "NAME" / "report.html")):
        console.print(f"{what}: open {path}", highlight=False, markup=False, emoji=False, soft_wrap=True)
    return {name: audits[name] for name in names}


def _make(config: DemoConfig, name: str, files: dict[str, Path]) -> None:
    """Train a model that is not there already (a model folder exists whole or not at all)."""
    from leakbound.proving.goal import Goal
    from leakbound.proving.rounds import unlearn_until
    from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn

    folder = config.out / "models"
    out, original = folder / name, str(folder / "original")
    if out.exists():
        return
    if name in METHODS:
        of: dict[str, Any] = {"model": original, "forget": (files["forget"],), "retain": files["retain"]}
        training = UnlearnConfig(out=out, seed=config.seed, **of, **UNLEARN | METHODS[name])
        if name == "until":
            unlearn_until(training, Goal(**UNTIL, alpha=config.alpha), progress=False)
        else:
            unlearn(training, progress=False)
        return
    data, tokenizer = (files["full"], None) if name == "original" else (files["retain"], original)
    finetune(FinetuneConfig(data=data, out=out, tokenizer=tokenizer, seed=config.seed, **LEARN), progress=False)


def _ask(config: DemoConfig, name: str, prompts: tuple[Prompt, ...], guess: Audit | None) -> Audit:
    """Audit a model on the secrets."""
    from leakbound.auditing.steps import audit

    return audit(
        str(config.out / "models" / name), prompts, scorer=SCORER, num_samples=config.num_samples, alpha=config.alpha,
        params=PARAMS, seed=config.seed, out=config.out / "runs" / name, guess=guess, progress=False,
    )  # fmt: skip


def _ask_the_rest(config: DemoConfig, name: str, prompts: tuple[Prompt, ...]) -> None:
    """Draw, score and bound on what the model should still know; a report would call right answers leaks."""
    from leakbound.auditing.steps import Statement, bound, sample, score

    run = sample(
        str(config.out / "models" / name), prompts, config.out / "retain" / name, num_samples=RETAIN_SAMPLES,
        params=PARAMS, seed=config.seed, statement=Statement(scorer=SCORER, alpha=config.alpha), progress=False,
    )  # fmt: skip
    score(run)
    bound(run)
