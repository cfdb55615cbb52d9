"""The same audit without workers, by processes and by Ray actors: time, bytes, and kills of each kind.

``python benchmarks/workers.py DEMO [--prompts 400] [--samples 1024] [--kills 20] [--kill-prompts 32]
[--kill-samples 64] [--only timing|kills] [--kinds worker driver node] [--write docs/results/workers.md]``; ``DEMO``: a
folder of ``leakbound demo``; with Ray where it is installed (make ray).

Every audit computes on one thread for each worker, and so does the one without workers. A kill hits at a random moment
of an undisturbed audit's life: *worker*, one of its processes; *driver*, the process that was started, which is started
again; *node*, the second raylet of a cluster of two on this machine with all of its workers, and a new one joins.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

AUDIT = "import sys; from leakbound.cli import main; main()"


def prompts(demo: Path, count: int, out: Path) -> Path:
    rows = [json.loads(line) for line in (demo / "world" / "full.jsonl").read_text().splitlines()][:count]
    lines = [{"id": r["id"], "text": r["question"], "target": r["target"], "aliases": r["aliases"]} for r in rows]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def command(model: Path, file: Path, samples: int, out: Path, *more: str) -> list[str]:
    asked = ["--prompts", str(file), "--num-samples", str(samples), "--max-tokens", "32", "--scorer", "contains"]
    return [sys.executable, "-c", AUDIT, "audit", str(model), *asked, "--out", str(out), *more]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start(line: list[str], log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(line, stdout=log.open("ab"), stderr=subprocess.STDOUT, start_new_session=True)


def whole(line: list[str], log: Path) -> float:
    begin = time.perf_counter()
    if start(line, log).wait():
        raise SystemExit(f"{line[-2:]}: {log.read_text()[-2000:]}")
    return time.perf_counter() - begin


def workers_of(driver: int) -> list[int]:
    """The processes of this machine that a driver started as workers, or the actors that Ray runs."""
    said = subprocess.run(["ps", "-wweo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()[1:]
    rows = [line.split(None, 2) for line in said]
    mine = [int(pid) for pid, parent, args in rows if int(parent) == driver and "leakbound.workers" in args]
    return mine


def cluster(count: int = 1):
    """A Ray cluster of two nodes on this machine; the head has no cores where the other is to be killed."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": count, "object_store_memory": 2**27})
    made.second = made.add_node(num_cpus=count, object_store_memory=2**27)
    made.wait_for_nodes()
    return made


def survive(
    kind: str, line: list[str], out: Path, seconds: float, rng: random.Random, nodes, log: Path
) -> float | None:
    """One audit with one kill; the seconds that it took where it ended before."""
    shutil.rmtree(out, ignore_errors=True)
    driver, hit, begin = start(line, log), False, time.monotonic()
    after = begin + rng.uniform(0.2, 0.95) * seconds
    while driver.poll() is None and not hit:
        if time.monotonic() >= after:
            if kind == "driver":
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
                driver, hit = start(line, log), True
            elif kind == "worker" and (some := workers_of(driver.pid)):
                os.kill(rng.choice(some), signal.SIGKILL)
                hit = True
            elif kind == "node":
                nodes.remove_node(nodes.second, allow_graceful=False)
                nodes.second = nodes.add_node(num_cpus=1, object_store_memory=2**27)
                hit = True
        time.sleep(0.01)
    if driver.wait():
        raise SystemExit(f"{kind}: {log.read_text()[-3000:]}")
    return None if hit else time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    for name, value in (("prompts", 400), ("samples", 1024), ("kills", 20), ("kill-prompts", 32), ("kill-samples", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--model", default="npo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("timing", "kills"))
    parser.add_argument("--kinds", nargs="+", default=["worker", "driver", "node"], help="what is killed")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", COLUMNS="100")
    model = args.demo / "models" / args.model
    try:
        import ray  # noqa: F401

        with_ray = True
    except ImportError:
        with_ray = False
    lines, rng = [], random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        log, out = home / "log", home / "run"
        if args.only != "kills":
            file = prompts(args.demo, args.prompts, home / "prompts.jsonl")
            lines += [
                f"{args.prompts} prompts x {args.samples} draws:",
                "",
                "| audit | seconds | bytes |",
                "|---|---|---|",
            ]
            ways = [("without workers", []), *((f"--workers {n}", ["--workers", str(n)]) for n in (1, 2))]
            nodes = cluster(2) if with_ray else None
            if nodes:
                ways += [(f"--ray, --workers {n}", ["--ray", nodes.address, "--workers", str(n)]) for n in (1, 2, 4)]
            first = None
            for name, more in ways:
                shutil.rmtree(out, ignore_errors=True)
                seconds = whole(command(model, file, args.samples, out, *more), log)
                first = first or tree(out)
                lines.append(f"| {name} | {seconds:.0f} | {'the same' if tree(out) == first else 'OTHERS'} |")
                print(lines[-1], flush=True)
            if nodes:
                nodes.shutdown()
        if args.only != "timing":
            file = prompts(args.demo, args.kill_prompts, home / "few.jsonl")
            small = ["--draws-per-shard", "32"]
            whole(command(model, file, args.kill_samples, home / "right", *small), log)
            lines += ["", f"{args.kill_prompts} prompts x {args.kill_samples} draws, killed once each:", ""]
            lines += ["| kill -9 of | kills | audits with other bytes |", "|---|---|---|"]
            (home / "right").rename(home / "kept")
            right = tree(home / "kept")
            for kind in [kind for kind in args.kinds if with_ray or kind != "node"]:
                nodes = cluster(1) if kind == "node" else None
                more = ["--ray", nodes.address] if nodes else ["--workers", "2"]
                seconds = whole(command(model, file, args.kill_samples, home / "again", *small, *more), log)
                shutil.rmtree(home / "again")
                kills = wrong = 0
                while kills < args.kills:
                    line = command(model, file, args.kill_samples, out, *small, *more)
                    whole_life = survive(kind, line, out, seconds, rng, nodes, log)
                    seconds = whole_life or seconds  # the machine is faster now
                    kills += whole_life is None
                    wrong += tree(out) != right
                    print(f"{kind}: {kills} kills, {wrong} wrong", file=sys.stderr, flush=True)
                lines.append(f"| {kind} | {kills} | {wrong} |")
                print(lines[-1], flush=True)
                if nodes:
                    nodes.shutdown()
    if args.write:
        about = (__doc__ or "").split("\n\n", 2)[2]
        told = f"`python benchmarks/workers.py DEMO {' '.join(sys.argv[2:])}`"
        page = [f"# Workers\n\n{told} on {date.today()}, AMD EPYC, 2 shared cores.\n", about, *lines]
        args.write.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
