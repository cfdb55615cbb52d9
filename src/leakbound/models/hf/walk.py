"""Independent draws by a walk on the prefix tree: one forward pass for each distinct prefix.

All draws of a prompt start in one row. At every step each draw picks its next token with a uniform number of its own
(:mod:`leakbound.models.randomness`); draws that picked the same token go on as one row, finished draws leave at once,
and waiting rows of any depth and prompt fill the batch. How rows are batched changes nothing but rounding.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from leakbound.models.hf.budget import PASTS, UNIFORMS
from leakbound.models.hf.cache import Past, prune, weigh
from leakbound.models.hf.forward import Forward
from leakbound.models.hf.law import NextToken
from leakbound.models.hf.leaves import Leaf, Leaves
from leakbound.models.hf.prefixes import Ints, Prefixes
from leakbound.models.hf.segments import Segment
from leakbound.models.randomness import uniforms
from leakbound.records import SamplingParams, Shard

FULL = 0.9
"""A batch this full does not wait for more rows: joining them would move all others."""


Grow = Callable[[Prefixes, NextToken], tuple[Prefixes, Ints]]
"""Prefixes and the laws of their next tokens -> their children, with the rows of their parents."""


def roots(forward: Forward, encoded: Sequence[Sequence[int]], draws: Sequence[Ints] | None = None) -> list[Segment]:
    """Prompts, given by their tokens, in segments of like length: of equal length where they cannot be padded.

    A prompt is always in the same segment, whichever of its draws are left; segments without draws are left out.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i)):
        fits = groups and len(groups[-1]) < forward.beginning(len(encoded[i]))
        if fits and (forward.pads or len(encoded[groups[-1][0]]) == len(encoded[i])):
            groups[-1].append(i)
        else:
            groups.append([i])
    return [
        Segment(
            Prefixes.roots([encoded[i] for i in group], group, 0, forward.fill, draws and [draws[i] for i in group])
        )
        for group in groups
        if draws is None or any(len(draws[i]) for i in group)
    ]


class Waiting:
    """Segments that wait for their next token, deepest last; it hands them out in full batches.

    The deepest go first, so that few rows are remembered. Where these are too many for the room, the shallowest are
    forgotten and read again later, behind their prompts where these can stay.
    """

    def __init__(self, forward: Forward, roots: list[Segment]) -> None:
        self.forward = forward
        self.segments = roots[::-1]
        self.left: list[Segment] = []
        """What was left out."""

    def __bool__(self) -> bool:
        return bool(self.segments)

    def push(self, segments: list[Segment]) -> None:
        """Add segments, deepest last."""
        self.segments.extend(s for s in segments if len(s))
        most = PASTS * self.forward.budget.room
        seen, total, kept, full = set[int](), 0.0, list[Segment](), False
        if sum(weigh(s.cache, seen) for s in self.segments if s.cache is not None) > most:
            self._prune()
        seen.clear()

        def fits(segment: Segment) -> bool:
            nonlocal seen, total
            after = set(seen)
            more = 0 if segment.cache is None else weigh(segment.cache, after)
            if kept and total + more > most and (more or not segment.again):  # the deepest stays, however large
                return False
            seen, total = after, total + more
            return True

        for segment in reversed(self.segments):
            full = full or not fits(segment)
            if not full or segment.cache is None:
                kept.append(segment)
                continue
            prompts = segment.back() if self.forward.sharing else []
            for part in prompts or [segment]:
                if not prompts or not fits(part):
                    part.forget()
                kept.append(part)
        self.segments = kept[::-1]

    def _prune(self) -> None:
        """Keep only those rows that something waits for."""
        some = [(s, s.cache, s.parents) for s in self.segments if isinstance(s.cache, Past) and s.parents is not None]
        for (segment, _, _), rows in zip(
            some, prune([(past, rows) for _, past, rows in some], self.forward.whole()), strict=True
        ):
            segment.parents = rows

    def _last(self, room: int) -> Segment:
        """The last segment; of a longer one so many rows."""
        segment = self.segments.pop()
        if len(segment) > room:
            segment, rest = segment.split(room)
            self.segments.append(rest)
        return segment

    def land(self) -> None:
        """Leave all but as many of the deepest rows as one batch holds: their draws begin again in a later walk."""
        room, kept = self.forward.rows, list[Segment]()
        while self.segments and room > 0:
            kept.append(self._last(room))
            room -= len(kept[-1])
        for segment in self.segments:
            segment.forget()
        self.left += self.segments
        self.segments = kept[::-1]

    def pop(self) -> list[Segment]:
        """The next batch: the last segment, and as much of those before it as fits beside it."""
        cached = sum(len(s) for s in self.segments if s.cache is not None)
        if cached and 2 * cached <= self.forward.rows:  # prompts that have not begun make the next batches full
            start = next((i for i, s in enumerate(self.segments) if s.cache is None), None)
            if start is not None and self.forward.row_bytes:
                self.segments.append(self.segments.pop(start))
        batch: list[Segment] = []
        room = self.forward.fitting(self.segments[-1:])
        while self.segments and room > 0:
            if batch:
                if batch[0].cache is not None and len(batch[0]) >= FULL * (room + len(batch[0])):
                    break
                if not self.forward.joins(batch[0], self.segments[-1]):
                    break
                room = min(room, self.forward.fitting([*batch, self.segments[-1]]) - sum(map(len, batch)))
                if room <= 0:
                    break
            batch.append(self._last(room))
            room -= len(batch[-1])
        return batch


