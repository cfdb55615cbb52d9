"""NPO+GD: seconds and memory of this library's step against a plain two-model step, each in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--write FILE] [--model FOLDER] [--before SRC]

The plain step is written in the style of the papers' code: the reference model stays in memory and runs on every forget
batch, with the same optimiser, batches and padding. Both start from the same weights, and the largest difference of the
final weights is printed. Rows are questions of 16 and answers of 24 to 56 tokens, 8 + 8 to a step. Seconds are those
of the processor (the median step; the pass over the reference, which is done once, apart). Memory is the peak of what
the process holds, above what it held before the models were made; and, counted, what the autograd graph of a step keeps
beside the weights. ``--model``: a pretrained model instead of a small one; ``--before``: the same of an older commit,
whose ``src`` stands there; ``--bf16``: computed in bfloat16 where autocast does, on both sides.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
from common import machine

from leakbound.unlearning.adapters import add_lora
from leakbound.unlearning.data import IGNORED, Example, PairCollator, PairedData

try:
    from leakbound.unlearning.data import in_pieces
    from leakbound.unlearning.trainer import piece_tokens
except ImportError:  # an older commit
    in_pieces = None
try:
    from leakbound.unlearning.passes import attention_of
except ImportError:
    attention_of = None
from leakbound.unlearning.objectives import find_objective
from leakbound.unlearning.passes import Passes
from leakbound.unlearning.scratch import SIZES
from leakbound.unlearning.trainer import Weights, reference_logps

BETA, RATE = 0.1, 1e-4


BF16 = "--bf16" in sys.argv


def most_tokens(model) -> int:
    """Of a pass; an older commit does not ask for the number type."""
    asks = "bf16" in inspect.signature(piece_tokens).parameters
    return piece_tokens(model, BF16) if asks else piece_tokens(model)


def new_model(size: str, vocabulary: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SIZES[size]
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=shape.hidden, intermediate_size=3 * shape.hidden,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, max_position_embeddings=256,
        )
    )  # fmt: skip


def trained(start, lora_rank: int):
    """A copy to train, all of it or adapters, with its optimiser; the same each time."""
    torch.manual_seed(0)
    model = copy.deepcopy(start)
    model = add_lora(model, rank=lora_rank, alpha=32) if lora_rank else model
    return model.train(), torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, fused=True)


def examples(count: int, vocabulary: int, seed: int) -> list[Example]:
    rng = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        question = torch.randint(vocabulary, (16,), generator=rng).tolist()
        answer = torch.randint(vocabulary, (int(torch.randint(24, 57, (1,), generator=rng)),), generator=rng).tolist()
        made.append(Example(tuple(question + answer), (IGNORED,) * 16 + tuple(answer)))
    return made


def batches(data: PairedData, size: int, steps: int) -> Iterator[dict]:
    collate = PairCollator(0, [])
    for step in range(steps):
        start = step * size % len(data)
        yield collate([data[i] for i in range(start, start + size)])


def tensors(half: dict) -> dict:
    return {name: half["answer"][name] for name in ("input_ids", "attention_mask")}


def ours(model, optimizer, batch: dict) -> None:
    objective, weights, passes, loss = (
        find_objective("npo_gd"),
        Weights(),
        Passes(adds=True) if in_pieces else Passes(),
        0.0,
    )
    for half in ("forget", "retain"):
        term, count = getattr(objective, half), len(batch[half]["answer"]["labels"])
        pieces = in_pieces(batch[half], most_tokens(model), trim=True) if in_pieces else [batch[half]]
        for piece in pieces:
            attends = attention_of(torch.device("cpu"), BF16, {half: piece}) if attention_of else nullcontext()
            with attends, torch.autocast("cpu", torch.bfloat16, enabled=BF16):
                outputs = passes.run(model, piece, term.needs, own=True)
                loss = loss + term.loss(*outputs.take(term.needs), **weights.keywords(term)).sum() / count
            if in_pieces:
                loss.backward()
                loss = 0.0
    if not in_pieces:
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def plain(model, ref_model, optimizer, batch: dict) -> None:
    def nll(outputs, labels):
        logits, answers = outputs.logits[..., :-1, :].contiguous(), labels[..., 1:].contiguous()
        return F.cross_entropy(logits.transpose(-1, -2), answers, ignore_index=IGNORED, reduction="none").sum(-1)

    forget, retain = batch["forget"]["answer"], batch["retain"]["answer"]
    with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
        outputs = model(**tensors(batch["forget"]), use_cache=False)
        with torch.no_grad():
            ref_outputs = ref_model(**tensors(batch["forget"]), use_cache=False)
        gap = nll(outputs, forget["labels"]) - nll(ref_outputs, forget["labels"])
        loss = -F.logsigmoid(BETA * gap).mean() * 2 / BETA
        lengths = (retain["labels"][:, 1:] != IGNORED).sum(-1)
        loss = loss + (nll(model(**tensors(batch["retain"]), use_cache=False), retain["labels"]) / lengths).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def saved_bytes(model, step, *args) -> int:
    """What one step's graphs keep for the backward pass beside the weights, each storage counted once."""
    seen: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        step(*args)
    return sum(seen.values())


