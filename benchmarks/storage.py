"""An audit in S3, in Google's storage and on a disk: requests, failures, time, bytes; then the same with kills.

``python benchmarks/storage.py [--shares 0,0.05] [--kills 5] [--samples 120] [--seed 0] [--write FILE]``;
in the environment of ``make storage``. The servers are moto's and gcp-storage-emulator's on this machine, behind a
proxy that fails a share of the requests: with 503, with a reset before the server has seen the request, with a reset
after it has done it, each as often. The model is a fake that writes many pieces. A kill is SIGKILL after a random
number of objects was sent.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from itertools import product
from pathlib import Path

PAGE = """# Object storage

{command}.

{files} files of 6 prompts x {samples} draws of a fake that writes many pieces, in servers on this machine
({servers}; none of Amazon's or Google's own was asked).
A proxy fails a share of the requests: with 503, with a reset before the server has seen the request, with a reset
after it has done it. A kill is SIGKILL after a random number of objects was sent. Bytes: those of all objects against
the files of the run on the disk, and no upload in parts is left. Seconds are those of all processes of a row with
their start; the machine had other work. After a failure gcsfs waits 1 to 2 seconds before it asks again.

{table}
"""
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from failing import FAULTS  # noqa: E402
from gs import gs_server  # noqa: E402
from s3 import s3_server  # noqa: E402

USED = ("moto", "s3fs", "gcp-storage-emulator", "gcsfs")


def start(words: list[str]) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-c", "from leakbound.cli import main; main()", *words]
    path = os.pathsep.join(p for p in sys.path if p)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(line, env={**os.environ, "PYTHONPATH": path}, **quiet)


def timed(words: list[str]) -> float:
    begin = time.perf_counter()
    if start(words).wait():
        raise SystemExit(f"{words} failed")
    return time.perf_counter() - begin


def killed(words: list[str], proxy, after: int) -> bool:
    """Whether it was killed once it had sent so many objects, and not at its end before."""
    begun, first = start(words), proxy.counts[proxy.sent]
    while proxy.counts[proxy.sent] < first + after and begun.poll() is None:
        time.sleep(0.002)
    begun.send_signal(signal.SIGKILL)
    return begun.wait() == -signal.SIGKILL


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shares", default="0,0.05")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--samples", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    chance, lines = random.Random(given.seed), []
    with tempfile.TemporaryDirectory() as made:
        rows = [{"id": f"p{i}", "text": f"What is {i}?", "target": f"secret {i}"} for i in range(6)]
        (Path(made) / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sizes = ["--num-samples", str(given.samples), "--draws-per-shard", "15", "--scorer", "contains"]
        asked = ["audit", "away_models:Gradual", "--prompts", f"{made}/prompts.jsonl", *sizes, "--out"]
        local = Path(made) / "run"
        lines.append(f"| disk | | | | | | {timed([*asked, str(local)]):.1f} | |")
        wanted = {str(p.relative_to(local)): p.read_bytes() for p in local.rglob("*") if p.is_file()}
        rounds = [*((float(s), 0) for s in given.shares.split(",")), (0.05, given.kills)]
        for (name, serve), (share, kills) in product({"S3": s3_server, "Google": gs_server}.items(), rounds):
            with serve(share, given.seed) as proxy:
                begin, run = time.perf_counter(), f"{proxy.root}/run"
                done = sum(killed([*asked, run], proxy, chance.randint(1, 40)) for _ in range(kills))
                timed([*asked, run])
                seconds = time.perf_counter() - begin
                equal = proxy.objects("run") == wanted and not proxy.unfinished()
                total = sum(proxy.counts[m] for m in ("GET", "HEAD", "PUT", "DELETE", "POST"))
                failed = " | ".join(str(proxy.counts[kind]) for kind in FAULTS)
                said = "equal" if equal else "DIFFERENT"
                lines.append(f"| {name}, {share:.0%} fail | {done} | {total} | {failed} | {seconds:.1f} | {said} |")
                print(lines[-1], flush=True)
    names = ("kills", "requests", *FAULTS, "seconds", "bytes")
    table = "\n".join([f"| where | {' | '.join(names)} |", "|---|" + "--:|" * 6 + "---|", *lines])
    print(table)
    if given.write:
        command = f"`python benchmarks/storage.py {' '.join(sys.argv[1:])}`, {date.today()}, AMD EPYC, 2 cores"
        servers = ", ".join(f"{name} {version(name)}" for name in USED)
        page = PAGE.format(command=command, files=len(wanted), samples=given.samples, table=table, servers=servers)
        given.write.write_text(page)


if __name__ == "__main__":
    main()
