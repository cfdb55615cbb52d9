"""Keys and values of a prefix tree: each token once, and the rows of any batch laid out from them."""

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicCache

from leakbound.models.hf.cache import Bench, Past, idle_slots, prompts_of, prune, weigh

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


@pytest.mark.slow
def test_rows_of_many_ancestors_are_laid_out_with_all_their_tokens():
    """Against whole rows kept beside: random trees of joined, split, repeated and forgotten rows, unequal prompts."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        on, known = bench(), []  # (past, rows of it, these rows with all tokens)
        for _ in range(2):
            width, rows = int(rng.integers(1, 5)), int(rng.integers(1, 4))
            states = torch.randn(rows, width, NUMBERS)
            step(on, on.lay([], rows, 0, width), states)
            known.append((on.take(width, []), np.arange(rows), list(states)))
        for _ in range(40):
            some = rng.choice(len(known), min(len(known), int(rng.integers(1, 3))), replace=False)
            picked = [(known[i], rng.integers(0, len(known[i][1]), int(rng.integers(1, 4)))) for i in some]
            if rng.random() < 0.5 and known[-1][0] is on.now:
                picked = [(known[-1], np.arange(len(known[-1][1])))]
            parents = [(past, rows[mine]) for (past, rows, _), mine in picked]
            wholes = [all_tokens[i] for (_, _, all_tokens), mine in picked for i in mine]
            stays = on.holds(parents) and on.rows == len(wholes)
            length = on.length if stays else max(map(len, wholes))
            cache = on.cache() if stays else on.lay(parents, len(wholes), length, 1)
            states = torch.randn(len(wholes), 1, NUMBERS)
            seen = step(on, cache, states)
            grown = [torch.cat([whole, new]) for whole, new in zip(wholes, states, strict=True)]
            for row, whole in zip(seen, grown, strict=True):
                assert torch.equal(row[-len(whole) :], whole)
                assert not row[: -len(whole)].any()
            known.append((on.take(1, parents), np.arange(len(grown)), grown))
            if rng.random() < 0.3:  # rows that nobody waits for are forgotten
                left = [(one, rng.integers(0, len(one[1]), 2)) for one in known[:-1] if rng.random() < 0.5]
                wanted = [(past, rows[mine]) for (past, rows, _), mine in left]
                before = sum(past.tokens.numel() for past, _, _ in known)
                new = prune(wanted, [known[-1][0]])
                known = [
                    *((past, rows, [whole[i] for i in mine])
                      for ((past, _, whole), mine), rows in zip(left, new, strict=True)),
                    known[-1],
                ]  # fmt: skip
                after = sum(past.tokens.numel() for past in {id(past): past for past, _, _ in known}.values())
                assert after <= before


def test_only_rows_that_something_waits_for_are_kept():
    root = Past(torch.arange(3.0).reshape(3, 1, 1))
    middle = Past(torch.zeros(4, 1, 1), [(root, np.array([0, 1, 1, 2]))])
    last = Past(torch.zeros(5, 1, 1), [(middle, np.array([3, 0])), (root, np.array([0, 1, 2]))])
    (rows,) = prune([(last, np.array([1, 4, 1]))], [])
    assert rows.tolist() == [0, 1, 0]
    assert [len(past.tokens) for past in (last, middle, root)] == [2, 1, 2]
    assert root.tokens.flatten().tolist() == [0, 2]
    out = torch.full((3, 3, 1), -1.0)
    last.write(rows, out)
    assert out.flatten().tolist() == [0, 0, 0, -1, 2, 0, 0, 0, 0]


def test_the_prompts_of_rows_stay_theirs_when_others_are_dropped():
    on, lengths = bench(), np.array([4, 2, 3])
    states = torch.randn(3, 4, NUMBERS)
    step(on, on.lay([], 3, 0, 4), states)
    root = on.take(4, [], lengths)
    parents = [(root, np.array([2, 0, 2, 1]))]
    step(on, on.lay(parents, 4, 0, 1, whole=False), torch.randn(4, 1, NUMBERS))
    assert on.length == 0 or on.trunks is not None
    last = on.take(1, parents)
    wanted = np.array([3, 2])
    (rows,) = prune([(last, wanted)], [])
    assert [len(past.tokens) for past in (last, root)] == [2, 2]
    one, other = prompts_of([(last, rows)])
    assert torch.equal(one.tokens, states[1, 2:])
    assert torch.equal(other.tokens, states[2, 1:])
    assert one.tokens.untyped_storage().data_ptr() == root.tokens.untyped_storage().data_ptr()  # the old one is free
    out = torch.full((2, 1, NUMBERS), -1.0)
    last.write(rows, out, whole=False)
    assert torch.equal(out, last.tokens[rows])


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
