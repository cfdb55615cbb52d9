"""Studies: experiments over several models. Each is a folder here, a line in STUDIES, and so a command."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakbound.runs.progress import keeping
from leakbound.studies.distribution.config import DistributionConfig
from leakbound.workers import Workers

if TYPE_CHECKING:
    from leakbound.report.parts import Document

STUDIES: dict[str, type[Any]] = {"distribution": DistributionConfig}
"""A folder's name -> its settings, a dataclass whose docstring is the command's help; its steps.py has ``report``."""


def run_study(name: str, config: Any, workers: Workers | None = None) -> tuple[Document, Path]:
    """Run a study of STUDIES and write its files; what it says, and its page."""
    with keeping(lambda: f"what was complete is kept in {config.out}"):
        found: tuple[Document, Path] = import_module(f"{__name__}.{name}.steps").report(config, workers)
    return found
