"""What is tried once for each model before its first draws: ways to read that not every architecture can be read in."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leakbound.errors import ModelError
from leakbound.models.hf.cache import Bench
from leakbound.models.hf.memory import is_out_of_memory
from leakbound.models.hf.prefixes import Ints, Prefixes
from leakbound.models.hf.segments import Segment
from leakbound.models.hf.trunks import SAVED

if TYPE_CHECKING:
    from leakbound.models.hf.forward import Forward

ALIKE = {True: 1e-3, False: 0.1}
"""By which part of their spread logits may differ when they are read in another way, in 32 bits and in fewer. Rounding
of SmolLM2-135M makes .000 and, in bfloat16, .02 to .04; what is read wrongly makes about 1."""
GOES_ON = {True: 1e-3, False: 0.3}
"""The same where a cache is gone on from: in few bits experts are chosen otherwise by rounding alone."""
BESIDE = 64
"""How many tokens of padding that is tried with."""
SHORT = 8
"""How many tokens of a prompt are enough to try what does not depend on the length."""

log = logging.getLogger("leakbound")


def try_causal(forward: Forward, head: Sequence[int]) -> None:
    """ModelError where the law of the next token is another one where tokens follow, or other tokens.

    So it is of BERT and its kin unless config.json says ``is_decoder``, of models whose attention is bidirectional, and
    of ProphetNet. What such a model gives an answer as a whole is not what it draws it with.
    """
    if forward.causal:
        return
    before, one = _spent(forward), list(head[:SHORT])
    if len(one) == forward.switch:
        one.pop()  # one more would change all positions
    alone = _alone(forward, one)[-1:]
    followed, otherwise = (_alone(forward, [*one, token])[:-1] for token in (one[0], (one[0] + 1) % forward.known))
    exact = forward.model.dtype.itemsize >= 4
    if not (_apart(followed, otherwise) < ALIKE[exact] and _apart(followed, alone) < GOES_ON[exact]):
        raise ModelError(
            f"{type(forward.model).__name__} gives the next token of a text another law where more text follows it: "
            "give a causal language model (of BERT's kind: one whose config.json says is_decoder)"
        )
    forward.causal = True
    _restore(forward, before)


def try_positions(forward: Forward, head: Sequence[int]) -> None:
    """Are the logits of a prompt those that the model gives where it counts the positions by itself?

    Where they are not (RoBERTa begins behind the position of padding) it is left to count, in batches of equal length.
    """
    before, one = _spent(forward), list(head[:SHORT])
    told = forward.run([Segment(Prefixes.roots([one], [0], 0, forward.fill))]).logits.float()
    if not _apart(told, _alone(forward, one)[-1:]) < ALIKE[forward.model.dtype.itemsize >= 4]:
        forward.accepts.discard("position_ids")
        _unpad(forward)
        log.info("%s counts positions in its own way: batches are of equal length", type(forward.model).__name__)
    _restore(forward, before)


def try_padding(forward: Forward, heads: Sequence[Sequence[int]]) -> None:
    """Does a prompt give the same logits alone and beside a longer one?

    Where it does not (an architecture that ignores the attention mask), batches are of equal length from now on; where
    a neighbour of its own length changes it too, a batch is one row.
    """
    if forward.tried or forward.rows == 1:
        return
    forward.tried, before = True, _spent(forward)
    head, longest = min(heads, key=len), max(heads, key=len)
    longer = [*head, *(longest[len(head) : len(head) + BESIDE] or head[-1:])]
    if not _same_beside(forward, head, longer):
        _unpad(forward)
        name = type(forward.model).__name__
        log.info("%s reads a prompt otherwise beside longer ones: batches are of equal length (slower)", name)
        if forward.rows > 1 and not _same_beside(forward, head, [(token + 1) % forward.known for token in head]):
            log.warning("%s reads a prompt otherwise beside others: it reads one at a time (slower)", name)
            forward.most = forward.rows = 1
    _restore(forward, before)


def try_cache(forward: Forward, heads: Sequence[Sequence[int]]) -> None:
    """Are the logits behind two tokens the same where a cache is gone on from, its rows chosen and padded, and where
    all tokens are read?

    Where they are not, batches are of equal length; where that does not mend it (a cache that holds more than its
    layers tell), every pass reads all tokens.
    """
    most = SHORT if forward.limit is None else min(SHORT, forward.limit - 3)
    if not forward.row_bytes or most < 1:
        return
    before, one = _spent(forward), list(min(heads, key=len)[:most])
    name = type(forward.model).__name__
    if not _goes_on(forward, one) and forward.pads:
        _unpad(forward)
        log.info("%s goes on otherwise behind padding: batches are of equal length (slower)", name)
    if not forward.pads and not _goes_on(forward, one):
        forward.caches, forward.row_bytes = False, 0.0
        log.warning("%s goes on otherwise from its cache: every pass reads whole sequences (slower, same law)", name)
    _restore(forward, before)


def _goes_on(forward: Forward, head: list[int]) -> bool:
    """Whether three rows that go on from two prompts (where only one row goes at a time, one from one) have the logits
    of the whole rows."""
    heads = [head] if forward.rows == 1 else [head, [*head[::-1], *(head[:1] if forward.pads else [])]]
    parents = np.arange(1) if forward.rows == 1 else np.array([0, 1, 0])
    tokens = _tokens(forward, head, len(parents))
    whole = [_alone(forward, [*heads[p], *map(int, some)])[-1:] for p, some in zip(parents, tokens.T, strict=True)]
    found = _tried(forward, lambda: _behind(forward, heads, parents, tokens))
    return isinstance(found, torch.Tensor) and (
        _apart(found, torch.cat(whole)) < GOES_ON[forward.model.dtype.itemsize >= 4]
    )


def try_sharing(forward: Forward, heads: Sequence[Sequence[int]]) -> None:
    """Are the logits behind two tokens the same where prompts are read where they lie, and where they are copied?

    Tried before the first draws for which it would be worth while. Where they are not, or where a pass fails (an
    attention that is not transformers' own), prompts are copied from now on.
    """
    if forward.sharing is not None or forward.bench is None:
        return
    if forward.rows * max(map(len, heads)) * forward.bench.numbers < SAVED:
        return
    before = _spent(forward)
    one = max(heads, key=len)[:BESIDE]
    two = [one, [*((token + 1) % forward.known for token in one), one[0]]]
    rows = two, np.array([0, 1, 0]), _tokens(forward, one, 3)
    forward.sharing = False
    copied, shared = (_tried(forward, partial(_behind, forward, *rows, share=share)) for share in (False, True))
    if isinstance(copied, str) or isinstance(shared, str):
        why = copied if isinstance(copied, str) else str(shared)
    else:
        why, forward.sharing = (
            "its logits are others",
            _apart(shared, copied) < ALIKE[forward.model.dtype.itemsize >= 4],
        )
    if not forward.sharing:
        forward.bench = Bench(forward.bench.made)
        log.info("%s: each row has a copy of its prompt (slower): %s", type(forward.model).__name__, why)
    _restore(forward, before)


def _tried(forward: Forward, behind: Callable[[], torch.Tensor]) -> torch.Tensor | str:
    """What a try gives, or why it fails."""
    try:
        found = forward.or_halve(behind, 3)
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        return str(error)
    return "no memory for a try" if found is None else found


def _tokens(forward: Forward, head: Sequence[int], rows: int) -> Ints:
    """Two tokens for each row, no two alike, (2, rows)."""
    return (head[0] + np.array([[2], [5]]) + np.arange(rows)) % forward.known


def _behind(
    forward: Forward, heads: Sequence[Sequence[int]], parents: Ints, tokens: Ints, share: bool | None = None
) -> torch.Tensor:
    """The logits behind two tokens of rows that go on from the prompts ``parents``, (rows, vocabulary)."""
    step = forward.run([Segment(Prefixes.roots(heads, range(len(heads)), 0, forward.fill))])
    for some in tokens:
        none = np.zeros(len(some))
        children = step.prefixes.children(parents, some, none, none, none.astype(np.int64), None)
        segment = [step.segment(children, parents)]
        step = forward.run(segment) if share is None else forward.run(segment, share=share)
        parents = np.arange(len(some))
    return step.logits.float()


@torch.inference_mode()
def _alone(forward: Forward, ids: Sequence[int]) -> torch.Tensor:
    """The logits behind the last two tokens of a text, or its only one, as the model gives them when it is not told
    where they stand, (2, vocabulary)."""
    inputs: dict[str, Any] = {"input_ids": torch.tensor([ids], device=forward.model.device)}
    if "attention_mask" in forward.accepts:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "use_cache" in forward.accepts:
        inputs["use_cache"] = False
    if "logits_to_keep" in forward.accepts:
        inputs["logits_to_keep"] = 2
    logits: torch.Tensor = forward.ask(inputs).logits[0, -2:].float()
    return logits


def _unpad(forward: Forward) -> None:
    """From now on batches are of equal length, and neither joined nor branched."""
    forward.pads = forward.merges = forward.trees = forward.sharing = False
    forward.bench = None


def _same_beside(forward: Forward, head: Sequence[int], other: Sequence[int]) -> bool:
    """Whether the next-token logits of ``head`` are the same alone and in a batch with ``other``."""
    alone = forward.run([Segment(Prefixes.roots([head], [0], 0, forward.fill))]).logits
    both = [Segment(Prefixes.roots([head, other], [0, 1], 0, forward.fill))]
    step = forward.or_halve(lambda: forward.run(both), 2)
    if step is None:  # no memory for two rows: there will be no neighbours
        return True
    return _apart(step.logits[:1].float(), alone.float()) < ALIKE[forward.model.dtype.itemsize >= 4]


def _apart(found: torch.Tensor, known: torch.Tensor) -> float:
    """The spread of the logits' differences as a part of their own, in the row where it is largest.

    A difference that all logits share is none of the law, nor are numbers that are not finite in both.
    """
    finite = torch.isfinite(known)
    if not torch.equal(torch.isfinite(found), finite):
        return math.inf
    one, other = (x.double().masked_fill(~finite, 0.0) for x in (found, known))
    return float(((one - other).std(-1) / other.std(-1).clamp_min(1e-30)).max())


def _spent(forward: Forward) -> tuple[int, int, float]:
    return forward.work.passes, forward.work.rows, forward.spent


def _restore(forward: Forward, before: tuple[int, int, float]) -> None:
    """A try counts for nothing, and leaves nothing behind."""
    forward.begun.clear()
    forward.work.passes, forward.work.rows, forward.spent = before
