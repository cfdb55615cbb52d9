"""The memory budget, and draws that are made piece by piece."""

import gc
import itertools
import math
import re
import weakref

import numpy as np
import pytest
import torch
from enumerated import PROMPTS
from tiny_models import CONFIGS, tiny_model

from leakbound.errors import InputError
from leakbound.models.hf import HFModel, budget, memory
from leakbound.models.hf import model as model_module
from leakbound.models.hf import walk as walk_module
from leakbound.models.hf.prefixes import Prefixes
from leakbound.models.hf.segments import Segment
from leakbound.records import Prompt, SamplingParams, Shard, byte_count

MANY = tuple(Prompt(str(i), text, "c") for i, text in enumerate(["a b", "c", "d d a", "b a c d", "a a", "c d c"]))


def told(draws):
    return [(d.prompt_id, d.text, d.count, d.first, d.places, d.finish_reason, d.num_tokens) for d in draws]


@pytest.mark.parametrize("pasts", [0.35, 1e-6])
@pytest.mark.slow
def test_little_memory_changes_batches_and_not_draws(tokenizer, monkeypatch, pasts):
    """What waits is forgotten and read again when there is no room; the draws stay the same."""
    monkeypatch.setattr(walk_module, "PASTS", pasts)
    shard, params = Shard(MANY, 0, 60, 5), SamplingParams(max_tokens=6)
    rich = HFModel(tiny_model(), tokenizer)
    expected = rich.sample(shard, params)
    forgotten, forget = [], Segment.forget
    monkeypatch.setattr(Segment, "forget", lambda self: (forgotten.append(self.cache is not None), forget(self)))
    monkeypatch.setattr(budget, "free_bytes", lambda device: 33_000.0)
    poor = HFModel(tiny_model(), tokenizer)
    assert told(poor.sample(shard, params)) == told(expected)
    assert poor.work.passes > rich.work.passes
    assert any(forgotten) == (pasts < 0.1)


def test_a_budget_counts_what_the_process_has_taken_and_every_row(tokenizer, monkeypatch):
    monkeypatch.setattr(budget, "taken_bytes", lambda device: 5e8)
    box = HFModel(tiny_model(), tokenizer, memory=5e8 + budget.SPARE + 50_000)
    box.sample(Shard(MANY, 0, 60, 5), SamplingParams(max_tokens=6))
    room = box._forward.budget.room
    assert room == pytest.approx(50_000)
    token = 2 * 2 * 8 * 4  # layers, keys and values, numbers, bytes
    assert box._forward.row_bytes == token
    wide = Segment(Prefixes.roots([[2] * 30], [0], 1, 0))
    assert box._forward.fitting([wide]) == int(budget.PASTS * room / (2 * token * 30))  # it waits for all its draws
    with torch.inference_mode():
        step = box._forward.run([wide])
    deep = step.segment(step.prefixes.take(np.zeros(9, dtype=int)), np.zeros(9, dtype=int))
    assert box._forward.fitting([deep]) == int(budget.BENCH * room / (token * (30 + 16) + 4 * 6))


