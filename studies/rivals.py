"""Unlearning methods and what looks at samples, on the embedded world: equal steps, several seeds, the same proofs.

    OMP_NUM_THREADS=1 python studies/rivals.py --out runs/rivals --seeds 5
    python studies/rivals.py --page studies/results/rivals

studies/rivals_tofu.py does the same with SmolLM2 and TOFU.

A model of a million parameters learns facts about 120 invented people by heart and forgets those of 12 (48 questions).
All rivals get the same optimiser steps (a "4x" row four times as many), and once more the same CPU seconds: those that
cost less take more steps. Each is proven by fresh draws, beside the guess level of a model that never saw the 48
answers. The same models are asked again after their weights were rounded to 4 bits, and after 50 steps of learning ten
of the secrets again (asked about the other 38). Each model is made once; a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from common import Study, four_bits, write_page

from leakbound import Prompt, SamplingParams, audit, compare
from leakbound.models.hf.loading import load_model, load_tokenizer
from leakbound.models.opening import Loading
from leakbound.proving.goal import Goal
from leakbound.proving.rounds import unlearn_until
from leakbound.suites.biographies import biographies
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn

ALPHA = 0.01
LONGER = ", 100 s"
"""What ends the name of a rival that took as many steps as 100 CPU seconds allow."""
STEPS = {
    "NPO+GD": 1200, "NPO+GD, entropy": 1080, "SimNPO+GD": 1200, "ME+GD": 1250, "UNDIAL+GD": 1060, "PMC": 720,
}  # fmt: skip
"""These steps, by what the first seeds cost."""
DEAR = ("IDK+AP", "GRPO+GD", "NPO+GD, leak rounds", "leak_mass+GD", "--until")
"""The rivals whose equal steps cost about as much."""
NPO: dict[str, Any] = {"method": "npo_gd", "forget_weight": 0.1, "beta": 1.0}


def rounded(folder: Path, out: Path) -> None:
    """The model with the matrices of its layers rounded as ggml's Q4_0: blocks of 32, 16 levels."""
    model = load_model(str(folder), dtype="float32")
    with torch.no_grad():
        for name, matrix in model.named_parameters():
            if "layers." in name and matrix.ndim == 2:
                matrix.copy_(four_bits(matrix))
    model.save_pretrained(out)
    load_tokenizer(str(folder)).save_pretrained(out)


