"""Keys and values of a prefix tree: each token once, and the rows of any batch laid out from them."""

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicCache

from leakbound.models.hf.cache import Bench, Past, idle_slots, weigh

HEADS, SIZE, LAYERS = 2, 5, 3
NUMBERS = 2 * LAYERS * HEADS * SIZE


def bench():
    made = DynamicCache()
    for layer in range(LAYERS):
        made.update(torch.randn(1, HEADS, 4, SIZE), torch.randn(1, HEADS, 4, SIZE), layer)
    return Bench(made)


def step(on, cache, states):
    """What a model does in a pass: each layer writes its states, (rows, tokens, NUMBERS), and sees all tokens."""
    seen = []
    for layer, both in enumerate(states.unflatten(-1, (LAYERS, 2, HEADS, SIZE)).unbind(2)):
        keys, values = (part.transpose(1, 2) for part in both.unbind(2))
        seen += [*cache.update(keys, values, layer)]
    return torch.cat([part.transpose(1, 2).flatten(2) for part in seen], dim=-1)


def test_rows_of_many_ancestors_are_laid_out_with_all_their_tokens():
    """Against whole rows kept beside: random trees of joined, split and repeated rows, prompts of unequal length."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        on, known = bench(), []  # (past, whole rows)
        for _ in range(2):
            width, rows = int(rng.integers(1, 5)), int(rng.integers(1, 4))
            states = torch.randn(rows, width, NUMBERS)
            step(on, on.lay([], rows, 0, width), states)
            known.append((on.take(width, []), list(states)))
        for _ in range(40):
            parts = [known[i] for i in rng.choice(len(known), int(rng.integers(1, 3)), replace=False)]
            parents = [(past, rng.integers(0, len(whole), int(rng.integers(1, 4)))) for past, whole in parts]
            if rng.random() < 0.5 and on.now is not None:
                last = next(whole for past, whole in known if past is on.now)
                parts, parents = [(on.now, last)], [(on.now, np.arange(len(last)))]
            wholes = [whole[r] for (_, whole), (_, mine) in zip(parts, parents, strict=True) for r in mine]
            stays = on.holds(parents)
            length = on.length if stays else max(map(len, wholes))
            cache = on.cache() if stays else on.lay(parents, len(wholes), length, 1)
            states = torch.randn(len(wholes), 1, NUMBERS)
            seen = step(on, cache, states)
            grown = [torch.cat([whole, new]) for whole, new in zip(wholes, states, strict=True)]
            for row, whole in zip(seen, grown, strict=True):
                assert torch.equal(row[-len(whole) :], whole)
                assert not row[: -len(whole)].any()
            known.append((on.take(1, parents), grown))


def test_rows_that_have_finished_idle_along():
    on = bench()
    step(on, on.lay([], 20, 0, 3), torch.randn(20, 3, NUMBERS))
    past = on.take(3, [])
    rows = np.array([0, *range(2, 20)])
    assert on.holds([(past, rows)])
    assert not on.holds([(past, rows[::-1])])
    assert not on.holds([(past, rows[:10])])
    assert not on.holds([(past, rows), (past, rows)])
    assert idle_slots(rows, 20).tolist() == [0, 0, *range(1, 19)]


def test_two_children_of_one_row_do_not_overwrite_each_other():
    on = bench()
    first = torch.randn(1, 3, NUMBERS)
    step(on, on.lay([], 1, 0, 3), first)
    parent, row = on.take(3, []), np.array([0])
    tokens = [torch.full((1, 1, NUMBERS), float(i)) for i in (7, 8)]
    assert on.holds([(parent, row)])
    seen = [step(on, on.cache(), tokens[0])]
    on.take(1, [(parent, row)])
    assert not on.holds([(parent, row)])
    seen.append(step(on, on.lay([(parent, row)], 1, 3, 1), tokens[1]))
    for one, token in zip(seen, tokens, strict=True):
        assert torch.equal(one, torch.cat([first, token], dim=1))


def test_what_is_shared_weighs_once():
    root = Past(torch.zeros(2, 3, 4))
    left, right = (Past(torch.zeros(5, 1, 4), [(root, np.zeros(5, dtype=int))]) for _ in range(2))
    seen: set[int] = set()
    assert weigh(left, seen) == 4 * (24 + 20)
    assert weigh(right, seen) == 4 * 20
    assert (
        weigh(Past(torch.zeros(1, 1, 4), [(left, np.zeros(1, dtype=int)), (right, np.zeros(1, dtype=int))]), seen) == 16
    )


@pytest.mark.parametrize("more", [1, 40])
def test_a_bench_has_room_for_the_next_tokens(more):
    on = bench()
    step(on, on.lay([], 2, 0, more), torch.randn(2, more, NUMBERS))
    past, rows = on.take(more, []), np.arange(2)
    passes = 0
    while on.holds([(past, rows)]):
        step(on, on.cache(), torch.randn(2, 1, NUMBERS))
        past = on.take(1, [(past, rows)])
        passes += 1
    assert passes == max(more, 16) - more
