"""Seconds to score TOFU's perturbed answers: leakbound's trees against one by one and against padded batches.

    python benchmarks/likelihood.py [--data ../shared/data] [--questions 400] [--small-questions 100]
    python benchmarks/likelihood.py --count

forget10_perturbed, task 1: for each question the answer, its paraphrase and 5 wrong answers. All ways start from the
texts and give the log-probability of every answer token; ours gives three more values per token, and "one by one, four
values" does too. "Padded" repeats the question in every row and pads to the longest row of a batch of 16 questions (the
wrong answers of a batch flattened); "padded to 200" pads every row to 200 tokens or the longest, as TOFU's code does.
CPU seconds of this process, so that other work on the machine counts little. The models have random weights, scaled up
so that what stands before a token matters. ``--count`` times nothing and counts the tokens that go through the model,
padding left out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from leakbound.models.hf import HFModel
from leakbound.models.hf.likelihoods import encode_all
from leakbound.models.hf.trees import plan
from leakbound.models.template import encode_pair
from leakbound.unlearning.scratch import new_model, train_tokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("../shared/data"))
parser.add_argument("--questions", type=int, default=400)
parser.add_argument("--small-questions", type=int, default=100)
parser.add_argument("--count", action="store_true")
args = parser.parse_args()
BATCH, TEMPLATE, PADDED = 16, "qa", 200


def read(name):
    return [json.loads(line) for line in (args.data / "tofu" / name).read_text().splitlines()]


ROWS = [row for row in read("forget10_perturbed.json") if row["task_id"] == "1"]
TEXTS = [text for row in read("retain90.json") for text in (row["question"], row["answer"])]


def answers_of(row):
    return [row["answer"], row["paraphrased_answer"], *row["perturbed_answer"]]


def make(size):
    tokenizer = train_tokenizer(TEXTS, 2048 if size == "tiny" else 4096)
    model = new_model(size, tokenizer, seed=0, max_length=1024)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    return HFModel(model, tokenizer, template=TEMPLATE)


def encoded(box, question, answer):
    return encode_pair(box.tokenizer, question, answer, TEMPLATE)


@torch.inference_mode()
def one_by_one(box, rows, four=False):
    out = []
    for row in rows:
        for answer in answers_of(row):
            head, tail = encoded(box, row["question"], answer)
            logits = box.model(input_ids=torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
            logps, tokens = logits.log_softmax(-1), torch.tensor(tail)
            out.append(logps.gather(-1, tokens[:, None])[:, 0].double().numpy())
            if four:
                probs = logps.exp()
                mean = (probs * logps).sum(-1)
                _ = (logits.argmax(-1) == tokens, mean, ((probs * logps.square()).sum(-1) - mean.square()).sqrt())
    return out


@torch.inference_mode()
def padded(box, rows, least=0):
    out = {}
    for part in (slice(0, 1), slice(1, 2), slice(2, None)):
        for start in range(0, len(rows), BATCH):
            numbers = range(start, min(start + BATCH, len(rows)))
            some = [(i, j) for i in numbers for j in range(7)[part]]
            pairs = [encoded(box, rows[i]["question"], answers_of(rows[i])[j]) for i, j in some]
            width = max(least, *(len(head + tail) for head, tail in pairs))
            ids = torch.full((len(pairs), width), box.tokenizer.pad_token_id)
            mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
            for k, (head, tail) in enumerate(pairs):
                ids[k, : len(head + tail)] = torch.tensor(head + tail)
                mask[k, : len(head + tail)] = 1
                labels[k, len(head) : len(head + tail)] = torch.tensor(tail)
            logits = box.model(input_ids=ids, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].transpose(-1, -2), labels[:, 1:], ignore_index=-100, reduction="none"
            )
            for k, pair in enumerate(some):
                out[pair] = -loss[k][labels[k, 1:] != -100].double().numpy()
    return [out[i, j] for i in range(len(rows)) for j in range(7)]


def ours(box, rows):
    found = box.answer_likelihoods([row["question"] for row in rows], [answers_of(row) for row in rows])
    return [x.logprobs for some in found for x in some]


def count(box):
    questions, answers = [row["question"] for row in ROWS], [answers_of(row) for row in ROWS]
    heads, tails = encode_all(box.tokenizer, TEMPLATE, questions, answers)
    pairs = list(zip(heads, tails, strict=True))
    repeated = sum(len(head) + len(tail) for head, some in pairs for tail in some)
    shared = sum(len(head) + sum(map(len, some)) for head, some in pairs)
    trees = sum(len(tree.ids) for head, some in pairs for tree in plan(head, some, share=True))
    print(
        f"vocabulary {len(box.tokenizer)}: {repeated} tokens with the question repeated, {shared} with it shared,",
        end=" ",
    )
    print(f"{trees} as trees: {repeated / trees:.2f}x fewer")


WAYS = {
    "one by one": one_by_one,
    "one by one, four values": lambda box, rows: one_by_one(box, rows, four=True),
    "padded": padded,
    "padded to 200": lambda box, rows: padded(box, rows, least=PADDED),
    "leakbound": ours,
}
if args.count:
    for size in ("tiny", "small"):
        count(make(size))
    raise SystemExit
print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s)\n")
print("| parameters | questions | answers | way | CPU s | leakbound is faster | largest abs difference |")
print("|---|---|---|---|---|---|---|")
for size, most in (("tiny", args.questions), ("small", args.small_questions)):
    if not most:
        continue
    box, rows = make(size), ROWS[:: max(1, len(ROWS) // most)][:most]
    one_by_one(box, rows[:1])  # warm up
    seconds, values = {}, {}
    for way, score in WAYS.items():
        begin = time.process_time()
        values[way] = score(box, rows)
        seconds[way] = time.process_time() - begin
    million = sum(p.numel() for p in box.model.parameters()) / 1e6
    for way in WAYS:
        apart = max(np.abs(a - b).max() for a, b in zip(values["one by one"], values[way], strict=True))
        faster = f"{seconds[way] / seconds['leakbound']:.2f}x" if way != "leakbound" else ""
        shown = f"{apart:.1e}" if way != "one by one" else ""
        print(
            f"| {million:.1f}M | {len(rows)} | {len(values[way])} | {way} | {seconds[way]:.1f} | {faster} | {shown} |",
            flush=True,
        )