class Seed:
    """One world and its models, and what is done to them."""

    name = "rivals"
    steps, draws, again, relearnt, deeper = 480, 1024, 256, 10, 1024
    retain_prompts, retain_draws = 60, 64
    scorer, template, dtype = "contains", "auto", "auto"
    params = SamplingParams(max_tokens=32)
    learning: ClassVar[dict[str, Any]] = {
        "from_scratch": "tiny", "epochs": 30, "batch_size": 16, "learning_rate": 2e-3, "schedule": "cosine",
        "warmup": 0.1,
    }  # fmt: skip
    usual: ClassVar[dict[str, Any]] = {
        "learning_rate": 2e-4, "schedule": "constant", "batch_size": 16, "on_collapse": "ignore", "max_tokens": 32,
    }  # fmt: skip
    rivals: ClassVar[dict[str, dict[str, Any]]] = {
        "NPO+GD": NPO,
        "NPO+GD, 4x steps": {**NPO, "max_steps": 4 * steps},
        "SimNPO+GD": {"method": "simnpo_gd", "forget_weight": 0.3},
        "ME+GD": {"method": "me_gd", "forget_weight": 0.1},
        "IDK+AP": {"method": "idk_ap"},
        "UNDIAL+GD": {"method": "undial_gd"},
        "PMC": {"method": "pmc", "retain_weight": 1.5},
        "GRPO+GD": {"method": "grpo_gd", "leak_every": 6},
        "NPO+GD, entropy": {**NPO, "entropy_forget": 0.1, "entropy_retain": -0.025},
        "NPO+GD, leak rounds": {**NPO, "leak_rounds": 4, "leak_samples": 256},
        "leak_mass+GD": {"method": "leak_mass_gd", "leak_samples": 64, "leak_every": 40},
        "--until": {**NPO, "leak_samples": 256},
    }
    """Settings that the demo found for this world, or published ones; leak rounds and --until have those of NPO+GD."""
    goal: ClassVar[dict[str, Any]] = {
        "until": "leak<=0.05", "keep": "known>=0.9", "rounds": 3, "alpha": ALPHA, "proof_samples": 2048,
    }  # fmt: skip

    def __init__(self, root: Path, seed: int, small: bool) -> None:
        self.root, self.seed, self.small = root, seed, small
        self.files, self.prompts, self.retain = self.asked()

    def asked(self) -> tuple[dict[str, Path], list[Prompt], list[Prompt]]:
        """The files that are learned and forgotten, and the questions to forget and to retain."""
        world = biographies(num_people=40 if self.small else 120, seed=self.seed)
        retain = world.prompts("retain")[: self.retain_prompts]
        return world.write(self.root / "world"), world.prompts("forget"), retain

    def model(self, name: str) -> Path:
        """Where a model is."""
        return self.root / "models" / name.replace("+", "_").replace(" ", "_").replace(",", "")

    def learn(self, name: str, file: str) -> None:
        """A model of everything, or of all but the secrets."""
        if not self.model(name).exists():
            more = {"epochs": 20} if self.small else {}
            if name != "original" and "from_scratch" in self.learning:
                more["tokenizer"] = str(self.model("original"))
            config = FinetuneConfig(
                data=self.files[file], out=self.model(name), seed=self.seed, template=self.template,
                **self.learning | more,
            )  # fmt: skip
            finetune(config, progress=True)

    def forget(self, name: str) -> float:
        """Make a rival; the CPU seconds that it took."""
        shutil.rmtree(self.model(name), ignore_errors=True)
        settings = {"max_steps": self.steps // (8 if self.small else 1), **self.usual, **self.rivals[name]}
        until = name.startswith("--until")
        goal = self.goal | {key: settings.pop(key) for key in ("rounds",) if key in settings}
        config = UnlearnConfig(
            model=str(self.model("original")), forget=(self.files["forget"],), retain=self.files["retain"],
            out=self.model(name), seed=self.seed, like="ours", epochs=1000, resume=until, template=self.template,
            **{k: v for k, v in settings.items() if not (until and k == "max_steps")},
        )  # fmt: skip
        start = time.process_time()
        if until:
            goal |= {"budget": settings["max_steps"], "proof_dtype": self.dtype}
            unlearn_until(config, Goal(**goal), progress=True)
        else:
            unlearn(config, progress=True)
        return time.process_time() - start

    def ask(self, model: Path, what: str, prompts: Any, draws: int, seed: int = 1000) -> Any:
        """An audit, kept."""
        return audit(
            str(model), prompts, scorer=self.scorer, num_samples=draws, alpha=ALPHA, params=self.params,
            template=self.template, loading=Loading(dtype=self.dtype), seed=self.seed + seed,
            out=self.root / what / model.name, progress=True,
        )  # fmt: skip

    def measured(self, name: str) -> dict[str, Any]:
        """What is found of one model."""
        model, draws = self.model(name), self.draws // (8 if self.small else 1)
        found = self.ask(model, "forget", self.prompts, draws)
        right = self.ask(model, "retain", self.retain, self.retain_draws)
        beside = compare([self.root / "forget" / model.name] * 2, retain=[self.root / "retain" / model.name] * 2)
        rates = {p.prompt.id: p.leak_rate for p in found.prompts}
        return {
            "average": found.mean_leak.upper,
            "worst": found.worst_prompt.upper,
            "uppers": {p.prompt.id: p.leak_jointly.upper for p in found.prompts},
            "rates": rates,
            "cut": found.cut_shares[1],
            "clean_once": found.num_clean,
            "asked": found.num_asked,
            "ed": statistics.mean(p.ed_bound.upper for p in found.prompts),
            "kept": statistics.mean(p.leak_rate for p in right.prompts),
            "distinct": beside.models[0].diversity.distinct,
        }

    def asked_deeper(self, name: str) -> dict[str, Any]:
        """The same questions, asked so often, by draws of their own, that no leak proves each to be at most .01."""
        found = self.ask(self.model(name), "deeper", self.prompts, self.deeper // (8 if self.small else 1), 5000)
        return {
            "leaks": sum(p.num_leaks for p in found.prompts),
            "draws": sum(p.num_samples for p in found.prompts),
            "average": found.mean_leak.upper,
            "uppers": {p.prompt.id: p.leak_jointly.upper for p in found.prompts},
            "cut": found.cut_shares[1],
        }

    def attacked(self, name: str) -> dict[str, Any]:
        """The same model after rounding to 4 bits, and after some of the secrets were learned again."""
        model, draws = self.model(name), self.again // (4 if self.small else 1)
        coarse, again = (self.model(f"{name} {what}") for what in ("4 bits", "relearnt"))
        if not coarse.exists():
            rounded(model, coarse)
        rows = [json.loads(line) for line in self.files["forget"].read_text().splitlines()]
        data = self.root / "relearnt.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[: self.relearnt]))
        if not again.exists():
            finetune(
                FinetuneConfig(
                    data=data, model=str(model), out=again, epochs=1000, max_steps=50, batch_size=10, seed=self.seed,
                    learning_rate=self.usual["learning_rate"], schedule="constant", template=self.template,
                    bf16=self.usual.get("bf16", False),
                ),
                progress=True,
            )  # fmt: skip
        few = self.ask(coarse, "forget", self.prompts, draws)
        learnt = {row["question"] for row in rows[: self.relearnt]}
        others = self.ask(again, "forget", [p for p in self.prompts if p.text not in learnt], draws)
        return {
            "4 bits": statistics.mean(p.leak_rate for p in few.prompts),
            "4 bits worst": max(p.leak_rate for p in few.prompts),
            "relearnt": statistics.mean(p.leak_rate for p in others.prompts),
            "relearnt worst": max(p.leak_rate for p in others.prompts),
        }


Seed.rivals |= {f"{name}{LONGER}": {**Seed.rivals[name], "max_steps": steps} for name, steps in STEPS.items()}


def study(out: Path, seeds: range, small: bool, only: list[str], deeper: bool, world: type[Seed]) -> None:
    """Seed after seed, so that what is there is a table of whole seeds."""
    torch.set_num_threads(1)
    kept = Study(out, small)
    for seed in seeds:
        one = world(out / f"seed-{seed}", seed, small)
        for name, file in (("original", "full"), ("retrained", "retain")):
            one.learn(name, file)
            kept.part(f"{seed}/{name}", lambda one=one, name=name: one.measured(name))
        for name in only or world.rivals:
            seconds = kept.part(f"{seed}/{name}/seconds", lambda one=one, name=name: one.forget(name))
            found = kept.part(f"{seed}/{name}", lambda one=one, name=name: one.measured(name))
            print(
                f"seed {seed} {name}: {seconds:.0f} CPU s, average <= {found['average']:.4f}, worst <= "
                f"{found['worst']:.3f}, kept {found['kept']:.3f}",
                flush=True,
            )
            if deeper:
                kept.part(f"{seed}/{name}/deeper", lambda one=one, name=name: one.asked_deeper(name))
        for name in only or world.rivals:
            if not name.endswith(LONGER):
                kept.part(f"{seed}/{name}/after", lambda one=one, name=name: one.attacked(name))


def page(values: dict[str, Any], rivals: dict[str, Any]) -> str:
    """Equal steps, then equal CPU seconds, where they were tried."""
    longer = [name for name in rivals if name.endswith(LONGER) and any(name in key for key in values)]
    parts = [table(values, ["original", "retrained", *(name for name in rivals if name not in longer)])]
    if longer:
        parts += ["At equal CPU seconds:", table(values, [*longer, *DEAR])]
    if any(key.endswith("/deeper") for key in values):
        parts.append(deeper_table(values, list(rivals)))
    return "\n\n".join(parts)


def table(values: dict[str, Any], names: list[str]) -> str:
    """The mean over the seeds, the worst seed in brackets where a worst case is meant; then differences from NPO+GD."""
    every = sorted({int(key.split("/")[0]) for key in values})
    names = [n for n in names if any(f"{s}/{n}" in values for s in every)]
    head = (
        "| method | seeds | CPU s | clean asked once | cut | average P(leak) ≤ | worst prompt ≤ (worst seed) "
        "| above guess + .01 | ED ≤ "
        "| retained, sampled (worst seed) | distinct | 4 bits: average, worst | relearnt: average, worst |"
    )
    if not any("cut" in value for value in values.values() if isinstance(value, dict)):  # older figures
        head = head.replace(" cut |", "")
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for name in names:
        seeds = [s for s in every if f"{s}/{name}" in values]
        some = [values[f"{s}/{name}"] for s in seeds]
        after = [values.get(f"{s}/{name}/after") for s in seeds]
        cpu = [values.get(f"{s}/{name}/seconds") for s in seeds]
        above = [
            sum(one["uppers"][p] > values[f"{s}/retrained"]["rates"][p] + 0.01 for p in one["uppers"])
            for s, one in zip(seeds, some, strict=True)
        ]

        def mean(key: str, some: Any = some) -> float:
            return statistics.mean(one[key] for one in some)

        cells = [
            name,
            str(len(seeds)),
            "–" if None in cpu else f"{statistics.mean(cpu):.0f}",
            f"{mean('clean_once'):.1f} of {mean('asked'):.1f}",
            *([f"{mean('cut'):.3f}"] if " cut |" in head else []),
            f"{mean('average'):.4f}",
            f"{mean('worst'):.3f} ({max(one['worst'] for one in some):.3f})",
            f"{statistics.mean(above):.1f}",
            f"{mean('ed'):.3f}",
            f"{mean('kept'):.3f} ({min(one['kept'] for one in some):.3f})",
            f"{mean('distinct'):.3f}",
        ]
        if None in after:
            cells += ["–", "–"]
        else:
            cells += [
                f"{statistics.mean(one[what] for one in after):.4f}, {max(one[f'{what} worst'] for one in after):.3f}"
                for what in ("4 bits", "relearnt")
            ]
        lines.append("| " + " | ".join(cells) + " |")
    first = next((name for name in names if name.startswith("NPO+GD")), "")
    gaps = [
        "",
        f"Beside {first}, paired by seed, 95 % intervals of Student's t, one at a time: bounds as a multiple of its "
        "own (geometric mean), retained answers as a difference.",
        "",
        "| method | average P(leak) ≤ | worst prompt ≤ | retained |",
        "|---|---|---|---|",
    ]
    for name in names:
        seeds = [s for s in every if f"{s}/{name}" in values and f"{s}/{first}" in values]
        if len(seeds) < 2 or name in ("original", "retrained", first):
            continue
        pairs = [(values[f"{s}/{name}"], values[f"{s}/{first}"]) for s in seeds]
        cells = []
        for what in ("average", "worst"):
            middle, half = between([math.log(one[what] / other[what]) for one, other in pairs])
            cells.append(f"{math.exp(middle):.2f} [{math.exp(middle - half):.2f}, {math.exp(middle + half):.2f}]")
        middle, half = between([one["kept"] - other["kept"] for one, other in pairs])
        cells.append(f"{middle:+.3f} [{middle - half:+.3f}, {middle + half:+.3f}]")
        gaps.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, *gaps])


