"""Audits whose prompts are drawn without replacement, against laws that are enumerated."""

import json
import math
import os
import signal

import numpy as np
import pytest
from enumerated import enumerate_law
from tiny_models import WORDS, tiny_model, word_tokenizer

from leakbound import report
from leakbound.auditing.comparing import compare
from leakbound.auditing.engines import chosen_engines, plan_engine
from leakbound.auditing.scoring import score
from leakbound.auditing.steps import audit, bound
from leakbound.errors import IncompleteRunError, InputError, RunMismatchError
from leakbound.models import FakeModel
from leakbound.models.hf import HFModel
from leakbound.records import Prompt, SamplingParams
from leakbound.report.findings import find
from leakbound.results.audit import Audit
from leakbound.runs.layout import plan_layout
from leakbound.runs.store import Run

PROMPTS = tuple(
    Prompt(f"p{i}", text, target)
    for i, (text, target) in enumerate([("a b", "c d"), ("d c a b a", "d"), ("b", "a"), ("c c", "b a"), ("d", "c")])
)
PARAMS = SamplingParams(max_tokens=3, temperature=0.8)


@pytest.fixture(scope="module")
def model():
    return HFModel(tiny_model(), word_tokenizer(), template="raw")


def words(tokens):
    return " ".join(WORDS[t] for t in tokens if t > 1)


LAWS = {}


def law_of(model, prompt, params=PARAMS):
    """Probabilities and scores (contains) of all completions."""
    key = id(model.model), prompt.text, params
    if key not in LAWS:
        LAWS[key] = model.model, enumerate_law(model.model, model.tokenizer(prompt.text)["input_ids"], params)
    law = LAWS[key][1]
    return np.array(list(law.values())), np.array([float(prompt.target in words(t)) for t in law])


def run_audit(model, tmp_path, **changes):
    settings = {
        "scorer": "contains", "num_samples": 60, "params": PARAMS, "engine": "auto", "progress": False,
        "out": tmp_path / "run", **changes,
    }  # fmt: skip
    return audit(model, PROMPTS, **settings)


def mixed(monkeypatch, every=2):
    """Let auto choose by the prompt's number, so that both engines are in one run."""
    real = chosen_engines

    def choose(run):
        found = real(run)
        return {i: "iid" if int(i[1:]) % every else "without-replacement" for i in found}

    monkeypatch.setattr("leakbound.auditing.drawing.chosen_engines", choose)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "without-replacement"])
def test_every_statement_is_true(model, tmp_path, engine, monkeypatch):
    """alpha = 1e-6 a statement: a failure is an error, not chance."""
    if engine == "auto":
        mixed(monkeypatch)
    result = run_audit(model, tmp_path, engine=engine, alpha=1e-6)
    leaks = []
    for p in result.prompts:
        mass, h = law_of(model, p.prompt)
        mean, sd = mass @ h, math.sqrt((mass @ h) * (1 - mass @ h))
        leaks.append(mean)
        assert mean - 1e-6 <= p.leak.upper <= p.leak_jointly.upper + 1e-9  # the enumeration has other rounding
        assert mean - 1e-6 <= p.mean.upper
        assert sd <= p.std.upper + 1e-6
        assert mean + 2 * sd <= p.ed_bound.upper + 1e-6
        assert all(mean <= u + 1e-6 for u in p.survival.upper)
        assert p.engine == ("iid" if engine == "auto" and int(p.prompt.id[1:]) % 2 else "without-replacement")
        if p.limits:
            assert p.limits.lower - 1e-6 <= mean <= p.limits.upper + 1e-6
            assert 0 < p.seen_mass <= 1
            assert p.num_samples <= 60
            assert p.ed == pytest.approx(mean + 2 * sd, abs=0.2)
    assert max(leaks) <= result.worst_prompt.upper
    assert np.mean(leaks) <= result.mean_leak.upper
    assert np.mean(leaks) <= result.mean_score.upper
    for b in (result.worst_prompt, result.mean_leak, result.mean_score):
        assert b.alpha == 1e-6
        assert "without replacement" in b.method or "product of e-processes" in b.method


