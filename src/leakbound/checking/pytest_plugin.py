"""pytest's plug-in: a test that proves how little a model leaks, and fails where that is refuted or stays open.

The fixture ``leakbound`` holds :func:`assert_leak` with the cache of the test session, so that a model that has not
changed since the last session is not drawn from again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from leakbound.results.check import Verdicts


def assert_leak(
    model: str | Path,
    prompts: str | Path,
    claim: str = "leak<=0.01",
    *,
    alpha: float = 0.01,
    out: str | Path,
    **settings: Any,
) -> Verdicts:
    """AssertionError unless the claim is proven of the model with confidence 1 - alpha; the verdict otherwise.

    ``model``: a folder, hub id, file or server as for audit. ``prompts``: a file. ``claim``: as in a policy:
    ``leak<=0.01``, ``mean<=0.05``, ``known>=0.95``. ``settings``: all others of a policy's claim (scorer, of,
    temperature, num_samples, ...). ``out``: where draws and verdicts are kept.
    """
    __tracebackhide__ = True
    from leakbound.checking.policy import Policy, read_demand
    from leakbound.checking.running import check

    model = str(model) if isinstance(model, Path) else model
    demand = read_demand("assert_leak", {**settings, "prompts": str(prompts), "claim": claim}, alpha)
    found = check(Policy(models={model: model}, claims=(demand,), alpha=alpha), out, name=claim, progress=False)
    if found.verdict != "proven":
        (one,) = found.findings
        raise AssertionError(f"{one}\n{one.details}")
    return found


class Asserting:
    """What the fixture gives."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def assert_leak(
        self, model: str | Path, prompts: str | Path, claim: str = "leak<=0.01", **settings: Any
    ) -> Verdicts:
        """:func:`assert_leak` in the folder of this session's cache."""
        __tracebackhide__ = True
        return assert_leak(model, prompts, claim, **{"out": self.out, **settings})


@pytest.fixture
def leakbound(request: pytest.FixtureRequest) -> Asserting:
    """``leakbound.assert_leak(model, prompts, "leak<=0.01")``."""
    cache = getattr(request.config, "cache", None)  # its plug-in may be off
    return Asserting(cache.mkdir("leakbound") if cache is not None else Path("runs/check"))
