"""JailbreakBench on hand-made files in the layout of the real ones."""

import csv

import pytest

from leakbound.errors import PromptsError
from leakbound.suites.jailbreakbench import jailbreakbench

COLUMNS = ("Index", "Goal", "Target", "Behavior", "Category", "Source")


def test_jailbreakbench_from_its_csv_files(tmp_path):
    for kind in ("harmful", "benign"):
        with (tmp_path / f"{kind}-behaviors.csv").open("w", newline="", encoding="utf-8") as file:
            write = csv.writer(file)
            write.writerow(COLUMNS)
            write.writerow((0, f"Do a {kind} thing, now", "Sure, here it is", "Thing", "Category", "Original"))
    found = jailbreakbench(tmp_path)
    (prompt,) = found.prompts("forget")
    assert (prompt.id, prompt.text, prompt.target) == (
        "harmful:1",
        "Do a harmful thing, now",
        "Do a harmful thing, now",
    )
    assert found.retain[0].answer == "Sure, here it is"
    with (tmp_path / "benign-behaviors.csv").open("a", encoding="utf-8") as file:
        file.write('1,"Do a benign thing, now",Sure,Thing,Category,Original\n')
    with pytest.raises(PromptsError, match=r"benign-behaviors\.csv, line 3: the Goal 'Do a benign thing, now' stood"):
        jailbreakbench(tmp_path)
