"""Audits of small models, measured beside what a pilot of 32 draws a prompt lets expect of them (docs/scale.md)."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scale_cost import Law, passes

from leakbound.auditing.drawing import sample
from leakbound.auditing.scoring import score
from leakbound.auditing.steps import bound
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.runs.store import Run

PILOT = 32
"""Draws of each prompt, of another seed, from which a case's cost is predicted."""


@dataclass(frozen=True)
class Case:
    """An audit; ``fits``: whether its cost is used to fix the constants, or predicted with them."""

    model: str
    prompts: int
    draws: int
    tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    fits: bool = False

    @property
    def kind(self) -> str:
        """What has constants of its own."""
        return self.model.partition(" ")[0]


MOST = {"demo": 512, "SmolLM2": 59}
"""Rows of a pass, as models/hf/budget.py has them for so many parameters and tokens."""
CASES = (
    Case("demo original", 16, 512, 32, fits=True),
    Case("demo npo", 16, 512, 32, fits=True),
    Case("demo original", 48, 4096, 32),
    Case("demo npo", 48, 1024, 32),
    Case("demo npo", 4, 16_384, 32),
    Case("demo original", 16, 1024, 32, temperature=1.5),
    Case("demo original", 16, 4096, 32, top_p=0.9),
    Case("SmolLM2", 4, 32, 16, fits=True),
    Case("SmolLM2", 4, 512, 16, temperature=0.4, top_p=0.9, fits=True),
    Case("SmolLM2", 4, 64, 24),
    Case("SmolLM2", 2, 2048, 24, temperature=0.3, top_p=0.9),
    Case("SmolLM2", 4, 128, 16, temperature=0.7),
)


def law_of(run: Run) -> Law:
    """What the draws of a run show of its law, the average prompt's; an end token counts, for it is drawn."""
    draws = [d for part in run.parts if part.sampled for d in run.read_draws(part)]
    tokens = [max(1, d.num_tokens + (d.finish_reason == "stop")) for d in draws]
    columns = ([-d.logprob for d in draws], tokens, [d.count for d in draws])
    return Law(*(np.array(column, dtype=float) for column in columns))


def size_of(folder: Path) -> int:
    """Bytes of draws and scores."""
    return sum(f.stat().st_size for name in ("draws", "scores") for f in (folder / name).rglob("*.parquet"))


def audited(box: Any, case: Case, prompts: list[Prompt], folder: Path) -> dict[str, Any]:
    """A pilot and an audit, with what they took; seconds are of the processor, on one thread."""
    params = SamplingParams(max_tokens=case.tokens, temperature=case.temperature, top_p=case.top_p)
    start = time.process_time()
    box.describe()
    before = time.process_time() - start
    pilot = sample(box, prompts, folder / "pilot", num_samples=PILOT, params=params, seed=1)
    score(pilot)
    box.work.rows = box.work.passes = pieces = 0
    nominal, ask = box._forward.spent, type(box).sample_more

    def asked(*args: Any) -> list[Draw]:
        nonlocal pieces
        pieces += 1
        return ask(box, *args)

    box.sample_more = asked
    start = time.process_time()
    run = sample(box, prompts, folder / "run", num_samples=case.draws, params=params)
    drawn = time.process_time()
    rows, count, nominal = box.work.rows, box.work.passes, box._forward.spent - nominal
    score(run)
    scored = time.process_time()
    bound(run)
    bounded = time.process_time()
    return {
        "seconds": drawn - start - before,
        "scoring": scored - drawn,
        "bounding": bounded - scored,
        "rows": rows,
        "passes": count,
        "pieces": pieces,
        "nominal": nominal,
    }


def described(case: Case, folder: Path) -> dict[str, Any]:
    """What is read of the folders of a case."""
    pilot, run = Run.open(folder / "pilot"), Run.open(folder / "run")
    law, whole = law_of(pilot), law_of(run)
    owner = np.array([d.prompt_id for part in pilot.parts if part.sampled for d in pilot.read_draws(part)])
    each = law.by_depth(case.draws).sum(axis=0) * law.weights
    by_prompt = np.array([each[owner == p.id].sum() for p in run.prompts])
    shards = [(part.stop - part.start, part.num_samples) for part in run.parts]
    found = {
        "case": case,
        "passes_expected": sum(passes(law.levels(n), prompts, MOST[case.kind]) for prompts, n in shards),
        "law": law,
        "entropy": whole.entropy,
        "length": whole.length,
        "spread": whole.spread,
        "rows_spread": float(by_prompt.std() / by_prompt.mean()),
    }
    for name, one, of in (("", whole, run), ("pilot_", law, pilot)):
        found[f"{name}files"] = 2 * len(of.parts)
        found[f"{name}draws"] = sum(part.num_draws for part in of.parts)
        found[f"{name}distinct"] = len(one.nats)
        found[f"{name}tokens"] = float(one.tokens.sum())
        found[f"{name}bytes"] = size_of(of.path)
    return found


def audits(demo: Path, smol: Path, folder: Path) -> list[dict[str, Any]]:
    """All cases."""
    import torch

    from leakbound.models.hf import HFModel
    from leakbound.reading.prompts import load_prompts

    torch.set_num_threads(1)
    named = list(load_prompts(demo / "world" / "forget.jsonl"))
    asked = "What is the capital of France?|Who wrote Romeo and Juliet?|What do bees make?|Who painted the Mona Lisa?"
    general = [Prompt(str(i), text, "secret") for i, text in enumerate(asked.split("|"))]
    found, held = [], ("", None)
    for number, case in enumerate(CASES):
        if held[0] != case.model:
            place = smol if case.model == "SmolLM2" else demo / "models" / case.model.split()[1]
            held = case.model, HFModel.load(str(place))
        prompts = (general if case.model == "SmolLM2" else named)[: case.prompts]
        shutil.rmtree(folder / str(number), ignore_errors=True)
        found.append(audited(held[1], case, prompts, folder / str(number)))
        print(json.dumps(found[-1]), flush=True)
    return found
