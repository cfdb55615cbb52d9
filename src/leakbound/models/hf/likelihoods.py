"""Likelihoods of given answers by teacher forcing: every distinct beginning of a question's answers is read once.

The answers to one question are a tree, one row of tokens (:mod:`leakbound.models.hf.trees`). Where an architecture
cannot be given its mask (sliding windows, recurrent states), every answer is a row of its own with the question before
it: slower, the same numbers.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leakbound.errors import InputError, ModelError
from leakbound.models.base import TokenLikelihood
from leakbound.models.hf.forward import LOGITS_PER_PASS, Forward
from leakbound.models.hf.law import NextToken, certainty, is_sure
from leakbound.models.hf.leaves import Leaves
from leakbound.models.hf.memory import is_out_of_memory
from leakbound.models.hf.prefixes import Floats, Ints
from leakbound.models.hf.trees import Tree, plan, tree_inputs, tree_laws
from leakbound.models.hf.trying import try_causal
from leakbound.models.template import encode_pair, encode_prompt
from leakbound.records import SamplingParams

Read = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]
"""(logits of some laws in float32, the law of each token in ascending order, the tokens) -> any number of values for
each token."""

CPU_READ = 2**18
"""Logits read at once on a CPU, for the reason that limits trees."""
NEVER = -1e4
"""Logarithm of what is 0 in every float type."""
SAME = {True: 1e-3, False: 0.25}
"""Nats per token by which two ways of reading may differ, in 32 bits and in fewer: more is no rounding."""

log = logging.getLogger("leakbound")


@torch.inference_mode()
def answer_likelihoods(
    forward: Forward, heads: Sequence[Sequence[int]], tails: Sequence[Sequence[Sequence[int]]]
) -> list[list[TokenLikelihood]]:
    """log p(tails[i][j][t] | heads[i], tails[i][j][:t]) at temperature 1, and what min-k++ needs of the law."""
    found = teacher_forced(forward, heads, tails, read_likelihoods)
    return [[TokenLikelihood(*values) for values in some] for some in found]


@torch.inference_mode()
def forced_logprobs(
    forward: Forward,
    leaves: Leaves,
    heads: Sequence[Sequence[int]],
    tails: Sequence[Sequence[int]],
    params: SamplingParams,
) -> list[Floats]:
    """log P(tails[i][t] | heads[i], tails[i][:t]) under the deployed law, by teacher forcing; (len(tails[i]),) each."""

    def read(logits: torch.Tensor, law: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        laws = NextToken.from_logits(logits, params)
        own = laws.logprob(law, tokens).masked_fill(laws.broken[law], math.nan)
        if params.adaptive_mode == "prompt":
            return (own,)
        return own, logits.argmax(-1)[law] == tokens, torch.from_numpy(certainty(logits)).to(law.device)[law]

    places: dict[tuple[int, ...], list[int]] = {}
    for i, head in enumerate(heads):
        if len(tails[i]):
            places.setdefault(tuple(head), []).append(i)
    found = teacher_forced(forward, list(places), [[tails[i] for i in some] for some in places.values()], read)
    result = [np.zeros(0)] * len(heads)
    for some, values in zip(places.values(), found, strict=True):
        for i, (own, *likeliest_and_certainty) in zip(some, values, strict=True):
            if np.isnan(own).any():
                raise leaves.lawless(heads[i], params)
            result[i] = own
            if likeliest_and_certainty:
                likeliest, top = likeliest_and_certainty
                total = np.cumsum(top)
                sure = is_sure(total, np.arange(1, len(total) + 1), params)
                greedy = np.logical_or.accumulate(sure) if params.adaptive_mode == "sequence" else sure
                result[i] = np.where(greedy, np.where(likeliest, 0.0, -np.inf), own)
    return result


def teacher_forced(
    forward: Forward,
    heads: Sequence[Sequence[int]],
    tails: Sequence[Sequence[Sequence[int]]],
    read: Read,
    *,
    told: Sequence[Sequence[Sequence[int]]] | None = None,
) -> list[list[tuple[NDArray[Any], ...]]]:
    """What ``read`` makes of every token of every answer, in its law given the question and the tokens before it.

    ``told``: the numbers that it is given in place of the tokens, as many.
    """
    for head, some in zip(heads, tails, strict=True):
        for tail in some:
            forward.check("a question and its answer", head, 0, tail)
            try_causal(forward, head)
    share = reads_trees(forward, heads, tails)
    trees = [(i, tree) for i, head in enumerate(heads) for tree in plan(head, tails[i], share)]
    trees.sort(key=lambda pair: (pair[1].chain, len(pair[1].ids)), reverse=True)
    out: list[list[tuple[NDArray[Any], ...]]] = [[()] * len(some) for some in tails]
    while trees:
        batch = trees[: _batch_size(forward, [tree for _, tree in trees])]
        answers = [(i, place) for i, tree in batch for place, _ in tree.laws]
        tokens = [np.asarray((told or tails)[i][place], dtype=np.int64) for i, place in answers]
        one_pass = partial(_read_batch, forward, [tree for _, tree in batch], np.concatenate(tokens), read)
        columns = forward.or_halve(one_pass, len(batch))
        if columns is None:  # memory ran out: a smaller batch
            continue
        trees = trees[len(batch) :]
        ends = np.cumsum([len(some) for some in tokens])[:-1]
        for (i, place), *values in zip(answers, *(np.split(column, ends) for column in columns), strict=True):
            out[i][place] = tuple(values)
    return out


def reads_trees(forward: Forward, heads: Sequence[Sequence[int]], tails: Sequence[Sequence[Sequence[int]]]) -> bool:
    """Whether the model reads trees. Before the first one, a question is read in both ways and compared."""
    if forward.trees is not None:
        return forward.trees
    pairs = zip(heads, tails, strict=True)
    sample = next(((h, some) for h, some in pairs if not all(t.chain for t in plan(h, some[:8], share=True))), None)
    if sample is None:  # no answer branches off another: nothing to try, and no mask needed
        return True
    head, some = [sample[0]], [sample[1][:8]]
    forward.trees = False
    alone = teacher_forced(forward, head, some, read_likelihoods)[0]
    forward.trees = True
    try:
        together = teacher_forced(forward, head, some, read_likelihoods)[0]
        apart = max(float(np.abs(a[0] - b[0]).mean()) for a, b in zip(alone, together, strict=True))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        apart = math.inf
    if not apart < SAME[forward.model.dtype.itemsize >= 4]:
        forward.trees = False
        log.info("%s cannot read trees: answers are read one by one (slower)", type(forward.model).__name__)
    return forward.trees


def _batch_size(forward: Forward, trees: Sequence[Tree]) -> int:
    """How many of the trees, longest first, go through the model at once."""
    first, longest = trees[0], len(trees[0].ids)
    most = min(forward.tokens_per_pass, LOGITS_PER_PASS // forward.vocabulary)
    row = 4.0 * longest * (2 * forward.vocabulary + (0 if first.chain else longest))
    if math.isinf(forward.budget.room):
        forward.budget.settle()
    most = min(most, int(forward.budget.room / row) * longest)
    alike = (t.chain == first.chain and (forward.pads or len(t.ids) == longest) for t in trees)
    fits = max(1, min(forward.rows, most // longest))
    return sum(1 for _ in itertools.takewhile(bool, itertools.islice(alike, fits)))


def _read_batch(forward: Forward, trees: list[Tree], tokens: Ints, read: Read) -> list[NDArray[Any]]:
    """One forward pass over some trees, and what ``read`` makes of their answers' tokens, one after the other."""
    rows, width, first = len(trees), max(len(t.ids) for t in trees), min(t.trunk for t in trees) - 1
    inputs = tree_inputs(trees, forward.model, fill=forward.fill, masks="attention_mask" in forward.accepts)
    if "use_cache" in forward.accepts:
        inputs["use_cache"] = False
    if "logits_to_keep" in forward.accepts:
        inputs["logits_to_keep"] = width - first
    logits = forward.ask(inputs).logits[:, first - width :]
    forward.work.passes += 1
    forward.work.rows += rows
    return _in_parts(logits.flatten(0, 1), tree_laws(trees, width - first, first), tokens, read)


