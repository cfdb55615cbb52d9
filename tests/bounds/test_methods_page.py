"""docs/methods.md names every public function, and only files and tests that exist."""

import importlib
import re
from pathlib import Path

import leakbound.bounds as bounds

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
INDEX = PAGE[PAGE.index("## Index") : PAGE.index("## Not offered")]


def test_every_public_function_is_in_the_index():
    plurals = INDEX.replace("(s)`", "` ").replace("_bound(s)", "_bound")
    functions = {name for name in bounds.__all__ if name[0].islower()} - {"final_verdict"}
    missing = {name for name in functions if name not in plurals and name.removesuffix("s") not in plurals}
    assert not missing


def test_every_public_name_is_a_door_of_the_reference_page():
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    doors = re.findall(r"::: (leakbound\.bounds\.[a-z.]+)(?:\n    options: \{members: \[([^]]*)\]\})?", page)
    shown = {"Bound", "SurvivalBand"} if ("leakbound.bounds.result", "") in doors else set()
    for module, members in doors:
        for name in filter(None, members.split(", ")):
            assert getattr(importlib.import_module(module), name).__module__ == module  # it stands where it is shown
            shown.add(name)
    assert set(bounds.__all__) <= shown, set(bounds.__all__) - shown


def test_every_file_and_test_exists():
    there = {path.name for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")}
    named = set(re.findall(r"[a-z_]+\.py", PAGE))
    assert named
    assert named <= there, named - there


def test_every_link_within_the_page_leads_somewhere():
    heads = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).strip().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    heads = {re.sub("-+", "-", h) for h in heads}
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", PAGE)) <= heads
