"""Draws that --until "leak<=LIMIT" needs, against the fixed-n audit that settles the claim for as many prompts.

Settled: proven (upper bound <= LIMIT) or refuted (lower bound > LIMIT), each at level alpha. The fixed n is the best in
hindsight: nobody knows it beforehand.

Usage: python benchmarks/stopping.py [DEMO_FOLDER] (a folder that `leakbound demo` has filled; default runs/demo).
"""

import sys
import tempfile
from pathlib import Path

import torch

from leakbound import Prompt, SamplingParams, audit, load_prompts, proportion_bound
from leakbound.models.hf import HFModel

LIMITS, BUDGET, ALPHA = (0.01, 0.03), 4096, 0.01
FIXED = (256, 512, 768, 1024, 1536, 2048, 3072, 4096)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    prompts: tuple[Prompt, ...] = load_prompts(folder / "world" / "forget.jsonl")
    settings = {"scorer": "contains", "alpha": ALPHA, "params": SamplingParams(max_tokens=32), "progress": False}
    print(f"{len(prompts)} prompts, budget {BUDGET} draws each, alpha {ALPHA}\n")
    print("| model | claim | proven | refuted | open | draws | fixed n that settles as many | its draws | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in ("retrained", "npo", "original"):
        model = HFModel.load(str(folder / "models" / name))
        fixed = {n: audit(model, prompts, num_samples=n, **settings) for n in FIXED}
        for limit in LIMITS:
            with tempfile.TemporaryDirectory() as out:
                until = f"leak<={limit}"
                result = audit(model, prompts, num_samples=BUDGET, until=until, out=Path(out) / "run", **settings)
            number = {v: sum(p.verdict == v for p in result.prompts) for v in ("proven", "refuted", "open")}
            drawn = sum(p.num_samples for p in result.prompts)
            wanted = number["proven"] + number["refuted"]
            settled = {n: sum(map(settles(n, limit), a.prompts)) for n, a in fixed.items()}
            enough = next((n for n in FIXED if settled[n] >= wanted), None)
            against = f"more than {BUDGET}" if enough is None else f"{enough} ({settled[enough]} settled)"
            total = len(prompts) * (enough or BUDGET)
            print(
                f"| {name} | {until} | {number['proven']} | {number['refuted']} | {number['open']} | {drawn:,} "
                f"| {against} | {total:,} | {total / drawn:.1f}x |",
                flush=True,
            )


def settles(n: int, limit: float):
    def settled(p) -> bool:
        lower = proportion_bound(p.num_leaks, n, alpha=ALPHA, side="lower").lower
        return p.leak.upper <= limit or lower > limit

    return settled


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/demo"))
