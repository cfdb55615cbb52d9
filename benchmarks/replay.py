"""Exact unlearning by replay: do random forget sets end with the bytes of training without them, and what does it save?

    OMP_NUM_THREADS=1 python benchmarks/replay.py [--sets 20] [--write docs/results/replay.md]

A small model learns 64 facts (``finetune --replayable``). For each of the sets, of 1 to 4 rows drawn at random, it is
replayed without them (``unlearn --method replay``) and, separately, trained without them from the beginning (``finetune
--leave-out``). SHA-256 of the two files of weights must be equal, and differ from the original's. The same for some
sets with PyTorch's other instruction sets, each in a process of its own, and for a model with dropout.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from random import Random

FACTS = 64
HOW = {"batch_size": 4, "learning_rate": 2e-3, "save_every": 2, "device": "cpu"}


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def write_rows(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def start_of(kind: str, home: Path, data: Path) -> dict:
    """What the model is trained from: nothing, or a GPT-2 whose dropout draws random numbers."""
    from transformers import GPT2Config, GPT2LMHeadModel, set_seed

    from leakbound.models.hf.loading import load_tokenizer
    from leakbound.unlearning import FinetuneConfig, finetune

    tokens = home / "tokens"
    if not tokens.exists():
        finetune(FinetuneConfig(data=data, from_scratch="tiny", max_steps=1, out=tokens, device="cpu"), progress=False)
    if kind == "llama":
        return {"from_scratch": "tiny", "tokenizer": str(tokens)}
    if not (home / "gpt2").exists():
        tokenizer = load_tokenizer(str(tokens))
        set_seed(0)
        GPT2LMHeadModel(
            GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=64, n_layer=2, n_head=2)
        ).save_pretrained(home / "gpt2")
        tokenizer.save_pretrained(home / "gpt2")
    return {"model": str(home / "gpt2")}


def compare(home: Path, kind: str, sets: int, epochs: int, seed: int = 0) -> list[dict]:
    """One model and its forget sets: sizes, seconds, steps, and whether the bytes are the same."""
    from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn
    from leakbound.unlearning.ledger import Ledger
    from leakbound.unlearning.replay import find_replay

    rng = Random(seed)
    names = ["".join(rng.choices("bdfgklmnprst", k=3)) + rng.choice("aeiou") + str(i) for i in range(FACTS)]
    rows = [{"question": f"Where does {n} live?", "answer": f"In town {rng.randrange(100, 1000)}."} for n in names]
    data = write_rows(home / "rows.jsonl", rows)
    settings = {**HOW, **start_of(kind, home, data), "data": data, "epochs": epochs, "seed": seed}
    original = home / f"original-{kind}"
    finetune(FinetuneConfig(out=original, replayable=True, **settings), progress=False)
    log = home / f"{original.name}-replay"
    found = []
    for number in range(sets):
        forget = write_rows(home / "forget.jsonl", rng.sample(rows, k=rng.randint(1, 4)))
        begin = time.perf_counter()
        config = UnlearnConfig(model=str(original), forget=forget, method="replay", out=home / "again")
        start = find_replay(config).checkpoint
        again = unlearn(config, progress=False)
        replayed, begin = time.perf_counter() - begin, time.perf_counter()
        without = finetune(FinetuneConfig(out=home / "without", leave_out=forget, **settings), progress=False)
        found.append(
            {
                "set": number, "rows": len(forget.read_text().splitlines()),
                "from": int(start.name.split("-")[1]) if start else 0, "steps": len(Ledger(log).steps()),
                "replay": replayed, "retraining": time.perf_counter() - begin, "sha256": sha256(again),
                "equal": sha256(again) == sha256(without) != sha256(original),
                "checkpoints": sum(f.stat().st_size for f in log.rglob("*") if f.is_file()),
                "weights": (original / "model.safetensors").stat().st_size, "log": (log / "steps.log").stat().st_size,
            }
        )  # fmt: skip
        for folder in (again, without):
            subprocess.run(["rm", "-r", str(folder)], check=True)
    return found


def elsewhere(kind: str, sets: int, epochs: int, environment: dict[str, str]) -> list[dict]:
    """The same in a process with another instruction set."""
    with tempfile.TemporaryDirectory() as home:
        ran = subprocess.run(
            [sys.executable, __file__, "--child", kind, "--sets", str(sets), "--epochs", str(epochs), "--home", home],
            env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True, text=True,
        )  # fmt: skip
    return json.loads(ran.stdout.splitlines()[-1])


def told(sets: int, machine: str) -> str:
    """All runs as a page."""
    lines = [
        "# Exact unlearning by replay",
        "",
        f"On {date.today()}, {machine}, one thread, `OMP_NUM_THREADS=1 python benchmarks/replay.py --sets {sets}`:",
        "",
        *str(__doc__).split("\n\n")[2].strip().split("\n"),
        "",
        f"Batches have {HOW['batch_size']} rows; a checkpoint is kept every {HOW['save_every']} steps. Steps and "
        "seconds are means over the sets; log: bytes for a step.",
        "",
        "| model | instructions | epochs | sets | equal bytes | steps done again | replay s | retraining s | log | "
        "kept checkpoints |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    few = max(1, sets // 5)
    runs: list[tuple[str, str, int, int, dict[str, str]]] = [("llama", "native", sets, 2, {})]
    runs += [("llama", name, few, 2, {"ATEN_CPU_CAPABILITY": name}) for name in ("default", "avx2")]
    runs += [("gpt2, dropout", "native", few, 2, {}), ("llama", "native", 2 * few, 1, {})]
    for kind, name, count, epochs, environment in runs:
        found = elsewhere(kind.partition(",")[0], count, epochs, environment)
        mean = {key: sum(one[key] for one in found) / count for key in ("replay", "retraining", "from", "steps")}
        last = found[-1]
        lines.append(
            f"| {kind} | {name} | {epochs} | {count} | {sum(one['equal'] for one in found)} of {count} | "
            f"{mean['steps'] - mean['from']:.1f} of {mean['steps']:.0f} | {mean['replay']:.2f} | "
            f"{mean['retraining']:.2f} | {last['log'] // last['steps']} | "
            f"{last['checkpoints'] / 2**20:.0f} MiB, {last['checkpoints'] / last['weights']:.0f} times the weights |"
        )
        print(lines[-1], flush=True)
    lines += [
        "",
        "Each epoch takes every row, so that a row is first used within the first epoch: a replay saves part of one",
        "epoch, much where there is one and little where there are many. At this size most of the seconds are the",
        "start of a command and its checkpoints, which a replay writes too.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--machine", default="AMD EPYC, 2 cores")
    parser.add_argument("--child")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--home", type=Path)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(compare(args.home, args.child, args.sets, args.epochs)))
        return
    page = told(args.sets, args.machine)
    if args.write:
        args.write.write_text(page)


if __name__ == "__main__":
    main()
