"""One process against two that share a model out: the same commands under DDP, FSDP 2 and DeepSpeed, on a CPU.

    .venv-sharded/bin/python benchmarks/sharding.py        (make sharded)

Each recipe is launched once and takes its commands one after the other; the weights of each are compared with those of
one process that takes the same rows in each step. Adam's epsilon is 1e-6: where a gradient is nothing but rounding, as
that of a KL at its minimum, 1e-8 makes whole steps of it, other ones on each machine. Resumed rows are launches of
their own: killed (kill -9 of all processes) after a checkpoint, they go on with another number of processes.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
THINGS = {
    "box": "red", "door": "green", "hat": "blue", "boat": "black",
    "house": "white", "car": "brown", "cup": "pink", "lamp": "grey",
}  # fmt: skip
FROM_SCRATCH = (
    "finetune --data {work}/full.jsonl --from-scratch tiny --epochs 50 --batch-size 2 --learning-rate 2e-3 "
    "--schedule constant --warmup 0.1"
)
UNLEARN = (
    "unlearn --model {work}/model --forget {work}/forget.jsonl --retain {work}/full.jsonl --like ours --batch-size 1 "
    "--learning-rate 2e-4 --schedule constant --max-steps 8"
)
CASES = {
    "finetune": "finetune --model {work}/model --data {work}/full.jsonl --batch-size 1 --learning-rate 2e-4 "
    "--schedule constant --max-steps 8",
    "NPO+GD": f"{UNLEARN} --method NPO+GD",
    "NPO+GD, tokens": f"{UNLEARN} --method NPO+GD --reduction tokens",
    "GA+KL (reference)": f"{UNLEARN} --method GA+KL",
    "RMU (three layers)": f"{UNLEARN} --method RMU",
    "checkpointing": f"{UNLEARN} --method NPO+GD --gradient-checkpointing",
    "LoRA": f"{UNLEARN} --method NPO+GD --lora-rank 4",
    "LoRA, checkpointing": f"{UNLEARN} --method NPO+GD --lora-rank 4 --gradient-checkpointing",
    "leak rounds": f"{UNLEARN} --method GA+GD --leak-rounds 1 --leak-scorer rouge_l --leak-threshold 0.01 "
    "--leak-samples 32 --max-tokens 24",
}
RESUMED = f"{UNLEARN.replace('--max-steps 8', '--max-steps 12')} --method NPO+GD --save-every 4"
UNTIL = (
    f"{UNLEARN} --method GA+GD --until leak<=0.5 --leak-samples 8 --max-tokens 12 --rounds 1 --proof-samples 64"
).replace("--max-steps 8", "--budget 16")
ENDS = {"until": (0, 1, 3)}
"""Exit codes that are no failure, by the command's name."""
PROCESSES = 2
PAIRS = {"ddp": ((2, 1), (1, 2)), "fsdp": ((2, 1), (1, 2)), "deepspeed": ((2, 1),), "deepspeed3": ()}
"""Processes before and after the kill; DeepSpeed's checkpoints are refused alike whatever the stage."""
SHARED = {"fsdp": ("weights", "moments"), "deepspeed": ("moments",), "deepspeed3": ("weights", "moments")}
"""Of what a process may hold its part alone."""
ROWS = 4
"""Batches in a step: of one process, or of all together."""
LIMIT = 1e-5
EPSILON = 1e-6
WRONG = []
"""What is not as it should be."""


def take(file):
    """In each process of a launch: its commands, one after the other."""
    from leakbound import cli
    from leakbound.unlearning import running

    save, arguments, rank = running.save, running.arguments, os.environ.get("RANK", "0")

    def told(*given, **named):
        made = arguments(*given, **named)
        made.adam_epsilon = EPSILON
        return made

    def watched(trainer, tokenizer, config, *rest):
        file.with_name(f"{config.out.name}.held-{rank}").write_text(json.dumps(held(trainer)))
        save(trainer, tokenizer, config, *rest)

    running.save, running.arguments = watched, told
    for job in json.loads(file.read_text()):
        began, code = time.monotonic(), 0
        try:
            cli.main(job["argv"])
        except SystemExit as end:
            code = end.code or 0
        if code not in job["ends"]:
            sys.exit(f"{job['name']}: exit code {code}")
        if rank == "0":
            file.with_name(f"{job['name']}.seconds").write_text(str(time.monotonic() - began))


