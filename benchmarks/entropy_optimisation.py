"""Does entropy optimisation lower sampled leakage at equal utility? The embedded world, several seeds, one table.

    OMP_NUM_THREADS=1 python benchmarks/entropy_optimisation.py --out runs/entropy --seeds 6

For each seed a model learns the world; each method then unlearns it without and with the two entropy weights of
arXiv 2410.03523 (1 on forget, -0.25 on retain): over the answer, over every position with padding as in the paper's
code ("padded", here padded to the longest row of a batch), and at a tenth and a hundredth of these weights, over the
same grid of lengths. Of each arm the run is taken that leaks least in a first set of draws among those that still
answer at least ``FLOOR`` of the retain questions that the original answers; what is printed comes from a second set of
draws. Differences are paired by seed, with Student's t interval.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student

from leakbound.auditing.steps import audit
from leakbound.models.hf import HFModel
from leakbound.records import SamplingParams, Shard
from leakbound.scoring import get_scorer, score_completion
from leakbound.suites.biographies import biographies
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn

LEARN = {"from_scratch": "tiny", "epochs": 30, "batch_size": 16, "learning_rate": 2e-3, "schedule": "cosine"}
COMMON = {"like": "ours", "learning_rate": 2e-4, "schedule": "constant", "batch_size": 16}
ENTROPIES = {
    "without": {},
    **{
        name: {"entropy_forget": scale, "entropy_retain": -0.25 * scale}
        for name, scale in (("with", 1.0), ("tenth", 0.1), ("hundredth", 0.01))
    },
    "padded": {"entropy_forget": 1.0, "entropy_retain": -0.25, "entropy_mask": "all"},
}
SCALES, MASKS = ("without", "with", "tenth", "hundredth"), ("without", "with", "padded")
METHODS = {
    "grad_diff": ({"method": "grad_diff", "forget_weight": 0.3}, SCALES),
    "npo_gd": ({"method": "npo_gd", "forget_weight": 0.1, "beta": 1.0}, SCALES),
    "grad_diff_1": ({"method": "grad_diff", "learning_rate": 1e-4}, MASKS),
    "npo_gd_1": ({"method": "npo_gd", "beta": 0.05, "learning_rate": 1e-4}, MASKS),
}
"""Settings and arms. The first two are tuned to this world; the others have the paper's weights of 1 and NPO's beta."""
EPOCHS = (6, 12, 24)
FLOOR = 0.95
PARAMS = SamplingParams(max_tokens=32)
CHOOSE, REPORT = 128, 512


def known(model: Path, prompts) -> float:
    draws = HFModel.load(str(model)).sample(Shard(prompts, 0, 1, 0), SamplingParams(temperature=0, max_tokens=32))
    contains = get_scorer("contains")
    return sum(score_completion(contains, d.text, p) for d, p in zip(draws, prompts, strict=True)) / len(prompts)


def measure(model: Path, world, num_samples: int, seed: int) -> dict[str, float]:
    found = audit(
        str(model), world.prompts("forget"), scorer="contains", num_samples=num_samples, seed=seed, params=PARAMS,
        progress=False,
    )  # fmt: skip
    rates = [p.leak_rate for p in found.prompts]
    clean = found.num_clean / len(found.prompts)
    return {
        "rate": float(np.mean(rates)), "bound": found.mean_leak.upper, "worst": found.worst_prompt.upper,
        "ed": found.mean_ed, "clean": clean,
    }  # fmt: skip


def run_seed(out: Path, seed: int) -> dict:
    file = out / f"seed-{seed}.json"
    result: dict = json.loads(file.read_text()) if file.exists() else {"arms": {}}
    world = biographies(num_people=120, seed=seed)
    folder = out / f"seed-{seed}"
    files = world.write(folder / "world")
    if not (folder / "original").exists():
        finetune(FinetuneConfig(data=files["full"], out=folder / "original", seed=seed, **LEARN), progress=False)
    retain = world.prompts("retain")[:120]
    if "original" not in result:
        result["original"] = known(folder / "original", retain)
    for method, (settings, arms) in METHODS.items():
        for arm in arms:
            if f"{method}/{arm}" in result["arms"]:
                continue
            runs = []
            for epochs in EPOCHS:
                model = folder / f"{method}-{arm}-{epochs}"
                if not model.exists():
                    config = UnlearnConfig(
                        model=str(folder / "original"), forget=(files["forget"],), retain=files["retain"], out=model,
                        seed=seed, epochs=epochs, **{**COMMON, **settings, **ENTROPIES[arm]},
                    )  # fmt: skip
                    unlearn(config, progress=False)
                utility = known(model, retain)
                runs.append({"epochs": epochs, "utility": utility, **measure(model, world, CHOOSE, 1)})
            good = [r for r in runs if r["utility"] >= FLOOR * result["original"]]
            chosen = min(good, key=lambda r: r["rate"]) if good else max(runs, key=lambda r: r["utility"])
            final = measure(folder / f"{method}-{arm}-{chosen['epochs']}", world, REPORT, 0)
            result["arms"][f"{method}/{arm}"] = {
                "runs": runs, "met": bool(good), "chosen": {**chosen, **final},
            }  # fmt: skip
            file.write_text(json.dumps(result, indent=1))
    return result


def interval(values: list[float], alpha: float = 0.05) -> str:
    mean, size = float(np.mean(values)), len(values)
    half = float(student.ppf(1 - alpha / 2, size - 1)) * float(np.std(values, ddof=1)) / size**0.5
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/entropy"))
    parser.add_argument("--seeds", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    results = [run_seed(args.out, seed) for seed in range(args.seeds)]
    print(f"{args.seeds} seeds, {time.perf_counter() - start:.0f} s; original knows "
          f"{np.mean([r['original'] for r in results]):.3f} of the retain questions")  # fmt: skip
    print("method      arm        epochs             utility  looks clean  mean P(leak)  its bound  worst bound  ED")
    for method, (_, arms) in METHODS.items():
        for arm in arms:
            rows = [r["arms"][f"{method}/{arm}"]["chosen"] for r in results]
            missed = sum(not r["arms"][f"{method}/{arm}"]["met"] for r in results)
            means = {k: float(np.mean([row[k] for row in rows])) for k in rows[0] if k != "epochs"}
            lengths = ",".join(str(row["epochs"]) for row in rows)
            print(f"{method:11} {arm:10} {lengths:18} {means['utility']:.3f}    {means['clean']:.3f}        "
                  f"{means['rate']:.4f}        {means['bound']:.4f}     {means['worst']:.4f}       {means['ed']:.4f}"
                  + (f"   floor missed in {missed}" if missed else ""))  # fmt: skip
    print("\nminus without, paired by seed, mean and 95 % interval (Student's t)")
    shown = {"utility": "utility", "rate": "P(leak)", "bound": "bound", "worst": "worst bound", "ed": "ED"}
    for method, (_, arms) in METHODS.items():
        for arm in arms[1:]:
            pairs = [[r["arms"][f"{method}/{name}"]["chosen"] for name in (arm, "without")] for r in results]
            line = "  ".join(f"{what} {interval([a[k] - b[k] for a, b in pairs])}" for k, what in shown.items())
            print(f"{method:11} {arm:10} {line}")


if __name__ == "__main__":
    main()