def _in_parts(logits: torch.Tensor, laws: Ints, tokens: Ints, read: Read) -> list[NDArray[Any]]:
    """``read`` of every (law, token), each law once, few at a time."""
    distinct, which = np.unique(laws, return_inverse=True)
    order = np.argsort(which, kind="stable")
    step = max(1, (CPU_READ if logits.device.type == "cpu" else LOGITS_PER_PASS) // logits.shape[-1])
    home = torch.device("cpu") if logits.device.type == "mps" else logits.device  # no float64 there
    rows = torch.from_numpy(distinct).to(logits.device)
    law, token = torch.from_numpy(which[order]).to(home), torch.from_numpy(tokens[order]).to(home)
    parts = []
    for start in range(0, len(distinct), step):
        low, high = np.searchsorted(which[order], [start, start + step])
        part = logits[rows[start : start + step]].float().to(home)
        parts.append([x.cpu().numpy() for x in read(part, law[low:high] - start, token[low:high])])
    back = np.argsort(order)
    return [np.concatenate(column)[back] for column in zip(*parts, strict=True)]


def read_likelihoods(logits: torch.Tensor, law: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The four values of TokenLikelihood for each token: (M,) each, from (N, vocabulary) logits."""
    top, likeliest = logits.max(-1, keepdim=True)
    if not torch.isfinite(top).all():  # NaN is larger than every number
        raise ModelError("the model gives logits that are not finite: answers have no likelihood")
    own = (logits[law, tokens] - top[law, 0]).double()
    logs = (logits - top).clamp_min_(NEVER)
    probs = logs.exp()
    total = probs.sum(-1).double()
    mean = (probs * logs).sum(-1).double() / total
    logs -= mean.float()[:, None]
    std = (logs.square_().mul_(probs).sum(-1).double() / total).sqrt()
    log_total = total.log()
    return own - log_total[law], likeliest[law, 0] == tokens, (mean - log_total)[law], std[law]


def encode_all(
    tokenizer: Any, template: str, questions: Sequence[str], answers: Sequence[Sequence[str]]
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Token ids of questions and of their answers, end token included; InputError names an answer without a word."""
    if len(questions) != len(answers):
        raise InputError(f"answers has {len(answers)} entries for {len(questions)} questions: give one list for each")
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end token: set its eos_token, so that answers have an end")
    for i, some in enumerate(answers):
        if isinstance(some, str):
            raise InputError(f"answers[{i}] is a text: give a list of answers to questions[{i}]")
        for j, text in enumerate(some):
            if not text.strip():
                raise InputError(f"answers[{i}][{j}] is empty: give an answer with at least one word")
    heads = [encode_prompt(tokenizer, text, template) for text in questions]
    return heads, [
        [encode_pair(tokenizer, question, text, template)[1] for text in some]
        for question, some in zip(questions, answers, strict=True)
    ]
