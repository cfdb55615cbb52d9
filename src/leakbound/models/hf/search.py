"""Search on the prefix tree, one batched pass for each depth: draws without replacement, and constrained beams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from leakbound.models.hf.forward import Forward
from leakbound.models.hf.leaves import Leaf, Leaves
from leakbound.models.hf.prefixes import Floats, Ints, Prefixes
from leakbound.models.hf.segments import Pass, Segment
from leakbound.models.randomness import gumbels
from leakbound.records import Prompt, SamplingParams

Rank = Callable[[Prefixes, Floats], Floats]
"""(prefixes, log-probabilities of their next tokens) -> the value of every child, both (rows, vocabulary)."""
Find = Callable[[Prefixes], tuple[NDArray[np.bool_], list[Leaf]]]
"""Which rows are finished, and what they are."""


def search(
    forward: Forward, roots: list[Segment], leaves: Leaves, params: SamplingParams, *, most: int, rank: Rank, find: Find
) -> dict[int, list[Leaf]]:
    """For each prompt its ``most`` finished prefixes of largest value, largest first.

    At each depth the ``most`` best children, finished ones counted, go on. That is an exact search if no child has a
    larger value than its parent; otherwise it is a beam.
    """
    found: dict[int, list[Leaf]] = {}
    frontier = roots
    while frontier:
        grown: list[tuple[Prefixes, Ints, Pass]] = []
        batches = frontier[::-1]
        while batches:
            batch = [batches.pop()]
            room = forward.fitting(batch)
            if len(batch[0]) > room:
                batch[0], rest = batch[0].split(room)
                batches.append(rest)
            while batches and forward.joins(batch[0], batches[-1]) and sum(map(len, batch)) + len(batches[-1]) <= room:
                batch.append(batches.pop())
            step = forward.run_or_halve(batch)
            if step is None:
                batches.extend(batch[::-1])
                continue
            read = replace(step, logits=step.logits.new_empty(0))  # a whole depth's would be most of the memory
            for prefixes, law, first in leaves.laws(step.prefixes, step.logits, params, forward.laws_at_once):
                logps = law.logprobs().cpu().numpy()
                children, rows = _best(prefixes, logps, rank(prefixes, logps), most)
                grown.append((children, first + rows, read))
        frontier = []
        limits = _limits([children for children, _, _ in grown], found, most)
        for children, parents, step in grown:
            keep = np.flatnonzero(children.value >= np.array([limits[p] for p in children.prompt.tolist()]))
            if not len(keep):
                continue
            kept = children.take(keep)
            done, finished = find(kept)
            for leaf in finished:
                found.setdefault(leaf.prompt, []).append(leaf)
            going = np.flatnonzero(~done)
            if len(going):
                frontier.append(step.segment(kept.take(going), parents[keep[going]]))
    return {prompt: sorted(some, key=lambda leaf: (-leaf.value, leaf.tokens))[:most] for prompt, some in found.items()}


def perturbed(prompts: Sequence[Prompt], seed: int) -> Rank:
    """The values of sampling without replacement: perturbed log-probabilities, kept consistent along the tree.

    A leaf's value is log P + Gumbel noise, independent for all leaves; a prefix has the largest value below it. So the
    leaves of largest value, largest first, are drawn without replacement, each from P restricted to those not yet
    drawn. Given its own value v and noisy children g_c = log P_c + Gumbel_c with maximum z, a prefix hands down
    -log(exp(-v) - exp(-z) + exp(-g_c)): the law of the g_c given that their maximum is v.

    Kool et al. 2019 (arXiv 1903.06059), section 4.1 and appendix B.
    """

    def rank(prefixes: Prefixes, logps: Floats) -> Floats:
        noise = [
            gumbels(seed, prompts[int(prefixes.prompt[row])].id, prefixes.new_tokens(row), logps.shape[1])
            for row in range(len(prefixes))
        ]
        noisy = prefixes.logprob[:, None] + logps + np.stack(noise)
        top = noisy.max(axis=1, keepdims=True)
        value = prefixes.value[:, None]
        with np.errstate(divide="ignore", over="ignore"):
            v = value - noisy + np.log1p(-np.exp(np.minimum(noisy - top, 0.0)))
            out = value - np.maximum(v, 0.0) - np.log1p(np.exp(-np.abs(v)))
        out[~np.isfinite(noisy)] = -np.inf
        return np.asarray(np.minimum(out, value))

    return rank


def close_to(targets: Sequence[Sequence[int]], distances: Sequence[int], ends: Sequence[int]) -> Rank:
    """log P of the prefixes that can still come within ``distances[i]`` edits of the target of prompt i, else -inf.

    Edits insert, delete or replace one token (Levenshtein).
    """

    def rank(prefixes: Prefixes, logps: Floats) -> Floats:
        out = np.full(logps.shape, -np.inf)
        for row in range(len(prefixes)):
            prompt = int(prefixes.prompt[row])
            target, most = np.array(targets[prompt]), distances[prompt]
            before = edit_row(prefixes.new_tokens(row), target)
            open_ = np.full(logps.shape[1], _next_row(before, np.zeros(len(target), bool)).min() <= most)
            for token in np.unique(target):
                open_[token] = _next_row(before, target == token).min() <= most
            open_[list(ends)] = before[-1] <= most  # an end token is no token of the text
            out[row] = np.where(open_, prefixes.logprob[row] + logps[row], -np.inf)
        return out

    return rank


def find_near(
    prefixes: Prefixes,
    *,
    leaves: Leaves,
    targets: Sequence[Sequence[int]],
    distances: Sequence[int],
    params: SamplingParams,
) -> tuple[NDArray[np.bool_], list[Leaf]]:
    """Which beginnings are finished or as long as the target, and those of them that are close enough."""
    done, found = leaves.find(prefixes, params)
    full = prefixes.depth >= np.array([len(targets[p]) for p in prefixes.prompt.tolist()])
    known = {(leaf.prompt, leaf.tokens) for leaf in found}
    for row in np.flatnonzero(full):
        prompt, tokens = int(prefixes.prompt[row]), tuple(prefixes.new_tokens(int(row)).tolist())
        if (prompt, tokens) not in known:
            text = leaves.texts([list(tokens)])[0]
            p, value = float(prefixes.logprob[row]), float(prefixes.value[row])
            found.append(Leaf(prompt, tokens, text, "prefix", len(tokens), p, 0, (), value))

    def distance(leaf: Leaf) -> int:
        spoken = np.array(leaf.tokens[: leaf.num_tokens], dtype=np.int64)
        return int(edit_row(spoken, np.array(targets[leaf.prompt]))[-1])

    return done | full, [leaf for leaf in found if distance(leaf) <= distances[leaf.prompt]]


def edit_row(tokens: Ints, target: Ints) -> Ints:
    """Edit distances of ``tokens`` to every beginning of ``target``, (len(target) + 1,)."""
    row = np.arange(len(target) + 1)
    for token in tokens:
        row = _next_row(row, target == token)
    return row


def _next_row(row: Ints, equal: NDArray[np.bool_]) -> Ints:
    """The row after one more token, which equals the target where ``equal``."""
    new = np.concatenate([[row[0] + 1], np.minimum(row[1:] + 1, row[:-1] + ~equal)])
    steps = np.arange(len(new))
    cheapest: Ints = np.minimum.accumulate(new - steps) + steps  # a skipped target token costs one
    return cheapest


def _best(prefixes: Prefixes, logps: Floats, values: Floats, most: int) -> tuple[Prefixes, Ints]:
    """The ``most`` best children of each prompt and their parents' rows; none that cannot be drawn."""
    size = values.shape[1]
    rows_out, tokens_out = [], []
    for prompt in np.unique(prefixes.prompt):
        mine = np.flatnonzero(prefixes.prompt == prompt)
        flat = values[mine].ravel()
        best = np.argpartition(-flat, most - 1)[:most] if most < len(flat) else np.arange(len(flat))
        best = best[np.isfinite(flat[best])]
        best.sort()
        rows_out.append(mine[best // size])
        tokens_out.append(best % size)
    rows, tokens = np.concatenate(rows_out), np.concatenate(tokens_out)
    none = np.zeros(0, dtype=np.int64)
    children = prefixes.children(
        rows, tokens, logps[rows, tokens], values[rows, tokens], np.zeros(len(rows), dtype=np.int64), none
    )
    return children, rows


def _limits(parts: list[Prefixes], found: dict[int, list[Leaf]], most: int) -> dict[int, float]:
    """For each prompt the value that a child needs to be among the ``most`` best, finished ones counted."""
    values: dict[int, list[float]] = {p: [leaf.value for leaf in some] for p, some in found.items()}
    for part in parts:
        for prompt in np.unique(part.prompt).tolist():
            values.setdefault(prompt, []).extend(part.value[part.prompt == prompt].tolist())
    return {p: sorted(some, reverse=True)[:most][-1] for p, some in values.items()}
