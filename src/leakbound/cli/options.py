"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from leakbound.auditing.settings import Drawn, Flat, How

__all__ = ["Asked", "Drawn", "Flat", "Out"]

Out = Annotated[Path, Parameter(name=["--out", "-o"])]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked and what is claimed: the options that audit, sample and certify share."""

    prompts: str
    """JSON lines, CSV or Parquet with text (or question) and target (or answer); or a hub data set."""
    how: Annotated[How, Flat] = How()  # noqa: RUF009 - frozen

    def settings(self) -> dict[str, Any]:
        """The options by name, without the prompts."""
        return {field.name: getattr(self.how, field.name) for field in fields(self.how)}
