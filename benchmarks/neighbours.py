"""The table of docs/results/neighbours.md, from what the tests of ``make neighbours`` wrote: one row a test.

make neighbours && python benchmarks/neighbours.py runs/neighbours > docs/results/neighbours.md
"""

import json
import sys
from pathlib import Path

HEAD = """# Neighbours

Each row is a test in `tests/neighbours` that ran the package itself, written by that test: `make neighbours`, then
`make neighbours-heavy`, then `python benchmarks/neighbours.py runs/neighbours > docs/results/neighbours.md`. How to use
each: [Neighbours](../neighbours.md).

| package | version | what was run | what came out |
|---|---|---|---|"""


def main(folder):
    rows = sorted(json.loads(file.read_text()) for file in Path(folder).glob("*.json"))
    print(HEAD)
    for row in rows:
        print("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |")


if __name__ == "__main__":
    main(sys.argv[1])
