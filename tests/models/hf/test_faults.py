"""The laws of named faults on cells, against the whole vocabulary, decoded by transformers' own warpers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from leakbound.models.hf import attested, faults
from leakbound.models.hf.attested import _read_cells
from leakbound.models.hf.faults import Cells, decoded, ending, foreign, penalised
from leakbound.models.hf.law import warp
from leakbound.records import SamplingParams

SIZE, ENDS = 60, [3, 7]


def cells_of(logits, params, before=(5, 9, 40)):
    """The cells of laws behind the tokens ``before``, and which token is in which."""
    rows = len(logits)
    named = np.array(sorted({*before, *ENDS}))
    own = np.ones((rows, len(named)), dtype=bool)
    marks = torch.arange(rows)
    read = _read_cells(np.zeros(rows, dtype=np.int64), named, own, params)
    stated, whole, size, shift, where, at, top, p = (x.numpy() for x in read(logits, marks, marks))
    flags = []
    for some in (before, ENDS):
        flag = np.zeros_like(stated)
        for token in some:
            flag[np.arange(rows), where[:, list(named).index(token)]] = 1
        flags.append(flag)
    return Cells(stated, whole, size, shift, *flags, at, top, p)


def logits_of(rows=20, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(rows, SIZE)) * 3, dtype=torch.float32)


def by_token(cells, law):
    """The law of the likeliest tokens, each in its place in the vocabulary: all of them."""
    found = np.zeros((len(law), SIZE))
    np.put_along_axis(found, cells.top, law[:, : cells.top.shape[1]], 1)
    return found


@pytest.mark.parametrize("changed", [
    {"top_k": 5}, {"top_k": SIZE}, {"top_p": 0.8}, {"top_p": 0.95}, {"min_p": 0.05}, {"temperature": 0.5},
    {"temperature": 2.0}, {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "min_p": 0.1},
])  # fmt: skip
@pytest.mark.parametrize("own", [1.0, 0.7])
def test_where_each_token_is_a_cell_a_law_is_that_of_transformers(monkeypatch, changed, own):
    monkeypatch.setattr(faults, "EDGE", 1e-12)
    logits, asked = logits_of(), SamplingParams(temperature=own)
    other = replace(asked, **changed)
    cells = cells_of(logits, asked)
    want = torch.softmax(warp(logits, other), -1).double().numpy()
    assert np.abs(by_token(cells, decoded(other, asked)(cells)) - want).max() < 1e-5


def test_penalties_and_ends_are_those_of_their_formulas():
    logits, params = logits_of(), SamplingParams(temperature=0.8)
    cells, seen = cells_of(logits, params), [5, 9, 40]
    lower = logits.clone()
    lower[:, seen] = torch.where(lower[:, seen] > 0, lower[:, seen] / 1.2, lower[:, seen] * 1.2) - 0.5
    want = torch.softmax(lower / 0.8, -1).double().numpy()
    assert np.abs(by_token(cells, penalised(params, repetition=1.2, presence=0.5)(cells)) - want).max() < 1e-5
    usual = torch.softmax(logits / 0.8, -1).double().numpy()
    stop = np.isin(np.arange(SIZE), ENDS) / len(ENDS)
    assert np.abs(by_token(cells, ending(params, 0.3)(cells)) - (0.7 * usual + 0.3 * stop)).max() < 1e-6
    never = np.where(stop > 0, 0, usual)
    assert np.abs(by_token(cells, ending(params, 0)(cells)) - never / never.sum(1, keepdims=True)).max() < 1e-6
    order = np.argsort(-usual, 1)
    ranked = np.take_along_axis(by_token(cells, foreign(params)(cells)) - 0.75 * usual, order, 1)
    assert ranked.min() > 0
    assert (np.diff(ranked, axis=1) < 1e-9).all()


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(temperature=0.7, top_k=12, top_p=0.9)])
def test_coarse_cells_hold_the_mass_of_their_tokens(monkeypatch, params):
    monkeypatch.setattr(attested, "TOP", 4)
    monkeypatch.setattr(attested, "BINS", 3)
    logits = logits_of()
    cells = cells_of(logits, params)
    assert np.allclose(cells.stated.sum(1), 1)
    assert (cells.size.sum(1) == SIZE).all()
    whole = torch.softmax(logits / params.temperature, -1).double().numpy()
    assert np.allclose(cells.whole[:, :4], -np.sort(-whole, 1)[:, :4], atol=1e-6)
    rows = np.arange(len(whole))
    assert np.allclose((cells.whole * cells.ends).sum(1), whole[:, ENDS].sum(1), atol=1e-6)
    filtered = torch.softmax(warp(logits, params), -1).double().numpy()
    least = attested.LEAST if params.top_k else 0.0
    want = (1 - least) * filtered + least * whole
    assert np.allclose(np.exp(cells.own), want[rows, 0], atol=1e-6)
    for law in faults.faults(params, ENDS).values():
        found = law(cells)
        assert np.allclose(found.sum(1), 1)
        assert (found >= 0).all()
        assert (found[cells.size == 0] == 0).all()
