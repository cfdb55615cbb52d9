"""The protocols that a model back end may implement. A Sampler is enough for an audit; a WhiteBox can be certified."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from leakbound.errors import InputError, ModelError
from leakbound.records import Branch, Draw, Prompt, SamplingParams, Shard


@runtime_checkable
class Sampler(Protocol):
    """Something that draws completions.

    ``sample`` returns, for each prompt of the shard in order, its distinct completions with counts that sum to
    ``shard.num_samples``, and in ``places`` which of the draws gave each: the order in which they were generated.
    Without places, statements use bounds that need no order. The draws are independent and identically distributed
    given the prompt, and the result is a pure function of the model, the shard and the parameters. With
    ``params.greedy`` every draw is the same. A sampler that cannot honour a parameter raises.
    A draw that fails raises: a sampler never drops one.

    ``describe`` names the model for run.json: at least ``model`` and, where there are weights, their ``checksum``. Two
    samplers with equal descriptions must draw from the same law.
    """

    def sample(self, shard: Shard, params: SamplingParams) -> list[Draw]:
        """Draw ``shard.num_samples`` completions for each prompt of the shard."""

    def describe(self) -> dict[str, Any]:
        """Name the model: JSON-able, the same for the same law."""


Left = Mapping[str, Sequence[int]]
"""The numbers of a shard's draws that are not made yet, ascending, by the id of their prompt, where there are any."""


@runtime_checkable
class Gradual(Sampler, Protocol):
    """A sampler that can stop on the way, so that what is drawn by then can be kept."""

    def sample_more(self, shard: Shard, params: SamplingParams, left: Left) -> list[Draw]:
        """Some of the draws of :meth:`sample` that are ``left``, none only where there are no more, with their places.

        A completion comes with all of its draws. A pure function of the model, the shard, the parameters and what is
        left.
        """
        ...


def in_pieces(
    sampler: Sampler, shard: Shard, params: SamplingParams, known: Sequence[Draw] = ()
) -> Iterator[tuple[list[Draw], bool]]:
    """The draws of a shard that are not known, piece by piece, and whether a piece is the last one."""
    if not isinstance(sampler, Gradual):
        yield sampler.sample(shard, params), True
        return
    left = {p.id: set(range(shard.first, shard.first + shard.num_samples)) for p in shard.prompts}

    def take(draws: Iterable[Draw]) -> int:
        for draw in draws:
            left.get(draw.prompt_id, set()).difference_update(draw.places or ())
        return sum(map(len, left.values()))

    before, last = take(known), False
    while not last:
        more = sampler.sample_more(shard, params, {name: sorted(some) for name, some in left.items() if some})
        now = take(more)
        given = sum(draw.count for draw in more)
        if given != before - now or (now and not given):
            raise ModelError(
                f"{type(sampler).__name__}.sample_more gives {given} draws, {before - now} of the {before} that are "
                "left: mend it"
            )
        before, last = now, not now
        yield more, last


@runtime_checkable
class Counting(Sampler, Protocol):
    """A sampler that can count independent draws without drawing each."""

    def count(self, shard: Shard, params: SamplingParams, open: Sequence[Branch]) -> tuple[list[Draw], list[Branch]]:
        """Some of the draws that begin as ``open`` says, by distinct completion, without places; and what is open then.

        None are open at the end; at the beginning all draws of each prompt, with no tokens. All calls together give
        counts that are distributed as those of ``shard.num_samples`` independent draws of each prompt. A pure function
        of the model, the shard, the parameters and what is open.
        """
        ...


@runtime_checkable
class Remote(Sampler, Protocol):
    """A sampler whose law is carried out by somebody else, who is told of it and may confirm it."""

    def agreement(self, params: SamplingParams) -> dict[str, Any]:
        """JSON-able: what is ``sent``, what is ``not_sent``, and what was ``confirmed``; the same for the same law."""


