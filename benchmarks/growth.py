"""Time and memory of n = 1e3 ... 1e6 draws per prompt on a low-entropy model, with a picture.

    python benchmarks/growth.py [--out docs/results/growth.svg]

The shards are those of an audit: at most 65,536 draws of a prompt each. CPU seconds, one thread; memory is the peak of
resident memory above the start of each run. "All rows" is what drawing without merging would send through the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from speed_models import make, measured, world

from leakbound.records import SamplingParams, Shard
from leakbound.store import plan_layout

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("docs/results/growth.svg"))
parser.add_argument("--model", default="entropy-optimised")
args = parser.parse_args()
PARAMS = SamplingParams(max_tokens=32)
PROMPT = world().prompts("forget")[0]
box = make()[args.model]
found = []
print("| n | CPU s | peak MiB | rows | distinct | CPU s per 1e3 draws |\n|---|---|---|---|---|---|")
for n in (10**3, 10**4, 10**5, 10**6):
    box.work.rows, texts = 0, set()
    with measured() as m:
        for part in plan_layout(1, n):
            if not part.greedy:
                texts |= {d.text for d in box.sample(Shard((PROMPT,), part.first, part.num_samples, 0), PARAMS)}
    found.append((n, m["cpu"], m["mib"], box.work.rows))
    print(f"| {n:.0e} | {m['cpu']:.2f} | {m['mib']:.0f} | {box.work.rows} | {len(texts)} | {m['cpu'] / n * 1e3:.4f} |")

draws, seconds, mib, _ = zip(*found, strict=True)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
left.loglog(draws, seconds, "o-", color="#0b7a75", label="measured")
left.loglog(draws, [seconds[0] * n / draws[0] for n in draws], ":", color="grey", label="linear")
left.set(xlabel="draws of one prompt", ylabel="CPU seconds", title=f"Time ({args.model} model, 1M)")
left.legend(frameon=False)
right.semilogx(draws, mib, "o-", color="#0b7a75")
right.set(xlabel="draws of one prompt", ylabel="peak MiB above start", title="Memory", ylim=(0, max(*mib, 1) * 1.3))
args.out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(args.out, metadata={"Date": None})
print(f"picture: {args.out}")
