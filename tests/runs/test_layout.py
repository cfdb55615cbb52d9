"""The layout of a run: every draw of every prompt has exactly one place, and the same one in every version."""

from collections import Counter
from dataclasses import astuple
from inspect import signature

import pytest

from leakbound.runs.layout import DRAWS_PER_SHARD, NUM_PILOT, Part, plan_layout, sizes

SIZES = [(1, 1), (5, 10), (300, 100), (257, 1), (3, 20_000), (2, 70_000), (40, 1024), (17, 1023), (1, 16_385)]


def draws_of(parts, kind):
    """How often each (prompt, number of a draw) has a place in the parts of one kind."""
    return Counter(
        (i, k)
        for part in parts
        if part.kind == kind
        for i in range(part.start, part.stop)
        for k in range(part.first, part.first + part.num_samples)
    )


def once(prompts, first, stop):
    """Each draw of each prompt, once."""
    return Counter((i, k) for i in range(prompts) for k in range(first, stop))


@pytest.mark.parametrize(("prompts", "samples"), SIZES)
@pytest.mark.parametrize("draws_per_shard", [0, 999, 50_000])
def test_every_draw_has_one_place(prompts, samples, draws_per_shard):
    parts = plan_layout(prompts, samples, draws_per_shard=draws_per_shard)
    assert draws_of(parts, "greedy") == once(prompts, 0, 1)
    assert draws_of(parts, "sample") == once(prompts, 0, samples)
    assert {part.kind for part in parts} == {"greedy", "sample"}
    most = draws_per_shard or 4 * DRAWS_PER_SHARD
    for part in parts:
        assert 0 <= part.start < part.stop <= prompts
        assert 1 <= part.num_samples <= most
        if part.kind == "sample" and part.stop - part.start > 1:
            assert (part.stop - part.start) * samples <= DRAWS_PER_SHARD  # only prompts that fit as a whole share
    assert len({part.name for part in parts}) == len(parts)


@pytest.mark.parametrize("rounds", [(32,), (32, 128, 600, 2000), (1, 2, 3), (20_000, 36_000)])
@pytest.mark.parametrize("prompts", [1, 5, 700])
def test_rounds_join_without_a_gap(prompts, rounds):
    if prompts * rounds[-1] > 10**5:
        prompts = 2
    parts = plan_layout(prompts, rounds[-1], rounds)
    assert draws_of(parts, "sample") == once(prompts, 0, rounds[-1])
    for number, (begin, end) in enumerate(zip((0, *rounds), rounds, strict=False)):
        mine = [part for part in parts if part.name.startswith(f"sample-{number:03d}-")]
        assert draws_of(mine, "sample") == once(prompts, begin, end)
        assert [part.name[-5:] for part in mine] == [f"{i:05d}" for i in range(len(mine))]
        for part in mine:  # as many prompts as fit by the draws of this round
            assert (part.stop - part.start) * (end - begin) <= DRAWS_PER_SHARD or part.stop - part.start == 1
    assert sum(part.kind == "sample" for part in parts) == sum(
        part.name.startswith(f"sample-{r:03d}-") for part in parts for r in range(len(rounds))
    )


@pytest.mark.parametrize("prompts", [1, 16, 17, 256, 600])
def test_engines_have_parts_of_their_own(prompts):
    auto = plan_layout(prompts, 50, engine="auto", most_distinct=40)
    assert draws_of(auto, "greedy") == once(prompts, 0, 1)
    assert draws_of(auto, "pilot") == once(prompts, -NUM_PILOT, 0)  # never one of the draws that are judged
    assert draws_of(auto, "distinct") == once(prompts, 0, 40)
    assert draws_of(auto, "sample") == once(prompts, 0, 50)
    order = list(dict.fromkeys(part.kind for part in auto))
    assert order == ["greedy", "pilot", "distinct", "sample"]  # pilots come before what they choose
    assert max(part.stop - part.start for part in auto if part.kind == "distinct") == min(16, prompts)

    alone = plan_layout(prompts, 50, engine="without-replacement", most_distinct=50)
    assert draws_of(alone, "distinct") == once(prompts, 0, 50)
    assert {part.kind for part in alone} == {"greedy", "distinct"}


def test_draws_made_elsewhere_have_no_greedy_parts():
    assert plan_layout(300, 40, greedy=False) == [p for p in plan_layout(300, 40) if p.kind != "greedy"]


