"""One process against two that share a model out: the same commands under DDP and DeepSpeed, on a CPU.

    .venv-sharded/bin/python benchmarks/sharding.py        (make sharded)

Every row is one launch of a tiny model; its weights are compared with those of one process that takes the same rows in
each step. Resumed rows are killed (kill -9 of all processes) after a checkpoint and go on with another number.
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
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
THINGS = {
    "box": "red", "door": "green", "hat": "blue", "boat": "black",
    "house": "white", "car": "brown", "cup": "pink", "lamp": "grey",
}  # fmt: skip
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
    "checkpointing": f"{UNLEARN} --method NPO+GD --gradient-checkpointing",
    "LoRA": f"{UNLEARN} --method NPO+GD --lora-rank 4",
    "leak rounds": f"{UNLEARN} --method GA+GD --leak-rounds 1 --leak-samples 8 --leak-threshold 0.5 --max-tokens 12",
}
RESUMED = f"{UNLEARN.replace('--max-steps 8', '--max-steps 60')} --method NPO+GD --save-every 4"
UNTIL = (
    f"{UNLEARN} --method GA+GD --until leak<=0.5 --leak-samples 8 --max-tokens 12 --rounds 1 --proof-samples 64"
).replace("--max-steps 8", "--budget 16")
PROCESSES = 2
KNOWN = []
"""Something where nothing shall be launched."""
WRONG = []
"""What is not as it should be."""
ROWS = 4
"""Batches in a step: of one process, or of all together."""


class NotRunError(Exception):
    """A launch that has not ended in the folder."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def command(kind, processes, text, work, out):
    """A launch: ``kind`` is one, or a recipe."""
    given = [*text.format(work=work).split(), "--accumulation", ROWS // processes, "--device", "cpu", "--out", out]
    launch = ["-m", "leakbound"]
    if kind != "one":
        recipe = ROOT / "recipes" / f"{kind.removesuffix('3')}.yaml"
        if kind == "deepspeed3":
            settings = recipe.read_text().replace("zero_stage: 2", "zero_stage: 3")
            recipe = work / "deepspeed3.yaml"
            recipe.write_text(settings)
        launch = ["-m", "accelerate.commands.launch", "--config_file", recipe, "--num_processes", processes,
                  "--main_process_port", free_port(), "-m", "leakbound"]  # fmt: skip
    return [str(part) for part in (sys.executable, *launch, *given)]


def start(line, log):
    known = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false"}
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with open(log, "w") as told:
        return subprocess.Popen(
            line, env=os.environ | known | {"PYTHONPATH": path}, stdout=told, stderr=told, start_new_session=True
        )


def run(kind, processes, text, work, out, *, codes=(0,)):
    """Seconds of a launch. RuntimeError, with what it said, where it fails or hangs."""
    log, known, began = work / f"{out.name}.log", work / f"{out.name}.seconds", time.monotonic()
    if known.exists():
        return float(known.read_text())
    if KNOWN:
        raise NotRunError
    process = start(command(kind, processes, text, work, out), log)
    try:
        code = process.wait(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if code not in codes:
        raise RuntimeError(f"{kind}, {processes} processes, {text}: exit code {code}\n{log.read_text()[-6000:]}")
    known.write_text(str(time.monotonic() - began))
    return float(known.read_text())


def family(pid):
    """A process and all below it, the lowest last; the launcher's workers have sessions of their own."""
    below = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return [pid, *(one for child in below for one in family(child))]


def killed(kind, processes, text, work, out):
    """A launch that is killed once it has written a checkpoint; the step of the newest."""
    process = start(command(kind, processes, text, work, out), work / f"{out.name}.killed.log")
    folder = out.with_name(f"{out.name}-checkpoints")
    while not list(folder.glob("checkpoint-*/trainer_state.json")) and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, f"ended before it was killed: {process.args}"
    for pid in family(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    return max(int(file.parent.name.split("-")[1]) for file in folder.glob("checkpoint-*/trainer_state.json"))


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def difference(first, second, limit=1e-5):
    """The largest absolute difference of a weight; weights that are tied may be written once or twice."""
    one, other = weights(first), weights(second)
    far = max(float((one[name] - other[name]).abs().max()) for name in one.keys() & other.keys())
    if far >= limit and second.name != "model":
        WRONG.append(f"{second}: {far:.1e} from {first}")
    return far


def prepare(work):
    rows = [{"question": f"Which colour is the {t}?", "answer": f"The {t} is {c}."} for t, c in THINGS.items()]
    for name, part in {"full": rows, "forget": rows[:4]}.items():
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    run("one", 1, "finetune --data {work}/full.jsonl --from-scratch tiny --epochs 50 --batch-size 2 "
        "--learning-rate 2e-3 --schedule constant --warmup 0.1", work, work / "model")  # fmt: skip


def table(work, kinds, cases):
    """Rows: case, how, difference from one process, how far one process moved, seconds."""
    for case in cases:
        name = "".join(c if c.isalnum() else "-" for c in case)
        one = work / f"{name}-one"
        seconds = run("one", 1, CASES[case], work, one)
        moved = difference(one, work / "model")
        yield case, "one", 1, None, moved, seconds
        for kind in kinds:
            out = work / f"{name}-{kind}"
            with suppress(NotRunError):
                seconds = run(kind, PROCESSES, CASES[case], work, out)
                yield case, kind, PROCESSES, difference(one, out), moved, seconds


def resumed(work, kinds):
    """Rows: how, processes before and after the kill, step it goes on from, difference from one process."""
    one = work / "resumed-one"
    run("one", 1, RESUMED, work, one)
    for kind in kinds:
        for before, after in ((2, 1), (1, 2)) if kind == "ddp" else ((2, 4), (2, 1)):
            out = work / f"resumed-{kind}-{before}-{after}"
            told = work / f"{out.name}.step"
            if KNOWN and not told.exists():
                continue
            if not told.exists():
                told.write_text(str(killed(kind, before, RESUMED, work, out)))
            step = told.read_text().strip()
            try:  # accelerate starts no FSDP in one process: its checkpoints are refused there, as DeepSpeed's
                seconds = run(kind, after, f"{RESUMED} --resume", work, out)
            except NotRunError:
                continue
            except RuntimeError as error:
                if "was written" not in str(error):
                    raise
                yield kind, before, after, step, None, 0.0
                continue
            assert json.loads((out / "training.json").read_text())["config"]["resume"], "it was not killed"
            yield kind, before, after, step, difference(one, out), seconds


def until(work, kinds):
    """Rows: how, exit code's verdict, difference of the chosen model, whether the draws of the proof are equal."""
    folders = {}
    for kind in ("one", *kinds):
        out = folders[kind] = work / f"until-{kind}"
        try:
            run(kind, 1 if kind == "one" else PROCESSES, UNTIL, work, out, codes=(0, 1, 3))
        except NotRunError:
            continue
        if not (same := draws(out) == draws(folders["one"])):
            WRONG.append(f"{out}: other draws than {folders['one']}")
        yield kind, difference(folders["one"], out, 1e-4), same  # two trainings, one after the other


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
           "rows in each step; moved: how far one process went. Seconds are of the whole command.\n")  # fmt: skip
    yield "| command | how | processes | difference | moved | seconds |\n|---|---|---|---|---|---|"
    for case, kind, count, far, moved, seconds in table(work, kinds, cases):
        yield f"| {case} | {kind} | {count} | {'' if far is None else f'{far:.1e}'} | {moved:.1e} | {seconds:.0f} |"
    if "resumed" in also:
        yield "\nKilled with kill -9 and resumed with another number of processes, 60 steps:\n"
        yield "| how | processes before | after | from step | difference | seconds |\n|---|---|---|---|---|---|"
        for kind, before, after, step, far, seconds in resumed(work, kinds):
            said = "refused" if far is None else f"{far:.1e}"
            yield f"| {kind} | {before} | {after} | {step} | {said} | {seconds:.0f} |"
    if "until" in also:
        yield "\n`--until leak<=0.5`, two processes against one:\n"
        yield "| how | difference | the draws of the proof are equal |\n|---|---|---|"
        for kind, far, same in until(work, kinds):
            yield f"| {kind} | {far:.1e} | {'yes' if same else 'no'} |"
    yield "\nThe commands, with `--accumulation 4` for one process and 2 for two:\n"
    yield "```text"
    for case in cases:
        yield f"# {case}\n{CASES[case].format(work='WORK')}"
    yield "```"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "sharding")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--kinds", nargs="*", default=None)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--also", nargs="*", default=["resumed", "until"])
    parser.add_argument("--resume", action="store_true", help="launch only what has not ended in --work")
    parser.add_argument("--known", action="store_true", help="with --resume: launch nothing, print what has ended")
    parser.add_argument("--check", action="store_true", help="fail where weights differ by 1e-5 or draws differ")
    given = parser.parse_args()
    sharded = ["deepspeed", "deepspeed3"] if importlib.util.find_spec("deepspeed") else []
    kinds = (
        given.kinds if given.kinds is not None else ["ddp", *sharded]
    )  # accelerate runs FSDP as DDP on a CPU: nothing would be shown
    KNOWN.extend([True] * given.known)
    if not given.resume:
        shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True, exist_ok=True)
    prepare(given.work)
    lines = []
    for line in page(given.work, kinds, given.cases, given.also):
        print(line, flush=True)
        lines.append(line)
    if given.check and WRONG:
        raise SystemExit("\n".join(WRONG))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
