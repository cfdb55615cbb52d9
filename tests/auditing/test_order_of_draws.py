"""The order of generation, from a sampler into the run folder and into the bets; and where it is not known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from leakbound import report
from leakbound.auditing.steps import Statement, audit, bound, sample, score
from leakbound.bounds import ed_bound, mean_bound, std_bound
from leakbound.errors import IncompleteRunError, InputError, RunMismatchError
from leakbound.models import FakeModel
from leakbound.models.randomness import uniforms
from leakbound.records import Draw, Prompt, Shard
from leakbound.runs.store import Run

TARGET, CLEAN = "one two three four five six seven eight", "I said one two"
PROMPTS = (Prompt("p0", "What is it?", TARGET), Prompt("p1", "And what is this?", TARGET))
MODEL = FakeModel(leak=0.3, clean=CLEAN)
N, ALPHA = 200, 0.01


def one_by_one(prompt_id: str, *, rounds=(0, N), seed=0) -> np.ndarray:
    """The ROUGE-L of each draw, drawn again one after another: 1 for the target, 2 of 8 words for the other answer."""
    said = [uniforms(seed, prompt_id, a, 0, b - a) for a, b in pairwise(rounds)]
    return np.where(np.concatenate(said) < 0.3, 1.0, 0.25)


def run_audit(model=MODEL, **changes):
    return audit(model, PROMPTS, num_samples=N, alpha=ALPHA, scorer="rouge_l", progress=False, **changes)


def test_bets_see_the_draws_as_they_were_generated(tmp_path):
    result = run_audit(out=tmp_path / "r")
    for p in result.prompts:
        x = one_by_one(p.prompt.id)
        assert 0.15 < (x == 1).mean() < 0.45
        assert p.mean == mean_bound(x, alpha=ALPHA)
        assert p.std == std_bound(x, alpha=ALPHA)
        assert p.ed_bound == ed_bound(x, alpha=ALPHA)
        assert p.mean != mean_bound(np.roll(x, 50), alpha=ALPHA)


def test_the_order_does_not_depend_on_how_the_draws_were_cut(tmp_path):
    whole, parts = run_audit(), run_audit(draws_per_shard=7, out=tmp_path / "r")
    assert len(list((tmp_path / "r" / "draws").glob("sample-*"))) == -(-N // 7)
    x = one_by_one("p0", rounds=[*range(0, N, 7), N])
    assert parts.prompts[0].mean == mean_bound(x, alpha=ALPHA)
    assert whole.prompts[0].mean == mean_bound(one_by_one("p0"), alpha=ALPHA)


def test_each_draw_stands_in_the_folder_once(tmp_path):
    run = sample(MODEL, PROMPTS, tmp_path / "r", num_samples=N)
    part = next(p for p in run.parts if p.kind == "sample")
    rows = pq.read_table(tmp_path / "r" / "draws" / f"{part.name}.parquet").to_pylist()
    for prompt in PROMPTS:
        mine = [row for row in rows if row["prompt_id"] == prompt.id]
        assert sorted(i for row in mine for i in row["places"]) == list(range(N))
        for row in mine:
            assert row["count"] == len(row["places"])
            assert row["first"] == row["places"][0]
    assert run.read_draws(part) == MODEL.sample(run.shard(part), run.params)


def test_the_order_costs_little_space(tmp_path):
    """10 draws of a prompt told apart by nothing but their places: less than two bytes a draw."""
    run = sample(FakeModel(leak=0.5), PROMPTS[:1], tmp_path / "r", num_samples=16_000)
    part = next(p for p in run.parts if p.kind == "sample")
    assert (tmp_path / "r" / "draws" / f"{part.name}.parquet").stat().st_size < 8_000 + 4_000


class Counting(FakeModel):
    """A sampler that tells how often, not when."""

    def sample(self, shard, params):
        return [replace(draw, places=None) for draw in super().sample(shard, params)]


def test_counts_alone_get_bounds_that_need_no_order(tmp_path):
    known, counted = run_audit(), run_audit(Counting(leak=0.3, clean=CLEAN), out=tmp_path / "r")
    for p, q in zip(known.prompts, counted.prompts, strict=True):
        x = one_by_one(p.prompt.id)
        values, counts = np.unique(x, return_counts=True)
        assert q.mean == mean_bound(values, counts=counts, alpha=ALPHA)
        for name in ("mean", "std", "ed_bound"):
            assert getattr(q, name).method.endswith("no order known")
        assert q.mean.upper > p.mean.upper
        assert q.std == std_bound(values, counts=counts, alpha=ALPHA)
        assert q.ed_bound == ed_bound(values, counts=counts, alpha=ALPHA)
        assert (q.leak, q.survival) == (p.leak, p.survival)  # these never needed one
    binary = [audit(m, PROMPTS, num_samples=N, scorer="contains", progress=False).prompts for m in
              (MODEL, Counting(leak=0.3, clean=CLEAN))]  # fmt: skip
    assert binary[0] == binary[1]


def test_a_folder_of_the_first_format_is_read_without_an_order(tmp_path):
    run = sample(MODEL, PROMPTS, tmp_path / "r", num_samples=N)
    score(run)
    new = bound(run)
    info = json.loads((run.path / "run.json").read_text())
    del info["seal"]
    (run.path / "run.json").write_text(json.dumps({**info, "format": 1}))
    for file in (run.path / "draws").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns("places"), file)
    old = bound(Run.open(run.path))
    for p, q in zip(new.prompts, old.prompts, strict=True):
        assert q.mean.method.endswith("no order known")
        assert q.mean.upper > p.mean.upper
        assert (q.leak, q.num_leaks, q.num_samples) == (p.leak, p.num_leaks, p.num_samples)
    with pytest.raises(RunMismatchError, match="format 1 without the order of the draws"):
        sample(MODEL, PROMPTS, run.path, num_samples=N)
    (run.path / "run.json").write_text(json.dumps({**info, "format": 5}))
    with pytest.raises(RunMismatchError, match="this version reads 1, 2"):
        Run.open(run.path)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (((0, 1), (1, 2)), "whose places are not each of 0 to 3 once"),
        (((0, 1), (2, 4)), "whose places are not each of 0 to 3 once"),
        (((0, 1, 2), (3,)), None),
        (((1, 2), (0, 3)), None),
        (((0, 2), None), None),
    ],
)
def test_places_must_name_every_draw_once(tmp_path, places, message):
    class Says(FakeModel):
        def sample(self, shard: Shard, params):
            if shard.num_samples == 1:
                return super().sample(shard, params)
            return [
                Draw(
                    p.id, text, 2 if mine is None else len(mine), 1 if mine is None else mine[0], "stop", 1, None, mine
                )
                for p in shard.prompts
                for text, mine in zip((TARGET, CLEAN), places, strict=True)
            ]

    def run():
        return audit(Says(), PROMPTS[:1], num_samples=4, scorer="rouge_l", progress=False).prompts[0]

    if message:
        with pytest.raises(IncompleteRunError, match=message):
            run()
        return
    found = run()
    if None in places:
        assert found.mean.method.endswith("no order known")
    else:
        x = np.full(4, 0.25)
        x[list(places[0])] = 1.0
        assert found.mean == mean_bound(x, alpha=0.01)


def test_an_order_is_never_guessed(tmp_path):
    """One row for each draw, numbered by its place in a list: that may be any order, so none is known."""

    class OneByOne(FakeModel):
        def sample(self, shard, params):
            return [
                Draw(d.prompt_id, d.text, 1, i, d.finish_reason, d.num_tokens)
                for d in super().sample(shard, params)
                for i in d.places
            ]

    listed = run_audit(OneByOne(leak=0.3, clean=CLEAN))
    assert all(p.mean.method.endswith("no order known") for p in listed.prompts)
    assert [p.leak for p in listed.prompts] == [p.leak for p in run_audit().prompts]


def test_draws_grouped_by_what_they_say_are_seen(tmp_path):
    """A log that lists equal answers together: its order is not that of generation, and its bounds need none."""

    class Grouped(FakeModel):
        def sample(self, shard, params):
            start, draws = shard.first, []
            for d in super().sample(shard, params):
                places = tuple(range(start, start + d.count))
                draws.append(replace(d, places=places, first=start))
                start = shard.first if places[-1] + 1 == shard.first + shard.num_samples else places[-1] + 1
            return draws

    for p, q in zip(run_audit(Grouped(leak=0.3, clean=CLEAN)).prompts, run_audit().prompts, strict=True):
        values, counts = np.unique(one_by_one(p.prompt.id), return_counts=True)
        assert p.mean.upper >= mean_bound(values, counts=counts, alpha=ALPHA).upper
        assert p.leak == q.leak


def test_draws_that_are_sampled_again_lose_their_old_scores(tmp_path):
    clean = FakeModel(leak=0.0, clean="I said nothing")
    run = sample(clean, PROMPTS, tmp_path / "r", num_samples=N)
    score(run)
    part = next(p for p in run.parts if p.kind == "sample")
    (run.path / "draws" / f"{part.name}.parquet").unlink()
    run.write_draws(part, FakeModel(leak=1.0).sample(run.shard(part), run.params))
    assert run.missing_scores("rouge_l") == [part]
    score(run)
    assert all(p.num_leaks == N for p in bound(run).prompts)


def test_a_completion_with_two_stored_scores_counts_as_both(tmp_path):
    run = sample(FakeModel(leak=0.5), PROMPTS[:1], tmp_path / "r", num_samples=64, draws_per_shard=32)
    score(run)
    parts = [p for p in run.parts if p.kind == "sample"]
    assert len(parts) == 2
    for part, value in zip(parts, (1.0, 0.0), strict=True):
        draws = run.read_draws(part)
        run.write_scores(part, "rouge_l", draws, [value] * len(draws))
    assert bound(run).prompts[0].num_leaks == 32


@pytest.mark.parametrize("until", [None, "leak<=0.2"])
def test_a_broken_declaration_is_no_bound(tmp_path, until):
    run = sample(FakeModel(leak=0.5), PROMPTS[:1], tmp_path / "r", num_samples=64, until=until,
                 statement=Statement("contains"))  # fmt: skip
    score(run)
    part = next(p for p in run.parts if p.kind == "sample")
    draws = run.read_draws(part)
    run.write_scores(part, "contains", draws, [0.4] * len(draws))
    with pytest.raises(InputError, match=r"declares that it gives 0 and 1 only, and sample-.* holds the score 0\.4"):
        bound(run)


def test_no_verdict_is_given_on_another_statement(tmp_path):
    result = run_audit(FakeModel(leak=0.0, clean=CLEAN), until="leak<=0.3", threshold=0.8, out=tmp_path / "r")
    assert {p.verdict for p in result.prompts} == {"proven"}
    assert "The claim leak<=0.3 is proven for 2 prompts" in report.summary(result)
    other = bound(Run.open(tmp_path / "r"), threshold=0.2)
    assert {p.verdict for p in other.prompts} == {""}
    assert all(p.num_leaks == p.num_samples for p in other.prompts)
    assert "proven" not in report.summary(other)
    assert (
        "ended by looks at P(h >= 0.8) by rouge_l, another statement than this one about P(h >= 0.2)"
        in report.summary(other)
    )


@pytest.mark.parametrize(
    ("count", "first", "places"), [(2, 0, (0,)), (2, 0, (1, 0)), (2, 0, (0, 0)), (2, 0, (1, 2)), (1, 3, (4,))]
)
def test_a_draw_says_its_places_consistently(count, first, places):
    with pytest.raises(InputError, match="give the ascending numbers of the draws that gave it"):
        Draw("p", "text", count, first, "stop", 1, None, places)


def test_stopped_audits_bet_in_the_order_of_their_rounds(tmp_path):
    from leakbound.bounds import ed_sequence_bound, mean_sequence_bound, std_sequence_bound

    result = run_audit(until="mean<=0.6", out=tmp_path / "r")
    sizes = result.run["rule"]["sizes"]
    for p in result.prompts:
        x = one_by_one(p.prompt.id, rounds=[0, *sizes[: sizes.index(p.num_samples) + 1]])
        assert x.size == p.num_samples
        assert p.mean == mean_sequence_bound(x, alpha=ALPHA)
        assert p.std == std_sequence_bound(x, alpha=ALPHA)
        assert p.ed_bound == ed_sequence_bound(x, alpha=ALPHA)
