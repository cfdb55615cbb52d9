"""A sampler that draws with vLLM's offline engine in this process, and tests its law on its first draws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from leakbound.errors import IncompleteRunError, InputError, ModelError
from leakbound.models.door import door
from leakbound.models.openai import ServedAnswer, draw_seed
from leakbound.models.requests import law_fields
from leakbound.models.template import chat_source, encode_prompt, resolve_template, tokenizer_checksum
from leakbound.models.vllm.engine import CONFIRMED, Engine
from leakbound.models.witness import Witness
from leakbound.records import Draw, Prompt, SamplingParams, Shard, check_count

AT_ONCE = 4096
"""Requests that the engine is given at a time: their tokens and log-probabilities are Python objects."""
ALPHA = 1e-4
"""How often an honest engine is refused, at most."""
APART = 0.1
"""Nats between the engine's log-probabilities and those of the weights, in the median, above which it is refused."""


@dataclass(frozen=True)
class Told:
    """One draw as the engine gave it: the end token is in ``tokens``, and has a log-probability like all of them."""

    tokens: tuple[int, ...]
    text: str
    finish_reason: str
    num_tokens: int
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class VLLMModel:
    """A folder of safetensors, a hub id or a LoRA adapter behind ``vllm.LLM``.

    **Draws.** One request for each draw, with a seed of its own: s + i for draw i, s from a hash of the run's seed and
    the prompt's id; the prompt's tokens, which are made here, are read once (prefix caching). Every parameter of the
    law is sent, also what is off; the model's generation_config.json counts for nothing but its end tokens, which are
    sent. Other batches are other roundings, so that the same seed may give another draw where a random number lies that
    near to a token's limit: an interrupted run ends with the same number of draws, not with the same bytes.

    **What is tested.** The first ``tested`` draws of each decoding, before they are returned: their tokens by the test
    martingale of ``leakbound attest`` (level ``ALPHA``) against the laws that transformers computes from the same
    weights on the CPU, and their log-probabilities by the median of the differences. ModelError where they are refuted.
    That the law holds beyond that is the engine's word.
    """

    reads_turns: ClassVar = True
    name: str
    template: str = "auto"
    revision: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    base: str | None = None
    tested: int = 32
    """How many of the first draws are tested; 0 tests none, and run.json says so."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of ``leakbound.models.vllm.engine.SETTINGS``: how the engine computes."""

    def __post_init__(self) -> None:
        check_count("tested", self.tested, least=0)
        _ = self.engine  # settings that could change the law go no further

    @cached_property
    def engine(self) -> Engine:
        """The engine; it is loaded when it is first asked."""
        return Engine(self.name, self.revision, self.dtype, self.trust_remote_code, self.base, self.settings)

    @cached_property
    def _template(self) -> str:
        return resolve_template(self.engine.tokenizer, self.template)

    def describe(self) -> dict[str, Any]:
        """The model's name, the checksum of its files, the engine with its version and flags, template, end tokens."""
        chat = "{text}" not in self._template
        date = self._template.partition("@")[2] if chat else ""
        adapter = (
            {}
            if self.engine.folders[1] is None
            else {"stored": "adapter, by LoRA", "base": str(self.engine.folders[0].name)}
        )
        return {
            "backend": "vllm",
            "model": self.name,
            "revision": self.revision,
            "checksum": self.engine.checksum,
            "tokenizer": tokenizer_checksum(self.engine.tokenizer),
            "engine": {"version": str(self.engine.vllm.__version__), **self.engine.flags},
            "template": chat_source(self.engine.tokenizer) if chat else self._template,
            **({"date": date} if date else {}),
            **adapter,
            "end_tokens": self.engine.ends,
            "tested_draws": self.tested,
        }

    def agreement(self, params: SamplingParams) -> dict[str, Any]:
        """What is ``sent``; all that the law depends on is, and the engine ``confirmed`` what it can."""
        _ = self.engine.llm
        return {
            "sent": self._fields(params),
            "not_sent": [],
            "confirmed": {name: self.engine.flags[name] for name in CONFIRMED},
        }

    def check(self, prompts: Sequence[Prompt], params: SamplingParams) -> None:
        """InputError for a prompt that leaves no room for ``params.max_tokens``, and for parameters that vLLM refuses:
        before the first draw."""
        self._params(params, 0)
        most = int(self.engine.llm.llm_engine.vllm_config.model_config.max_model_len)
        for prompt in prompts:
            if (size := len(self._head(prompt)) + params.max_tokens) > most:
                raise InputError(
                    f"prompt {prompt.id!r} and max_tokens are {size} tokens: the engine has room for {most}; give fewer"
                )

    def _head(self, prompt: Prompt) -> list[int]:
        return encode_prompt(self.engine.tokenizer, prompt.text, self._template, prompt.before)

    def _fields(self, params: SamplingParams) -> dict[str, Any]:
        """The parameters of every request, the seed aside, by vLLM's names."""
        law = law_fields("vllm", "completions", params, ("logit_bias",))
        return {
            **law,
            "stop": list(params.stop),
            "stop_token_ids": self.engine.ends,
            "n": 1,
            "ignore_eos": False,
            "min_tokens": 0,
            "logit_bias": None,
            "bad_words": None,
            "allowed_token_ids": None,
            "logprobs": 0,
            "prompt_logprobs": None,
            "detokenize": bool(params.stop),
            "skip_special_tokens": True,
            "include_stop_str_in_output": False,
        }

    def _params(self, params: SamplingParams, seed: int) -> Any:
        with door("vLLM refuses the decoding parameters"):
            return self.engine.vllm.SamplingParams(**self._fields(params), seed=seed)

    def sample(self, shard: Shard, params: SamplingParams) -> list[Draw]:
        """Draw ``shard.num_samples`` completions for each prompt; raises for anything but all of them."""
        size = 1 if params.greedy else shard.num_samples
        asked = [(p, i) for p in shard.prompts for i in range(shard.first, shard.first + size)]
        places: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        first: dict[tuple[str, tuple[int, ...]], Told] = {}
        for (prompt, i), told in self._draws(shard.seed, asked, params):
            same = range(i, i + (shard.num_samples if params.greedy else 1))
            places.setdefault((prompt.id, told.tokens), []).extend(same)
            first.setdefault((prompt.id, told.tokens), told)
        return [
            Draw(
                name,
                told.text,
                len(mine := places[name, tokens]),
                mine[0],
                told.finish_reason,
                told.num_tokens,
                0.0 if params.greedy else math.fsum(told.logprobs),
                tuple(mine),
            )
            for (name, tokens), told in first.items()
        ]

    def answers(self, seed: int, prompt: Prompt, start: int, n: int, params: SamplingParams) -> list[ServedAnswer]:
        """Draws ``start`` to ``start + n - 1`` of :meth:`sample` with their tokens."""
        told = self._draws(seed, [(prompt, i) for i in range(start, start + n)], params)
        return [ServedAnswer(one.text, one.finish_reason, one.tokens) for _, one in told]

    def _draws(
        self, seed: int, asked: Sequence[tuple[Prompt, int]], params: SamplingParams
    ) -> Iterator[tuple[tuple[Prompt, int], Told]]:
        """What the engine says, one request for each draw; the first of a decoding are tested before they are given."""
        heads = {prompt.id: self._head(prompt) for prompt, _ in asked}
        for start in range(0, len(asked), AT_ONCE):
            some = asked[start : start + AT_ONCE]
            with door(f"vLLM failed at draws of {len(heads)} prompts"):
                outputs = self.engine.llm.generate(
                    [{"prompt_token_ids": heads[prompt.id]} for prompt, _ in some],
                    [self._params(params, draw_seed(seed, prompt.id, i)) for prompt, i in some],
                    use_tqdm=False,
                    lora_request=self.engine.lora,
                )
            if len(outputs) != len(some):
                raise IncompleteRunError(f"vLLM gave {len(outputs)} outputs for {len(some)} requests")
            found = [
                self._read(f"prompt {prompt.id!r}, draw {i}", heads[prompt.id], output, params)
                for (prompt, i), output in zip(some, outputs, strict=True)
            ]
            if not params.greedy:
                self._test(some, found, params)
            yield from zip(some, found, strict=True)

    def _read(self, who: str, head: list[int], output: Any, params: SamplingParams) -> Told:
        """One output of the engine; IncompleteRunError where it is not one whole answer to this prompt."""
        if not output.finished or list(output.prompt_token_ids or ()) != head or len(output.outputs) != 1:
            raise IncompleteRunError(
                f"{who}: vLLM gave {len(output.outputs)} answers, or to another prompt; one is due"
            )
        one = output.outputs[0]
        tokens, steps = tuple(map(int, one.token_ids)), one.logprobs
        reason = one.finish_reason
        if reason not in ("stop", "length") or not tokens:
            raise IncompleteRunError(f"{who}: vLLM ended it by {reason!r} after {len(tokens)} tokens: it is no answer")
        if (
            steps is None
            or len(steps) != len(tokens)
            or any(t not in step for t, step in zip(tokens, steps, strict=True))
        ):
            raise IncompleteRunError(f"{who}: vLLM gave no log-probability for each of its {len(tokens)} tokens")
        logprobs = tuple(float(step[t].logprob) for t, step in zip(tokens, steps, strict=True))
        if not all(math.isfinite(x) and x < 1e-3 for x in logprobs):
            raise ModelError(f"{who}: vLLM gave log-probabilities that are none: {min(logprobs)} to {max(logprobs)}")
        ended = reason == "stop" and tokens[-1] in self.engine.ends
        spoken = list(tokens[:-1] if ended else tokens)
        text = str(self.engine.tokenizer.decode(spoken, skip_special_tokens=True))
        cuts = [at for at in (text.find(stop) for stop in params.stop) if at >= 0]
        if (reason == "length" and len(tokens) != params.max_tokens) or len(tokens) > params.max_tokens:
            raise IncompleteRunError(
                f"{who}: vLLM cut it after {len(tokens)} tokens, max_tokens is {params.max_tokens}"
            )
        if reason == "stop" and not ended and not cuts:
            raise IncompleteRunError(f"{who}: vLLM ended it at {one.stop_reason!r}, which is no end that was asked for")
        return Told(tokens, text[: min(cuts)] if cuts else text, "stop" if cuts else reason, len(spoken), logprobs)

    @cached_property
    def _witnesses(self) -> dict[SamplingParams, Witness]:
        return {}

    @cached_property
    def _known(self) -> Any:
        from leakbound.models.hf import HFModel

        common: Any = {"revision": self.revision, "trust_remote_code": self.trust_remote_code, "base": self.base}
        return HFModel.load(
            self.name, template=self._template, dtype=self.engine.flags["dtype"], device="cpu", **common
        )

    def _test(self, asked: Sequence[tuple[Prompt, int]], found: Sequence[Told], params: SamplingParams) -> None:
        """Add draws to those that are tested, until there are enough. ModelError where the law is refuted."""
        if self.tested == 0:
            return
        witness = self._witnesses.setdefault(params, Witness(self._known, params))
        of: dict[str, list[Told]] = {}
        prompts = {prompt.id: prompt for prompt, _ in asked}
        for (prompt, _), told in zip(asked, found, strict=True):
            of.setdefault(prompt.id, []).append(told)
        for turn, (name, mine) in enumerate(of.items()):
            left = self.tested - witness.law.answers
            some = mine[: -(-left // (len(of) - turn))]
            if not some:
                continue
            forced = witness.add(prompts[name], [told.tokens for told in some])
            theirs = np.concatenate([told.logprobs for told in some])
            apart = float(np.median(np.abs(theirs - np.concatenate([one.logprobs for one in forced]))))
            if witness.law.refuted(ALPHA) or apart > APART:
                raise ModelError(
                    f"model {self.name!r}: vLLM's draws are not from the law of these weights: after "
                    f"{witness.law.answers} draws the evidence is e^{witness.law.log_most:.1f} to 1, and looks like "
                    f"{witness.law.nearest}; its log-probabilities are {apart:.3f} nats from those of transformers"
                )
