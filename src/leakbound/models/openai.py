"""A sampler for any server that speaks the OpenAI protocol: vLLM, transformers serve, llama.cpp, a hosted model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from leakbound.errors import IncompleteRunError, InputError, LeakboundError, ModelError
from leakbound.models.repeats import check_independent
from leakbound.models.requests import (
    KINDS,
    Kind,
    check_not_sent,
    contradicted,
    law_fields,
    may_be_left_out,
    read_choice,
    unsent,
)
from leakbound.records import Draw, Prompt, SamplingParams, Shard, check_count
from leakbound.server import Refused, Server

UNKNOWN_TOKENS = -1
"""``num_tokens`` where the server does not say how long each of several completions is."""
_MOST_TOKENS = 2**31
"""No answer is as long: a number of tokens from here on is none."""
_SEEDS = 2**53
"""Seeds are below this, so that every JSON reader keeps them exact."""
_LLAMA_SEEDS = 2**32 - 1
"""llama.cpp keeps 32 bits of a seed, and the largest means: any."""
_ABOUT_N = re.compile(r"\bn\b|\bbest_of\b")
_QUESTION = Prompt("first request", "What is the capital of France?", "Paris")
"""What a server is asked before the first draw; the answers are not judged."""
_FEW = 16
"""From so many draws on a prompt is asked in two requests at least."""
_MAY_DEPEND = (400, 403, 422)
"""Refusals that a guard gives also for what the model has said."""


@dataclass(frozen=True)
class ServedAnswer:
    """One answer of a server: its text, why it ended, and its tokens where the server gives them."""

    text: str
    finish_reason: str
    tokens: tuple[int, ...] | None


@dataclass(frozen=True)
class OpenAIModel:
    """A model behind an OpenAI-compatible server: ``leakbound.audit(OpenAIModel(url, "name"), prompts)``.

    **What it cannot promise.** That the draws are independent and follow the decoding parameters is the server's word:
    it is not computed here, as it is for :class:`~leakbound.models.hf.HFModel`. Every statement made from these draws
    assumes it. Known to break it: a seed that the server fixes for all requests, a response cache, a batch of ``n``
    that repeats one completion (these three are refused where they show), hidden defaults for top-k or penalties, a
    filter that withholds answers. Nor does the same seed give the same draws again on most servers, so that an
    interrupted run ends with the same number of draws, not with the same bytes.

    **What it does.** Draw i of a prompt belongs to seed s + i, s from a hash of the run's seed and the prompt's id. A
    request for draws i to i + n - 1 sends s + i: vLLM and llama.cpp give the j-th choice the seed s + i + j, so no two
    draws of a prompt share a seed whether a server counts seeds on or not. A server that takes fewer choices at a time,
    which a first question shows, is asked for fewer, with the same seeds. Every parameter of the law is sent, also what
    is off, for servers have defaults of their own; one that is not sent is named in run.json. A request that fails, or
    an answer that the server withheld, raises: no draw is ever dropped.
    """

    reads_turns: ClassVar = True
    base_url: str
    """With the version, for example http://localhost:8000/v1."""
    model: str = ""
    """The model's id at the server; may be left out where the server has just one."""
    server: Kind = "other"
    """What is sent, and by which names: vllm, llama.cpp; openai: only what that protocol has, so that top_k, min_p and
    the repetition penalty are the server's; other: every name that is known."""
    api: Literal["chat", "completions"] = "chat"
    """chat: the prompt is a user's message in the server's chat template. completions: the prompt is sent as it is."""
    system: str = ""
    """System message of a chat."""
    reasoning: Literal["raise", "keep", "drop"] = "raise"
    """Where the server splits a reasoning text off: keep it before the answer, drop it unjudged, or raise."""
    per_request: int = 32
    """The most completions of one request (``n``); lowered to what the server takes."""
    not_sent: tuple[str, ...] = ()
    """Parameters, asked to be off, that this server refuses: they are not sent, and run.json says so."""
    concurrency: int = 8
    """Requests at a time."""
    timeout: float = 600.0
    retries: int = 5
    api_key_env: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        for name in ("per_request", "concurrency"):
            check_count(name, getattr(self, name), least=1)
        for name, known in (
            ("server", KINDS),
            ("api", ("chat", "completions")),
            ("reasoning", ("raise", "keep", "drop")),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}: give {', '.join(known)}")
        if self.system and self.api == "completions":
            raise InputError(f"system is {self.system!r}, but api completions has no messages: put it into the prompts")
        check_not_sent(self.server, self.not_sent)
        _ = self.door  # an address that holds a password goes no further

    @classmethod
    def from_url(cls, url: str, **settings: Any) -> OpenAIModel:
        """The model that ``URL#NAME`` or ``URL`` names, for example http://localhost:8000/v1#my-model."""
        base_url, _, name = url.partition("#")
        return cls(base_url, name, **settings)

    @cached_property
    def door(self) -> Server:
        """Where the model is asked."""
        return Server(self.base_url, self.api_key_env, self.timeout, self.retries, draws=True)

    @cached_property
    def _most(self) -> list[int]:
        """How many completions the server gives at a time: one number, lowered when it turns out to be fewer."""
        return [self.per_request]

    @cached_property
    def _names(self) -> set[str]:
        """By which names the model has answered."""
        return set()

    @cached_property
    def served(self) -> str:
        """The model's id as the server has it. ModelError where it has none of that name."""
        try:
            cards = self.door.ask("list of models", "/models").get("data") or []
            names = [card.get("id") for card in cards if isinstance(card, dict)]
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

    def check(self, prompts: Sequence[Prompt], params: SamplingParams) -> None:
        """InputError for a conversation where this door has no place for one; learns how many answers a request gets.

        That is learnt from a question that is not judged: to ask again for fewer because a draw was refused, or left
        out, would choose by what it said.
        """
        for prompt in prompts:
            if prompt.before and self.api == "completions":
                raise InputError(f"prompt {prompt.id!r} has messages before it, and api completions has none: use chat")
            if prompt.before and prompt.before[0][0] == "system" and self.system:
                raise InputError(f"prompt {prompt.id!r} has a system message of its own: leave system out")
        while self._most[0] > 1 and not self._takes(self._most[0], params):
            self._most[0] //= 2

    def _takes(self, n: int, params: SamplingParams) -> bool:
        """Whether the server gives ``n`` answers at a time; where it gives fewer, it is asked for one."""
        try:
            if len(self._first(n, self._options(params))["choices"]) < n:
                self._most[0] = 1
        except Refused as error:
            if _ABOUT_N.search(error.said):
                return False
            raise
        return True

    def _first(self, n: int, options: dict[str, Any]) -> dict[str, Any]:
        """The answer to the first question. ModelError that names the parameters which a refusal is about."""
        try:
            return self.ask(0, _QUESTION, 0, n, options)
        except Refused as error:
            names = [name for name in may_be_left_out(self.server) if re.search(rf"\b{name}\b", error.said)]
            if not names:
                raise
            raise ModelError(
                f"{error}. If it does not know {' and '.join(names)}: give --not-sent {' --not-sent '.join(names)}, or "
                "--server openai, and the statement is about the server's own setting of it"
            ) from error

    def agreement(self, params: SamplingParams) -> dict[str, Any]:
        """What is ``sent``, what is ``not_sent``, and what the server ``confirmed`` of it when asked once.

        :raises ModelError: the server reports that it decodes otherwise.
        """
        sent = law_fields(self.server, self.api, params, self.not_sent)
        llama = self.server == "llama.cpp"
        reply = self._first(1, {**self._options(params), **({"verbose": True} if llama else {})})
        _ = [read_choice(choice, _QUESTION.id, self.api, self.reasoning) for choice in self._all(reply, _QUESTION, 1)]
        confirmed = {name: reply[name] for name in ("model", "system_fingerprint") if reply.get(name)}
        if llama:
            told = reply.get("__verbose")
            settings = told.get("generation_settings") if isinstance(told, dict) else None
            settings = settings if isinstance(settings, dict) else {}
            if wrong := contradicted(sent, settings):
                raise ModelError(f"{self.base_url} decodes otherwise than it was told: it reports {'; '.join(wrong)}")
            try:
                props = self.door.ask("properties", self.base_url.rstrip("/").removesuffix("/v1") + "/props")
            except ModelError:
                props = {}  # some hide them
            confirmed |= {name: props[name] for name in ("build_info", "model_ftype") if name in props}
            if "chat_template" in props:
                confirmed["chat_template"] = hashlib.sha256(str(props["chat_template"]).encode()).hexdigest()
            confirmed["settings"] = {name: settings[name] for name in sent if name in settings}
        return {"sent": sent, "not_sent": unsent(self.server, self.not_sent), "confirmed": confirmed}

    def sample(self, shard: Shard, params: SamplingParams) -> list[Draw]:
        """Draw through the server; IncompleteRunError or ModelError for anything but all the completions."""
        options = self._options(params)
        size = 1 if params.greedy else shard.num_samples
        alone = _FEW <= size <= self.per_request  # two requests show whether the answers to one are too much alike
        most = -(-size // 2) if alone else self.per_request
        starts = range(shard.first, shard.first + size, most)
        asked = [(p, start, min(most, shard.first + size - start)) for p in shard.prompts for start in starts]
        with ThreadPoolExecutor(self.concurrency) as pool:
            found = [pool.submit(self._request, shard.seed, *item, options) for item in asked]
            try:
                answers = [answer.result() for answer in found]
            except BaseException as error:
                pool.shutdown(wait=True, cancel_futures=True)
                failed = [one.exception() for one in found if one.done() and not one.cancelled()]
                told = [one for one in failed if isinstance(one, LeakboundError) and one.of_answer]
                if told and error not in told:  # a line that broke as well must not hide it
                    raise told[0] from error
                raise
        known = all(alone for _, alone in answers)  # some servers sort the choices of a request by likelihood
        lists: dict[str, list[tuple[str, ...]]] = {}
        for (prompt, _, _), (texts, _) in zip(asked, answers, strict=True):
            lists.setdefault(prompt.id, []).append(tuple(text for text, _, _ in texts))
        check_independent(lists)
        places: dict[tuple[str, str, str], list[int]] = {}
        lengths: dict[tuple[str, str, str], int] = {}
        for (prompt, start, _), (texts, _) in zip(asked, answers, strict=True):
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
        """What all requests share. InputError for a parameter that the server would not honour."""
        return {**law_fields(self.server, self.api, params, self.not_sent), "model": self.served}

    def _request(
        self, seed: int, prompt: Prompt, start: int, n: int, options: dict[str, Any]
    ) -> tuple[list[tuple[str, str, int]], bool]:
        """Draws ``start`` to ``start + n - 1``: text, finish reason and tokens of each; and whether each came alone."""
        found: list[tuple[str, str, int]] = []
        alone = True
        for reply in self._replies(seed, prompt, start, n, options):
            single, usage = len(reply["choices"]) == 1, reply.get("usage")
            tokens = usage.get("completion_tokens") if single and isinstance(usage, dict) else None
            length = tokens if isinstance(tokens, int) and 0 <= tokens < _MOST_TOKENS else UNKNOWN_TOKENS
            found += [(*self._read(one, prompt), length) for one in reply["choices"]]
            alone &= single
        return found, alone

    def answers(self, seed: int, prompt: Prompt, start: int, n: int, params: SamplingParams) -> list[ServedAnswer]:
        """Draws ``start`` to ``start + n - 1`` as :meth:`sample` asks for them, with their tokens if it says them.

        llama.cpp leaves tokens that end within a character out of its log-probabilities, and says all of them only of
        the first choice of a request: it is asked for one at a time.
        """
        options, read = self._options(params), partial(self._read, prompt=prompt, judged=False)  # its tokens are tested
        if self.server == "llama.cpp":
            options |= {"return_tokens": True, "verbose": True}
            with ThreadPoolExecutor(self.concurrency) as pool:
                told = list(pool.map(lambda i: self._draw(seed, prompt, i, 1, options), range(start, start + n)))
            return [ServedAnswer(*read(one["choices"][0]), raw_tokens(one)) for one in told]
        options["logprobs"] = True if self.api == "chat" else 1
        if self.server == "vllm":
            options["return_tokens_as_token_ids"] = True
        replies = self._replies(seed, prompt, start, n, options)
        return [ServedAnswer(*read(one), token_ids(one)) for reply in replies for one in reply["choices"]]

    def _replies(
        self, seed: int, prompt: Prompt, start: int, n: int, options: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """The server's answers for draws ``start`` to ``start + n - 1``, as many of them at a time as it takes."""
        end = start + n
        while start < end:
            n = min(self._most[0], end - start)
            yield self._draw(seed, prompt, start, n, options)
            start += n

    def _draw(self, seed: int, prompt: Prompt, start: int, n: int, options: dict[str, Any]) -> dict[str, Any]:
        """:meth:`ask` for draws that are judged. What is refused is never asked for in another way."""
        try:
            reply = self.ask(seed, prompt, start, n, options)
        except Refused as error:
            if error.status not in _MAY_DEPEND:
                raise
            raise IncompleteRunError(
                f"{error}; this may be about what the model said, so these draws failed and no statement can be made"
                f"{_about_n(n, error.said)}"
            ).as_of_answer() from error
        self._all(reply, prompt, n)
        return reply

    def _all(self, reply: dict[str, Any], prompt: Prompt, n: int) -> list[Any]:
        """The choices of an answer, which are ``n``."""
        choices: list[Any] = reply["choices"]
        if len(choices) != n:
            raise IncompleteRunError(
                f"prompt {prompt.id!r}: the server gave {len(choices)} completions for n = {n}: which are given may "
                f"depend on what they say, so no statement can be made{_about_n(n)}"
            ).as_of_answer()
        return choices

    def _read(self, choice: Any, prompt: Prompt, *, judged: bool = True) -> tuple[str, str]:
        try:
            return read_choice(choice, f"prompt {prompt.id!r}", self.api, self.reasoning, judged=judged)
        except LeakboundError as error:
            error.of_answer = True
            raise

    def ask(self, seed: int, prompt: Prompt, start: int, n: int, options: dict[str, Any]) -> dict[str, Any]:
        """The server's answer for draws ``start`` to ``start + n - 1`` with its choices, as they are, however many.

        :raises Refused: the server will not; IncompleteRunError or ModelError for anything else.
        """
        below = _LLAMA_SEEDS if self.server == "llama.cpp" else _SEEDS
        body = {**options, "n": n, "seed": draw_seed(seed, prompt.id, start, below)}
        body = {name: value for name, value in body.items() if name not in self.not_sent}
        if self.api == "completions":
            path, body["prompt"] = "/completions", prompt.text
        else:
            system = [{"role": "system", "content": self.system}] if self.system else []
            path, body["messages"] = "/chat/completions", [*system, *prompt.messages()]
        who = f"prompt {prompt.id!r}, draws {start} to {start + n - 1},"
        reply = self.door.ask(who, path, body)
        self._names.add(str(reply.get("model")))
        if len(self._names) > 1:
            raise IncompleteRunError(
                f"{who} at {self.base_url}: another model answers: {sorted(self._names)}; give one"
            )
        choices = reply.get("choices")
        return {**reply, "choices": choices if isinstance(choices, list) else []}


def _about_n(n: int, said: str = "n") -> str:
    """The remedy where a server may not take so many answers at a time."""
    return (
        f"; if it takes fewer than {n} answers at a time, give --per-request 1"
        if n > 1 and _ABOUT_N.search(said)
        else ""
    )


def token_ids(choice: dict[str, Any]) -> tuple[int, ...] | None:
    """The tokens of a choice by the numbers that vLLM gives in their place beside log-probabilities; None without."""
    logprobs = choice.get("logprobs") or {}
    listed = logprobs.get("content") or logprobs.get("tokens")  # of a chat, of a completion
    told = [str(entry.get("token") if isinstance(entry, dict) else entry) for entry in listed or ()]
    numbers = [one.removeprefix("token_id:") for one in told if one.startswith("token_id:")]
    known = isinstance(listed, list) and len(numbers) == len(told) and all(map(str.isdecimal, numbers))
    return tuple(map(int, numbers)) if known else None


def raw_tokens(reply: dict[str, Any]) -> tuple[int, ...] | None:
    """The tokens of the first choice as llama.cpp gives them when asked for them; None without."""
    told = (reply.get("__verbose") or {}).get("tokens")
    return tuple(told) if isinstance(told, list) and told and all(isinstance(t, int) and t >= 0 for t in told) else None


def draw_seed(seed: int, prompt_id: str, draw: int, below: int = _SEEDS) -> int:
    """The seed of one draw: a hash of (seed, prompt id), plus the draw's number. No two draws of a prompt share one."""
    digest = hashlib.blake2b(f"server|{seed}|{prompt_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + draw) % below
