"""Forward passes over prefixes whose caches come from wherever they are: gathered, padded on the left, and joined."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from leakbound.errors import ModelError
from leakbound.models.hf.budget import BEGUN, BENCH, PASTS, UNIFORMS, Budget
from leakbound.models.hf.cache import ROOM, Bench, Kept, Past, cache_bytes, chosen, idle_slots, prompts_of, weigh
from leakbound.models.hf.memory import is_out_of_memory, release_cached
from leakbound.models.hf.packed import how_adapted
from leakbound.models.hf.positions import limit_of, switch_of
from leakbound.models.hf.prefixes import Prefixes
from leakbound.models.hf.segments import Pass, Segment
from leakbound.models.hf.trunks import ONE, Trunks, attending, worth
from leakbound.models.hf.trying import try_cache, try_causal, try_padding, try_positions, try_sharing

LOGITS_PER_PASS = 2**26
"""The largest number of logits computed at once: rows in a batch times vocabulary size."""
TOKENS_PER_PASS = 2**16
"""The largest number of tokens that go through the model at once."""
CPU_TOKENS = 2048
"""The same on a CPU: what fits its caches is faster than more at once."""
LAWS, CPU_LAWS = 2**26, 2**18
"""Numbers of the laws that are computed at once, on a GPU and on a CPU."""
OF_LAW = 48
"""Bytes of a number of a law while draws are made from it, copies and running sums included."""

log = logging.getLogger("leakbound")

T = TypeVar("T")


@dataclass
class Work:
    """What sampling has cost so far: forward passes, rows through the model, draws made."""

    passes: int = 0
    rows: int = 0
    draws: int = 0


class Forward:
    """A model and how much fits through it at once.

    ``pads``: whether rows of different length can stand in one batch: that needs an attention mask and a cache of
    attention layers, sliding ones included, and positions that mean the same in every batch
    (:mod:`leakbound.models.hf.trying`); other models run in batches of equal length. ``merges``: whether caches can be
    cut, padded and joined: that needs layers that keep all tokens. ``sharing``: whether a prompt can be read where it
    lies (:mod:`leakbound.models.hf.trunks`), and ``trees``: whether a mask can say for each token what it sees
    (:mod:`leakbound.models.hf.likelihoods`); None before that was tried. ``limit``: the most tokens of a text, if
    there is one; ``switch``: beyond how many the rotary positions of the whole text are others, if they ever are.
    """

    trees: bool | None
    sharing: bool | None

    def __init__(
        self, model: Any, *, fill: int | None, work: Work, most_rows: int | None = None, memory: float | None = None
    ) -> None:
        self.model = model
        self.work = work
        accepts = set(inspect.signature(model.forward).parameters)
        self.accepts = accepts
        config = model.config.get_text_config()
        self.vocabulary = int(config.vocab_size)
        self.limit = limit_of(config)
        self.switch = switch_of(config, self.limit)
        self.known = int(model.get_input_embeddings().weight.shape[0])
        self.fill = 0 if fill is None or fill not in range(self.known) else fill  # a tokenizer may have its own
        layers = DynamicCache(config=config).layers
        kept = all(type(x) in (DynamicLayer, DynamicSlidingWindowLayer) for x in layers)  # others may count padding
        self.caches = "past_key_values" in accepts
        scaled = bool(getattr(config, "attn_temperature_tuning", False))  # by a token's place in the cache, padding too
        self.pads = "attention_mask" in accepts and kept and self.switch is None and not scaled
        self.tried = not self.pads
        self.causal = self.compared = False
        self.merges = self.pads and all(type(x) is DynamicLayer for x in layers)
        attention = getattr(model.config, "_attn_implementation", None)
        trees = self.merges and "position_ids" in accepts and attention in ("sdpa", "eager")
        self.trees = None if trees else False
        self.sharing = None if trees and model.device.type == "cpu" else False  # not tried on an accelerator
        self.asked = most_rows
        self.row_bytes = 0.0
        """Bytes that the model remembers of one token of one row, as measured; 0 before that, and without a cache."""
        self.budget = Budget(model, self.vocabulary, memory)
        self.most = self.rows = most_rows or self.budget.top_rows
        """How many rows a pass of the completions that are drawn now may have: ``rows``."""
        self.measured = False
        self.spent = 0.0
        """The nominal seconds of all passes so far."""
        self.bench: Bench | None = None
        self.begun: dict[tuple[bytes, Any], Pass] = {}
        """Passes of prompts, kept for the next draws from them while they fit."""
        on_cpu = model.device.type == "cpu"
        self.tokens_per_pass = CPU_TOKENS if on_cpu else TOKENS_PER_PASS
        self.laws_at_once = max(1, (CPU_LAWS if on_cpu else LAWS) // self.vocabulary)
        name = type(model).__name__
        if not self.caches:
            log.warning(
                "%s keeps no cache that can be re-indexed: every pass reads whole sequences (slower, same law)", name
            )
        elif not self.merges:
            log.info(
                "%s has a cache that cannot be %s: batches are filled less well (slower, same law)",
                name,
                "joined" if self.pads else "padded",
            )

    def check(self, what: str, head: Sequence[int], more: int, tail: Sequence[int] = ()) -> None:
        """ModelError where a text and ``more`` tokens are longer than the model reads, or hold tokens it has not."""
        strange = [token for token in (*head, *tail) if token is not None and token >= self.known]
        if strange:
            raise ModelError(
                f"{what}: the tokenizer gives token {max(strange)}, but the model knows {self.known} tokens: give the "
                "tokenizer of the model"
            )
        length = len(head) + len(tail) + more
        if self.limit is not None and length > self.limit:
            raise ModelError(
                f"{what}: {len(head)} tokens and {len(tail) + more} to follow are more than the {self.limit} that the "
                "model reads (config.json): shorten the text or lower max_tokens"
            )
        if tail and self.switch is not None and len(head) <= self.switch < len(head) + len(tail) - 1:
            raise ModelError(
                f"{what}: its answer goes from {len(head)} to {len(head) + len(tail)} tokens, over the length of "
                f"{self.switch} at which the model changes all its positions; one pass cannot read it: shorten the text"
            )

    def begin(self, heads: Sequence[Sequence[int]], new_tokens: int) -> None:
        """Before draws of up to ``new_tokens`` tokens: how much fits, and what the batches may be.

        Once for a model, what it remembers of a token is measured, and what memory there is. InputError where not even
        one row fits.
        """
        if not self.measured:
            self.measured, before = True, (self.work.passes, self.work.rows, self.spent)
            self._measure(min(heads, key=len))
            self.budget.settle(max(map(len, heads)) * self.row_bytes)
            if self.model.device.type != "cpu":  # where the random numbers are not: their share is that of the laws
                most = UNIFORMS * self.budget.room / (OF_LAW * self.vocabulary)
                self.laws_at_once = max(1, int(min(self.laws_at_once, most)))
            self.work.passes, self.work.rows, self.spent = before
        self.rows = self.most if self.asked else min(self.most, self.budget.most_rows(new_tokens))
        longest = max(map(len, heads)) + new_tokens
        self.budget.check(self._row(longest, 1), longest)
        try_causal(self, min(heads, key=len))
        if not self.compared:
            try_positions(self, min(heads, key=len))
        try_padding(self, heads)
        if not self.compared:
            try_cache(self, heads)
            self.compared = True
        try_sharing(self, heads)

    def _measure(self, head: Sequence[int]) -> None:
        """One pass of one row: how much the model remembers of a token, and of which shape."""
        made = self.run([Segment(Prefixes.roots([head], [0], 0, self.fill))]).cache
        if isinstance(made, Cache):
            self.row_bytes = cache_bytes(made) / len(head)
            alike = all(type(x) is DynamicLayer for x in made.layers)
            if self.merges and alike and len({x.keys.device for x in made.layers}) == 1:
                self.bench = Bench(made)
        self.merges = self.bench is not None

    def ask(self, inputs: Mapping[str, Any]) -> Any:
        """One pass of the model in the number type of its weights, and without dropout.

        A model that is trained in half precision has had its ``forward`` changed by accelerate: it computes in another
        type than the model says, and in which depends on the rows beside. What is in training mode (again, or because
        it came later, as adapters do) is so again afterwards.
        """
        mine = vars(self.model)
        own, trained = mine.get("_original_forward"), mine.get("forward")
        swapped = own is not None and trained is not None
        if swapped:
            mine["forward"] = own
        training = _in_training(self.model)
        try:
            for module in training:
                module.training = False
            with ONE, torch.autocast(self.model.device.type, enabled=False):
                return self.model(**inputs)
        finally:
            for module in training:
                module.training = True
            if swapped:
                mine["forward"] = trained

    def _row(self, width: int, fresh: int) -> float:
        """Bytes of one row of a batch: what is laid out of it, of other caches old and new, and its logits."""
        kept = self.row_bytes * (width + max(ROOM, fresh) if self.bench else 2 * width)
        return float(kept + self.vocabulary * (4.0 + self.model.dtype.itemsize % 4))

    def beginning(self, width: int) -> int:
        """How many prompts of so many tokens begin together: what is remembered of them waits for all their draws."""
        most = min(self.rows, self.tokens_per_pass // width)
        if self.row_bytes and not math.isinf(self.budget.room):
            most = min(most, int(PASTS * self.budget.room / (2 * width * self.row_bytes)))
        return max(1, most)

    def fitting(self, batch: Sequence[Segment]) -> int:
        """How many rows like these go through at once: ``rows``, or fewer where the room is too small."""
        width, cached = max(s.width for s in batch), batch[0].cache is not None
        tokens = batch[0].fresh if cached else width
        most = min(self.rows, max(1, self.tokens_per_pass // tokens))
        if not cached and "logits_to_keep" not in self.accepts:
            most = min(most, max(1, LOGITS_PER_PASS // (self.vocabulary * tokens)))
        if not cached:
            most = min(most, self.beginning(width))
        if math.isinf(self.budget.room):
            return most
        laid = max(int(s.prefixes.depth.max()) for s in batch) if self.shares(batch) else width
        return max(1, min(most, int(BENCH * self.budget.room / self._row(laid, tokens))))

    def shares(self, batch: Sequence[Segment], *, fits: bool = True) -> bool:
        """Whether these rows had better attend to their prompts where these lie, not to copies, if such ``fits``."""
        if not self.sharing or self.bench is None:
            return False
        parents = [(s.cache, s.parents) for s in batch if isinstance(s.cache, Past) and s.parents is not None]
        if parents and batch[0].fresh > 1:  # read again
            return True
        if len(parents) < len(batch) or any(past.trunks is None for past, _ in parents):
            return False
        return not fits or worth(prompts_of(parents), self.bench.numbers)

    def whole(self) -> list[Past]:
        """What must keep all its rows: what lies on the bench, and prompts that were read before."""
        kept = [step.cache for step in self.begun.values()]
        return [past for past in (self.bench and self.bench.now, *kept) if isinstance(past, Past)]

    def joins(self, one: Segment, other: Segment) -> bool:
        """Whether two segments may go through the model in one batch."""
        if (one.cache is None) != (other.cache is None) or one.root or other.root:
            return False
        if one.cache is not None:
            return self.merges and one.fresh == other.fresh
        return self.pads or one.width == other.width

    def run_or_halve(self, segments: Sequence[Segment]) -> Pass | None:
        """:meth:`run`; None where memory ran out: the segments are to be batched anew."""
        return self.or_halve(lambda: self.run(segments), sum(map(len, segments)))

    def or_halve(self, one_pass: Callable[[], T], rows: int) -> T | None:
        """A pass of so many rows; None where memory ran out: :attr:`rows` is halved then."""
        try:
            return one_pass()
        except RuntimeError as error:
            if rows == 1 or not is_out_of_memory(error):
                raise
            release_cached(self.model.device)
            self.bench = self.bench and Bench(self.bench.made)
            self.most = self.rows = max(1, rows // 2)
            return None

    def run(self, segments: Sequence[Segment], *, share: bool | None = None) -> Pass:
        """One forward pass of all segments, which must be such as :meth:`joins` allows.

        They stay as they are, also when memory runs out. Where few rows of a batch have finished, these idle along:
        moving all the others would cost more. Prompts that were read before are not read again. ``share``: whether
        they are read where they lie; by default where that is faster.
        """
        self.budget.keep()
        root = self._root(segments)
        if root in self.begun:  # it costs what it did: what a walk gets done does not depend on the walks before
            self.spent += self.budget.seconds(len(segments[0]), segments[0].prefixes.ids.size)
            return replace(self.begun[root], prefixes=segments[0].prefixes)
        parents = [(s.cache, s.parents) for s in segments if s.cache is not None and s.parents is not None]
        if self.switch is not None and segments[0].width == self.switch + 1:
            parents = []  # other positions from here on: the keys of the cache are turned the old way
        pasts = [(past, rows) for past, rows in parents if isinstance(past, Past)]
        bench = self.bench
        stays = bench is not None and bool(pasts) and segments[0].fresh == 1 and bench.holds(pasts)
        prefixes = Prefixes.join([s.prefixes for s in segments], trim=self.merges and not stays)
        alive, slots = prefixes, np.arange(len(prefixes))
        if bench is not None and stays and bench.rows > len(prefixes):
            slots = pasts[0][1]
            prefixes = prefixes.take(idle_slots(slots, bench.rows))
        fresh = segments[0].fresh if parents else prefixes.ids.shape[1]
        device = self.model.device
        cache: Cache | None = None
        trunks: Trunks | None = None
        if bench is not None:
            if share is None and not stays:  # a batch that was cut to what fits must not need more than that
                copies = len(prefixes) * self._row(prefixes.ids.shape[1], fresh)
                share = self.shares(segments, fits=copies <= BENCH * self.budget.room)
            whole = bench.trunks is None if stays else not share
            if stays:
                cache = bench.cache()
            elif whole:
                shortest = int(prefixes.length.min()) - fresh if pasts else 0
                cache = bench.lay(pasts, len(prefixes), prefixes.ids.shape[1] - fresh, fresh, shortest)
            else:
                new = prefixes.depth - fresh
                cache = bench.lay(pasts, len(prefixes), int(new.max()), fresh, int(new.min()), whole=False)
            trunks = bench.trunks
        elif parents:
            past, rows = parents[0]
            assert isinstance(past, Cache)  # pasts come from a bench
            cache = chosen(past, rows, device)
        inputs = self._inputs(prefixes, fresh, cache)
        if bench is not None and trunks is not None:
            inputs["attention_mask"] = trunks.see(prefixes.depth, bench.length + fresh, fresh)
        with attending(self.model) if trunks else nullcontext():
            out = self.ask(inputs)
        self.work.passes += 1
        self.work.rows += len(alive)
        self.spent += self.budget.seconds(len(prefixes), prefixes.ids.shape[0] * fresh)
        logits = out.logits[:, -1]
        if prefixes is not alive:
            logits = logits[torch.from_numpy(slots).to(device)]
        after: Kept | None = getattr(out, "past_key_values", None)
        after = after if isinstance(after, Cache) and self.caches else None  # one that is not taken back is of no use
        if bench is not None:
            lengths = prefixes.length if root is not None else None
            after = bench.take(fresh, [(bench.now, np.arange(bench.rows))] if stays and bench.now else pasts, lengths)
        step = Pass(alive, logits, after, slots)
        if root is not None:
            self._keep(root, step)
        return step

    def _inputs(self, prefixes: Prefixes, fresh: int, cache: Cache | None) -> dict[str, Any]:
        """What the model takes to read the last ``fresh`` tokens of each row behind a cache."""
        device = self.model.device
        ids = torch.from_numpy(np.ascontiguousarray(prefixes.ids[:, -fresh:])).to(device)
        inputs: dict[str, Any] = {"input_ids": ids}
        if "attention_mask" in self.accepts:
            inputs["attention_mask"] = torch.from_numpy(prefixes.mask).to(device)
        if "position_ids" in self.accepts:
            positions = np.maximum(prefixes.length[:, None] - fresh + np.arange(fresh), 0)
            inputs["position_ids"] = torch.from_numpy(positions).to(device)
        if "logits_to_keep" in self.accepts:
            inputs["logits_to_keep"] = 1
        if self.caches:
            inputs |= {"past_key_values": cache, "use_cache": True}
        return inputs

    def _root(self, segments: Sequence[Segment]) -> tuple[bytes, Any] | None:
        """What tells prompts that have not begun from others, by these weights; None for anything else."""
        if self.bench is None or not segments[0].root:
            return None
        ids = segments[0].prefixes.ids
        return ids.tobytes(), (ids.shape, self.weights())

    def weights(self) -> tuple[Any, ...]:
        """Something that is another one after a step of training or a switch of adapters; ``.data`` changes unseen."""
        known = [(id(p), p._version) for p in self.model.parameters() if not p.is_inference()]
        return (*known, str(how_adapted(self.model)))

    def _keep(self, root: tuple[bytes, Any], step: Pass) -> None:
        """Keep the pass of some prompts, and of those before as many as fit beside it."""
        self.begun[root] = replace(step, logits=step.logits.clone())
        sizes = {key: _size(one) for key, one in self.begun.items()}
        for key in sizes:  # oldest first
            if sum(sizes[k] for k in self.begun) > BEGUN * self.budget.room:
                del self.begun[key]


def _in_training(model: Any) -> list[Any]:
    """The modules of a model that are in training mode; ``modules()`` takes four times as long, in every pass."""
    found, stack = [], [model]
    while stack:
        module = stack.pop()
        if module is not None:
            found += [module] * module.training
            stack += module._modules.values()
    return found


def _size(step: Pass) -> int:
    kept = weigh(step.cache, set()) if step.cache is not None else 0
    return kept + step.logits.numel() * step.logits.element_size()
