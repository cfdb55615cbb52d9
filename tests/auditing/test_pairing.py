"""Draws of several models paired by their numbers: which can be, and what they prove."""

from dataclasses import replace

import numpy as np
import pytest

from leakbound.auditing.comparing import compare
from leakbound.auditing.pairing import against_first, leaks_in_order
from leakbound.auditing.steps import Statement, bound, sample, score
from leakbound.bounds import difference_bound
from leakbound.models import FakeModel
from leakbound.models.randomness import uniforms
from leakbound.report import comparison
from leakbound.results.audit import Audit
from leakbound.results.comparison import Comparison
from leakbound.runs.store import Run

QUIET, LOUD = [0.02, 0.3, 0.0], [0.1, 0.4, 0.9]


def drawn(folder, rates=(), *, kind=FakeModel, n=150, **settings):
    """The folder of an audited run, made without its report."""
    prompts = [{"id": f"p{i}", "text": f"What is secret {i}?", "target": f"alpha {i}."} for i in range(3)]
    model = kind(leak=0.1, leaks=tuple((f"p{i}", p) for i, p in enumerate(rates)))
    run = sample(model, prompts, folder, num_samples=n, statement=Statement("contains"), **settings)
    score(run)
    bound(run)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    drawn(folder / "quiet", QUIET)
    drawn(folder / "loud", LOUD)
    drawn(folder / "third")
    return folder


def opened(*folders):
    return [Run.open(f) for f in folders], [Audit.load(f) for f in folders]


def test_leaks_are_those_of_the_draws_in_their_order(folders):
    found = leaks_in_order(*opened(folders / "quiet", folders / "loud"))
    for leaks, rates in zip(found, (QUIET, LOUD), strict=True):
        for i, (each, p) in enumerate(zip(leaks, rates, strict=True)):
            assert each.tolist() == (uniforms(0, f"p{i}", 0, 0, 150) < p).tolist()  # how the fake draws
    assert (found[0][0] <= found[1][0]).all()  # one seed: the draws of a number depend on each other


class Unordered(FakeModel):
    """A fake that only counts."""

    def sample(self, shard, params):
        return [replace(d, places=None) for d in super().sample(shard, params)]


class Unknown(FakeModel):
    """A fake of a back end that nobody knows."""

    def describe(self):
        return {**super().describe(), "backend": "mine"}


def test_what_cannot_be_paired_is_not(folders, tmp_path):
    def paired(*some):
        return leaks_in_order(*opened(*some)) is not None

    quiet = folders / "quiet"
    assert paired(quiet, drawn(tmp_path / "seed", seed=1))
    assert not paired(quiet, drawn(tmp_path / "more", n=151))
    assert not paired(quiet, drawn(tmp_path / "stopped", until="leak<=0.2"))
    assert not paired(quiet, drawn(tmp_path / "counted", kind=Unordered))
    assert not paired(quiet, drawn(tmp_path / "unknown", kind=Unknown))
    assert paired(quiet, drawn(tmp_path / "own", kind=Unknown, seed=2))
    assert not paired(quiet, tmp_path / "unknown", tmp_path / "own")
    later = drawn(tmp_path / "later")
    bound(Run.open(later), threshold=0.4)
    assert not paired(quiet, later)
    runs, audits = opened(quiet, folders / "loud")
    distinct = replace(audits[1].prompts[0], limits=audits[1].prompts[0].leak)
    assert leaks_in_order(runs, [audits[0], replace(audits[1], prompts=(distinct, *audits[1].prompts[1:]))]) is None


def test_differences_share_alpha_and_say_so():
    rng = np.random.default_rng(0)
    models = [list((rng.random((3, 100)) < p).astype(float)) for p in (0.1, 0.3, 0.0)]
    found = against_first(models, 0.02, "P(right)")
    for one, leaks in zip(found, models[1:], strict=True):
        alone = difference_bound(leaks, models[0], alpha=0.01, in_order=True)
        assert (one.lower, one.upper, one.estimate) == (alone.lower, alone.upper, alone.estimate)
        assert (one.alpha, one.estimand) == (0.02, "P(right) - P(right) of the first model")
        assert one.scope == "the average prompt, jointly with 2 differences"
        assert one.method.endswith("at alpha / 2")
    assert found[1].upper < 0 < found[0].lower
    (single,) = against_first(models[:2], 0.02)
    assert (single.scope, single.alpha) == ("the average prompt", 0.02)
    assert "alpha /" not in single.method
    assert not single.says_nothing
    assert replace(single, lower=-1.0, upper=1.0).says_nothing


def test_a_comparison_of_paired_runs_is_a_record_and_shows_them(folders, tmp_path):
    two = [folders / "quiet", folders / "loud"]
    found = compare(two, retain=two)
    assert found.order.names == ("quiet", "loud")
    assert found.proven == found.order.proven == ((0, 1),)
    assert [b.estimand for b in found.retained] == ["P(right) - P(right) of the first model"]
    assert found.differences[0].lower == found.retained[0].lower > 0
    assert Comparison.load(found.save(tmp_path)) == found
    rows = list(found.rows())
    assert rows[0]["leak_against_first_lower"] is None
    assert rows[1]["right_against_first_upper"] == found.retained[0].upper
    assert (rows[1]["best_rank"], rows[1]["worst_rank"]) == (2, 2)
    tables = {table.title: table for table in comparison.tables(found)}
    assert tables["Against the first model"].head[-1] == "right, proven"
    assert len(tables["Against the first model"].rows[0]) == 5
    alone = replace(found, order=None, differences=None, retained=None)
    assert "Against the first model" not in {table.title for table in comparison.tables(alone)}
    assert alone.proven == ((0, 1),)  # from intervals, at least as wide
    assert "by the same bounds" in list(comparison.sentences(alone))[-1]
    three = compare([*two, folders / "third"])
    assert comparison.tables(three)[0].rows[0][-1] in ("1", "1 to 2")