def held(peak: bool) -> int:
    """Bytes that this process holds, or the most it held since the last reset (Linux)."""
    name = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def child(args: argparse.Namespace) -> dict:
    """One variant: seconds of a step, peak of memory, and what its graph keeps; the final weights go to a file."""
    torch.set_num_threads(1)
    before = held(peak=False)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    if args.model:
        from leakbound.models.hf.loading import load_model

        start = load_model(args.model, dtype="float32", device="cpu").eval()
    else:
        start = new_model(args.size, args.vocabulary or SIZES[args.size].vocabulary).eval()
    vocabulary, count, once = start.config.vocab_size, args.batch * args.steps, 0.0
    forget, retain = examples(count, vocabulary, 1), examples(count, vocabulary, 2)
    if args.child != "two models":
        begin = time.process_time()
        logps = reference_logps(start, forget, pad_id=0, batch_size=args.batch, bf16=BF16)
        once = time.process_time() - begin
        forget = [dataclasses.replace(e, ref_logp=logp) for e, logp in zip(forget, logps, strict=True)]
    data = PairedData(forget, retain, seed=0)
    model, optimizer = trained(start, args.lora_rank)
    if args.child == "two models":
        run, rest = plain, (model, start, optimizer)
    else:
        run, rest = ours, (model, optimizer)
        del start
    seconds, kept = [], 0
    for number, batch in enumerate(batches(data, args.batch, args.steps)):
        begin = time.process_time()
        if number == args.steps - 1:
            kept = saved_bytes(model, run, *rest, batch)
        else:
            run(*rest, batch)
        seconds.append(time.process_time() - begin)
    peak = held(peak=True) - before
    torch.save([p.detach() for p in model.parameters()], args.ends)
    # the first step makes the optimiser's moments, and looks at the head
    return {"step": statistics.median(seconds[1:]), "once": once / args.steps, "peak": peak, "kept": kept}


