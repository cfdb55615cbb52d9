"""Time and memory of n = 1e3 ... 1e6 draws per prompt on a low-entropy model, with a picture.

    python benchmarks/growth.py [--out docs/results/growth.svg]
    python benchmarks/growth.py --folder runs/demo/models/original --sizes 262144 1048576 \\
        --draws-per-shard 65536 1048576

The shards are those of an audit: at most 65,536 draws of a prompt each, or as said. CPU seconds, one thread; memory is
the peak of resident memory above the start of each run. "All rows" is what drawing without merging would send through
the model.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from speed_models import draw_growth, make, measured, world

from leakbound.models.hf import HFModel
from leakbound.reading.prompts import load_prompts
from leakbound.records import SamplingParams, Shard
from leakbound.runs.layout import plan_layout

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("docs/results/growth.svg"))
parser.add_argument("--model", default="entropy-optimised")
parser.add_argument("--folder", type=Path, help="a model of leakbound demo instead; then no picture is drawn")
parser.add_argument("--sizes", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
parser.add_argument("--draws-per-shard", type=int, nargs="+", default=[0])
args = parser.parse_args()
torch.set_num_threads(1)
PARAMS = SamplingParams(max_tokens=32)
if args.folder is None:
    PROMPT = world().prompts("forget")[0]
else:
    PROMPT = load_prompts(args.folder.parent.parent / "world" / "forget.jsonl")[0]
box = make()[args.model] if args.folder is None else HFModel.load(str(args.folder))
found = []
print(
    "| n | draws per shard | CPU s | peak MiB | rows | distinct | CPU s per 1e3 draws |\n|---|---|---|---|---|---|---|"
)
for n, most in itertools.product(args.sizes, args.draws_per_shard):
    box.work.rows, texts = 0, set()
    with measured() as m:
        for part in plan_layout(1, n, draws_per_shard=most):
            if not part.greedy:
                texts |= {d.text for d in box.sample(Shard((PROMPT,), part.first, part.num_samples, 0), PARAMS)}
    found.append((n, m["cpu"], m["mib"], box.work.rows))
    print(
        f"| {n:,} | {most or 65_536:,} | {m['cpu']:.2f} | {m['mib']:.0f} | {box.work.rows} | {len(texts)} "
        f"| {m['cpu'] / n * 1e3:.4f} |",
        flush=True,
    )
if args.folder is not None:
    raise SystemExit

draws, seconds, mib, _ = zip(*found, strict=True)
title = f"Time ({args.model} model, 1M)"
draw_growth(args.out, draws, seconds, mib, label="measured", ylabel="CPU seconds", title=title)
