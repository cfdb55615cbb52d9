"""Plug-ins and importers against the real packages: ``make neighbours``, in an environment of its own.

Elsewhere these tests are not collected. Each writes a row of docs/results/neighbours.md through the fixture ``row``.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest

OUT = Path(os.environ["NEIGHBOURS"]).absolute() if "NEIGHBOURS" in os.environ else None  # absolute: some tests move
"""The folder for the rows; it is given by ``make neighbours`` alone."""
collect_ignore_glob = [] if OUT else ["test_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.neighbours)


@pytest.fixture
def row(request):
    """``row(package, what_was_run, what_came_out)``: a line of the table; the test that writes it has passed.

    What does not stand in the tests' environment needs its version, the fourth.
    """
    found = []
    yield lambda package, ran, came, which=None: found.append([package, which or version(package), ran, came])
    failed = getattr(request.node, "failed", False)
    for number, one in enumerate(() if failed else found):
        file = OUT / f"{request.path.stem}-{request.node.name}-{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(one) + "\n")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    item.failed = getattr(item, "failed", False) or report.failed