def case(args: argparse.Namespace, vocabulary: int, lora_rank: int) -> list[str]:
    """One size of vocabulary: the lines of the table."""
    found, ends = {}, {}
    variants = {"leakbound": "", **({"before": args.before} if args.before else {}), "two models": ""}
    with tempfile.TemporaryDirectory() as home:
        for name, source in variants.items():
            options = {"--child": name, "--vocabulary": vocabulary, "--lora-rank": lora_rank, "--size": args.size,
                       "--batch": args.batch, "--steps": args.steps, "--ends": f"{home}/{name}"}  # fmt: skip
            options |= {"--model": args.model} if args.model else {}
            ran = subprocess.run(
                [sys.executable, __file__, *(str(x) for pair in options.items() for x in pair), *["--bf16"] * BF16],
                check=True,
                env={**os.environ, **({"PYTHONPATH": source} if source else {})}, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            found[name] = json.loads(ran.stdout.splitlines()[-1])
            ends[name] = torch.load(f"{home}/{name}")
    lines, base = [], found["two models"]
    for name, one in found.items():
        pairs = zip(ends[name], ends["two models"], strict=True)
        gap = max((a - b).abs().max().item() for a, b in pairs)
        speed = 5 * base["step"] / (5 * one["step"] + one["once"])
        lines.append(
            f"| {f'{vocabulary:,}' if vocabulary else 'its own'} | {lora_rank or 'no'} | {name} | {one['step']:.2f} | "
            f"{one['once']:.2f} | {speed:.2f}x | {one['peak'] / 2**20:,.0f} | {one['peak'] / base['peak']:.2f}x | "
            f"{one['kept'] / 2**20:,.1f} | {gap:.0e} |"
        )
        print(lines[-1], flush=True)
    return lines


def attention() -> None:
    """Forward and backward pass of one layer's attention (9 heads of 64): torch's fused kernel, plain products."""
    torch.set_num_threads(1)
    print("| type | rows | tokens | fused, CPU ms | plain, CPU ms | fused takes |\n|---|---|---|---|---|---|")
    for dtype in (torch.bfloat16, torch.float32):
        for rows, length in ((16, 32), (8, 67), (8, 128), (4, 256), (2, 512)):
            states = [torch.randn(rows, 9, length, 64, dtype=dtype, requires_grad=True) for _ in range(3)]
            mask, taken = torch.ones(rows, 1, length, length, dtype=torch.bool).tril(), []
            for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
                with sdpa_kernel(kernel):
                    times = []
                    for _ in range(6):
                        begin = time.process_time()
                        F.scaled_dot_product_attention(*states, attn_mask=mask).sum().backward()
                        times.append(time.process_time() - begin)
                taken.append(1000 * statistics.median(times[1:]))
            fused, plain = taken
            kind = str(dtype).removeprefix("torch.")
            print(f"| {kind} | {rows} | {length} | {fused:.1f} | {plain:.1f} | {fused / plain:.2f}x |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny", choices=tuple(SIZES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--lora-rank", type=int, help="by default without adapters and with rank 8")
    parser.add_argument("--vocabulary", type=int, help="by default 2,048, 49,152 and 128,256")
    parser.add_argument("--model", help="a pretrained model with its own vocabulary")
    parser.add_argument("--before", help="src of an older commit")
    parser.add_argument("--bf16", action="store_true", help="computed in bfloat16 where autocast does")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--machine", default=machine())
    parser.add_argument("--attention", action="store_true", help="the kernels of attention alone")
    parser.add_argument("--child")
    parser.add_argument("--ends")
    args = parser.parse_args()
    if args.attention:
        attention()
        return
    if args.child:
        print(json.dumps(child(args)))
        return
    given = " ".join(arg for arg in sys.argv[1:] if not arg.startswith(("--write", "--machine", "docs/")))
    lines = [
        "| vocabulary | LoRA | step | CPU s a step | reference, once, s a step | speed over 5 epochs | peak MiB | "
        "of two models | graph keeps MiB | weights differ |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    vocabularies = [0] if args.model else [args.vocabulary] if args.vocabulary else [2048, 49152, 128256]
    for vocabulary in vocabularies:
        for rank in (0, 8) if args.lora_rank is None else (args.lora_rank,):
            lines += case(args, vocabulary, rank)
    if args.write:
        about = str(__doc__).split("\n\n")
        title = "" if args.write.exists() else f"# A step of training\n\n{about[2]}\n"
        said = f"\nOn {date.today()}, {args.machine}, `OMP_NUM_THREADS=1 python benchmarks/training.py {given}`:\n\n"
        with open(args.write, "a") as page:
            page.write(title + said + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
