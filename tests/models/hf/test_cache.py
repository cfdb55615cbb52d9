"""Caches with room: twins that share memory never see each other's tokens."""

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from leakbound.models.hf.cache import RoomyLayer, gather


def one_row(length=3):
    """A cache of one row with room, as a gather of some rows of a larger one gives it."""
    cache = DynamicCache()
    cache.update(torch.randn(4, 2, length, 5), torch.randn(4, 2, length, 5), 0)
    return gather([(cache, np.array([2]))], length, torch.device("cpu"))


def test_two_children_of_one_row_do_not_overwrite_each_other():
    """Both are all rows of their parent's cache, so that neither is copied before it goes on."""
    parent = one_row()
    assert isinstance(parent.layers[0], RoomyLayer)
    before = parent.layers[0].keys.clone()
    children = [gather([(parent, np.array([0]))], 3, torch.device("cpu")) for _ in range(2)]
    tokens = [torch.full((1, 2, 1, 5), float(i)) for i in (7, 8)]
    for child, token in zip(children, tokens, strict=True):
        child.update(token, token, 0)
    for child, token in zip(children, tokens, strict=True):
        assert torch.equal(child.layers[0].keys[:, :, -1:], token)
        assert torch.equal(child.layers[0].values[:, :, -1:], token)
        assert torch.equal(child.layers[0].keys[:, :, :-1], before)
    assert torch.equal(parent.layers[0].keys, before)


def test_room_that_is_used_up_is_made_anew():
    cache = one_row()
    for i in range(40):
        cache.update(torch.full((1, 2, 1, 5), float(i)), torch.full((1, 2, 1, 5), float(i)), 0)
    assert cache.layers[0].keys.shape[-2] == 43
    assert cache.layers[0].keys[0, 0, 3:, 0].tolist() == [float(i) for i in range(40)]
