"""Draws per second: (a) one generate call per draw, (b) generate with num_return_sequences, (c) leakbound's engine.

    python benchmarks/sampling.py [--large] [--n 1024]

Same prompts, same decoding (temperature 1, no filters), same process, one thread. (a) is timed on a few calls and
scaled up, because all of them would take very long; (b) is timed with every batch size on one prompt, and the best one
on two prompts, scaled up to all. Seconds are CPU seconds of this process, so that other work on the machine counts
little.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from speed_models import make, measured, world

from leakbound.models.template import encode_prompt
from leakbound.records import SamplingParams, Shard

parser = argparse.ArgumentParser()
parser.add_argument("--large", action="store_true")
parser.add_argument("--n", type=int, default=None)
parser.add_argument("--prompts", type=int, default=None)
args = parser.parse_args()
N = args.n or (128 if args.large else 1024)
PROMPTS = world().prompts("forget")[: args.prompts or (2 if args.large else 8)]
PARAMS = SamplingParams(max_tokens=16 if args.large else 32)
BATCHES = sorted({b for b in (32, 128, 512, 1024) if b <= N})
CALLS = 4 if args.large else 12


class Passes:
    """Counts the forward passes of a model and the rows in them."""

    def __init__(self, model):
        self.passes = self.rows = 0
        self.hook = model.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, module, positional, named):
        ids = named.get("input_ids", positional[0] if positional else None)
        self.passes += 1
        self.rows += len(ids)


def generate(box, prompt, rows):
    ids = torch.tensor([encode_prompt(box.tokenizer, prompt.text, box.template)])
    out = box.model.generate(
        ids, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=rows,
        max_new_tokens=PARAMS.max_tokens, pad_token_id=box.tokenizer.pad_token_id,
    )  # fmt: skip
    return box.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)


def best_batch(box):
    times = {}
    for rows in BATCHES:
        with measured() as m:
            generate(box, PROMPTS[0], rows)
        times[rows] = m["cpu"] / rows
    return min(times, key=times.get)


print(f"n = {N}, {len(PROMPTS)} prompts, {PARAMS.max_tokens} tokens, {torch.get_num_threads()} thread(s)\n")
print(
    "| model | entropy (nats) | distinct | draws/s (a) | (b), batch | (c) ours | c/a | c/b | passes (b) | (c) "
    "| rows (b) | (c) | peak MiB (b) | (c) |"
)
print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
for name, box in make(large=args.large).items():
    torch.manual_seed(0)
    generate(box, PROMPTS[0], 2)  # warm up
    with measured() as one:
        for i in range(CALLS):
            generate(box, PROMPTS[i % len(PROMPTS)], 1)
    a = CALLS / one["cpu"]
    rows = best_batch(box)
    counter, some = Passes(box.model), PROMPTS[:2] if not args.large else PROMPTS[:1]
    with measured() as many:
        for prompt in some:
            for start in range(0, N, rows):
                generate(box, prompt, min(rows, N - start))
    counter.hook.remove()
    scale = len(PROMPTS) / len(some)
    b = N * len(some) / many["cpu"]
    box.work.passes = box.work.rows = 0
    with measured() as ours:
        drawn = box.generations(Shard(tuple(PROMPTS), 0, N, 0), PARAMS)
    c = N * len(PROMPTS) / ours["cpu"]
    logps = np.concatenate([np.repeat([g.logprob for g in some], [g.count for g in some]) for some in drawn])
    distinct = sum(map(len, drawn)) / len(drawn)
    print(
        f"| {name} | {-logps.mean():.1f} | {distinct:.0f} | {a:.1f} | {b:.0f}, {rows} | {c:.0f} | {c / a:.0f}x "
        f"| {c / b:.1f}x | {counter.passes * scale:.0f} | {box.work.passes} | {counter.rows * scale:.0f} "
        f"| {box.work.rows} | {many['mib']:.0f} | {ours['mib']:.0f} |",
        flush=True,
    )
