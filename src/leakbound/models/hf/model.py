"""HFModel: a causal language model of transformers as Sampler, Likelihood and WhiteBox."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from leakbound.errors import InputError, ModelError
from leakbound.models.base import ForcedAnswer, Generation, Left, TokenLikelihood
from leakbound.models.hf.attested import forced_answers, in_four_bits
from leakbound.models.hf.counted import Branches
from leakbound.models.hf.faults import faults
from leakbound.models.hf.forward import Forward, Work
from leakbound.models.hf.gradients import answer_gradient_norms
from leakbound.models.hf.leaves import Leaf, Leaves
from leakbound.models.hf.likelihoods import answer_likelihoods, encode_all, forced_logprobs
from leakbound.models.hf.loading import config_checksum, load_model, load_tokenizer, weights_checksum
from leakbound.models.hf.packed import how_adapted, how_quantised, how_stored
from leakbound.models.hf.search import close_to, find_near, perturbed, search
from leakbound.models.hf.segments import Segment
from leakbound.models.hf.walk import Waiting, gather, numbered, roots
from leakbound.models.template import (
    OTHER_PROMPTS,
    chat_source,
    encode_pair,
    encode_prompt,
    other_prompts,
    resolve_template,
    tokenizer_checksum,
)
from leakbound.records import Branch, Draw, Prompt, SamplingParams, Shard, byte_count


@dataclass
class HFModel:
    """A causal language model of transformers.

    ``template`` says how a prompt becomes tokens (:mod:`leakbound.models.template`). ``batch_rows`` limits the rows of
    one forward pass; the default follows from the model's size. ``memory``: the bytes that weights, caches, logits and
    the rest of the process may take together (on a GPU: that are taken on it), by default half of what the process may
    still take; where there is no room for a batch, it is smaller. Other batches are other roundings, never another law:
    a draw may differ whose random number lies that near to a token's limit. One thread at a time: passes share caches.
    """

    reads_turns: ClassVar = True
    model: Any
    tokenizer: Any
    template: str = "auto"
    name: str = "in-memory"
    revision: str | None = None
    batch_rows: int | None = None
    memory: float | None = None
    stored: Mapping[str, Any] = field(default_factory=dict)
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        parts = ("forward", "config", "generation_config")  # what is not made to generate has no last
        encoder = getattr(getattr(self.model, "config", None), "is_encoder_decoder", False)
        if encoder or not all(hasattr(self.model, part) for part in parts):
            raise ModelError(
                f"model is a {type(self.model).__name__}{', an encoder with a decoder' if encoder else ''}: give a "
                "causal language model of transformers"
            )
        if self.tokenizer is None:
            raise ModelError("tokenizer is None: give the tokenizer of the model")
        if self.batch_rows is not None and self.batch_rows < 1:
            raise InputError(f"batch_rows is {self.batch_rows}: give a whole number >= 1")
        self.template = resolve_template(self.tokenizer, self.template)
        self.model.eval()
        ends = getattr(self.model.generation_config, "eos_token_id", None)
        ends = [ends] if isinstance(ends, int) else list(ends or [])
        self._forward = Forward(
            self.model, fill=self.tokenizer.pad_token_id, work=self.work, most_rows=self.batch_rows, memory=self.memory
        )
        known = range(self._forward.known)  # a tokenizer, or a configuration, may name an end that the model has not
        self._ends = sorted({end for end in (*ends, self.tokenizer.eos_token_id) if end in known})
        self._leaves = Leaves(self.tokenizer, self._ends, self.name)
        self._rounded: dict[str, Forward] = {}
        self._sure: dict[Any, NDArray[np.float64]] = {}

    @classmethod
    def load(
        cls,
        name: str,
        *,
        template: str = "auto",
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        device_map: str | None = None,
        trust_remote_code: bool = False,
        base: str | None = None,
        memory: str | None = None,
    ) -> HFModel:
        """The model and tokenizer of a folder, a hub id, a GGUF file or an adapter: :func:`load_model`."""
        common: Any = {"revision": revision, "trust_remote_code": trust_remote_code, "base": base}
        tokenizer = load_tokenizer(name, **common)
        model = load_model(name, dtype=dtype, device=device, device_map=device_map, **common)
        most = None if memory is None else byte_count("memory", memory)
        stored = how_quantised(model) | how_stored(name, base)
        return cls(model, tokenizer, template=template, name=name, revision=revision, memory=most, stored=stored)

    def describe(self) -> dict[str, Any]:
        """The model's name, checksums of weights, settings and tokenizer, number type, device type, template, ends."""
        self._forward.begun.clear()  # what is said of the weights must hold for what is drawn from now on
        self._sure, self._rounded = {}, {}
        chat = "{text}" not in self.template
        date = self.template.partition("@")[2] if chat else ""
        return {
            "backend": "transformers",
            "model": self.name,
            "revision": self.revision,
            "architecture": type(self.model).__name__,
            "checksum": weights_checksum(self.model),
            "config": config_checksum(self.model),
            "tokenizer": tokenizer_checksum(self.tokenizer),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "template": chat_source(self.tokenizer) if chat else self.template,
            **({"date": date} if date else {}),
            **self.stored,
            **how_adapted(self.model),
            "end_tokens": self._ends,
        }

    @torch.inference_mode()
    def check(self, prompts: Sequence[Prompt], params: SamplingParams) -> None:
        """ModelError for a prompt that the model cannot be asked, or that leaves no room for ``params.max_tokens``;
        InputError where the memory has no room for it."""
        self._forward.begin(self._encode(prompts, params.max_tokens), params.max_tokens)

    def sample(self, shard: Shard, params: SamplingParams) -> list[Draw]:
        """Draw ``shard.num_samples`` completions for each prompt; :mod:`leakbound.models.hf.walk` says how."""
        return self._draws(shard, self._walk(shard, params))

    def sample_more(self, shard: Shard, params: SamplingParams, left: Left) -> list[Draw]:
        """Some of the draws of :meth:`sample` that are ``left``: about ten seconds of work on a plain core.

        Which follows from the shard and what is left alone. Draws that begin alike are drawn together as far as they
        do, and those that are equal are one of the draws, as in :meth:`sample`.
        """
        return self._draws(shard, self._walk(shard, params, left, PIECE))

    def _draws(self, shard: Shard, leaves: list[Leaf]) -> list[Draw]:
        names = [p.id for p in shard.prompts]
        return [
            Draw(names[x.prompt], x.text, len(x.draws), places[0], x.finish_reason, x.num_tokens, x.logprob, places)
            for x in leaves
            if (places := x.places(shard.first))
        ]

    def generations(self, shard: Shard, params: SamplingParams) -> list[list[Generation]]:
        """The draws of :meth:`sample` with their tokens, for each prompt of the shard."""
        out: list[list[Generation]] = [[] for _ in shard.prompts]
        for leaf in self._walk(shard, params):
            out[leaf.prompt].append(leaf.generation(shard.first))
        return out

    def confidence(self, prompts: Sequence[Prompt], params: SamplingParams) -> NDArray[np.float64]:
        """How sure the model is of its greedy answers: the mean probability of their tokens; (len(prompts),) in [0, 1].

        Tokens of one greedy decode up to ``params.max_tokens`` or a stop string, end token included; probabilities at
        temperature 1 without filters; rounded to 6 decimals, so that batching does not decide. Our reading of the
        adaptive temperature of arXiv 2410.03523, whose formula was not found.
        """
        greedy = SamplingParams(temperature=0, max_tokens=params.max_tokens, stop=params.stop)
        answers = self._walk(Shard(tuple(prompts), 0, 1, 0), greedy)
        heads = self._encode(prompts)
        forced = forced_logprobs(self._forward, self._leaves, heads, [x.tokens for x in answers], SamplingParams())
        return np.round([float(np.exp(x).mean()) for x in forced], 6)

    def _decodings(
        self, prompts: Sequence[Prompt], params: SamplingParams
    ) -> list[tuple[SamplingParams, list[int], list[Prompt]]]:
        """The decodings of the prompts, with whose they are: greedy where the model is sure, if prompts decide."""
        if not params.adaptive_temperature or params.adaptive_mode != "prompt":
            return [(params, list(range(len(prompts))), list(prompts))]
        usual = replace(params, adaptive_temperature=0.0)
        key = (tuple(prompts), usual, self._forward.weights())
        if key not in self._sure:
            self._sure = {key: self.confidence(prompts, usual)}  # the next piece of a shard asks again
        sure = self._sure[key] >= params.adaptive_temperature
        both = ((replace(usual, temperature=0.0), sure), (usual, ~sure))
        groups = [(decoding, np.flatnonzero(group).tolist()) for decoding, group in both]
        return [(decoding, places, [prompts[i] for i in places]) for decoding, places in groups if places]

    @torch.inference_mode()
    def _walk(
        self, shard: Shard, params: SamplingParams, left: Left | None = None, seconds: float = math.inf
    ) -> list[Leaf]:
        """The leaves of a shard, by prompt and first draw; with ``seconds`` some of those that are left."""
        every = range(shard.first, shard.first + shard.num_samples)
        leaves: list[Leaf] = []
        for decoding, places, some in self._decodings(shard.prompts, params):
            numbers = [every if left is None else left.get(p.id, ()) for p in some]
            draws = [np.array(mine, dtype=np.int64) - shard.first for mine in numbers]
            if (leaves and seconds < math.inf) or not any(map(len, draws)):
                continue
            begun = self._roots(some, decoding, draws)
            grow = numbered(replace(shard, prompts=tuple(some)), self._forward.budget.room)
            found = gather(Waiting(self._forward, begun), self._leaves, grow, decoding, seconds)
            leaves += [replace(x, prompt=places[x.prompt]) for x in found]
        return sorted(leaves, key=lambda leaf: (leaf.prompt, leaf.draws[0]))

    @torch.inference_mode()
    def count(self, shard: Shard, params: SamplingParams, open: Sequence[Branch]) -> tuple[list[Draw], list[Branch]]:
        """Some of the draws that ``open`` holds, only counted: :class:`~leakbound.models.base.Counting`."""
        names, draws, left = [p.id for p in shard.prompts], list[Draw](), list[Branch]()
        for decoding, _, some in self._decodings(shard.prompts, params):
            ids = [p.id for p in some]
            mine = [(ids.index(b.prompt_id), b) for b in open if b.prompt_id in ids]
            if draws or not mine:
                left += [b for _, b in mine]
                continue
            branches = Branches(replace(shard, prompts=tuple(some)), mine)
            counts = np.bincount([i for i, _ in mine], minlength=len(some))
            begun = self._roots(some, decoding, [np.zeros(min(c, 1), dtype=np.int64) for c in counts])
            waiting = Waiting(self._forward, [branches.begin(root) for root in begun])
            found = gather(waiting, self._leaves, branches.grow, decoding, SITTING)
            draws += [Draw(ids[x.prompt], x.text, x.count, 0, x.finish_reason, x.num_tokens, x.logprob) for x in found]
            left += [b for _, b in branches.left(waiting.left)]
        return draws, sorted(left, key=lambda b: (names.index(b.prompt_id), b.tokens))

    @torch.inference_mode()
    def distinct(
        self, prompts: Sequence[Prompt], most: int, params: SamplingParams, seed: int
    ) -> list[list[Generation]]:
        """For each prompt up to ``most`` distinct completions, drawn without replacement, in the order drawn.

        Each is drawn from P restricted to those not drawn before it; fewer than ``most`` come back only if that is all
        of them. A larger ``most`` begins with the same completions. :func:`leakbound.models.hf.search.perturbed`.
        """
        out: list[list[Generation]] = [[] for _ in prompts]
        for decoding, places, some in self._decodings(prompts, params):
            found = search(
                self._forward,
                self._roots(some, decoding),
                self._leaves,
                decoding,
                most=most,
                rank=perturbed(some, seed),
                find=partial(self._leaves.find, params=decoding),
            )
            for i, leaves in found.items():
                out[places[i]] = [leaf.generation() for leaf in leaves]
        return out

    def target_tokens(self, prompt: Prompt, text: str) -> tuple[int, ...]:
        """The tokens of a target as an answer to the prompt, without the end token."""
        return tuple(encode_pair(self.tokenizer, prompt.text, text, self.template, prompt.before)[1][:-1])

    def logprobs(
        self, prompts: Sequence[Prompt], sequences: Sequence[Sequence[int]], params: SamplingParams
    ) -> NDArray[np.float64]:
        """log P(the completion's tokens begin with sequences[i] | prompts[i]) under the deployed law; (len(prompts),).

        Minus infinity for what this decoding never gives: longer than max_tokens, filtered out, behind an end token or
        behind a stop string. In nats, by teacher forcing.
        """
        values = np.zeros(len(prompts))
        for decoding, places, some in self._decodings(prompts, params):
            heads = self._encode(some)
            tails = [sequences[i] for i in places]
            forced = forced_logprobs(self._forward, self._leaves, heads, tails, decoding)
            values[places] = [float(x.sum()) for x in forced]
        for i, sequence in enumerate(sequences):
            if len(sequence) > params.max_tokens or set(sequence[:-1]) & set(self._ends):
                values[i] = -math.inf
            elif params.stop and len(sequence):
                texts = self._leaves.texts([list(sequence[:k]) for k in range(1, len(sequence))])
                if any(stop in text for text in texts for stop in params.stop):
                    values[i] = -math.inf
        return values

    @torch.inference_mode()
    def near_verbatim(
        self,
        prompts: Sequence[Prompt],
        targets: Sequence[Sequence[int]],
        distances: Sequence[int],
        params: SamplingParams,
        width: int = 32,
    ) -> list[list[Generation]]:
        """Beginnings of completions within ``distances[i]`` token edits of ``targets[i]``, by a constrained beam.

        A beginning is as long as the target, or shorter if the completion ends there; no two begin one another, so
        the sum of their probabilities is at most P(the beginning is that close). ``width``: how many are kept.
        """
        out: list[list[Generation]] = [[] for _ in prompts]
        for decoding, places, some in self._decodings(prompts, params):
            mine, near = [targets[i] for i in places], [distances[i] for i in places]
            find = partial(find_near, leaves=self._leaves, targets=mine, distances=near, params=decoding)
            rank = close_to(mine, near, self._ends)
            roots = self._roots(some, decoding)
            found = search(self._forward, roots, self._leaves, decoding, most=width, rank=rank, find=find)
            for i, leaves in found.items():
                out[places[i]] = [leaf.generation() for leaf in leaves]
        return out

    @torch.inference_mode()
    def loglikelihood(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> NDArray[np.float64]:
        """log P(completion, end-of-text | prompt) at temperature 1, in nats, by teacher forcing; (len(prompts),)."""
        if len(prompts) != len(completions):
            raise InputError(
                f"completions has {len(completions)} entries for {len(prompts)} prompts: give one for each"
            )
        pairs = zip(prompts, completions, strict=True)
        encoded = [encode_pair(self.tokenizer, p.text, c, self.template, p.before) for p, c in pairs]
        heads, tails = [head for head, _ in encoded], [tail for _, tail in encoded]
        forced = forced_logprobs(self._forward, self._leaves, heads, tails, SamplingParams())
        return np.array([float(x.sum()) for x in forced])

    def answer_likelihoods(
        self, questions: Sequence[str], answers: Sequence[Sequence[str]]
    ) -> list[list[TokenLikelihood]]:
        """The likelihoods of ``answers[i]``, any number of answers to ``questions[i]``, at temperature 1.

        A question is read once for all its answers: :mod:`leakbound.models.hf.likelihoods`.
        """
        heads, tails = encode_all(self.tokenizer, self.template, questions, answers)
        return answer_likelihoods(self._forward, heads, tails)

    def answer_gradient_norms(self, questions: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
        """The L2 norm, over all parameters, of the gradient of each answer's mean loss; (len(questions),)."""
        heads, tails = encode_all(self.tokenizer, self.template, questions, [[answer] for answer in answers])
        return answer_gradient_norms(self._forward, heads, [tail for (tail,) in tails])

    @property
    def vocabulary(self) -> int:
        """How many tokens the model has laws of."""
        return self._forward.vocabulary

    def attested(
        self,
        prompt: Prompt,
        answers: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        slack: float,
        earlier: Mapping[tuple[int, ...], int] | None = None,
        without: frozenset[str] = frozenset(),
    ) -> list[ForcedAnswer]:
        """Answers that a server gave to a prompt, under the stated law and those of named faults; none empty.

        Faults: other decoding parameters, the same weights behind other templates, and (of small models) in 4 bits;
        each of the latter reads them again, but for those ``without``; and what ``earlier`` answers let expect.
        """
        head = encode_prompt(self.tokenizer, prompt.text, self.template, prompt.before)
        others = {
            name: (self._forward, other)
            for name, other in other_prompts(self.tokenizer, prompt.text, self.template, prompt.before).items()
            if name not in without
        }
        copies = in_four_bits(self._forward, self._rounded, without)
        others |= {name: (other, head) for name, other in copies.items()}
        laws, ends, known = faults(params, self._ends), self._ends, earlier or {}
        found = forced_answers(self._forward, head, answers, ends, params, laws, others, known, slack=slack)
        never = dict.fromkeys(OTHER_PROMPTS, 0.0)  # the list is the same for all prompts, so that weights are fixed
        return [replace(answer, factors=never | dict(answer.factors)) for answer in found]

    def with_end(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The tokens of an answer that ended, with its end token, which some servers leave out.

        InputError where it is left out and could be one of several.
        """
        if not self._ends or (tokens and tokens[-1] in self._ends):
            return tuple(tokens)
        if len(self._ends) > 1:
            raise InputError(
                f"a server leaves out the token that ended its answer, and {self.name} has {len(self._ends)} of them: "
                "which one it was is not known"
            )
        return (*tokens, self._ends[0])

    def _encode(self, prompts: Sequence[Prompt], new_tokens: int = 0) -> list[list[int]]:
        """The prompts as tokens; ModelError names one that the model cannot read with so many new tokens behind it."""
        encoded = [encode_prompt(self.tokenizer, p.text, self.template, p.before) for p in prompts]
        for prompt, ids in zip(prompts, encoded, strict=True):
            self._forward.check(f"prompt {prompt.id!r}", ids, new_tokens)
        return encoded

    def _roots(
        self, prompts: Sequence[Prompt], params: SamplingParams, draws: Sequence[NDArray[np.int64]] | None = None
    ) -> list[Segment]:
        """The prompts with their draws, as what waits first."""
        encoded = self._encode(prompts, params.max_tokens)
        self._forward.begin(encoded, params.max_tokens)
        return roots(self._forward, encoded, draws)


PIECE = 6.0
"""Nominal seconds of passes after which no more rows are begun; those that are go on to their end."""
SITTING = 120.0
"""The same where draws are only counted: what waits then has to be reached again, token by token."""
