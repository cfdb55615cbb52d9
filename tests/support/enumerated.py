"""The exact law of a small model: every sequence enumerated by plain forward passes."""

import pytest
import torch
from scipy.stats import chi2
from tiny_models import WORDS
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from leakbound.records import Prompt

PROMPTS = (Prompt("p", "a b", "c"), Prompt("q", "d c a b a", "d"))


FALSE_ALARM = 1e-9


@torch.inference_mode()
def enumerate_law(model, ids, params):
    """{token tuple: probability} of every completion, by full forward passes with transformers' own warpers."""
    warpers = LogitsProcessorList()
    if params.temperature != 1:
        warpers.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p > 0:
        warpers.append(MinPLogitsWarper(params.min_p))
    law, frontier = {}, [((), 1.0)]
    while frontier:
        grown = []
        for tokens, p in frontier:
            logits = model(input_ids=torch.tensor([[*ids, *tokens]])).logits[:, -1].double()
            for token, q in enumerate(torch.softmax(warpers(None, logits), -1)[0].tolist()):
                if q == 0:
                    continue
                child = (*tokens, token)
                if token == 1 or len(child) == params.max_tokens:
                    law[child] = p * q
                else:
                    grown.append((child, p * q))
        frontier = grown
    assert sum(law.values()) == pytest.approx(1, abs=1e-6)
    return law


def key(tokens):
    """What a completion looks like from outside: its text and how it ended."""
    ended = tokens[-1] == 1
    return " ".join(WORDS[t] for t in (tokens[:-1] if ended else tokens) if t > 1), "stop" if ended else "length"


def chi_square_p(counts, law, n):
    """p-value of the counts against the law, cells of expectation < 5 pooled."""
    small = [k for k in law if law[k] * n < 5]
    cells = [(counts.get(k, 0), law[k] * n) for k in law if law[k] * n >= 5]
    rest = sum(law[k] for k in small) * n
    if rest > 1:
        cells.append((sum(counts.get(k, 0) for k in small), rest))
    assert sum(c for c, _ in cells) >= n - (0 if rest > 1 else n)  # nothing outside the law
    statistic = sum((c - e) ** 2 / e for c, e in cells)
    return chi2.sf(statistic, max(len(cells) - 1, 1))
