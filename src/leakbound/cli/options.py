"""Options that several commands share."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from leakbound.auditing.settings import Drawn, Flat, How
from leakbound.models.opening import BACKENDS
from leakbound.reading.prompts import load_prompts, with_system
from leakbound.records import Prompt
from leakbound.runs.places import place

__all__ = ["Asked", "Drawn", "Flat", "Model", "Out"]

Model = Annotated[
    str,
    Parameter(
        help="Folder or hub id of a causal language model (safetensors), http://HOST/v1#NAME for one behind a server, "
        "package:object for a sampler of your own, or BACKEND:NAME with one of " + ", ".join(BACKENDS)
    ),
]
Out = Annotated[Path, Parameter(name=["--out", "-o"], converter=lambda _, tokens: place(tokens[0].value))]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked and what is claimed: the options that audit, sample and certify share."""

    prompts: str
    """JSON lines, CSV or Parquet with text (or question, or messages) and target (or answer); or a hub data set."""
    system: str = ""
    """A system message before every prompt."""
    how: Annotated[How, Flat] = How()  # noqa: RUF009 - frozen

    def questions(self) -> str | tuple[Prompt, ...]:
        """What is asked."""
        return with_system(load_prompts(self.prompts), self.system) if self.system else self.prompts

    def settings(self) -> dict[str, Any]:
        """The options by name, without the prompts."""
        return {field.name: getattr(self.how, field.name) for field in fields(self.how)}
