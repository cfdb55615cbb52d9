"""X2: single-bit flips in each kind of file of a run folder; what reading the folder then says.

``python benchmarks/flips.py [FLIPS]`` (6000 by default, about a minute each kind on one free core), seeded.
"""

import json
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from leakbound.auditing.drawing import SamplingParams, Statement
from leakbound.auditing.steps import audit
from leakbound.errors import LeakboundError
from leakbound.models import FakeModel
from leakbound.records import Prompt, prompts_checksum
from leakbound.results.audit import Audit
from leakbound.runs.store import Run

PROMPTS = [{"id": f"p{i}", "text": f"question {i}?", "target": f"secret number {i}"} for i in range(4)]
FACTS = [{"id": f"p{i}", "entropy": 0.5, "verbatim": 0.25, "near": [0.125], "generations": []} for i in range(4)]


def whole(folder: Path) -> dict[str, Path]:
    """An audit and the facts of a certification; one file of each kind."""
    audit(FakeModel(leak=0.3), PROMPTS, num_samples=64, out=folder / "audit", progress=False)
    prompts = tuple(Prompt(**row) for row in PROMPTS)
    info = {"params": SamplingParams().to_json(), "num_samples": 64, "seed": 0, "statement": asdict(Statement()),
            "prompts": {"count": 4, "checksum": prompts_checksum(prompts)}}  # fmt: skip
    Run.start(folder / "certificate", info, prompts).write_facts("00000", FACTS)
    run = folder / "audit"
    return {
        "run.json": run / "run.json",
        "prompts": run / "prompts.parquet",
        "greedy draws": run / "draws" / "greedy-00000.parquet",
        "draws": run / "draws" / "sample-00000.parquet",
        "scores": run / "scores" / "rouge_l" / "sample-00000.parquet",
        "audit.json": run / "audit.json",
        "facts": folder / "certificate" / "facts" / "00000.json",
    }


def everything(folder: Path) -> str:
    """All that a reader of the folder is given."""
    run, facts = Run.open(folder / "audit"), Run.open(folder / "certificate").read_facts("00000")
    scored = [repr(pair) for part in run.parts for pair in run.read_scored(part, "rouge_l")]
    return repr((run.info, run.prompts, scored, Audit.load(folder / "audit"), json.dumps(facts)))


def main(flips: int) -> None:
    print(
        "| file | bytes | flips | refused | read, nothing changed | read, changed | tracebacks |\n" + "|---" * 7 + "|"
    )
    with tempfile.TemporaryDirectory() as temporary:
        files = whole(Path(temporary))
        right = everything(Path(temporary))
        for kind, file in files.items():
            rng, good = random.Random(f"flips/{kind}"), file.read_bytes()
            found = dict.fromkeys(("refused", "same", "changed", "traceback"), 0)
            for _ in range(flips):
                bit, bad = rng.randrange(8 * len(good)), bytearray(good)
                bad[bit // 8] ^= 1 << bit % 8
                file.write_bytes(bad)
                try:
                    found["same" if everything(Path(temporary)) == right else "changed"] += 1
                except LeakboundError:
                    found["refused"] += 1
                except Exception as error:
                    print(f"{kind}, bit {bit}: {error!r}", file=sys.stderr)
                    found["traceback"] += 1
            file.write_bytes(good)
            print(
                f"| {kind} | {len(good):,} | {flips:,} | {' | '.join(f'{n:,}' for n in found.values())} |", flush=True
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6000)