def held(trainer):
    """What part of the weights' numbers, and of the moments', lies in this process; how the weights are placed."""
    from torch.distributed.tensor import DTensor

    def here(tensor):
        tensor = getattr(tensor, "ds_tensor", tensor)  # a weight that ZeRO 3 shared out
        return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).numel()

    weights = list(trainer.model.parameters())
    sizes = [getattr(weight, "ds_numel", weight.numel()) for weight in weights]
    optimiser = trainer.optimizer
    while hasattr(optimiser, "optimizer"):
        optimiser = optimiser.optimizer
    moments = sum(here(state["exp_avg"]) for state in optimiser.state.values() if "exp_avg" in state)
    trained = sum(size for size, weight in zip(sizes, weights, strict=True) if weight.requires_grad)
    return {
        "weights": sum(map(here, weights)) / sum(sizes),
        "moments": moments / trained,
        "placed": sorted({f"DTensor {w.placements}" if isinstance(w, DTensor) else "whole" for w in weights}),
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(kind, processes, commands, work, log):
    """A launch of commands, texts by the names of their folders; ``kind`` is one, or a recipe."""
    jobs = [
        {
            "name": name,
            "argv": [*text.format(work=work).split(), "--device", "cpu", "--out", str(work / name)]
            + (["--accumulation", str(ROWS // processes)] if text != FROM_SCRATCH else []),
            "ends": [end for case, ends in ENDS.items() if name.startswith(case) for end in ends] or [0],
        }
        for name, text in commands.items()
    ]
    file = log.with_suffix(".jobs")
    file.write_text(json.dumps(jobs))
    line = [__file__, "--take", file]
    if kind != "one":
        recipe = ROOT / "recipes" / f"{kind.removesuffix('3')}.yaml"
        if kind == "deepspeed3":
            settings = recipe.read_text().replace("zero_stage: 2", "zero_stage: 3")
            recipe = work / "deepspeed3.yaml"
            recipe.write_text(settings)
        line = ["-m", "accelerate.commands.launch", "--config_file", recipe, "--num_processes", processes,
                "--main_process_port", free_port(), *line]  # fmt: skip
    known = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false"}
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with open(log, "w") as told:
        return subprocess.Popen(
            [sys.executable, *map(str, line)], env=os.environ | known | {"PYTHONPATH": path},
            stdout=told, stderr=told, start_new_session=True,
        )  # fmt: skip


def run(kind, processes, commands, work, name):
    """Launch those of the commands that have not ended in the folder. RuntimeError where one fails or hangs."""
    left = {each: text for each, text in commands.items() if not (work / f"{each}.seconds").exists()}
    if not left:
        return
    log = work / f"{name}.log"
    process = start(kind, processes, left, work, log)
    try:
        code = process.wait(timeout=300 * len(left) + 300)
    except subprocess.TimeoutExpired:
        for pid in family(process.pid):
            os.kill(pid, signal.SIGKILL)
        raise
    if code:
        raise RuntimeError(f"{kind}, {processes} processes: exit code {code}\n{log.read_text()[-6000:]}")


def family(pid):
    """A process and all below it, the lowest last; the launcher's workers have sessions of their own."""
    below = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return [pid, *(one for child in below for one in family(child))]


def killed(kind, processes, work, name):
    """A launch that is killed once it has written a checkpoint; the step of the newest."""
    process = start(kind, processes, {name: RESUMED}, work, work / f"{name}.killed.log")
    folder = work / f"{name}-checkpoints"
    while not list(folder.glob("checkpoint-*/trainer_state.json")) and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, f"ended before it was killed: {process.args}"
    for pid in family(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert not (work / name).exists()
    return max(int(file.parent.name.split("-")[1]) for file in folder.glob("checkpoint-*/trainer_state.json"))


def seconds(work, name):
    return float((work / f"{name}.seconds").read_text())


def difference(first, second, limit=LIMIT):
    """The largest absolute difference of a weight; weights that are tied may be written once or twice."""
    from safetensors.torch import load_file

    one, other = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    far = max(float((one[name] - other[name]).abs().max()) for name in one.keys() & other.keys())
    if not far < limit and second.name != "model":
        WRONG.append(f"{second}: {far:.1e} from {first}")
    return far


def folder(case, kind):
    return f"{''.join(c if c.isalnum() else '-' for c in case)}-{kind}"


def shares(work, name, kind):
    """The largest parts of weights and moments in a process, and how the weights are placed in all."""
    found = [json.loads(file.read_text()) for file in sorted(work.glob(f"{name}.held-*"))]
    part = {what: max(each[what] for each in found) for what in ("weights", "moments")}
    WRONG.extend(f"{work / name}: all {what} in a process" for what in SHARED.get(kind, ()) if part[what] > 0.6)
    placed = sorted({way for each in found for way in each["placed"]})
    if kind == "fsdp" and placed != ["DTensor (Shard(dim=0),)"]:
        WRONG.append(f"{work / name}: weights are {placed}")
    return part["weights"], part["moments"], ", ".join(placed)


def resumed(work, kinds):
    """Rows: how, processes before and after the kill, step it goes on from, difference from one process, seconds."""
    for kind in kinds:
        for before, after in PAIRS[kind]:
            name = f"resumed-{kind}-{before}-{after}"
            told = work / f"{name}.step"
            ways = ["one" if kind == "ddp" and count == 1 else kind for count in (before, after)]
            if not told.exists():
                told.write_text(str(killed(ways[0], before, work, name)))
            step = told.read_text()
            try:
                run(ways[1], after, {name: f"{RESUMED} --resume"}, work, name)
            except RuntimeError as error:
                if "was written by" not in str(error):
                    raise
                yield kind, before, after, step, None, 0.0
                continue
            assert json.loads((work / name / "training.json").read_text())["config"]["resume"], "it was not killed"
            yield kind, before, after, step, difference(work / "resumed-one", work / name), seconds(work, name)


def draws(folder):
    """The draws of a proof, texts, counts and places, shard by shard."""
    import pyarrow.parquet as pq

    names = ["prompt_id", "text", "count", "first", "places"]
    files = sorted((folder / "proof" / "draws").glob("*.parquet"))
    return [pq.read_table(file, columns=names).to_pylist() for file in files]


def page(work, kinds, cases, also):
    yield "# Sharded training\n"
    machine = os.environ.get("MACHINE") or platform.machine()
    yield (f"Made by `make sharded-table` ({machine}, {os.cpu_count()} cores, gloo). "
           "A model of 4 layers; difference: the largest absolute one of a weight from one process that takes the same "
           "rows in each step, with Adam's epsilon at 1e-6 (at 1e-8 a gradient that is rounding alone makes whole "
           "steps); moved: how far one process went; held: the largest part of the weights' numbers, and of "
           "the optimiser's first moments of what is trained, in one process, as it ends.\n")  # fmt: skip
    wanted = {case: CASES[case] for case in cases} | ({"until": UNTIL} if "until" in also else {})
    alone = {folder(case, "one"): text for case, text in wanted.items()}
    if "resumed" in also:
        alone["resumed-one"] = RESUMED
    run("one", 1, {"model": FROM_SCRATCH, **alone}, work, "one")
    yield "| command | how | processes | difference | moved | held: weights | moments | weights are | seconds |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for kind in kinds:
        run(kind, PROCESSES, {folder(case, kind): text for case, text in wanted.items()}, work, kind)
        for case in cases:
            name, one = folder(case, kind), work / folder(case, "one")
            moved, far = difference(one, work / "model"), difference(one, work / name)
            weights, moments, placed = shares(work, name, kind)
            yield (f"| {case} | {kind} | {PROCESSES} | {far:.1e} | {moved:.1e} | {weights:.2f} | {moments:.2f} "
                   f"| {placed} | {seconds(work, name):.0f} |")  # fmt: skip
    if "resumed" in also:
        yield "\nKilled with kill -9 and resumed with another number of processes, 12 steps:\n"
        yield "| how | processes before | after | from step | difference | seconds |\n|---|---|---|---|---|---|"
        for kind, before, after, step, far, took in resumed(work, kinds):
            said = "refused" if far is None else f"{far:.1e}"
            yield f"| {kind} | {before} | {after} | {step} | {said} | {took:.0f} |"
    if "until" in also:
        yield "\n`--until leak<=0.5`, two processes against one (weights within 1e-4: two trainings):\n"
        yield "| how | difference | the draws of the proof are equal | seconds |\n|---|---|---|---|"
        one = work / "until-one"
        for name in (f"until-{kind}" for kind in kinds):
            if not (same := draws(work / name) == draws(one)):
                WRONG.append(f"{work / name}: other draws than {one}")
            far = difference(one, work / name, 1e-4)
            yield f"| {name[6:]} | {far:.1e} | {'yes' if same else 'no'} | {seconds(work, name):.0f} |"
    yield "\nThe commands, with `--accumulation 4` for one process and 2 for two, `--device cpu`; `deepspeed3` is"
    yield "`recipes/deepspeed.yaml` with `zero_stage: 3`:\n\n```text"
    for case, text in {**wanted, **({"resumed": RESUMED} if "resumed" in also else {})}.items():
        yield f"# {case}\n{text.format(work='WORK')}"
    yield "```"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "sharding")
    parser.add_argument("--out", type=Path)
    sharded = ["deepspeed", "deepspeed3"] if importlib.util.find_spec("deepspeed") else []
    parser.add_argument("--kinds", nargs="*", default=[*sharded, "fsdp", "ddp"])
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--also", nargs="*", default=["resumed", "until"])
    parser.add_argument("--resume", action="store_true", help="launch only what has not ended in --work")
    parser.add_argument("--check", action="store_true", help="fail where weights differ by 1e-5, or draws differ")
    parser.add_argument("--take", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.take:
        take(given.take)
        return
    if not given.resume:
        shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"Which colour is the {t}?", "answer": f"The {t} is {c}."} for t, c in THINGS.items()]
    for name, part in {"full": rows, "forget": rows[:4]}.items():
        (given.work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    lines = []
    for line in page(given.work, given.kinds, given.cases, given.also):
        print(line, flush=True)
        lines.append(line)
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")
    if given.check and WRONG:
        raise SystemExit("\n".join(WRONG))


if __name__ == "__main__":
    main()
