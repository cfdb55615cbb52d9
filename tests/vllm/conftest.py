"""vLLM's own engine on the processor: ``make vllm``, in an environment of its own. Elsewhere nothing is collected.

``VLLM_RECORD=FILE`` keeps what the engine said, which tests/models/test_vllm.py reads without it.
"""

import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/vllm/" in item.path.as_posix():
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.filterwarnings("default"))  # what vLLM is warned of is vLLM's to mend
