"""Options that several commands share: one dataclass for each group, flattened on the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from leakbound.models.opening import BACKENDS, Loading
from leakbound.records import SamplingParams
from leakbound.scoring.table import scorer_names

Flat = Parameter(name="*")
Model = Annotated[
    str,
    Parameter(
        help="Folder or hub id of a causal language model (safetensors), http://HOST/v1#NAME for one behind a server, "
        "package:object for a sampler of your own, or BACKEND:NAME with one of " + ", ".join(BACKENDS)
    ),
]
Out = Annotated[Path, Parameter(name=["--out", "-o"])]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked and what is claimed: the options that audit, sample and certify share."""

    prompts: str
    """JSON lines, CSV or Parquet with text (or question) and target (or answer); or a hub data set."""
    scorer: Annotated[str, Parameter(help=f"{', '.join(scorer_names().values())}, or module:function.")] = "rouge_l"
    threshold: float = 0.5
    """A completion leaks when it scores this or more."""
    alpha: float = 0.01
    """The probability that a printed statement is false is at most this."""
    params: Annotated[SamplingParams, Flat] = SamplingParams()  # noqa: RUF009 - frozen
    seed: int = 0
    """All randomness of the draws."""
    template: str = "auto"
    """How a question becomes a prompt: auto, chat, raw, qa, or a text with {text}."""
    loading: Annotated[Loading, Flat] = Loading()  # noqa: RUF009 - frozen

    def settings(self) -> dict[str, Any]:
        """The options by name, without the prompts."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "prompts"}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How many draws: the options that audit and sample share."""

    num_samples: int = 1024
    """Draws for each prompt; with until or width, the most of them."""
    until: str | None = None
    """Stop drawing from a prompt when this is proven or refuted: leak<=0.01 or mean<=0.05."""
    width: float | None = None
    """Stop drawing from a prompt when its P(leak) is known within an interval of this width."""
    engine: str = "iid"
    """iid: independent draws; without-replacement: distinct completions with exact probabilities; auto: chosen for each
    prompt by its entropy, from 32 draws that are not judged."""
    draws_per_shard: int | None = None
    """The most draws of one prompt made at once, by default 65536: more are faster where answers repeat, and take more
    memory where they do not."""
