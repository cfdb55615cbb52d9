"""``make tutorials``: run each notebook from its first cell, in an empty folder; an error in a cell is an error here.

What must hold on every processor is asserted in the notebooks; other digits may differ. With --write outputs are kept.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

parser = argparse.ArgumentParser()
parser.add_argument("names", nargs="*", help="privacy, research, ci; by default all")
parser.add_argument("--write", action="store_true")
given = parser.parse_args()


def joined(outputs):
    """What was printed as one output without colours; progress is left out: standard error, a line that was emptied."""
    kept = []
    for one in outputs:
        if one.get("name") == "stderr" or (one.output_type == "display_data" and not one.data):
            continue
        if kept and one.output_type == kept[-1].output_type == "stream":
            kept[-1]["text"] += one["text"]
        else:
            kept.append(one)
    for one in kept:
        if "text" in one:
            one["text"] = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", one["text"])
    return kept


os.environ.update(OMP_NUM_THREADS="1", COLUMNS="110", NO_COLOR="1", HF_HUB_OFFLINE="1")
os.environ["PYTHONPATH"] = os.pathsep.join([".", *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
for file in sorted(Path(__file__).parent.glob("*.ipynb")):
    if given.names and file.stem not in given.names:
        continue
    start, notebook = time.perf_counter(), nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
        text = nbformat.writes(notebook).replace(folder, "FOLDER")
    notebook = nbformat.reads(text, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same each time
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    print(f"{file.name}: {len(notebook.cells)} cells, {time.perf_counter() - start:.0f} s")
    if given.write:
        nbformat.write(notebook, file)
