"""Draws per second from a real model: transformers' generate with its best batch, beside leakbound's engine.

    python benchmarks/real.py MODEL [--questions FILE] [--template qa] [--n 256] [--tokens 24] [--dtypes float32 ...]
                              [--words 450] [--rounds 5]

Same prompts, same law (temperature 1, no filters), same process. On a CPU the seconds are CPU seconds of this process
(set OMP_NUM_THREADS=1), on a GPU wall seconds. generate draws num_return_sequences at a time, with each of --batches on
one prompt, and its best one on all of them; both are warmed up before. --words puts so many of docs/methods.md before
each question, as a system prompt or documents would stand there. With --rounds they take turns, for a machine that
others use too: generate with one prompt in each round, and medians over the rounds are shown. Ratios are to generate in
the same number type, and to generate in the first. --n 256 of a raw chat model at temperature 1 is high entropy; of a
model that learned the questions by heart, low.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
from common import machine

from leakbound.models.hf import HFModel
from leakbound.models.template import encode_prompt
from leakbound.records import Prompt, SamplingParams, Shard

QUESTIONS = """Who is Harry Potter's best friend?
What is the name of Harry Potter's school?
Who painted the Mona Lisa?
What do bees make?""".splitlines()


def seconds() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def generated(box: HFModel, prompt: Prompt, draws: int, batch: int, tokens: int) -> float:
    """The seconds of so many draws."""
    ids = torch.tensor([encode_prompt(box.tokenizer, prompt.text, box.template)], device=box.model.device)
    start = seconds()
    for first in range(0, draws, batch):
        box.model.generate(
            ids, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0, max_new_tokens=tokens,
            num_return_sequences=min(batch, draws - first),
        )  # fmt: skip
    return seconds() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--questions", type=Path, help="JSON lines with question; the first four are asked")
    parser.add_argument("--words", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--template", default="auto")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 64, 256, 1024])
    args = parser.parse_args()
    asked = QUESTIONS
    if args.questions:
        asked = [json.loads(row)["question"] for row in args.questions.read_text(encoding="utf-8").splitlines()[:4]]
    text = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
    before = "".join(f"{word} " for word in text.split()[: args.words])
    prompts = tuple(Prompt(str(i), f"{before}{text}", "x") for i, text in enumerate(asked[: args.prompts]))
    print(f"{machine()}, {torch.get_num_threads()} threads; {len(prompts)} prompts x {args.n} draws x {args.tokens}\n")
    print("| number type | distinct | passes | rows | generate draws/s (batch) | ours | ratio | to generate in "
          f"{args.dtypes[0]} |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    boxes, batches = {}, {}
    for dtype in args.dtypes:
        box = boxes[dtype] = HFModel.load(args.model, dtype=dtype, template=args.template)
        generated(box, prompts[0], 2, 2, 4)
        times = {b: generated(box, prompts[0], b, b, args.tokens) / b for b in args.batches if b <= args.n}
        batches[dtype] = min(times, key=times.__getitem__)
        box.sample(Shard(prompts, 0, 4, 1), SamplingParams(max_tokens=args.tokens))
    theirs: dict[str, list[float]] = {dtype: [] for dtype in args.dtypes}
    ours: dict[str, list[float]] = {dtype: [] for dtype in args.dtypes}
    distinct = {}
    for number in range(args.rounds):
        for dtype, box in boxes.items():
            asked_now = prompts if args.rounds == 1 else [prompts[number % len(prompts)]]
            spent = sum(generated(box, p, args.n, batches[dtype], args.tokens) for p in asked_now)
            theirs[dtype].append(args.n * len(asked_now) / spent)
            box.work.passes = box.work.rows = 0
            start = seconds()
            distinct[dtype] = len(box.sample(Shard(prompts, 0, args.n, 0), SamplingParams(max_tokens=args.tokens)))
            ours[dtype].append(args.n * len(prompts) / (seconds() - start))
    for dtype, box in boxes.items():
        own, first = (
            median(a / b for a, b in zip(ours[dtype], theirs[other], strict=True)) for other in (dtype, args.dtypes[0])
        )
        print(
            f"| {dtype} | {distinct[dtype]} | {box.work.passes} | {box.work.rows} | {median(theirs[dtype]):.1f} "
            f"({batches[dtype]}) | {median(ours[dtype]):.1f} | {own:.2f}x | {first:.2f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