def test_layouts_are_the_same_in_every_version():
    """Written out: a folder of an older version must find its own layout again."""
    assert [astuple(p) for p in plan_layout(600, 1024)][:5] == [
        ("greedy-00000", 0, 256, 0, 1),
        ("greedy-00001", 256, 512, 0, 1),
        ("greedy-00002", 512, 600, 0, 1),
        ("sample-00000", 0, 16, 0, 1024),
        ("sample-00001", 16, 32, 0, 1024),
    ]
    assert astuple(plan_layout(600, 1024)[-1]) == ("sample-00037", 592, 600, 0, 1024)
    assert [astuple(p) for p in plan_layout(2, 140_000)][1:] == [
        ("sample-00000", 0, 1, 0, 65_536),
        ("sample-00001", 0, 1, 65_536, 65_536),
        ("sample-00002", 0, 1, 131_072, 8_928),
        ("sample-00003", 1, 2, 0, 65_536),
        ("sample-00004", 1, 2, 65_536, 65_536),
        ("sample-00005", 1, 2, 131_072, 8_928),
    ]
    assert [astuple(p) for p in plan_layout(2, 100, draws_per_shard=64)][1:] == [
        ("sample-00000", 0, 2, 0, 64),
        ("sample-00001", 0, 2, 64, 36),
    ]
    assert [astuple(p) for p in plan_layout(300, 164, (64, 164))][2:] == [
        ("sample-000-00000", 0, 256, 0, 64),
        ("sample-000-00001", 256, 300, 0, 64),
        ("sample-001-00000", 0, 163, 64, 100),
        ("sample-001-00001", 163, 300, 64, 100),
    ]
    assert [astuple(p) for p in plan_layout(260, 30, engine="auto", most_distinct=20)][2:6] == [
        ("pilot-00000", 0, 256, -32, 32),
        ("pilot-00001", 256, 260, -32, 32),
        ("distinct-00000", 0, 16, 0, 20),
        ("distinct-00001", 16, 32, 0, 20),
    ]
    assert [astuple(p) for p in plan_layout(1, 16_384)][1:] == [("sample-00000", 0, 1, 0, 16_384)]
    assert [(p.start, p.stop) for p in plan_layout(3, 8_192)][1:] == [(0, 2), (2, 3)]
    assert [(p.start, p.stop) for p in plan_layout(3, 8_193)][1:] == [(0, 1), (1, 2), (2, 3)]


def test_only_pilots_are_not_judged():
    def part(name):
        return Part(name, 0, 1, 0, 1)

    parts = [part(f"{kind}-00000") for kind in ("greedy", "pilot", "sample", "distinct")] + [part("sample-001-00007")]
    assert [p.kind for p in parts] == ["greedy", "pilot", "sample", "distinct", "sample"]
    assert [p.judged for p in parts] == [True, False, True, True, True]
    assert [p.greedy for p in parts] == [True, False, False, False, False]


def test_what_run_json_says_of_the_layout():
    assert sizes({"num_samples": 10, "seed": 0}) == {}
    assert sizes({"engine": None, "rule": None}) == {}
    assert sizes({"engine": {"name": "iid", "most_distinct": 9}}) == {}
    assert sizes({"engine": "iid"}) == {}  # a log that names its engine in words
    assert sizes({"engine": {"name": "auto", "most_distinct": 9, "pilot": 32}}) == {
        "engine": "auto",
        "most_distinct": 9,
    }
    assert sizes({"rule": {"until": "leak<=0.01", "sizes": [32, 128]}}) == {"rounds": [32, 128]}
    assert sizes({"draws_per_shard": 5, "greedy": False}) == {"draws_per_shard": 5, "greedy": False}
    everything = {
        "draws_per_shard": 5,
        "greedy": True,
        "rule": {"sizes": [1]},
        "engine": {"name": "x", "most_distinct": 2},
    }
    assert set(sizes(everything)) <= set(signature(plan_layout).parameters)
    assert len(sizes(everything)) == 5


def test_the_usual_layout_is_the_one_with_nothing_said():
    usual = plan_layout(20, 70_000)
    assert usual == plan_layout(20, 70_000, (), draws_per_shard=0, engine="iid", most_distinct=0, greedy=True)
    # an engine that is told no number of completions searches for none
    assert {p.num_samples for p in plan_layout(20, 70_000, engine="auto") if p.kind == "distinct"} == {0}