def test_everything_seen_is_nearly_exact(model, tmp_path):
    params = SamplingParams(max_tokens=4, top_k=2)
    result = run_audit(model, tmp_path, engine="without-replacement", params=params)
    for p in result.prompts:
        mass, h = law_of(model, p.prompt, params)
        assert p.num_samples == len(mass) < 60
        assert p.leak.upper == pytest.approx(mass @ h, abs=1e-6)
        assert p.mean.upper == pytest.approx(mass @ h, abs=1e-6)
        assert p.std.upper == pytest.approx(math.sqrt((mass @ h) * (1 - mass @ h)), abs=1e-4)
        assert p.survival.upper_at(0.5) == pytest.approx(mass @ h, abs=1e-6)
        assert p.leak_rate == pytest.approx(mass @ h, abs=1e-6)
        assert p.ed == pytest.approx(p.ed_bound.upper, abs=1e-3)


def test_the_folder_says_which_engine_each_prompt_had(model, tmp_path):
    result = run_audit(model, tmp_path)
    run = Run.open(tmp_path / "run")
    assert run.info["engine"] == {"name": "auto", "most_distinct": 60}
    engines = chosen_engines(run)
    assert set(engines) == {p.id for p in PROMPTS}
    rows = {kind: [d for part in run.parts if part.kind == kind for d in run.read_draws(part)]
            for kind in ("greedy", "pilot", "sample", "distinct")}  # fmt: skip
    for p in result.prompts:
        assert p.engine == engines[p.prompt.id]
        assert sum(d.count for d in rows["pilot"] if d.prompt_id == p.prompt.id) == 32
        other = "distinct" if p.engine == "iid" else "sample"
        assert not [d for d in rows[other] if d.prompt_id == p.prompt.id]
    assert min(d.first for d in rows["pilot"]) == -32
    assert not list((tmp_path / "run" / "scores").rglob("pilot*")), "pilot draws are never judged"


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(model, tmp_path, monkeypatch):
    mixed(monkeypatch)
    monkeypatch.setattr("leakbound.runs.layout.PROMPTS_PER_SEARCH", 2)
    whole = run_audit(model, tmp_path / "whole")
    for fail_at in (1, 3):
        folder, calls = tmp_path / str(fail_at), []
        real = HFModel.distinct

        def failing(self, *args, real=real, calls=calls, fail_at=fail_at):
            calls.append(1)
            if len(calls) == fail_at:
                raise KeyboardInterrupt
            return real(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(HFModel, "distinct", failing)
            with pytest.raises(KeyboardInterrupt):
                run_audit(model, folder)
        assert run_audit(model, folder) == whole
        files = sorted(f.relative_to(folder) for f in folder.rglob("*") if f.is_file())
        assert files == sorted(
            f.relative_to(tmp_path / "whole") for f in (tmp_path / "whole").rglob("*") if f.is_file()
        )
        for file in files:
            assert (folder / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.slow
def test_a_process_that_is_killed_outright_loses_nothing(model, tmp_path):
    real, calls = Run.write_draws, []

    def write(run, part, draws):
        calls.append(part.name)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        real(run, part, draws)

    if not (child := os.fork()):
        try:
            Run.write_draws = write
            run_audit(model, tmp_path, num_samples=20)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert sorted(f.name for f in (tmp_path / "run" / "draws").iterdir()) == [
        "greedy-00000.parquet", "pilot-00000.parquet",
    ]  # fmt: skip
    run_audit(model, tmp_path, num_samples=20)
    run_audit(model, tmp_path / "whole", num_samples=20)
    for file in (f for f in (tmp_path / "run").rglob("*") if f.is_file()):
        assert file.read_bytes() == (tmp_path / "whole" / "run" / file.relative_to(tmp_path / "run")).read_bytes()


@pytest.mark.slow
def test_report_table_comparison_and_guess_know_such_prompts(model, tmp_path, monkeypatch):
    mixed(monkeypatch)
    result = run_audit(model, tmp_path)
    other = HFModel(tiny_model(seed=3), word_tokenizer(), template="raw")
    guess = audit(other, PROMPTS, scorer="contains", num_samples=60, params=PARAMS, engine="without-replacement",
                  out=tmp_path / "guess", progress=False)  # fmt: skip
    assert Audit.load(tmp_path / "run") == result
    found = find(result, guess)
    assert any("3 prompts of 5 were drawn without replacement" in note for note in found.notes)
    for row in found.rows:
        mass, h = law_of(model, row.result.prompt)
        mass_g, h_g = law_of(other, row.result.prompt)
        if row.more_than_guess:
            assert mass @ h > mass_g @ h_g
    page = report.to_html(result, guess=guess)
    assert "distinct" in page
    assert "e-process without replacement" in page
    assert "distinct, mass" in report.to_markdown(result)
    assert "without-replacement" in report.to_csv(result)
    assert {"iid", "without-replacement"} == set(result.to_frame()["engine"])
    compared = compare([tmp_path / "run", tmp_path / "guess"])
    for i, j in compared.proven:
        truths = [np.mean([np.dot(*law_of(m, p)) for p in PROMPTS]) for m in (model, other)]
        assert truths[i] < truths[j]
    assert 0 < compared.models[1].diversity.distinct <= 1


@pytest.mark.slow
def test_diversity_of_a_law_is_what_draws_show(model, tmp_path):
    from leakbound.auditing.comparing import diversity

    plain = {"scorer": "contains", "params": PARAMS, "progress": False, "num_samples": 400}
    audit(model, PROMPTS, out=tmp_path / "iid", **plain)
    audit(model, PROMPTS, out=tmp_path / "seen", engine="without-replacement", **plain)
    one, other = diversity(Run.open(tmp_path / "iid")), diversity(Run.open(tmp_path / "seen"))
    assert other.distinct == pytest.approx(one.distinct, rel=0.1)
    assert other.entropy == pytest.approx(one.entropy, abs=0.15)
    assert other.unlike == pytest.approx(one.unlike, abs=0.1)


def test_what_cannot_be_done_is_said(model, tmp_path):
    with pytest.raises(InputError, match="engine is 'best'"):
        run_audit(model, tmp_path, engine="best")
    for rule in ({"until": "leak<=0.1"}, {"width": 0.1}):
        with pytest.raises(InputError, match="until and width stop on independent draws"):
            run_audit(model, tmp_path, **rule)
    with pytest.raises(InputError, match="FakeModel does not show the probabilities"):
        audit(FakeModel(), PROMPTS, scorer="contains", engine="without-replacement", progress=False)
    with pytest.raises(InputError, match="num_samples is 5000"):
        run_audit(model, tmp_path, engine="without-replacement", num_samples=5000)
    assert not (tmp_path / "run").exists()
    run_audit(model, tmp_path, engine="without-replacement")
    with pytest.raises(InputError, match="method is 'paper'"):
        bound(Run.open(tmp_path / "run"), method="paper")
    with pytest.raises(RunMismatchError, match=r"other settings \(engine"):
        run_audit(model, tmp_path, engine="iid")


def test_auto_falls_back_and_says_why(tmp_path):
    result = audit(FakeModel(leak=0.1), PROMPTS, scorer="contains", num_samples=50, engine="auto", progress=False,
                   out=tmp_path / "run")  # fmt: skip
    assert all(p.engine == "iid" for p in result.prompts)
    assert any("fell back to independent draws: FakeModel does not show" in note for note in find(result).notes)
    plain = audit(FakeModel(leak=0.1), PROMPTS, scorer="contains", num_samples=50, progress=False)
    assert "engine" not in plain.run
    assert result.prompts == plain.prompts


@pytest.mark.slow
def test_auto_takes_independent_draws_at_high_entropy(tmp_path):
    flat = HFModel(tiny_model(scale=0.1), word_tokenizer(), template="raw")
    params = SamplingParams(max_tokens=16)
    result = run_audit(flat, tmp_path, params=params, num_samples=2000)
    assert {p.engine for p in result.prompts} == {"iid"}
    assert all(p.num_samples == 2000 for p in result.prompts)


def test_draws_that_do_not_add_up_are_refused(model, tmp_path):
    run_audit(model, tmp_path, engine="without-replacement", num_samples=8)
    run = Run.open(tmp_path / "run")
    part = next(p for p in run.parts if p.kind == "distinct")
    draws = run.read_draws(part)
    for wrong in (draws[1:], draws[:-1], [*draws, draws[-1]], [*draws[1:2], *draws[:1], *draws[2:]]):
        with pytest.raises(IncompleteRunError, match="distinct-00000"):
            run.write_draws(part, wrong)
    run.write_draws(part, [d for d in draws if d.prompt_id != "p0"])
    score(run)
    (tmp_path / "run" / "scores" / "contains" / "distinct-00000.parquet").unlink()
    score(run)
    with pytest.raises(IncompleteRunError, match="prompt 'p0' has 0 independent draws and 0 without replacement"):
        bound(run)


@pytest.mark.parametrize("engine", ["iid", "auto"])
def test_more_draws_than_anybody_makes_are_refused_before_they_are_laid_out(engine):
    with pytest.raises(InputError, match=r"^num_samples is 1000000001: give at most 1000000000, or engine='counted'"):
        plan_engine(engine, FakeModel(), 10**9 + 1, None)
    assert plan_engine("counted", FakeModel(), 10**9 + 1, None) == {"name": "counted"}


def test_the_plan_of_an_engine_and_its_layout(model):
    assert plan_engine("iid", FakeModel(), 10, None) is None
    assert plan_engine("auto", model, 1024, None) == {"name": "auto", "most_distinct": 256}
    assert json.dumps(plan_engine("auto", FakeModel(), 10, None))
    kinds = [p.kind for p in plan_layout(40, 100, engine="auto", most_distinct=100)]
    assert kinds == ["greedy", "pilot", "distinct", "distinct", "distinct", "sample"]
    assert "sample" not in {p.kind for p in plan_layout(40, 100, engine="without-replacement", most_distinct=100)}
    assert {p.kind for p in plan_layout(40, 100)} == {"greedy", "sample"}


@pytest.mark.slow
def test_larger_shards_are_asked_for_and_written_down(tmp_path):
    plain = {"scorer": "contains", "num_samples": 70_000, "progress": False}
    usual = audit(FakeModel(leak=0.1), PROMPTS[:1], out=tmp_path / "usual", **plain)
    large = audit(FakeModel(leak=0.1), PROMPTS[:1], out=tmp_path / "large", draws_per_shard=10**6, **plain)
    assert "draws_per_shard" not in usual.run
    assert large.run["draws_per_shard"] == 10**6
    assert [p["num_samples"] for p in usual.run["layout"]] == [1, 65_536, 4_464]
    assert [p["num_samples"] for p in large.run["layout"]] == [1, 70_000]
    assert large.prompts[0].num_samples == usual.prompts[0].num_samples == 70_000
    with pytest.raises(RunMismatchError, match=r"other settings \(draws_per_shard"):
        audit(FakeModel(leak=0.1), PROMPTS[:1], out=tmp_path / "large", **plain)
    with pytest.raises(InputError, match="draws_per_shard is 0"):
        audit(FakeModel(leak=0.1), PROMPTS[:1], draws_per_shard=0, **plain)