class Randomness:
    """The uniform numbers of a shard's draws, of which ``kept`` stay for the next batch that needs them."""

    def __init__(self, shard: Shard, most: float) -> None:
        self.shard, self.most = shard, most
        self.kept: OrderedDict[tuple[int, int], NDArray[np.float64]] = OrderedDict()

    def of(self, prefixes: Prefixes) -> NDArray[np.float64]:
        """The number that decides the next token of each draw."""
        draws = prefixes.draws
        assert draws is not None  # only counted prefixes have none, and grow by `split`
        out = np.empty(len(draws))
        names, which = np.unique(np.stack([prefixes.prompt, prefixes.depth]), axis=1, return_inverse=True)
        of_draw = np.repeat(which.reshape(-1), prefixes.sizes)
        for i, (prompt, depth) in enumerate(names.T.tolist()):
            mine = of_draw == i if names.shape[1] > 1 else slice(None)
            out[mine] = self._all(prompt, depth)[draws[mine]]
        return out

    def _all(self, prompt: int, depth: int) -> NDArray[np.float64]:
        key = prompt, depth
        if key not in self.kept:
            shard = self.shard
            self.kept[key] = uniforms(shard.seed, shard.prompts[prompt].id, shard.first, depth, shard.num_samples)
            while len(self.kept) > 1 and len(self.kept) * shard.num_samples > self.most:
                self.kept.popitem(last=False)
        self.kept.move_to_end(key)
        return self.kept[key]


def walk(
    waiting: Waiting, leaves: Leaves, grow: Grow, params: SamplingParams, seconds: float = math.inf
) -> Iterator[Leaf]:
    """The distinct completions of what waits with their draws, as they finish.

    After so many nominal seconds of passes no more rows are begun: what a batch holds goes on to its end, and the draws
    of all others are left out, those of one prefix together.
    """
    forward = waiting.forward
    end = forward.spent + seconds
    while waiting:
        batch = waiting.pop()
        step = forward.run_or_halve(batch)
        if step is None:
            waiting.push(batch[::-1])
            continue
        laws = leaves.laws(step.prefixes, step.logits, params, forward.laws_at_once)
        grown = [(*grow(prefixes, law), first) for prefixes, law, first in laws]
        children = Prefixes.join([some for some, _, _ in grown], trim=False)
        parents = np.concatenate([rows + first for _, rows, first in grown])
        done, finished = leaves.find(children, params)
        yield from finished
        going = np.flatnonzero(~done)
        if len(going):
            waiting.push([step.segment(children.take(going), parents[going])])
        if forward.spent > end:
            waiting.land()


def gather(waiting: Waiting, leaves: Leaves, grow: Grow, params: SamplingParams, seconds: float) -> list[Leaf]:
    """What :func:`walk` finds in so many nominal seconds, and at least in three times those of reading the prompts."""
    forward = waiting.forward
    enough = max(seconds, 3 * max(forward.budget.seconds(len(r), r.width * len(r)) for r in waiting.segments))
    found = list(walk(waiting, leaves, grow, params, enough))
    forward.work.draws += sum(leaf.count for leaf in found)
    return found


def numbered(shard: Shard, room: float) -> Grow:
    """Growth of draws that have numbers, each with random numbers of its own, for which there is so much room."""
    return partial(_grow, Randomness(shard, UNIFORMS * room / 8))


def _grow(randomness: Randomness, prefixes: Prefixes, law: NextToken) -> tuple[Prefixes, Ints]:
    """Let every draw pick its next token; draws of a row that picked the same one become a child. With its parents."""
    owner, draws = prefixes.owner, prefixes.draws
    assert draws is not None  # only counted prefixes have none, and grow by `split`
    size = law.probs.shape[1]
    picked = law.pick(torch.from_numpy(randomness.of(prefixes)), torch.from_numpy(owner)).cpu().numpy()
    pairs = owner * size + picked
    if (prefixes.sizes == 1).all():  # every row has one draw: nothing to sort
        starts, order = np.arange(len(pairs)), np.arange(len(pairs))
    else:
        order = np.argsort(pairs, kind="stable")
        pairs = pairs[order]
        starts = np.flatnonzero(np.concatenate([[len(pairs) > 0], pairs[1:] != pairs[:-1]])[: len(pairs)])
    parents, tokens = pairs[starts] // size, pairs[starts] % size
    device = law.probs.device
    logps = law.logprob(torch.from_numpy(parents).to(device), torch.from_numpy(tokens).to(device)).cpu().numpy()
    sizes = np.diff(np.append(starts, len(pairs)))
    return prefixes.children(parents, tokens, logps, np.zeros(len(parents)), sizes, draws[order]), parents
