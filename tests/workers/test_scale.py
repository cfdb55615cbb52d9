"""The simulation of many workers behind docs/scale.md: what must be exactly so, what holds of any shards."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from leakbound.workers.seats import TRIES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


crew, cost = loaded("scale_crew"), loaded("scale_cost")
Driver, Staff, Stage, simulate = crew.Driver, crew.Staff, crew.Stage, crew.simulate


def shards(count, sigma=0.6, mean=10.0, seed=1):
    return mean * crew.lognormal(np.random.default_rng(seed), sigma, count)


def accounted(out, workers):
    """The seconds of all workers, by what became of them."""
    return out.useful + out.loading + out.lost + out.waiting + out.idle == pytest.approx(workers * out.wall)


@pytest.mark.parametrize(("count", "workers"), [(7, 1), (64, 64), (65, 64), (2500, 1024)])
def test_equal_shards_without_trouble_take_whole_turns(count, workers):
    out = simulate(Staff(workers), [Stage(np.full(count, 8.0), 4)])
    assert out.wall == math.ceil(count / workers) * 8.0
    assert out.useful == count * 8.0
    assert accounted(out, workers)
    assert out.deaths == out.driver == 0


def test_stages_wait_for_each_other_and_a_worker_is_loaded_once():
    out = simulate(Staff(4, load=5.0), [Stage(np.full(2, 1.0)), Stage(np.full(4, 3.0))])
    assert out.wall == 5 + 1 + 5 + 3  # two are loaded for the first stage, the others with the second
    assert out.loading == 4 * 5.0
    assert accounted(out, 4)


@pytest.mark.parametrize("seed", range(4))
def test_deaths_lose_no_piece_and_double_none(seed):
    stages = [Stage(shards(20), 2), Stage(shards(60), 5, Driver(piece=0.1, file=0.001, known=0.02, shard=0.3))]
    out = simulate(Staff(8, load=2.0, mtbf=40.0, slow=0.2), stages, seed)
    assert out.deaths > 8
    assert out.lost > out.deaths * 0.5
    every = [(0, s, p) for s in range(20) for p in range(2)] + [(1, s, p) for s in range(60) for p in range(5)]
    assert sorted(out.kept) == every
    for shard in range(60):
        assert [p for stage, s, p in out.kept if (stage, s) == (1, shard)] == list(range(5))
    assert accounted(out, 8)
    assert out.wall > simulate(Staff(8, load=2.0, slow=0.2), stages, seed).wall


def test_a_piece_that_outlives_its_workers_ends_the_run():
    with pytest.raises(crew.GivenUpError, match=f"lost {TRIES} times"):
        simulate(Staff(2, load=1.0, mtbf=1.0), [Stage(np.full(2, 100.0))])


@pytest.mark.parametrize("workers", [2, 16, 100])
def test_no_schedule_is_longer_than_work_over_workers_and_a_shard(workers):
    work = shards(100)
    out = simulate(Staff(workers), [Stage(work, 3)])
    assert work.sum() / workers <= out.wall * (1 + 1e-12)
    assert out.wall <= work.sum() / workers + (1 - 1 / workers) * work.max() + 1e-9
    assert simulate(Staff(2 * workers), [Stage(work, 3)]).wall <= out.wall + work.max()


def test_a_driver_that_is_slower_than_its_workers_decides():
    work, costs = shards(50, mean=1.0), Driver(piece=0.5, shard=1.0, file=0.01, known=0.1)
    walls = []
    for workers in (1, 50):
        out = simulate(Staff(workers), [Stage(work, 4, costs)])
        assert out.wall >= out.driver
        assert accounted(out, workers)
        walls.append(out)
    one, many = walls
    assert one.driver == pytest.approx(50 * (4 * 0.5 + 1.0 + 0.1 * (1 + 2 + 3) + 0.01 * (1 + 2 + 3)))
    assert many.driver > one.driver  # more unfinished shards have more pieces in the folder
    assert many.wall == pytest.approx(many.driver, rel=0.02)
    assert many.waiting > many.useful


def test_one_result_waits_in_the_queue_and_whoever_has_another_waits_with_it():
    out = simulate(Staff(3), [Stage(np.full(3, 1.0), 1, Driver(piece=10.0))])
    # taken at 1; queued at 1, its worker is free; the third waits until the second is taken at 11
    assert out.wall == 1 + 3 * 10
    assert out.waiting == 10.0


def test_the_formula_agrees_where_it_is_exact():
    even = [Stage(np.full(640, 8.0), 4)]
    assert crew.on_paper(Staff(1, load=3.0), even, 0.0) == simulate(Staff(1, load=3.0), even).wall
    slow = [Stage(np.full(640, 8.0), 4, Driver(piece=2.0))]
    assert crew.on_paper(Staff(64), slow, 0.0) == pytest.approx(simulate(Staff(64), slow).wall, rel=0.01)


def test_rows_are_those_of_the_tree_of_all_answers():
    """A law of two tokens, enumerated: every prefix that n draws reach is one row."""
    first, second, n = [0.7, 0.2, 0.1], [0.5, 0.3, 0.2], 20
    p = np.outer(first, second).reshape(-1)
    law = cost.Law(-np.log(p), np.full(9, 1.0), p)
    assert law.distinct(n) == pytest.approx(np.sum(1 - (1 - p) ** n))
    assert law.rows(n) == pytest.approx(1)  # of one token, all are read from the prompt
    even = np.full(8, 1 / 8)  # three fair bits: every beginning of t tokens has probability 2^-t
    law = cost.Law(-np.log(even), np.full(8, 3.0), even, jump=0)
    assert law.levels(n) == pytest.approx([2**t * (1 - (1 - 2.0**-t) ** n) for t in range(3)])
    assert law.entropy == pytest.approx(math.log(8))
    assert law.distinct_tokens(n) == pytest.approx(3 * law.distinct(n))


def test_a_rare_answer_that_branches_off_anywhere_has_rows_of_its_own_behind_that_token():
    p, n = np.array([0.9, *[0.01] * 10]), 10**9  # all are found; each rare one leaves at any of ten tokens
    law = cost.Law(-np.log(p), np.full(11, 10.0), p)
    assert law.levels(n) == pytest.approx([1 + 10 * t / 10 for t in range(10)])


def test_an_invented_law_has_its_entropy_and_no_more_rows_than_draws():
    low, high = cost.Law.invented(2.0, 10, 1.0), cost.Law.invented(200.0, 10, 0.2)
    assert low.entropy == pytest.approx(2.0, rel=0.02)
    assert low.rows(1000) < 0.6 * high.rows(1000) <= 0.6 * 1000 * 10
    assert low.rows(2000) < 2 * low.rows(1000)
    assert high.distinct(1000) == pytest.approx(1000, rel=0.01)


def test_a_pass_is_bound_by_bytes_below_its_balance_and_by_operations_above():
    machine, model = cost.Machine(1e12, 1e10, 1.0, 0.0), cost.Model(1e9, 10, 8, 8, 16, 1000)
    rows = machine.balance(model, 0.0)
    assert rows == pytest.approx(1e12 * 2 / 1e10 / 2)  # operations a byte, of two bytes a parameter
    assert machine.seconds(model, 1, 0.0) == pytest.approx(machine.seconds(model, rows, 0.0))
    assert machine.seconds(model, 3 * rows, 0.0) == pytest.approx(3 * machine.seconds(model, rows, 0.0))
    assert cost.passes(np.array([1.0, 4.0, 40.0]), 2, 16) == 1 + 1 + 80 / 16


def test_the_page_has_a_place_for_all_that_is_printed(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    scale, page = loaded("scale"), (BENCHMARKS.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    said = [f"part {i}" for i in range(page.count(scale.BEGIN))]
    once = scale.written(page, said, "made here")
    assert [once.index(f"\n{part}\n") for part in said] == sorted(once.index(f"\n{part}\n") for part in said)
    assert scale.written(once, said, "made here") == once
    assert once.count(scale.END) == page.count(scale.END) == len(said)
    with pytest.raises(SystemExit, match="marks for"):
        scale.written(page, said[1:], "made here")
