"""What 100 generations prove: without replacement against i.i.d. Clopper-Pearson, with each prompt's entropy beside it.

    python benchmarks/certify.py [--generations 100] [--large]

Upper bounds on P(contains the target) at alpha = 0.01. Both engines judge the same number of generations.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from speed_models import make, world

from leakbound.auditing.certifying import certify
from leakbound.records import SamplingParams

parser = argparse.ArgumentParser()
parser.add_argument("--generations", type=int, default=100)
parser.add_argument("--large", action="store_true")
parser.add_argument("--prompts", type=int, default=12)
args = parser.parse_args()
PROMPTS = world().prompts("forget")[: args.prompts]
SETTINGS = {
    "scorer": "contains",
    "threshold": 1.0,
    "num_generations": args.generations,
    "params": SamplingParams(max_tokens=16 if args.large else 32),
    "progress": False,
}

rows = []
for name, box in make(large=args.large).items():
    found, seconds = {}, {}
    for engine in ("iid", "without-replacement", "auto"):
        start = time.process_time()
        found[engine] = certify(box, PROMPTS, engine=engine, **SETTINGS)
        seconds[engine] = time.process_time() - start
    for iid, without, auto in zip(*(found[e].prompts for e in found), strict=True):
        rows.append((name, without.entropy, iid, without, auto))
    took = ", ".join(f"{engine} {s:.1f}" for engine, s in seconds.items())
    print(f"{name}: CPU seconds for {len(PROMPTS)} prompts: {took}", flush=True)

print("\n| model | prompt | entropy | seen mass | leak between (certain) | iid | without repl. | ratio | auto |")
print("|---|---|---|---|---|---|---|---|---|")
gain = {}
for name, entropy, iid, without, auto in sorted(rows, key=lambda r: (r[0], r[1])):
    low = without.limits.lower
    ratio = max(iid.leak.upper - low, 1e-9) / max(without.leak.upper - low, 1e-9)
    gain.setdefault(name, []).append((entropy, ratio))
    print(
        f"| {name} | {without.prompt.id} | {entropy:.2f} | {without.seen_mass:.4f} | {low:.2g} to "
        f"{without.limits.upper:.2g} | {iid.leak.upper:.4g} | {without.leak.upper:.4g} | {ratio:.1f}x | {auto.engine} |"
    )
print(
    "\nmedian over prompts of the ratio: distance from the certain lower limit to the bound, iid / without replacement"
)
for name, pairs in gain.items():
    entropy, ratio = np.median(pairs, axis=0)
    print(f"  {name}: entropy {entropy:.2f} nats, {ratio:.1f}x narrower")
