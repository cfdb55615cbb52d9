"""The promises about the house itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import leakbound

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "leakbound"


def fresh(code):
    """What a fresh interpreter prints for the code."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return run.stdout.strip()


@pytest.mark.parametrize(
    "module",
    [
        "leakbound", "leakbound.bounds", "leakbound.scoring", "leakbound.runs.store", "leakbound.results.audit",
        "leakbound.auditing", "leakbound.report", "leakbound.cli", "leakbound.models", "leakbound.unlearning.config",
        "leakbound.reading.pairs", "leakbound.importing",
    ],
)  # fmt: skip
def test_nothing_loads_torch_before_it_is_needed(module):
    code = f"import {module}, sys; print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    assert fresh(code) == "[]"


def test_exports_are_complete_and_real():
    for name in leakbound.__all__:
        assert getattr(leakbound, name) is not None
    stub = ast.parse((SOURCE / "__init__.pyi").read_text())
    imported = {alias.name for node in ast.walk(stub) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(leakbound.__all__)


def test_every_public_error_is_exported():
    from leakbound import errors

    named = {k for k, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.LeakboundError)}
    assert named <= set(leakbound.__all__)


def test_the_readme_names_every_file_of_the_tree():
    readme = (ROOT / "README.md").read_text()
    for path in [*SOURCE.glob("[a-z]*.py"), *(p for p in SOURCE.iterdir() if (p / "__init__.py").exists())]:
        assert path.name in readme, f"README's tree does not name {path.name}"


def test_no_assert_guards_user_input():
    """An assert may only guard against our own mistakes: each one carries a comment that says why."""
    for file in SOURCE.rglob("*.py"):
        lines = file.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.Assert):
                assert "#" in lines[node.lineno - 1], f"{file}:{node.lineno}: an assert without its reason"
