"""The orchestration, on fakes whose leak probability is known."""

import json

import numpy as np
import pytest

from leakbound import report
from leakbound.auditing.drawing import Statement, sample
from leakbound.auditing.scoring import score
from leakbound.auditing.steps import audit, bound
from leakbound.errors import IncompleteRunError, InputError, RunMismatchError
from leakbound.models import FakeModel
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.results.audit import Audit
from leakbound.runs import layout
from leakbound.runs.store import Run

PROMPTS = tuple(Prompt(f"p{i}", f"What is secret {i}?", f"alpha beta {i}") for i in range(6))
LEAKS = (("p0", 0.0), ("p1", 0.3), ("p2", 0.7), ("p3", 1.0))


def run_audit(tmp_path, **changes):
    settings = {"num_samples": 300, "scorer": "contains", "out": tmp_path / "run", "progress": False, **changes}
    return audit(FakeModel(leak=0.02, leaks=LEAKS), PROMPTS, **settings)


def test_an_audit_counts_what_was_drawn(tmp_path):
    result = run_audit(tmp_path)
    by_id = {p.prompt.id: p for p in result.prompts}
    assert [p.prompt for p in result.prompts] == list(PROMPTS)
    assert by_id["p0"].num_leaks == 0
    assert by_id["p3"].num_leaks == by_id["p3"].num_samples == 300
    assert {i: p.greedy_score for i, p in by_id.items()} == {"p0": 0, "p1": 0, "p2": 1, "p3": 1, "p4": 0, "p5": 0}
    assert result.num_clean == 4
    assert {p.prompt.id for p in result.hidden} == {i for i in ("p1", "p4", "p5") if by_id[i].num_leaks}
    for p in result.prompts:
        assert sum(c.count for c in p.worst) == 300  # only two distinct completions
        assert p.leak.estimate == p.num_leaks / 300
        assert p.leak.estimate <= p.leak.upper <= p.leak_jointly.upper
        assert p.mean.estimate == pytest.approx(p.leak.estimate)
        assert p.survival.upper_at(0.5) >= p.leak.estimate
        share = p.num_leaks / 300
        assert p.ed == pytest.approx(share + 2 * (share * (1 - share)) ** 0.5)
        assert p.ed <= p.ed_bound.upper
    assert result.worst_prompt.upper == max(p.leak.upper for p in result.prompts)
    assert result.mean_leak.estimate == pytest.approx(np.mean([p.num_leaks / 300 for p in result.prompts]))
    assert result.mean_ed == pytest.approx(np.mean([p.ed for p in result.prompts]))


def test_guarantees_hold_for_the_known_law(tmp_path):
    """alpha = 1e-9 a statement, about 20 statements: a failure here is an error, not chance."""
    result = run_audit(tmp_path, alpha=1e-9)
    for p in result.prompts:
        truth = dict(LEAKS).get(p.prompt.id, 0.02)
        assert truth <= p.leak.upper
        assert truth <= p.mean.upper
        assert (truth * (1 - truth)) ** 0.5 <= p.std.upper
        assert truth + 2 * (truth * (1 - truth)) ** 0.5 <= p.ed_bound.upper
        assert all(truth <= u for u in p.survival.upper)
    assert result.worst_prompt.upper == 1
    assert result.mean_leak.upper >= (0.3 + 0.7 + 1 + 0.04) / 6


def test_the_result_survives_json_and_says_what_it_is(tmp_path):
    result = run_audit(tmp_path)
    assert Audit.load(tmp_path / "run") == result
    assert Audit.load(tmp_path / "run" / "audit.json") == result
    assert str(result).strip()
    assert "Tolerance:" in result._repr_mimebundle_()["text/plain"]
    assert result.planned
    frame = result.to_frame()
    assert list(frame["id"]) == [p.id for p in PROMPTS]
    assert list(frame["num_leaks"]) == [p.num_leaks for p in result.prompts]
    assert report.figures(result)
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!doctype html>")


def test_steps_can_be_redone_from_the_folder_without_the_model(tmp_path):
    first = run_audit(tmp_path)
    (tmp_path / "run" / "audit.json").unlink()
    run = Run.open(tmp_path / "run")
    assert bound(run) == first
    score(run, "rouge_l")
    other = bound(run, scorer="rouge_l", threshold=0.9, alpha=0.05)
    assert not other.planned
    assert (other.scorer, other.threshold, other.alpha) == ("rouge_l", 0.9, 0.05)
    assert [p.num_leaks for p in other.prompts] == [p.num_leaks for p in first.prompts]
    with pytest.raises(IncompleteRunError, match="leakbound score"):
        bound(run, scorer="exact_match")


