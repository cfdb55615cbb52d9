"""What an audit costs and proves with each engine: independent draws, without replacement, auto.

    python benchmarks/engines.py [--models runs/demo/models] [--names original npo grad_diff] [--prompts 8]

Models and prompts are those of `leakbound demo`. CPU seconds of drawing alone and rows through the model, greedy and
pilot draws included. Gap: the upper bound on P(leak) minus the certain lower limit that 256 distinct completions give,
median over the prompts; the same for E[h]; "average": the bound on the average prompt minus the average such limit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from leakbound.auditing.steps import Statement, bound, sample, score
from leakbound.models.hf import HFModel
from leakbound.reading.prompts import load_prompts
from leakbound.records import SamplingParams

parser = argparse.ArgumentParser()
parser.add_argument("--models", type=Path, default=Path("runs/demo/models"))
parser.add_argument("--names", nargs="+", default=["original", "npo", "grad_diff"])
parser.add_argument("--prompts", type=int, default=8)
args = parser.parse_args()
torch.set_num_threads(1)
PROMPTS = load_prompts(args.models.parent / "world" / "forget.jsonl")[: args.prompts]
RUNS = (
    ("without-replacement", 256), ("without-replacement", 64), ("iid", 1024), ("iid", 4096), ("auto", 1024)
)  # fmt: skip

print("| model | engine, n | CPU s | rows | distinct | mass | gap, P(leak) | gap, E[h] | average | chose |")
print("|---|---|---|---|---|---|---|---|---|---|")
for name in args.names:
    box = HFModel.load(str(args.models / name))
    lower: dict[str, tuple[float, float]] = {}
    for engine, n in RUNS:
        box.work.rows = 0
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            run = sample(
                box, PROMPTS, Path(folder) / "run", num_samples=n, engine=engine,
                statement=Statement("contains", 0.5, 0.01), params=SamplingParams(max_tokens=64),
            )  # fmt: skip
            seconds = time.process_time() - start
            score(run)
            result = bound(run)
        for p in result.prompts:
            if p.limits is not None:
                lower.setdefault(p.prompt.id, (p.limits.lower, p.limits.lower))  # contains: E[h] is P(leak)
        gaps = np.array(
            [(p.leak.upper - lower[p.prompt.id][0], p.mean.upper - lower[p.prompt.id][1]) for p in result.prompts]
        )
        mass = [p.seen_mass for p in result.prompts if p.seen_mass is not None]
        chose = sum(p.engine == "without-replacement" for p in result.prompts)
        average = result.mean_leak.upper - np.mean([lower[p.prompt.id][0] for p in result.prompts])
        print(
            f"| {name} | {engine}, {n} | {seconds:.2f} | {box.work.rows} "
            f"| {np.mean([p.num_distinct for p in result.prompts]):.0f} | {np.median(mass) if mass else np.nan:.3f} "
            f"| {np.median(gaps[:, 0]):.4f} | {np.median(gaps[:, 1]):.4f} | {average:.4f} "
            f"| {chose} of {len(PROMPTS)} without |",
            flush=True,
        )
