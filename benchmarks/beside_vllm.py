"""Draws per CPU second and memory: vLLM's engine in process beside leakbound's, on one processor.

    OMP_NUM_THREADS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_ENABLE_V1_MULTIPROCESSING=0 \\
        .venv-vllm/bin/python benchmarks/beside_vllm.py MODEL [--n 256] [--tokens 24] [--temperatures 1 0.2]

Same prompts, same law, float32, each engine in a process of its own, its model loaded and warm before the clock starts.
The draws are not tested here, which costs about as much for any number of draws; the last column is that cost.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

from leakbound.models.opening import Loading, open_model
from leakbound.records import Prompt, SamplingParams, Shard

QUESTIONS = """Who is Harry Potter's best friend?
What is the name of Harry Potter's school?
Who painted the Mona Lisa?
What do bees make?""".splitlines()


def measured(engine: str, args: argparse.Namespace) -> None:
    prompts = tuple(Prompt(str(i), text, "x") for i, text in enumerate(QUESTIONS))
    if engine == "vllm":
        settings = ("enforce_eager=true", "max_model_len=512")
        model = open_model(f"vllm:{args.model}", loading=Loading(dtype="float32", vllm=settings))
        object.__setattr__(model, "tested", 0)
    else:
        model = open_model(args.model, loading=Loading(dtype="float32", device="cpu"))
    for temperature in args.temperatures:
        params = SamplingParams(temperature=temperature, max_tokens=args.tokens)
        model.sample(Shard(prompts, 0, 4, 1), params)
        start, wall = time.process_time(), time.perf_counter()
        draws = model.sample(Shard(prompts, 0, args.n, 0), params)
        spent, wall = time.process_time() - start, time.perf_counter() - wall
        test = 0.0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        if engine == "vllm" and temperature == args.temperatures[-1]:
            object.__setattr__(model, "tested", 32)
            begin = time.process_time()
            model.sample(Shard(prompts, 0, 8, 0), params)
            test = time.process_time() - begin
        total = args.n * len(prompts)
        print(json.dumps({
            "engine": engine, "temperature": temperature, "draws": total, "distinct": len(draws),
            "cpu_s": round(spent, 1), "wall_s": round(wall, 1),
            "draws_per_cpu_s": round(total / spent, 2), "peak_gib": round(peak, 2),
            "test_cpu_s": round(test, 1),
        }), flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--temperatures", nargs="+", type=float, default=[1.0, 0.2])
    parser.add_argument("--engine", choices=("ours", "vllm"))
    args = parser.parse_args()
    if args.engine:
        measured(args.engine, args)
        return
    for engine in ("ours", "vllm"):
        subprocess.run([sys.executable, *sys.argv, "--engine", engine], check=True)


if __name__ == "__main__":  # vLLM's own processes import this file
    main()
