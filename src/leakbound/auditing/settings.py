"""Settings that commands which draw share: a config holds one of these, and shows its options as its own."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from leakbound.models.opening import Loading
from leakbound.records import SamplingParams
from leakbound.scoring.table import scorer_names

Flat = Parameter(name="*")
"""Marks a group of settings whose options stand beside those of the config that holds it."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How a model is asked and what is claimed of it."""

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


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How many draws."""

    num_samples: int = 1024
    """Draws for each prompt; with until or width, the most of them."""
    until: str | None = None
    """Stop drawing from a prompt when this is proven or refuted: leak<=0.01 or mean<=0.05."""
    width: float | None = None
    """Stop drawing from a prompt when its P(leak) is known within an interval of this width."""
    engine: str = "iid"
    """iid: independent draws; counted: only how often each answer comes, any number of draws for the work of the
    distinct ones; without-replacement: distinct completions with exact probabilities; auto: chosen for each prompt by
    its entropy, from 32 draws that are not judged."""
    draws_per_shard: int | None = None
    """The most draws of one prompt made at once, by default 65536: more are faster where answers repeat, and take more
    memory where they do not."""
