"""Write the demo's table, as its folder holds it, into the README and the pages that show it.

    leakbound demo && python benchmarks/demo_table.py runs/demo

On the machine that ran the demo: its processor, cores and versions, the date and the commit go into
docs/results/demo.json with every printed cell and sentence, and from there between the markers of each page. Without a
folder the pages are written again from docs/results/demo.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "results" / "demo.json"
BEGIN, END = "<!-- demo table: begin -->", "<!-- demo table: end -->"
LABELS = {
    "retrained": "retrained without the secrets",
    "grad_diff": "gradient difference",
    "simnpo": "SimNPO",
    "wga": "WGA",
    "satimp": "SatImp",
    "npo_kl": "NPO, KL on retain",
    "npo": "NPO",
    "npo_entropy": "NPO with entropy optimisation",
    "until": "NPO, in rounds until proven",
}
"""What the models are called for a reader."""


def read(folder):
    """The record of a demo's folder: what it printed, and where."""
    from leakbound.auditing.comparing import compare
    from leakbound.report.demo import HEADINGS, caption, demo_rows, sentences
    from leakbound.results.audit import Audit
    from leakbound.results.proof import Proof

    config = json.loads((folder / "demo.json").read_text(encoding="utf-8"))
    names = ("original", "retrained", *config["methods"])
    found = compare([folder / "runs" / n for n in names], retain=[folder / "retain" / n for n in names])
    audits = {n: Audit.load(folder / "runs" / n) for n in names}
    rows = demo_rows(found, audits)
    proof = Proof.load(folder / "models" / "until") if "until" in names else None
    run = audits["original"].run
    made = max((folder / "runs" / n / "audit.json").stat().st_mtime for n in names)
    return {
        "config": config,
        "head": list(HEADINGS),
        "rows": [list(row.cells()) for row in rows],
        "caption": caption(rows),
        "sentences": sentences(found, audits, config["methods"], proof),
        "machine": processor(),
        "cores": os.cpu_count(),
        "date": datetime.fromtimestamp(made, UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **run["versions"]},
        "commit": commit(),
    }


def processor():
    """The processor's name, as the system tells it."""
    file = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", file.read_text()) if file.exists() else []
    return " ".join(names[0].split()) if names else platform.processor() or platform.machine()


def commit():
    """The commit, and whether the tree differs from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def block(record):
    """The table with what belongs to it, as Markdown, between its markers."""
    head, *rows = record["head"], *record["rows"]
    cells = [[LABELS.get(row[0], row[0]), *row[1:]] for row in rows]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    versions = record["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "transformers") if name in versions)
    where = (
        f"Printed by `leakbound demo` and `benchmarks/demo_table.py` on {record['machine']}, {record['cores']} cores, "
        f"{record['date']}, commit {record['commit']}, {named}. Another processor gives other digits."
    )
    said = [record["caption"], *record["sentences"], where]
    return "\n".join([BEGIN, "", *lines, "", *(line for text in said for line in (text, "")), END])


def put(text, made):
    """A page with the block between its markers replaced."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + made + after


def pages():
    """The pages that have the markers."""
    some = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in some if BEGIN in page.read_text(encoding="utf-8")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="the demo's folder; default: the recorded table")
    parser.add_argument("--show", action="store_true", help="print the block and write nothing")
    args = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if args.folder is None else read(args.folder)
    if args.show:
        print(block(record))
        return
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for page in pages():
        page.write_text(put(page.read_text(encoding="utf-8"), block(record)), encoding="utf-8")
        print(f"written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
