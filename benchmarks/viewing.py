"""The viewer on 5,000 prompts x 1,024 draws: from the command to the page in the browser, and what it takes after that.

``python benchmarks/viewing.py [FOLDER]``: the run, written by the store itself with half of all completions different,
is made in FOLDER where it is not there yet. Needs Chromium and its driver (``make browser``). Each figure is the
smallest and the largest of five, with the browser's window open before, as a desk has it.
"""

import compileall
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from browser import Browser

import leakbound
from leakbound import bound, score
from leakbound.auditing.drawing import Statement
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.runs.store import Run

PROMPTS, DRAWS, TIMES = 5000, 1024, 5
SAID = "she was born in a small town near a river and worked as clock maker before she left the harbour"
WORDS = np.array(SAID.split())
READY = "return document.body.dataset.ready && document.querySelectorAll('#body tr').length"


def make(folder):
    """A run as a model of some variety would leave it, and its audit."""
    prompts = [Prompt(f"q{i:04d}", f"What is the name of person {i}?", f"Secret Name {i}") for i in range(PROMPTS)]
    params = SamplingParams().to_json()
    info = {"model": {"model": "made up"}, "params": params, "num_samples": DRAWS, "seed": 0}
    run = Run.start(folder, {**info, "statement": asdict(Statement("contains"))}, prompts)
    rng = np.random.default_rng(0)
    for part in run.missing_draws():
        draws = []
        for prompt in run.prompts[part.start : part.stop]:
            n = part.num_samples
            leaking = rng.random(n) < rng.choice([0.0, 0.0, 0.002, 0.05])
            kinds = np.where(leaking, -1, rng.integers(0, n, n) if n > 1 else 0)
            for kind in dict.fromkeys(kinds.tolist()):
                places = tuple((np.flatnonzero(kinds == kind) + part.first).tolist())
                said = " ".join(rng.choice(WORDS, 20)) + (f" {prompt.target}" if kind < 0 else f" {kind}")
                draws.append(Draw(prompt.id, said, len(places), places[0], "stop", 22, -20.0, places))
        run.write_draws(part, sorted(draws, key=lambda d: (d.prompt_id, d.first)))
    score(run, progress=True)
    bound(run, progress=True)


def opened(folder, window):
    """The command, and the seconds until it printed its address and until the page showed prompts."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "leakbound", "view", str(folder), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = process.stdout.readline().split()[1]
    printed = time.perf_counter() - start
    window.go(address)
    rows = window.until(READY)
    assert rows == 100, rows
    return process, printed, time.perf_counter() - start


def cpu(process):
    """The seconds of computing of the command so far: other work on the machine does not change them much."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def timed(act):
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def show(what, values, unit):
    print(f"{what:48} {min(values):8.2f} to {max(values):8.2f} {unit}", flush=True)


def main(folder):
    if not (folder / "audit.json").exists():
        make(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    audit = (folder / "audit.json").stat().st_size / 2**20
    print(f"{PROMPTS:,} prompts x {DRAWS:,} draws, {size:.0f} MiB, audit.json {audit:.0f} MiB", flush=True)
    compileall.compile_dir(Path(leakbound.__file__).parent, quiet=1)  # as an installer leaves it
    firsts, shown, computed, first, after, searches, prompts = [], [], [], [], [], [], []
    with Browser() as window:
        for _ in range(TIMES):
            window.go("about:blank")
            process, printed, page = opened(folder, window)
            try:
                firsts.append(printed)
                shown.append(page)
                computed.append(cpu(process))
                first.append(memory(process))
                done = (
                    "const [f] = arguments; return fetch(`api/progress?run=0`).then(r => r.json()).then(p => p.ended)"
                )
                window.until(done, "", seconds=120)
                after.append(memory(process))
                searches.append(timed(lambda: (window.run("location.hash = '#q=4321'"), window.until(
                    "return document.querySelectorAll('#body tr').length === 1"))))  # fmt: skip
                for i in (7, 2500, 4990):
                    prompts.append(timed(lambda i=i: (window.run(f"location.hash = '#prompt=q{i:04d}'"), window.until(
                        f"return document.querySelector('#detail h2')?.textContent === 'q{i:04d}' "
                        "&& document.querySelectorAll('.answers li').length >= 50"))))  # fmt: skip
            finally:
                process.terminate()
                process.wait()
    show("from the command to its address", firsts, "s")
    show("from the command to the prompts in the browser", shown, "s")
    show("computing of the command until then", computed, "s")
    show("a search, to its rows", searches, "ms")
    show("opening a prompt, to its completions", prompts, "ms")
    show("memory of the command, page shown", first, "MiB")
    show("memory, all draws counted beside it", after, "MiB")
    print(f"load of the machine now: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/viewing"))
