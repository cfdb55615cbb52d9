"""Losses again, number by number."""

import math

import pytest
import torch

from leakbound.unlearning import losses
from leakbound.unlearning.data import IGNORED

B, L, V = 3, 6, 5


LABELS = torch.tensor([[IGNORED, 1, 2, 3, IGNORED, IGNORED], [IGNORED] * 5 + [4], [IGNORED, 0, 1, 2, 3, 4]])
TEXT = torch.tensor([[True] * 4 + [False] * 2, [True] * 6, [True] * 6])
MASKS = {"answer": losses.predicts_answer(LABELS), "text": TEXT, "all": torch.ones(B, L, dtype=torch.bool)}


def random_logits(seed=0, dtype=torch.float64):
    return (3 * torch.randn(B, L, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def slow_softmax(row):
    top = max(row)
    weights = [math.exp(x - top) for x in row]
    return [w / sum(weights) for w in weights]


def slow_logps(logits, labels):
    return [
        sum(math.log(slow_softmax(rows[t - 1])[y]) for t, y in enumerate(ys) if t > 0 and y != IGNORED)
        for rows, ys in zip(logits.tolist(), labels.tolist(), strict=True)
    ]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def answer_tokens(labels):
    """For each example the pairs of a position and the token that it predicts."""
    return [[(t - 1, y) for t, y in enumerate(ys) if t > 0 and y != IGNORED] for ys in labels.tolist()]


def mean_over(logits, mask, value):
    return [
        sum(value(b, t, row) for t, row in enumerate(rows) if mask[b][t]) / sum(mask[b][t].item() for t in range(L))
        for b, rows in enumerate(logits.tolist())
    ]


def same(value, slow):
    assert value.dtype == torch.float64
    assert value.tolist() == pytest.approx(slow, abs=1e-6)