@runtime_checkable
class Likelihood(Protocol):
    """Something that gives exact log-likelihoods at temperature 1."""

    def loglikelihood(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> NDArray[np.float64]:
        """log P(completion, end-of-text | prompt) in nats, one for each pair; shape (len(prompts),)."""


@runtime_checkable
class Checked(Protocol):
    """Something that knows before the first draw which prompts it cannot be asked."""

    def check(self, prompts: Sequence[Prompt], params: SamplingParams) -> None:
        """InputError that names the first prompt that cannot be drawn from with these parameters."""


def check_asked(sampler: Sampler, prompts: Sequence[Prompt], params: SamplingParams) -> None:
    """InputError for prompts that the sampler cannot be asked. Who reads ``before`` says ``reads_turns``."""
    told = next((prompt for prompt in prompts if prompt.before), None)
    if told is not None and not getattr(sampler, "reads_turns", False):
        raise InputError(
            f"prompt {told.id!r} has {len(told.before)} messages before it, and {type(sampler).__name__} does not say "
            "that it reads them: give it reads_turns = True, or write the conversation into the text"
        )
    if isinstance(sampler, Checked):
        sampler.check(prompts, params)


@dataclass(frozen=True)
class TokenLikelihood:
    """One answer after one question, by teacher forcing at temperature 1; T = its tokens, end token included.

    ``logprobs``: log p of each token in nats, (T,); ``greedy``: whether it is the likeliest one, (T,); ``mean`` and
    ``std``: sum_v p_v log p_v and the standard deviation of log p_v under p, of each token's law over the vocabulary,
    (T,): what min-k++ (arXiv 2404.02936) standardises with.
    """

    logprobs: NDArray[np.float64]
    greedy: NDArray[np.bool_]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @property
    def loss(self) -> float:
        """The mean of -logprobs, in nats per token."""
        return float(-self.logprobs.mean())


@dataclass(frozen=True)
class Generation:
    """One distinct token sequence of a completion, with its exact probability.

    ``tokens`` include the end token where there is one; ``num_tokens`` does not count it. ``logprob``: log P of the
    tokens under the deployed decoding, in nats. ``count`` and ``places``: how many draws gave it, and which.
    Different sequences may have the same text.
    """

    tokens: tuple[int, ...]
    text: str
    finish_reason: str
    num_tokens: int
    logprob: float
    count: int = 1
    places: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ForcedAnswer:
    """An answer that somebody else gave, under the laws of this model: log p of its tokens under the stated law, (T,),
    and for each named alternative the logarithm of its evidence (:mod:`leakbound.bounds.attested`)."""

    logprobs: NDArray[np.float64]
    factors: Mapping[str, float]


@runtime_checkable
class WhiteBox(Sampler, Protocol):
    """A sampler that shows its law: exact probabilities of completions, and draws without replacement."""

    def generations(self, shard: Shard, params: SamplingParams) -> list[list[Generation]]:
        """The draws of ``sample`` with their tokens, for each prompt of the shard."""

    def distinct(
        self, prompts: Sequence[Prompt], most: int, params: SamplingParams, seed: int
    ) -> list[list[Generation]]:
        """Up to ``most`` distinct completions of each prompt, drawn without replacement, in the order drawn."""

    def target_tokens(self, prompt: Prompt, text: str) -> tuple[int, ...]:
        """The tokens of a target as an answer to the prompt, without the end token."""

    def logprobs(
        self, prompts: Sequence[Prompt], sequences: Sequence[Sequence[int]], params: SamplingParams
    ) -> NDArray[np.float64]:
        """log P(the completion's tokens begin with sequences[i] | prompts[i]) under the deployed decoding."""

    def near_verbatim(
        self,
        prompts: Sequence[Prompt],
        targets: Sequence[Sequence[int]],
        distances: Sequence[int],
        params: SamplingParams,
        width: int = 32,
    ) -> list[list[Generation]]:
        """Beginnings of completions within so many token edits of the targets, none a beginning of another."""


def prefix_free(sequences: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The sequences that no other one begins: to begin with one of them is to begin with one of all."""
    distinct = sorted({s for s in sequences if s}, key=lambda s: (len(s), s))
    kept: list[tuple[int, ...]] = []
    for sequence in distinct:
        if not any(sequence[: len(other)] == other for other in kept):
            kept.append(sequence)
    return kept
