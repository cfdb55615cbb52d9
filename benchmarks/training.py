"""NPO+GD: tokens per second and memory of this library's step against a plain two-model step, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/training.py

The plain step is written in the style of the papers' code: the reference model stays in memory and runs on every forget
batch, with the same optimiser, batches and padding. Both start from the same weights; that both end with the same
weights is checked. Seconds are the smallest of interleaved repeats. Memory is counted, not sampled: bytes of weights,
gradients and optimiser state, and the peak of what the autograd graph saves in a step.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from leakbound.unlearning.adapters import add_lora
from leakbound.unlearning.data import IGNORED, Example, PairCollator, PairedData
from leakbound.unlearning.objectives import find_objective
from leakbound.unlearning.passes import Passes
from leakbound.unlearning.scratch import SIZES
from leakbound.unlearning.trainer import Weights, reference_logps

BETA, RATE = 0.1, 1e-4


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
    return model.train(), torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)


def examples(count: int, vocabulary: int, seed: int) -> list[Example]:
    rng = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        question = torch.randint(vocabulary, (12,), generator=rng).tolist()
        answer = torch.randint(vocabulary, (int(torch.randint(12, 36, (1,), generator=rng)),), generator=rng).tolist()
        made.append(Example(tuple(question + answer), (IGNORED,) * 12 + tuple(answer)))
    return made


def batches(data: PairedData, size: int, steps: int) -> Iterator[dict]:
    collate = PairCollator(0, [])
    for step in range(steps):
        start = step * size % len(data)
        yield collate([data[i] for i in range(start, start + size)])


def tensors(half: dict) -> dict:
    return {name: half["answer"][name] for name in ("input_ids", "attention_mask")}


def ours(model, optimizer, batch: dict) -> None:
    objective, weights, passes, loss = find_objective("npo_gd"), Weights(), Passes(), 0.0
    for half in ("forget", "retain"):
        term = getattr(objective, half)
        outputs = passes.run(model, batch[half], term.needs, own=True)
        loss = loss + term.loss(*outputs.take(term.needs), **weights.keywords(term)).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def plain(model, ref_model, optimizer, batch: dict) -> None:
    def nll(outputs, labels):
        logits, answers = outputs.logits[..., :-1, :].contiguous(), labels[..., 1:].contiguous()
        return F.cross_entropy(logits.transpose(-1, -2), answers, ignore_index=IGNORED, reduction="none").sum(-1)

    forget, retain = batch["forget"]["answer"], batch["retain"]["answer"]
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


def fixed_bytes(*models, optimizer) -> int:
    """Weights, gradients of what is trained, and the optimiser's two moments."""
    weights = sum(p.numel() * p.element_size() for model in models for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for group in optimizer.param_groups for p in group["params"])
    return weights + 3 * trained


def saved_bytes(step, *args) -> int:
    """What one step's graphs keep for the backward pass, each storage counted once."""
    seen: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        step(*args)
    return sum(seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny", choices=tuple(SIZES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lora-rank", type=int, default=0)
    parser.add_argument("--vocabulary", type=int, default=0, help="tokens of the vocabulary; 0: as the size has it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    vocabulary, count = args.vocabulary or SIZES[args.size].vocabulary, args.batch * args.steps
    start = new_model(args.size, vocabulary).eval()
    forget, retain = examples(count, vocabulary, 1), examples(count, vocabulary, 2)
    begin = time.perf_counter()
    logps = reference_logps(start, forget, pad_id=0, batch_size=args.batch)
    once = time.perf_counter() - begin
    data = PairedData(
        [dataclasses.replace(e, ref_logp=logp) for e, logp in zip(forget, logps, strict=True)], retain, seed=0
    )
    halves = [half for b in batches(data, args.batch, args.steps) for half in b.values()]
    tokens = sum(int(half["answer"]["attention_mask"].sum()) for half in halves)
    seconds: dict[str, list[float]] = {"leakbound": [], "two models": []}
    ends = {}
    for _ in range(args.repeats):
        for name in seconds:
            model, optimizer = trained(start, args.lora_rank)
            begin = time.perf_counter()
            for batch in batches(data, args.batch, args.steps):
                ours(model, optimizer, batch) if name == "leakbound" else plain(model, start, optimizer, batch)
            seconds[name].append(time.perf_counter() - begin)
            ends[name] = torch.cat([p.detach().flatten() for p in model.parameters()])
    gap = (ends["leakbound"] - ends["two models"]).abs().max().item()
    best = {name: min(values) for name, values in seconds.items()}
    model, optimizer = trained(start, args.lora_rank)
    batch = next(batches(data, args.batch, 1))
    memory = {
        "leakbound": (fixed_bytes(model, optimizer=optimizer), saved_bytes(ours, model, optimizer, batch)),
        "two models": (
            fixed_bytes(model, start, optimizer=optimizer), saved_bytes(plain, model, start, optimizer, batch),
        ),
    }  # fmt: skip
    print(f"{args.size} model, {args.steps} steps of {args.batch} + {args.batch} examples, {tokens:,} tokens; "
          f"largest difference of the final weights {gap:.1e}")  # fmt: skip
    for name, value in best.items():
        fixed, saved = memory[name]
        print(f"{name:11} {tokens / value:10,.0f} tokens/s   weights, gradients, moments {fixed / 2**20:7.1f} MiB   "
              f"graph {saved / 2**20:7.1f} MiB   together {(fixed + saved) / 2**20:7.1f} MiB")  # fmt: skip
    each = args.steps
    for epochs in (1, 5, 10):
        ratio = best["two models"] * epochs / (best["leakbound"] * epochs + once)
        print(f"speed over {epochs:2} epochs of {each} steps, with the reference pass ({once:.2f} s): {ratio:.2f}x")
    ours_bytes, plain_bytes = (sum(memory[name]) for name in ("leakbound", "two models"))
    print(f"memory: {ours_bytes / plain_bytes:.2f}x")


if __name__ == "__main__":
    main()
