"""A study is a folder and a line: the command, its options and its help follow from its settings."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cyclopts import App

from leakbound.cli.studying import command_of, study
from leakbound.report.parts import Document
from leakbound.studies import STUDIES


@dataclass(frozen=True)
class Toy:
    """How a toy behaves."""

    seeds: int = 4
    """Repetitions."""


def test_a_line_is_a_command(monkeypatch, capsys):
    steps = ModuleType("leakbound.studies.toy.steps")
    steps.report = lambda config, workers: (
        Document("Toy", (f"{config.seeds} seeds and {workers.workers} workers say so.",)),
        Path("toy/report.html"),
    )
    monkeypatch.setitem(sys.modules, steps.__name__, steps)
    app = App(result_action="return_value")
    app.command(command_of("toy", Toy), name="toy")
    app(["toy", "--seeds", "7", "--workers", "2"])
    assert capsys.readouterr().out == "Toy. 7 seeds and 2 workers say so.\nreport: toy/report.html\n"
    app(["toy", "--help"])
    shown = capsys.readouterr().out
    assert "How a toy behaves." in shown
    assert "Repetitions." in shown


def test_every_folder_is_in_the_table_and_a_command():
    import leakbound.studies

    folders = {file.parent.name for file in Path(leakbound.studies.__file__).parent.glob("*/steps.py")}
    assert set(STUDIES) == folders
    assert folders <= set(study)
