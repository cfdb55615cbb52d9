"""Causal language models of transformers, with our own sampling engine.

The engine walks the tree of token prefixes. All draws of a prompt start in one row; at every step each draw picks its
next token with a uniform number of its own (:mod:`leakbound.models.randomness`), and draws that picked the same token
go on as one row. One forward pass per distinct prefix therefore gives exactly n independent draws, finished draws
leave the batch at once, and how the rows are batched changes nothing but rounding.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from leakbound.errors import InputError, ModelError
from leakbound.models import loading
from leakbound.models.randomness import uniforms
from leakbound.models.template import encode_answer, encode_prompt, resolve_template
from leakbound.records import Draw, Prompt, SamplingParams, Shard

LOGITS_PER_BATCH = 2**26
"""The largest number of logits computed at once: rows in a batch times vocabulary size."""


@dataclass(frozen=True)
class _Row:
    """A distinct prefix: whose it is, which draws share it, its new tokens and their log-probability."""

    prompt: int
    draws: NDArray[np.int64]
    tokens: tuple[int, ...]
    logprob: float


@dataclass
class _Batch:
    """Rows of one depth that go through the model together.

    ``cache`` is the parents' cache and ``parents`` the parent of each row in it; ``ids`` are the tokens that the model
    has not seen yet, (rows, 1), or the prompts left-padded where there is no cache. ``mask``: (rows, tokens so far).
    """

    rows: list[_Row]
    ids: torch.Tensor
    mask: torch.Tensor
    cache: Cache | None = None
    parents: torch.Tensor | None = None

    def split(self, size: int) -> Iterator[_Batch]:
        for i in range(0, len(self.rows), size):
            part = slice(i, i + size)
            parents = None if self.parents is None else self.parents[part]
            yield _Batch(self.rows[part], self.ids[part], self.mask[part], self.cache, parents)


@dataclass
class Work:
    """What sampling has cost so far: forward passes, rows through the model, draws made."""

    passes: int = 0
    rows: int = 0
    draws: int = 0


@dataclass
class HFModel:
    """A causal language model of transformers as Sampler and Likelihood.

    ``template`` says how a prompt becomes tokens (:mod:`leakbound.models.template`). ``batch_rows`` limits the rows of
    one forward pass; the default follows from the vocabulary size, and memory that runs out halves the batch.
    """

    model: Any
    tokenizer: Any
    template: str = "auto"
    name: str = "in-memory"
    revision: str | None = None
    batch_rows: int | None = None
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        if not callable(getattr(self.model, "forward", None)) or not hasattr(self.model, "config"):
            raise ModelError(f"model is a {type(self.model).__name__}: give a causal language model of transformers")
        if self.tokenizer is None:
            raise ModelError("tokenizer is None: give the tokenizer of the model")
        if self.batch_rows is not None and self.batch_rows < 1:
            raise InputError(f"batch_rows is {self.batch_rows}: give a whole number >= 1")
        resolve_template(self.tokenizer, self.template)
        self.model.eval()
        self._accepts = set(inspect.signature(self.model.forward).parameters)
        config = self.model.config.get_text_config()
        layers = DynamicCache(config=config).layers
        self._pads = "attention_mask" in self._accepts and all(isinstance(x, DynamicLayer) for x in layers)
        rows = max(LOGITS_PER_BATCH // config.vocab_size, 1)
        self._rows = self.batch_rows or min(512, rows)
        ends = getattr(self.model.generation_config, "eos_token_id", None)
        ends = [ends] if isinstance(ends, int) else list(ends or [])
        self._ends = sorted({*ends, *([] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id])})

    @classmethod
    def load(
        cls,
        name: str,
        *,
        template: str = "auto",
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> HFModel:
        """The model and tokenizer of a folder or hub id; safetensors only."""
        tokenizer = loading.load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
        model = loading.load_model(
            name, revision=revision, dtype=dtype, device=device, trust_remote_code=trust_remote_code
        )
        return cls(model, tokenizer, template=template, name=name, revision=revision)

    def describe(self) -> dict[str, Any]:
        """The model's name, weights checksum, number type, device type, template and end tokens."""
        resolved = resolve_template(self.tokenizer, self.template)
        return {
            "backend": "transformers",
            "model": self.name,
            "revision": self.revision,
            "architecture": type(self.model).__name__,
            "checksum": loading.weights_checksum(self.model),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "template": self.tokenizer.chat_template if resolved == "chat" else resolved,
            "end_tokens": self._ends,
        }

    @torch.inference_mode()
    def sample(self, shard: Shard, params: SamplingParams) -> list[Draw]:
        """Draw ``shard.num_samples`` completions for each prompt; see the module's text for how."""
        draws: list[tuple[int, Draw]] = []
        stack = list(self._roots(shard))[::-1]
        while stack:
            batch = stack.pop()
            try:
                logits, cache = self._forward(batch)
            except torch.OutOfMemoryError:
                if len(batch.rows) == 1:
                    raise
                torch.cuda.empty_cache()
                self._rows = max(1, len(batch.rows) // 2)
                stack.extend(list(batch.split(self._rows))[::-1])
                continue
            children, parents = self._grow(batch, logits, shard, params)
            open_rows, open_parents = [], []
            for row, parent in zip(children, parents, strict=True):
                leaf = self._leaf(row, params)
                if leaf is None:
                    open_rows.append(row)
                    open_parents.append(parent)
                    continue
                text, reason = leaf
                num_tokens = len(row.tokens) - (row.tokens[-1] in self._ends)
                first = shard.first + int(row.draws[0])
                prompt_id = shard.prompts[row.prompt].id
                draw = Draw(prompt_id, text, len(row.draws), first, reason, num_tokens, row.logprob)
                draws.append((row.prompt, draw))
            if open_rows:
                grown = self._extend(batch, open_rows, torch.tensor(open_parents, device=logits.device), cache)
                stack.extend(list(grown.split(self._rows))[::-1])
        self.work.draws += shard.num_samples * len(shard.prompts)
        return [draw for _, draw in sorted(draws, key=lambda pair: (pair[0], pair[1].first))]

    def _roots(self, shard: Shard) -> Iterator[_Batch]:
        """The prompts, in batches: of like length where the architecture cannot be padded."""
        encoded = [encode_prompt(self.tokenizer, p.text, self.template) for p in shard.prompts]
        order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i))
        groups: list[list[int]] = []
        for i in order:
            fits = groups and len(groups[-1]) < self._rows
            if fits and (self._pads or len(encoded[groups[-1][0]]) == len(encoded[i])):
                groups[-1].append(i)
            else:
                groups.append([i])
        everyone = np.arange(shard.num_samples)
        for group in groups:
            ids, mask = _pad([encoded[i] for i in group], self.tokenizer.pad_token_id or 0, left=True)
            device = self.model.device
            yield _Batch([_Row(i, everyone, (), 0.0) for i in group], ids.to(device), mask.to(device))

    def _forward(self, batch: _Batch) -> tuple[torch.Tensor, Cache | None]:
        """Next-token logits, (rows, vocabulary) in float32, and the cache after this step, where there is one."""
        cache = None
        if batch.cache is not None and batch.parents is not None:
            cache = _branch(batch.cache, batch.parents)
        inputs: dict[str, Any] = {"input_ids": batch.ids}
        if "attention_mask" in self._accepts:
            inputs["attention_mask"] = batch.mask
        if "position_ids" in self._accepts:
            positions = (batch.mask.cumsum(-1) - 1).clamp(min=0)
            inputs["position_ids"] = positions[:, -batch.ids.shape[1] :]
        if "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = 1
        if "past_key_values" in self._accepts:
            inputs |= {"past_key_values": cache, "use_cache": True}
        out = self.model(**inputs)
        self.work.passes += 1
        self.work.rows += len(batch.rows)
        after = getattr(out, "past_key_values", None)
        return out.logits[:, -1].float(), after if isinstance(after, Cache) else None

    def _grow(
        self, batch: _Batch, logits: torch.Tensor, shard: Shard, params: SamplingParams
    ) -> tuple[list[_Row], list[int]]:
        """Let every draw of the batch pick its next token; draws of a row that picked the same one become a child.

        The log-probabilities that are recorded are those of the very numbers that the draws were made from.
        """
        if not torch.isfinite(logits).any(-1).all() or torch.isnan(logits).any():
            raise ModelError(f"model {self.name!r} gives logits that are not finite: it cannot be sampled")
        picked: NDArray[np.int64]
        sizes = [len(row.draws) for row in batch.rows]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        if params.greedy:
            picked = logits.argmax(-1).cpu().numpy()[owner]
            logps = np.zeros(len(picked))
        else:
            kind = torch.float64 if logits.device.type != "mps" else torch.float32
            logp = torch.log_softmax(_warp(logits, params).to(kind), -1)
            depth = len(batch.rows[0].tokens)
            seen: dict[int, NDArray[np.float64]] = {}
            for i in {row.prompt for row in batch.rows}:
                seen[i] = uniforms(shard.seed, shard.prompts[i].id, shard.first, depth, shard.num_samples)
            u = np.concatenate([seen[row.prompt][row.draws] for row in batch.rows])
            picked_t = _invert(logp.exp(), torch.from_numpy(u), torch.from_numpy(owner))
            picked = picked_t.cpu().numpy()
            logps = logp[torch.from_numpy(owner).to(logp.device), picked_t].double().cpu().numpy()
        everyone = np.concatenate([row.draws for row in batch.rows])
        pairs = owner * logits.shape[-1] + picked
        order = np.argsort(pairs, kind="stable")
        _, starts = np.unique(pairs[order], return_index=True)
        children, parents = [], []
        for members in np.split(order, starts[1:]):
            parent = int(owner[members[0]])
            row = batch.rows[parent]
            tokens = (*row.tokens, int(picked[members[0]]))
            logprob = row.logprob + float(logps[members[0]])
            children.append(_Row(row.prompt, everyone[members], tokens, logprob))
            parents.append(parent)
        return children, parents

    def _leaf(self, row: _Row, params: SamplingParams) -> tuple[str, str] | None:
        """The text and finish reason of a finished row; None for one that goes on."""
        ended = row.tokens[-1] in self._ends
        full = len(row.tokens) >= params.max_tokens
        if not (ended or full or params.stop):
            return None
        text = self.tokenizer.decode(row.tokens[:-1] if ended else row.tokens, skip_special_tokens=True)
        cuts = [at for at in (text.find(stop) for stop in params.stop) if at >= 0]
        if cuts:
            return text[: min(cuts)], "stop"
        if ended:
            return text, "stop"
        return (text, "length") if full else None

    def _extend(self, batch: _Batch, rows: list[_Row], parents: torch.Tensor, cache: Cache | None) -> _Batch:
        """The batch of the rows that go on: with a cache only their newest token, else all that came before it too."""
        newest = torch.tensor([[row.tokens[-1]] for row in rows], device=batch.ids.device)
        mask = torch.cat([batch.mask[parents], torch.ones_like(newest)], -1)
        if cache is not None:
            return _Batch(rows, newest, mask, cache, parents)
        return _Batch(rows, torch.cat([batch.ids[parents], newest], -1), mask)

    @torch.inference_mode()
    def loglikelihood(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> NDArray[np.float64]:
        """log P(completion, end-of-text | prompt) at temperature 1, in nats, by teacher forcing; (len(prompts),)."""
        if len(prompts) != len(completions):
            raise InputError(
                f"completions has {len(completions)} entries for {len(prompts)} prompts: give one for each"
            )
        heads = [encode_prompt(self.tokenizer, p.text, self.template) for p in prompts]
        tails = [encode_answer(self.tokenizer, c, self.template) for c in completions]
        order = sorted(range(len(heads)), key=lambda i: len(heads[i]) + len(tails[i]))
        result = np.zeros(len(heads))
        for start in range(0, len(order), 32):
            group = order[start : start + 32]
            ids, mask = _pad([heads[i] + tails[i] for i in group], self.tokenizer.pad_token_id or 0, left=False)
            inputs: dict[str, Any] = {"input_ids": ids.to(self.model.device)}
            if "attention_mask" in self._accepts:
                inputs["attention_mask"] = mask.to(self.model.device)
            logp = torch.log_softmax(self.model(**inputs).logits.float(), -1).cpu().double()
            for k, i in enumerate(group):
                span = slice(len(heads[i]) - 1, len(heads[i]) + len(tails[i]) - 1)
                result[i] = float(logp[k, span].gather(-1, torch.tensor(tails[i])[:, None]).sum())
        return result


def _warp(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Temperature, top-k and top-p in this order, by transformers' own warpers."""
    warpers = LogitsProcessorList()
    if params.temperature != 1:
        warpers.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        warpers.append(TopKLogitsWarper(min(params.top_k, logits.shape[-1])))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    warped: torch.Tensor = warpers(None, logits)
    return warped


def _invert(probs: torch.Tensor, u: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """Inverse-CDF sampling: for draw i the token t of row owner[i] with CDF(t - 1) <= u[i] < CDF(t).

    ``probs``: (rows, vocabulary), float64 off MPS; ``u``, ``owner``: (draws,). Tokens of probability 0 are never
    picked. One search serves all rows: row r's CDF is shifted to [r, r + 1], which costs at most 2^-43 in u.
    """
    rows, size = probs.shape
    cdf = probs.cumsum(-1)
    cdf = cdf / cdf[:, -1:]
    last = size - 1 - (probs > 0).flip(-1).to(torch.int8).argmax(-1)
    if probs.device.type == "mps":  # no float64 there: shift and search on the CPU
        cdf, last = cdf.cpu(), last.cpu()
    shift = torch.arange(rows, dtype=torch.float64, device=cdf.device)
    own = owner.to(cdf.device)
    flat = torch.searchsorted((cdf.double() + shift[:, None]).flatten(), u.to(cdf.device) + shift[own], right=True)
    token = torch.minimum((flat - own * size).clamp(min=0), last[own])
    return token.to(probs.device)


def _branch(cache: Cache, parents: torch.Tensor) -> Cache:
    """A new cache whose row i is row ``parents[i]`` of ``cache``, which stays as it is."""
    new = copy.copy(cache)
    new.layers = []
    for layer in cache.layers:
        twin = copy.copy(layer)
        for name, value in vars(twin).items():
            if isinstance(value, dict | list):
                setattr(twin, name, copy.copy(value))
        new.layers.append(twin)
    new.reorder_cache(parents)
    return new


def _pad(sequences: list[list[int]], fill: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (len(sequences), longest)."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), fill)
    mask = torch.zeros_like(ids)
    for i, sequence in enumerate(sequences):
        span = slice(longest - len(sequence), longest) if left else slice(0, len(sequence))
        ids[i, span] = torch.tensor(sequence)
        mask[i, span] = 1
    return ids, mask
