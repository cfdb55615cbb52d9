"""For all tests: no network, fast tests first, and the shared data where they are."""

import functools
import gc
import os
import signal
import ssl
import sys
import types
from pathlib import Path

import hypothesis
import pytest

from leakbound.report import document

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: more threads only get in each other's way
ssl.create_default_context = functools.cache(ssl.create_default_context)  # else each client reads all certificates
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and its children would
os.fsync = lambda handle: None  # no test cuts the power, and what is written survives kill -9 without it

hypothesis.settings.register_profile("leakbound", deadline=None, derandomize=True)  # seeded; timing fails no test
hypothesis.settings.load_profile("leakbound")


def pytest_collection_modifyitems(config, items):
    """Fast ones first. Of several workers each begins with its part and takes the end of another's when it is done: the
    long ones are first in theirs, so that no worker is left alone with one."""

    def late(item):
        return bool(item.get_closest_marker("slow")) * (2 - bool(item.get_closest_marker("trains")))

    items.sort(key=late, reverse=hasattr(config, "workerinput"))  # stable


def pytest_collection_finish():
    if optional := sys.modules.get("accelerate.utils.imports"):  # looks for a package on the disk twice a step
        optional._is_package_available = functools.cache(optional._is_package_available)
    if memory := sys.modules.get("accelerate.utils.memory"):  # collects before every training: a tenth of a small one
        memory.gc = types.SimpleNamespace(collect=int)
    gc.freeze()  # no collection looks through all of torch


@pytest.fixture(scope="module", autouse=True)
def _sketched(request):
    """Pictures are drawn at one width and not rendered, most of the time of a small audit: only files marked
    ``renders`` have them rendered, and for telephones too."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("renders") is None:
            patch.setitem(document._template().environment.filters, "svg", _sketch)
        yield


def _sketch(picture, width):
    if width != "narrow":
        picture.draw(document.WIDE if width == "wide" else document.NARROW)
    return "<svg></svg>"


@pytest.fixture(scope="session")
def data_folder():
    """The shared data: $LEAKBOUND_DATA, or ../shared/data beside the project."""
    named = os.environ.get("LEAKBOUND_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set LEAKBOUND_DATA")
    return folder
