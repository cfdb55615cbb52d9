"""Losses again, number by number."""

import math

import torch

from leakbound.unlearning.data import IGNORED

B, L, V = 3, 6, 5


LABELS = torch.tensor([[IGNORED, 1, 2, 3, IGNORED, IGNORED], [IGNORED] * 5 + [4], [IGNORED, 0, 1, 2, 3, 4]])


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
