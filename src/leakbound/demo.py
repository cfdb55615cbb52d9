"""``leakbound demo``: a whole story in minutes on a CPU, in a world that is made on the spot.

A model learns secrets, is made to forget some, and looks clean when it is asked once; sampled a thousand times it still
tells them. A model that never saw them shows how much of that is guessing.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakbound.errors import InputError
from leakbound.records import SamplingParams, Shard

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from leakbound.benchmarks.base import Benchmark
    from leakbound.results import Audit


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


@dataclass(frozen=True)
class Recipe:
    """How one model of the demo is made: what is trained on, or the unlearning method and its settings."""

    data: str | None = None
    method: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


LEARN: dict[str, Any] = {"from_scratch": "tiny", "epochs": 60, "learning_rate": 3e-3, "schedule": "cosine", "warmup": 0.1}
RECIPES = {
    "retrained": Recipe(data="retain"),
    "original": Recipe(data="full"),
    "grad_diff": Recipe(method="grad_diff", settings={"max_steps": 20, "learning_rate": 1e-4}),
    "npo": Recipe(method="npo_gd", settings={"max_steps": 40, "learning_rate": 1e-4}),
}
"""The models in the order they are made; the first one never saw the secrets and gives the guess level."""

UTILITY_PROMPTS = 60
"""Retain questions that measure what a model still knows."""


def run_demo(config: DemoConfig, *, console: Console) -> dict[str, Audit]:
    """Run the whole story and print it; returns the audits by model. What is done already is not done again."""
    from leakbound.auditing import audit
    from leakbound.benchmarks.biographies import biographies

    world = biographies(num_people=config.num_people, seed=config.seed)
    _start(config)
    files = world.write(config.out / "world")
    audits: dict[str, Audit] = {}
    known: dict[str, float] = {}
    for name, recipe in RECIPES.items():
        model = _make(name, recipe, config, files)
        audits[name] = audit(
            str(model),
            world.prompts("forget"),
            scorer="contains",
            num_samples=config.num_samples,
            alpha=config.alpha,
            params=SamplingParams(max_tokens=32),
            seed=config.seed,
            out=config.out / "runs" / name,
            guess=audits.get("retrained"),
        )
        known[name] = _share_known(str(model), world)
    console.print(_table(audits, known))
    console.print(_verdict(audits), highlight=False)
    for name in audits:
        console.print(f"{name}: {config.out / 'runs' / name / 'report.html'}", highlight=False, markup=False)
    return audits


def _start(config: DemoConfig) -> None:
    """Begin in a new folder, or go on in one of the same demo."""
    file = config.out / "demo.json"
    mine = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
    if file.exists():
        there = json.loads(file.read_text(encoding="utf-8"))
        if there != mine:
            raise InputError(f"out is {str(config.out)!r}, the folder of a demo with {there}: give a new folder")
        return
    config.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")


def _make(name: str, recipe: Recipe, config: DemoConfig, files: dict[str, Path]) -> Path:
    """Train the model, unless it is there already (a model folder exists whole or not at all)."""
    from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn

    out = config.out / "models" / name
    if out.exists():
        return out
    if recipe.data is not None:
        return finetune(FinetuneConfig(data=files[recipe.data], out=out, seed=config.seed, **LEARN))
    return unlearn(
        UnlearnConfig(
            model=str(config.out / "models" / "original"),
            forget=files["forget"],
            retain=files["retain"],
            out=out,
            method=str(recipe.method),
            seed=config.seed,
            **recipe.settings,
        )
    )


def _share_known(model: str, world: Benchmark) -> float:
    """The share of retain questions that the model answers rightly when asked once: what is left of its use."""
    from leakbound.models.hf import HFModel
    from leakbound.scoring import get_scorer, score_completion

    prompts = world.prompts("retain")[:UTILITY_PROMPTS]
    draws = HFModel.load(model).sample(Shard(prompts, 0, 1, 0), SamplingParams(temperature=0, max_tokens=32))
    contains = get_scorer("contains")
    return sum(score_completion(contains, d.text, p) for d, p in zip(draws, prompts, strict=True)) / len(prompts)


def _table(audits: dict[str, Audit], known: dict[str, float]) -> Table:
    from rich.table import Table

    table = Table(title="What the same models look like asked once, and asked a thousand times")
    for heading in ("model", "retain known", "greedy leaks", "clean, yet leaked when sampled", "most leaking prompt",
                    "every prompt's P(leak)", "average P(leak)"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, audit in audits.items():
        n = len(audit.prompts)
        table.add_row(
            name,
            f"{known[name]:.0%}",
            f"{n - audit.num_clean} of {n}",
            f"{len(audit.hidden)} of {audit.num_clean}",
            f"{max(p.leak_rate for p in audit.prompts):.3f}",
            f"<= {audit.worst_prompt.upper:.4f}",
            f"<= {audit.mean_leak.upper:.4f}",
        )
    return table


def _verdict(audits: dict[str, Audit]) -> str:
    """The point of the demo in plain words, or plainly that this run does not show it."""
    guess = {p.prompt.id: p.leak_rate for p in audits["retrained"].prompts}
    lines = []
    for name, recipe in RECIPES.items():
        if recipe.method is None:
            continue
        audit = audits[name]
        beyond = [p for p in audit.hidden if p.leak_rate > guess[p.prompt.id]]
        if not beyond:
            lines.append(f"{name}: in this run no prompt that looks clean leaks more than guessing would.")
            continue
        worst = max(beyond, key=lambda p: p.leak_rate)
        lines.append(
            f"{name}: {audit.num_clean} of {len(audit.prompts)} prompts look clean when asked once; "
            f"{len(audit.hidden)} of those leaked when sampled, {len(beyond)} of them more often than a model that never saw the secret. "
            f"Worst: {worst.prompt.text!r}, {worst.num_leaks} of {worst.num_samples} draws "
            f"(guess level {guess[worst.prompt.id]:.3f})."
        )
    return "\n".join(lines)
