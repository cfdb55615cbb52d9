"""What the README, the docs and the examples claim is executed."""

import doctest
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SOURCE = ROOT / "src" / "leakbound"
SHOWING = [file for file in sorted(SOURCE.rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]
"""The modules with examples in their docstrings."""


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_and_are_short(example):
    assert len(example.read_text().splitlines()) < 40
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "with confidence 0.99" in done.stdout


@pytest.mark.parametrize("file", SHOWING, ids=lambda path: path.stem)
def test_examples_in_docstrings_are_true(file):
    name = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried
    assert not failed


def test_the_make_targets_that_are_named_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run"]:
        for target in re.findall(r"make ([a-z]+)\b", page.read_text()):
            if target not in ("and",):
                assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), (page.name, target)


def test_the_sentence_on_the_front_page_is_printed_by_the_library():
    from leakbound import proportion_bound

    bound = proportion_bound(0, 1024, alpha=0.01, estimand="P(h >= 0.5)")
    assert str(bound) in (ROOT / "docs" / "index.md").read_text().replace("\n> ", " ")


def test_the_pictures_are_those_that_their_script_draws_and_stand_on_the_front_page():
    script = (ROOT / "docs" / "pictures.py").read_text(encoding="utf-8")
    names = set(re.findall(r'"([a-z-]+\.png)"', script))
    assert names == {file.name for file in (ROOT / "docs" / "pictures").iterdir()}
    front = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[([^]]+)\]\(pictures/([a-z-]+\.png)#only-(?:light|dark)\)", front)
    assert {name for _, name in shown} == names
    assert all(re.search(r"\d", said) for said, _ in shown)


def test_the_release_says_one_version_and_asks_for_no_password():
    import leakbound

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == leakbound.__version__
    assert len(cited["references"]) == 3
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "environment" in jobs["publish"]
    assert not any("secrets." in file.read_text() for file in (ROOT / ".github/workflows").iterdir())