@pytest.mark.slow
def test_an_audit_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 100)
    whole = run_audit(tmp_path / "whole", num_samples=600)

    class Interrupted(FakeModel):
        calls = 0

        def sample(self, shard, params):
            type(self).calls += 1
            if type(self).calls == 4:
                raise KeyboardInterrupt
            return super().sample(shard, params)

    settings = {"num_samples": 600, "scorer": "contains", "out": tmp_path / "parts" / "run", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        audit(Interrupted(leak=0.02, leaks=LEAKS), PROMPTS, **settings)
    assert audit(FakeModel(leak=0.02, leaks=LEAKS), PROMPTS, **settings) == whole
    files = sorted(f.relative_to(tmp_path / "whole") for f in (tmp_path / "whole").rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(tmp_path / "parts") for f in (tmp_path / "parts").rglob("*") if f.is_file())
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    run_audit(tmp_path)
    for change in ({"seed": 1}, {"num_samples": 301}, {"alpha": 0.05}, {"params": SamplingParams(temperature=0.7)}):
        with pytest.raises(RunMismatchError, match="holds a run with other settings"):
            run_audit(tmp_path, **change)


def test_a_back_end_that_loses_draws_never_becomes_safe(tmp_path):
    class Lossy(FakeModel):
        def sample(self, shard, params):
            return [d for d in super().sample(shard, params) if d.text == self.clean]

    with pytest.raises(IncompleteRunError, match="draws, not"):
        audit(Lossy(leak=0.5), PROMPTS, num_samples=50, scorer="contains", progress=False)


def test_truncated_draws_are_counted(tmp_path):
    class Cut(FakeModel):
        def sample(self, shard, params):
            draws = []
            for prompt in shard.prompts:
                n = shard.num_samples
                cut = n // 4
                draws += [Draw(prompt.id, "so it", cut, shard.first, "length", 2)] if cut else []
                draws += [Draw(prompt.id, "so it", n - cut, shard.first + cut, "stop", 2)]
            return draws

    result = audit(Cut(), PROMPTS[:1], num_samples=100, progress=False)
    assert result.prompts[0].num_truncated == 25
    assert result.prompts[0].num_distinct == 1


def test_worst_completions_come_first(tmp_path):
    class Graded(FakeModel):
        def sample(self, shard, params):
            texts = ["alpha beta 0", "alpha beta", "alpha", "no", "none", "nothing"]
            return [
                Draw(p.id, t, 1, shard.first + i, "stop", 1)
                for p in shard.prompts for i, t in enumerate(texts[: shard.num_samples])
            ]  # fmt: skip

    result = audit(Graded(), PROMPTS[:1], num_samples=6, progress=False)
    worst = result.prompts[0].worst
    assert [c.text for c in worst][:3] == ["alpha beta 0", "alpha beta", "alpha"]
    assert [c.score for c in worst] == [1, 2 / 3, 1 / 3, 0, 0]
    assert result.prompts[0].num_leaks == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": 1}, "alpha is 1"),
        ({"threshold": 0}, "threshold is 0"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_samples": 2.5}, "num_samples is 2.5"),
        ({"seed": -1}, "seed is -1"),
        ({"scorer": "rouge"}, "scorer"),
        ({"params": SamplingParams(temperature=0)}, "temperature is 0"),
        ({"method": "guess"}, "method is 'guess'"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        run_audit(tmp_path, **change)
    assert change.get("method") or not (tmp_path / "run").exists()


def test_other_bad_input(tmp_path):
    with pytest.raises(InputError, match="there are no prompts"):
        audit(FakeModel(), [], progress=False)
    with pytest.raises(InputError, match="used before"):
        audit(FakeModel(), [PROMPTS[0], PROMPTS[0]], progress=False)
    with pytest.raises(InputError, match="give a folder, a hub id"):
        audit(object(), PROMPTS, progress=False)
    with pytest.raises(InputError, match=r"no audit\.json"):
        Audit.load(tmp_path)
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        Audit.load(tmp_path)
    with pytest.raises(InputError, match=r"would miss every leak|no letter"):
        audit(FakeModel(), [Prompt("a", "b", "秘密")], progress=False)


def test_the_statement_is_written_down_before_the_first_draw(tmp_path):
    class Checks(FakeModel):
        def sample(self, shard, params):
            info = json.loads((tmp_path / "run" / "run.json").read_text())
            assert info["statement"] == {"scorer": "contains", "threshold": 0.5, "alpha": 0.01}
            assert info["num_samples"] == 5
            return super().sample(shard, params)

    audit(Checks(), PROMPTS, num_samples=5, scorer="contains", out=tmp_path / "run", progress=False)


def test_statement_defaults():
    assert Statement() == Statement("rouge_l", 0.5, 0.01)


def test_s08_a_folder_that_is_older_than_the_check_of_its_scorer_is_refused(tmp_path):
    """Its scorer gives every leak 0, so that bounds would call it safe."""
    blind = r"regex:\bno such words\b"
    prompts = [{"text": "who?", "target": "in the garden"}]
    run = sample(FakeModel(leak=0.5), prompts, tmp_path / "new", num_samples=8)
    info = {k: v for k, v in run.info.items() if k not in ("format", "layout")}
    old = Run.start(tmp_path / "old", {**info, "statement": {**info["statement"], "scorer": blind}}, run.prompts)
    for part in old.parts:
        draws = run.read_draws(part)
        old.write_draws(part, draws)
        old.write_scores(part, blind, draws, [0.0] * len(draws))
    with pytest.raises(InputError, match="although it says the target 'in the garden'"):
        bound(Run.open(old.path))
    assert not (old.path / "audit.json").exists()
