"""A sampler for any server that speaks the OpenAI protocol: vLLM, transformers serve, llama.cpp, a hosted model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from leakbound.errors import IncompleteRunError, InputError, ModelError
from leakbound.records import Draw, Prompt, SamplingParams, Shard, check_count
from leakbound.server import Server

UNKNOWN_TOKENS = -1
"""``num_tokens`` where the server does not say how long each of several completions is."""
_SEEDS = 2**53
"""Seeds are below this, so that every JSON reader keeps them exact."""


@dataclass(frozen=True)
class OpenAIModel:
    """A model behind an OpenAI-compatible server: ``leakbound.audit(OpenAIModel(url, "name"), prompts)``.

    **What it cannot promise.** That the draws are independent and follow the decoding parameters is the server's word:
    it is not computed here, as it is for :class:`~leakbound.models.hf.HFModel`. Every statement made from these draws
    assumes it. Known to break it: a seed that the server fixes for all requests, a response cache, a batch of ``n``
    that repeats one completion, hidden defaults for top-k or penalties, a filter that withholds answers. Nor does the
    same seed give the same draws again on most servers, so that an interrupted run ends with the same number of draws,
    not with the same bytes.

    **What it does.** Draw i of a prompt belongs to seed s + i, s from a hash of the run's seed and the prompt's id. A
    request for draws i to i + n - 1 sends s + i: vLLM gives its j-th choice the seed s + i + j, so no two draws of a
    prompt share a seed whether a server counts seeds on or not. A request that fails, gives fewer choices than were
    asked for, or an answer that the server withheld raises: no draw is ever dropped. Decoding parameters that the
    protocol cannot carry raise.
    """

    base_url: str
    """With the version, for example http://localhost:8000/v1."""
    model: str = ""
    """The model's id at the server; may be left out where the server has just one."""
    server: Literal["vllm", "openai", "other"] = "other"
    """vllm: top_k and min_p are sent, and penalties and other hidden defaults switched off. openai: newer names."""
    api: Literal["chat", "completions"] = "chat"
    """chat: the prompt is a user's message in the server's chat template. completions: the prompt is sent as it is."""
    system: str = ""
    """System message of a chat."""
    reasoning: Literal["raise", "keep", "drop"] = "raise"
    """Where the server splits a reasoning text off: keep it before the answer, drop it unjudged, or raise."""
    per_request: int = 32
    """Completions of one request (``n``); 1 for servers that know no n."""
    concurrency: int = 8
    """Requests at a time."""
    timeout: float = 600.0
    retries: int = 5
    api_key_env: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        for name in ("per_request", "concurrency"):
            check_count(name, getattr(self, name), least=1)
        for name, known in (
            ("server", ("vllm", "openai", "other")),
            ("api", ("chat", "completions")),
            ("reasoning", ("raise", "keep", "drop")),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}: give {', '.join(known)}")
        if self.system and self.api == "completions":
            raise InputError(f"system is {self.system!r}, but api completions has no messages: put it into the prompts")

    @classmethod
    def from_url(cls, url: str) -> OpenAIModel:
        """The model that ``URL#NAME`` or ``URL`` names, for example http://localhost:8000/v1#my-model."""
        base_url, _, name = url.partition("#")
        return cls(base_url, name)

    @cached_property
    def door(self) -> Server:
        """Where the model is asked."""
        return Server(self.base_url, self.api_key_env, self.timeout, self.retries)

    @cached_property
    def served(self) -> str:
        """The model's id as the server has it. ModelError where it has none of that name."""
        try:
            with self.door.asked("list of models") as client:
                names = [card.id for card in client.models.list()]
        except ModelError:
            if self.model:
                return self.model  # some servers have no list
            raise
        if self.model in names or (not self.model and len(names) == 1):
            return self.model or str(names[0])
        raise ModelError(
            f"model is {self.model!r}: {self.base_url} serves {', '.join(map(repr, names)) or 'nothing'}; give one of "
            "these"
        )

    def describe(self) -> dict[str, Any]:
        """Backend, the served model's id, and everything else that the draws' law depends on."""
        own = {name: getattr(self, name) for name in ("base_url", "server", "api", "system", "reasoning")}
        return {"backend": "openai", "model": self.served, **own, "independence": "as the server promises"}

    def sample(self, shard: Shard, params: SamplingParams) -> list[Draw]:
        """Draw through the server; IncompleteRunError or ModelError for anything but all the completions."""
        options = {**self._options(params), "model": self.served}
        size = 1 if params.greedy else shard.num_samples
        starts = range(shard.first, shard.first + size, self.per_request)
        asked = [
            (p, start, min(self.per_request, shard.first + size - start)) for p in shard.prompts for start in starts
        ]
        with ThreadPoolExecutor(self.concurrency) as pool:
            found = [pool.submit(self._request, shard.seed, *item, options) for item in asked]
            try:
                answers = [answer.result() for answer in found]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        known = params.greedy or self.per_request == 1  # some servers sort the choices of a request by likelihood
        places: dict[tuple[str, str, str], list[int]] = {}
        lengths: dict[tuple[str, str, str], int] = {}
        for (prompt, start, _), texts in zip(asked, answers, strict=True):
            for i, (text, reason, tokens) in enumerate(texts, start):
                same = range(i, i + (shard.num_samples if params.greedy else 1))
                places.setdefault((prompt.id, text, reason), []).extend(same)
                lengths[prompt.id, text, reason] = tokens
        return [
            Draw(
                name,
                text,
                len(mine),
                mine[0],
                reason,
                lengths[name, text, reason],
                None,
                tuple(mine) if known else None,
            )
            for (name, text, reason), mine in places.items()
        ]

    def _options(self, params: SamplingParams) -> dict[str, Any]:
        """The request's decoding parameters. InputError for one that the server would not honour."""
        if params.adaptive_temperature:
            raise InputError("adaptive_temperature is set: a server does not show its confidence; leave it at 0")
        hidden = {name: getattr(params, name) for name in ("top_k", "min_p") if getattr(params, name)}
        if hidden and self.server != "vllm":
            raise InputError(
                f"{' and '.join(f'{k} is {v}' for k, v in hidden.items())}: the OpenAI protocol has no such parameter, "
                'and a server may ignore it unseen; leave it at 0, or give server="vllm"'
            )
        if len(params.stop) > 4 and self.server != "vllm":
            raise InputError(f"stop has {len(params.stop)} texts: the OpenAI protocol takes at most 4")
        limit = "max_completion_tokens" if self.server == "openai" and self.api == "chat" else "max_tokens"
        options: dict[str, Any] = {"temperature": params.temperature, "top_p": params.top_p, limit: params.max_tokens}
        if params.stop:
            options["stop"] = list(params.stop)
        if self.server == "vllm":  # what is left out comes from the model's generation_config.json there
            options["extra_body"] = {"top_k": params.top_k or -1, "min_p": params.min_p, "repetition_penalty": 1.0}
            options |= {"presence_penalty": 0.0, "frequency_penalty": 0.0}
        return options

    def _request(
        self, seed: int, prompt: Prompt, start: int, n: int, options: dict[str, Any]
    ) -> list[tuple[str, str, int]]:
        """Draws ``start`` to ``start + n - 1`` of a prompt: text, finish reason and tokens of each."""
        common = {**options, "n": n, "seed": draw_seed(seed, prompt.id, start)}
        with self.door.asked(f"prompt {prompt.id!r}, draws {start} to {start + n - 1},") as client:
            if self.api == "completions":
                reply = client.completions.create(prompt=prompt.text, **common)
            else:
                system = [{"role": "system", "content": self.system}] if self.system else []
                messages = [*system, {"role": "user", "content": prompt.text}]
                reply = client.chat.completions.create(messages=messages, **common)
        choices: Sequence[Any] = reply.choices or ()
        if len(choices) != n:
            raise IncompleteRunError(
                f"prompt {prompt.id!r}: the server gave {len(choices)} completions for n = {n}; give per_request=1 if "
                "it does not know n"
            )
        tokens = getattr(reply.usage, "completion_tokens", None) if n == 1 and reply.usage is not None else None
        return [self._read(choice, prompt, tokens) for choice in choices]

    def _read(self, choice: Any, prompt: Prompt, tokens: int | None) -> tuple[str, str, int]:
        if choice.finish_reason not in ("stop", "length"):
            raise IncompleteRunError(
                f"prompt {prompt.id!r}: the server ended a completion with finish_reason {choice.finish_reason!r}: "
                "what the model would have said is withheld, so this draw failed and no statement can be made"
            )
        text = (choice.text if self.api == "completions" else choice.message.content) or ""
        if self.api == "chat":
            said = getattr(choice.message, "reasoning_content", None) or getattr(choice.message, "reasoning", None)
            if said and self.reasoning == "raise":
                raise InputError(
                    f"prompt {prompt.id!r}: the server splits a reasoning text off, which would not be judged; give "
                    'reasoning="keep" to judge it before the answer, or "drop" to make a statement about answers alone'
                )
            text = f"{said}\n{text}" if said and self.reasoning == "keep" else text
        return text, str(choice.finish_reason), UNKNOWN_TOKENS if tokens is None else int(tokens)


def draw_seed(seed: int, prompt_id: str, draw: int) -> int:
    """The seed of one draw: a hash of (seed, prompt id), plus the draw's number. No two draws of a prompt share one."""
    digest = hashlib.blake2b(f"server|{seed}|{prompt_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + draw) % _SEEDS