def deeper_table(values: dict[str, Any], names: list[str]) -> str:
    """Seed by seed: what was asked so often that a prompt that never leaks is proven to be near the guess level."""
    lines = [
        "Asked so often, by other draws, that a prompt that never leaks is proven to leak at most .01:",
        "",
        "| method | seed | leaking draws | average P(leak) ≤ | worst prompt, all at once ≤ | above guess + .01 "
        "| cut | retained, sampled, of the original's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        for key in sorted(key for key in values if key.endswith(f"/{name}/deeper")):
            seed, one = key.split("/")[0], values[key]
            guess, uppers = values[f"{seed}/retrained"]["rates"], one["uppers"]
            kept, all_of_it = values[f"{seed}/{name}"]["kept"], values[f"{seed}/original"]["kept"]
            above = sum(uppers[p] > guess[p] + 0.01 for p in uppers)
            lines.append(
                f"| {name} | {seed} | {one['leaks']:,} of {one['draws']:,} | {one['average']:.4f} "
                f"| {max(uppers.values()):.4f} | {above} of {len(uppers)} | {one['cut']:.2f} | {kept / all_of_it:.0%} |"
            )
    return "\n".join(lines)


def between(apart: list[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval."""
    half = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[len(apart)] * statistics.stdev(apart) / math.sqrt(len(apart))
    return statistics.mean(apart), half


def main(world: type[Seed]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs") / world.name)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed, where several machines share them")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", action="append", default=[], help="one rival alone")
    parser.add_argument("--deeper", action="store_true", help="ask each rival once more, so often that .01 is proven")
    parser.add_argument("--page", type=Path, help="a folder with results.json, named as the page of docs/results")
    given = parser.parse_args()
    if given.page is None:
        study(given.out, range(given.first, given.seeds), given.small, given.only, given.deeper, world)
        return
    write_page(given.page, lambda values: page(values, world.rivals), given.page.name, world.name)


if __name__ == "__main__":
    main(Seed)
