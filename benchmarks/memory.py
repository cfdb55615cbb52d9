"""Peak memory and seconds of drawing from a real model, and what is kept when it is killed; beside an older commit.

    python benchmarks/memory.py --model FOLDER [--before COMMIT] [--out docs/results/memory.md]

FOLDER: a model of transformers with a chat template (docs/results/memory.md says how SmolLM2-135M-Instruct becomes
one). Every case is a process of its own: its memory is its peak of resident memory (ru_maxrss), libraries and mapped
weights included, its time its CPU seconds, loading included. The older commit is a git worktree in a temporary folder,
drawn from on the same machine in the same run. Draws are compared by their texts, counts and places.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = """What is the capital of France?
Who wrote Romeo and Juliet?
What do bees make?
How many legs does a spider have?
What is the largest planet of the solar system?
Who painted the Mona Lisa?
What is the chemical symbol of gold?
In which country is Mount Fuji?
Who is Harry Potter's best friend?
What is the name of Harry Potter's school?
At what temperature does water boil?
Which language is spoken in Brazil?""".splitlines()
CHILD = """
import json, resource, sys
from leakbound.auditing.drawing import sample
from leakbound.models.opening import Loading
from leakbound.records import SamplingParams
case = json.loads(sys.argv[1])
loading = Loading(memory=case["memory"]) if case.get("memory") else Loading()
prompts = [{"id": str(i), "text": q, "target": "secret"} for i, q in enumerate(case["questions"])]
params = SamplingParams(max_tokens=case["tokens"], temperature=case.get("temperature", 1.0))
sample(case["model"], prompts, case["out"], num_samples=case["draws"], params=params, loading=loading, progress=True)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}))
"""


def command(tree: Path, case: dict) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-c", CHILD, json.dumps(case)], {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def measured(tree: Path, case: dict) -> dict:
    line, env = command(tree, case)
    done = subprocess.run(line, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failed": done.returncode}
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(out: str) -> list[tuple]:
    """Every draw of a finished run folder: prompt, text, count, places; and its log-probability."""
    files = sorted((Path(out) / "draws").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return [((r["prompt_id"], r["text"], r["count"], tuple(r["places"])), r["logprob"]) for r in rows]


def kept_after(tree: Path, case: dict, seconds: float) -> int:
    """Draws in the folder after kill -9, those of pieces included."""
    line, env = command(tree, case)
    process = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    used = 0.0
    while used < seconds and process.poll() is None:
        time.sleep(0.2)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    process.send_signal(signal.SIGKILL)
    process.wait()
    files = [f for kind in ("draws", "pieces") for f in (Path(case["out"]) / kind).glob("sample-*.parquet")]
    return sum(sum(pq.read_table(f, columns=["count"])["count"].to_pylist()) for f in files)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--before", help="an older commit to measure beside this one")
    parser.add_argument("--cases", nargs="+", help="only these")
    parser.add_argument("--kill", type=float, default=60.0)
    parser.add_argument("--draws", type=int, default=256, help="of each of the twelve prompts")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    usual = {"model": args.model, "questions": QUESTIONS, "draws": args.draws, "tokens": 24}
    full = f"12 x {args.draws} x 24"
    cases = {
        "3 prompts x 64 draws x 16 tokens": {**usual, "questions": QUESTIONS[:3], "draws": 64, "tokens": 16},
        "1 x 65,536 x 12, temperature 0.3": {
            **usual,
            "questions": QUESTIONS[8:9],
            "draws": 65_536,
            "tokens": 12,
            "temperature": 0.3,
        },
        f"{full}, --memory 1.5GB": {**usual, "memory": "1.5GB"},
        full: usual,
    }
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    with tempfile.TemporaryDirectory(prefix="leakbound-memory-") as temporary:
        trees = {"this commit": ROOT}
        if args.before:
            old = Path(temporary) / "tree"
            subprocess.run(["git", "worktree", "add", "--detach", str(old), args.before], cwd=ROOT, check=True)
            trees[f"before ({args.before[:7]})"] = old
        for label, tree in trees.items() if args.kill else ():
            kept = kept_after(tree, {**usual, "out": str(Path(temporary) / f"killed-{len(lines)}")}, args.kill)
            say(f"- {label}: {kept} draws are kept after kill -9 at {args.kill:.0f} CPU s of {full}.")
        say("")
        say("| case | commit | peak GB | CPU s | distinct | draws as in the first row of the case |")
        say("|---|---|---|---|---|---|")
        first: dict[str, list[tuple]] = {}
        for name, case in cases.items():
            if args.cases and not any(some in name for some in args.cases):
                continue
            group = name.split(",")[0] if "65" not in name else name
            for label, tree in trees.items():
                if tree != ROOT and case.get("memory"):
                    continue
                out = str(Path(temporary) / f"{len(lines)}")
                found = measured(tree, {**case, "out": out})
                if "failed" in found:
                    say(f"| {name} | {label} | failed: exit {found['failed']} | | | |")
                    continue
                rows = rows_of(out)
                before = first.setdefault(group, rows)
                same = [a for a, _ in rows] == [a for a, _ in before]
                said = "yes" if same else f"no: {len({a for a, _ in rows} ^ {a for a, _ in before})} rows differ"
                if same and rows is not before:
                    apart = max(abs(a - b) for (_, a), (_, b) in zip(rows, before, strict=True))
                    said += f"; log-probabilities within {apart:.1g}"
                distinct = len(rows) - len(case["questions"])
                say(f"| {name} | {label} | {found['peak'] / 1e9:.2f} | {found['cpu']:.0f} | {distinct} | {said} |")
        if args.before:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=True)
    if args.out:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        about = (
            f"Printed by `python benchmarks/memory.py {shlex.join(sys.argv[1:])}` on "
            f"{datetime.date.today()} at commit {commit.stdout.strip()}: {platform.machine()}, {os.cpu_count()} cores, "
            f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}."
        )
        marks = "<!-- printed -->", "<!-- end -->"
        page = args.out.read_text(encoding="utf-8") if args.out.exists() else f"{marks[0]}\n{marks[1]}\n"
        head, tail = page.split(marks[0])[0], page.split(marks[1])[1]
        args.out.write_text(
            f"{head}{marks[0]}\n{about}\n\n" + "\n".join(lines) + f"\n{marks[1]}{tail}", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
