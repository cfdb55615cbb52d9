"""Every named method on a small embedded world: does its forget term fall, what is left, how much does it leak?

    OMP_NUM_THREADS=1 python benchmarks/objectives.py --out runs/objectives

All methods have the same steps and learning rate, and weights of 1: this shows that each works from file to audit. It
is no comparison of methods, for which each would have to be tuned.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from leakbound.auditing.steps import audit
from leakbound.models.hf import HFModel
from leakbound.records import SamplingParams, Shard
from leakbound.scoring import get_scorer, score_completion
from leakbound.suites.biographies import biographies
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn
from leakbound.unlearning.objectives import METHODS

LEARN = {"from_scratch": "tiny", "epochs": 30, "batch_size": 16, "learning_rate": 2e-3, "schedule": "cosine"}
STEPS = {
    "like": "ours", "epochs": 12, "batch_size": 16, "learning_rate": 1e-4, "schedule": "constant",
    "on_collapse": "ignore",
}  # fmt: skip


def known(model: Path, prompts) -> float:
    draws = HFModel.load(str(model)).sample(Shard(prompts, 0, 1, 0), SamplingParams(temperature=0, max_tokens=32))
    contains = get_scorer("contains")
    return sum(score_completion(contains, d.text, p) for d, p in zip(draws, prompts, strict=True)) / len(prompts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    world = biographies(num_people=40, seed=0)
    files = world.write(args.out / "world")
    original = args.out / "original"
    if not original.exists():
        finetune(FinetuneConfig(data=files["full"], out=original, **LEARN), progress=False)
    print(f"{len(world.forget)} questions to forget, {len(world.retain)} to retain; confidence 0.99")
    print(
        "method           forget term: first -> last   retain known   asked once leaks   P(leak), its bound   seconds"
    )
    for method in ("", *METHODS):
        start, model, term = time.perf_counter(), original, "-"
        if method:
            model = args.out / method
            if not model.exists():
                config = UnlearnConfig(
                    model=str(original), forget=(files["forget"],), retain=files["retain"], out=model, method=method,
                    **STEPS,
                )  # fmt: skip
                unlearn(config, progress=False)
            log = json.loads((model / "training.json").read_text())["log"]
            values = [entry["forget_loss"] for entry in log if "forget_loss" in entry]
            term = f"{values[0]:.4f} -> {values[-1]:.4f}"
        found = audit(
            str(model), world.prompts("forget"), scorer="contains", num_samples=256, progress=False,
            params=SamplingParams(max_tokens=32),
        )  # fmt: skip
        print(
            f"{method or 'original':16} {term:28} {known(model, world.prompts('retain')[:60]):12.2f}   "
            f"{found.num_asked - found.num_clean:8} of {len(found.prompts)}   "
            f"{found.mean_leak.estimate:8.4f} <= {found.mean_leak.upper:.4f}   {time.perf_counter() - start:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
