"""What is tried once for each model before its first draws: ways to read that not every architecture can be read in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from leakbound.models.hf.cache import Bench
from leakbound.models.hf.memory import is_out_of_memory
from leakbound.models.hf.prefixes import Prefixes
from leakbound.models.hf.segments import Segment
from leakbound.models.hf.trunks import SAVED

if TYPE_CHECKING:
    from leakbound.models.hf.forward import Forward

ALIKE = {True: 1e-3, False: 0.1}
"""By which part of their spread logits may differ when they are read in another way, in 32 bits and in fewer. Rounding
of SmolLM2-135M makes .000 and, in bfloat16, .02 to .04; what is read wrongly makes about 1."""
BESIDE = 64
"""How many tokens of padding that is tried with."""

log = logging.getLogger("leakbound")


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
        forward.pads = forward.merges = forward.trees = False
        forward.bench = None
        name = type(forward.model).__name__
        log.info("%s reads a prompt otherwise beside longer ones: batches are of equal length (slower)", name)
        if forward.rows > 1 and not _same_beside(forward, head, [(token + 1) % forward.known for token in head]):
            log.warning("%s reads a prompt otherwise beside others: it reads one at a time (slower)", name)
            forward.most = forward.rows = 1
    _restore(forward, before)


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
    forward.sharing, why = False, "its logits are others"
    try:
        copied, shared = (forward.or_halve(partial(_behind, forward, two, share), 3) for share in (False, True))
        if copied is None or shared is None:
            why = "no memory for a try"
        else:
            forward.sharing = _apart(shared, copied) < ALIKE[forward.model.dtype.itemsize >= 4]
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        why = str(error)
    if not forward.sharing:
        forward.bench = Bench(forward.bench.made)
        log.info("%s: each row has a copy of its prompt (slower): %s", type(forward.model).__name__, why)
    _restore(forward, before)


def _behind(forward: Forward, heads: Sequence[Sequence[int]], share: bool) -> torch.Tensor:
    """The logits of three rows, two tokens behind two prompts, each another one: (3, vocabulary)."""
    step = forward.run([Segment(Prefixes.roots(heads, range(len(heads)), 0, forward.fill))])
    for first, parents in ((2, np.array([0, 1, 0])), (5, np.arange(3))):
        tokens, none = (heads[0][0] + first + np.arange(3)) % forward.known, np.zeros(3)
        children = step.prefixes.children(parents, tokens, none, none, none.astype(np.int64), None)
        step = forward.run([step.segment(children, parents)], share=share)
    return step.logits.float()


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

    A difference that all logits share is none of the law.
    """
    return float(((found - known).std(-1) / known.std(-1)).max())


def _spent(forward: Forward) -> tuple[int, int, float]:
    return forward.work.passes, forward.work.rows, forward.spent


def _restore(forward: Forward, before: tuple[int, int, float]) -> None:
    """A try counts for nothing, and leaves nothing behind."""
    forward.begun.clear()
    forward.work.passes, forward.work.rows, forward.spent = before
