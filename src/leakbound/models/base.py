"""The two protocols that a model back end may implement. One method each is the whole contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from leakbound.records import Draw, Prompt, SamplingParams, Shard


@runtime_checkable
class Sampler(Protocol):
    """Something that draws completions.

    ``sample`` returns, for each prompt of the shard in order, its distinct completions with counts that sum to
    ``shard.num_samples``. The draws are independent and identically distributed given the prompt, and the result is a
    pure function of the model, the shard and the parameters. With ``params.greedy`` every draw is the same.
    A draw that fails raises: a sampler never drops one.

    ``describe`` names the model for run.json: at least ``model`` and, where there are weights, their ``checksum``. Two
    samplers with equal descriptions must draw from the same law.
    """

    def sample(self, shard: Shard, params: SamplingParams) -> list[Draw]:
        """Draw ``shard.num_samples`` completions for each prompt of the shard."""
        ...

    def describe(self) -> dict[str, Any]:
        """Name the model: JSON-able, the same for the same law."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """Something that gives exact log-likelihoods at temperature 1."""

    def loglikelihood(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> NDArray[np.float64]:
        """log P(completion, end-of-text | prompt) in nats, one for each pair; shape (len(prompts),)."""
        ...