@pytest.mark.parametrize("tiles", [True, False])
def test_a_processor_that_multiplies_bfloat16_by_tiles_gets_larger_batches(monkeypatch, tiles):
    """Four times the nominal speed and room in bfloat16, and nothing else in float32."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setitem(budget.NOMINAL, "cpu", (2e6, 1e-8, 1e-4))
    monkeypatch.setattr(budget, "free_bytes", lambda device: 1e12)
    plain, half = (budget.Budget(tiny_model().to(kind), 6, None) for kind in (torch.float32, torch.bfloat16))
    assert plain.of_token / half.of_token == (4 if tiles else 1)
    assert half.most_rows(1) >= (3.9 if tiles else 1) * plain.most_rows(1)
    large = 10**9  # beside weights of so many bytes the least room does not matter
    for one in (plain, half):
        one.weights = large
        one.settle()
    assert half.room / plain.room == (4 if tiles else 1)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert budget.Budget(tiny_model().to(torch.bfloat16), 6, None).of_token == plain.of_token  # an older torch


@pytest.mark.parametrize("given", [5e8, None])
def test_no_room_for_one_row_is_an_error_with_its_figures(tokenizer, monkeypatch, given):
    monkeypatch.setattr(budget, "taken_bytes", lambda device: 4e8)
    monkeypatch.setattr(budget, "free_bytes", lambda device: 2_000.0)
    box = HFModel(tiny_model(), tokenizer, memory=given and 4e8 + budget.SPARE + 1_000.0)
    with pytest.raises(InputError) as error:
        box.sample(Shard(MANY, 0, 5, 0), SamplingParams(max_tokens=50))
    said = str(error.value)
    assert ("memory is 484MB" if given else "half of what is free") in said
    assert "leaves 1KB to sample in" in said
    assert "one row of 54 tokens 18KB" in said
    least = byte_count("memory", re.search(r"--memory (\S+) or more", said)[1])
    HFModel(tiny_model(), tokenizer, memory=least).sample(Shard(MANY, 0, 5, 0), SamplingParams(max_tokens=50))


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.5GB", 1.5e9), ("800 MiB", 800 * 2**20), ("2g", 2e9), ("64K", 64e3), ("1TiB", 2.0**40), (" 3 mb ", 3e6)],
)
def test_a_number_of_bytes_has_a_unit(text, number):
    assert byte_count("memory", text) == number


@pytest.mark.parametrize("text", ["1.5", "GB", "-1GB", "0GB", "1 GBs", "half", "1,5GB", "", "nanGB"])
def test_what_is_no_number_of_bytes_is_refused(text):
    with pytest.raises(InputError, match=r"memory is .*: give a number with its unit, such as 1.5GB"):
        byte_count("memory", text)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_limits_of_control_groups_hold_at_every_level(tmp_path):
    groups, mounts = tmp_path / "cgroup", tmp_path / "fs"
    assert memory.group_room(groups, mounts) == math.inf
    groups.write_text("3:cpu,cpuacct:/x\n2:memory:/box/inner\n0::/box/inner\n")
    assert memory.group_room(groups, mounts) == math.inf
    one = mounts / "memory" / "box"
    write(one, memory__limit_in_bytes="1000", memory__usage_in_bytes="700", memory__stat="total_inactive_file 50\n")
    assert memory.group_room(groups, mounts) == 350  # a version 1 group above ours
    two = mounts / "box" / "inner"
    write(two, memory__max="max", memory__current="5", memory__stat="inactive_file 0\n")
    assert memory.group_room(groups, mounts) == 350
    write(two, memory__max="300")
    assert memory.group_room(groups, mounts) == 295
    write(mounts, memory__max="9", memory__current="700", memory__stat="anon 3\ninactive_file 1\n")
    assert memory.group_room(groups, mounts) == 0  # a container that sees its own group as the root


def test_free_and_taken_memory_of_this_process_are_numbers():
    cpu = torch.device("cpu")
    assert 1e6 < memory.taken_bytes(cpu) < 1e12
    assert 0 <= memory.free_bytes(cpu) < 1e14
    memory.release_cached(cpu)


PIECED = {
    "plain": SamplingParams(max_tokens=8),
    "adaptive": SamplingParams(max_tokens=6, adaptive_temperature=0.5),
    "sequence": SamplingParams(max_tokens=6, adaptive_temperature=0.5, adaptive_mode="sequence"),
    "greedy": SamplingParams(max_tokens=6, temperature=0.0),
}


@pytest.mark.parametrize(  # how a token is picked knows nothing of the model, but what it remembers: all, some, none
    ("name", "picked"),
    [
        *(pytest.param(name, "plain", marks=() if name == "llama" else pytest.mark.slow) for name in CONFIGS),
        *itertools.product(("llama", "gemma3", "mamba"), list(PIECED)[1:]),
    ],
)
def test_pieces_are_the_draws_of_the_shard(name, picked, tokenizer, monkeypatch):
    """A prefix's draws stay together, so that a completion is in one piece with all of its draws."""
    params = PIECED[picked]
    shard = Shard(MANY, 64, 1 if params.greedy else 60, 3)
    whole = HFModel(tiny_model(name), tokenizer).sample(shard, params)

    def left(known):
        taken = {(draw.prompt_id, place) for draw in known for place in draw.places}
        numbers = range(shard.first, shard.first + shard.num_samples)
        return {p.id: [n for n in numbers if (p.id, n) not in taken] for p in shard.prompts}

    monkeypatch.setattr(model_module, "PIECE", 1e-9)
    box, known, pieces = HFModel(tiny_model(name), tokenizer, batch_rows=8), [], 0
    box._forward.budget.seconds = lambda rows, tokens: 1.0  # every pass is a long one
    while more := box.sample_more(shard, params, left(known)):
        known += more
        pieces += 1
    order = [p.id for p in MANY]
    assert told(sorted(known, key=lambda d: (order.index(d.prompt_id), d.first))) == told(whole)
    assert pieces > 1 or len(whole) < 20
    again = HFModel(tiny_model(name), tokenizer, batch_rows=8)
    again._forward.budget.seconds = lambda rows, tokens: 1.0
    half = len(known) // 2  # a process that was killed and began again: of what is known, the same follows
    first = box.sample_more(shard, params, left(known[:half]))
    assert again.sample_more(shard, params, left(known[:half])) == first


def test_prompts_are_read_once_for_all_pieces(tokenizer):
    box = HFModel(tiny_model(), tokenizer)
    params = SamplingParams(max_tokens=1)
    box.sample(Shard(PROMPTS, 0, 100, 3), params)
    passes = box.work.passes
    box.sample(Shard(PROMPTS, 100, 100, 3), params)
    assert box.work.passes == passes


def test_a_search_keeps_no_logits_of_the_passes_behind_it(tokenizer, monkeypatch):
    """Those of a whole depth would be more than all else where the vocabulary is large."""
    box, alive = HFModel(tiny_model(), tokenizer, batch_rows=4), []
    run = box._forward.run_or_halve

    def counted(segments):
        step = run(segments)
        alive.append(weakref.ref(step.logits))
        gc.collect()
        assert sum(one() is not None for one in alive) <= 2  # this pass's, and the one before while it is read
        return step

    box.check(MANY, SamplingParams(max_tokens=6))
    monkeypatch.setattr(box._forward, "run_or_halve", counted)
    monkeypatch.setattr(box._forward, "_keep", lambda root, step: None)
    gc.freeze()  # what the suite holds is not looked through after each pass
    try:
        assert [len(some) for some in box.distinct(MANY, 40, SamplingParams(max_tokens=6), 0)] == [40] * len(MANY)
    finally:
        gc.unfreeze()
    assert len(alive) > 50
