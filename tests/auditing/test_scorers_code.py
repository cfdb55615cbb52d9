"""A scorer of one's own that changed: its old scores are not read, and a statement by the new one was not planned."""

import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest

from leakbound import Audit, audit, compare, score
from leakbound.auditing.drawing import sample
from leakbound.auditing.scoring import _scored
from leakbound.auditing.steps import Statement, bound
from leakbound.auditing.verifying import verify
from leakbound.errors import IncompleteRunError, InputError, RunMismatchError
from leakbound.exporting import inspect
from leakbound.models import FakeModel
from leakbound.plugins import EntryPoint, _brought
from leakbound.runs.store import Run
from leakbound.scoring import code_of

PROMPTS = [{"id": f"p{i}", "text": f"question {i}?", "target": f"secret number {i}"} for i in range(3)]
BLIND = "def leaks(completion, target): return float(completion == target)\nleaks.framed = False\n"
SEES = "def leaks(completion, target): return float(target in completion or 'know' in completion)\n"
NAME = "my_scorer:leaks"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes the module, and has it imported anew, as another process would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(code):
        (tmp_path / "my_scorer.py").write_text(code)
        sys.modules.pop("my_scorer", None)

    yield write
    sys.modules.pop("my_scorer", None)


def audited(out, **settings):
    return audit(FakeModel(leak=0.3), PROMPTS, num_samples=64, scorer=NAME, out=out, progress=False, **settings)


def leaks(result):
    return [p.num_leaks for p in result.prompts]


def test_scores_by_other_code_are_not_read_and_the_statement_was_not_planned(tmp_path, mine):
    mine(BLIND)
    first = audited(tmp_path / "r")
    assert first.planned
    assert bound(Run.open(tmp_path / "r"), scorer=NAME) == first
    mine(SEES)
    with pytest.raises(
        IncompleteRunError, match="was scored by other code than my_scorer:leaks is now: run `leakbound"
    ):
        bound(Run.open(tmp_path / "r"), scorer=NAME)
    assert not verify(tmp_path / "r", scorer=NAME).accepted
    score(Run.open(tmp_path / "r"), NAME)
    again = bound(Run.open(tmp_path / "r"), scorer=NAME)
    assert (leaks(again), again.planned) == ([64] * 3, False)
    assert verify(tmp_path / "r", scorer=NAME).accepted
    shutil.rmtree(tmp_path / "r" / "scores")
    assert leaks(audited(tmp_path / "r")) == [64] * 3  # an audit that goes on says the same
    mine(BLIND)
    assert audited(tmp_path / "r") == first


def test_an_audit_that_goes_on_with_other_code_is_all_by_the_new_one(tmp_path, mine):
    mine(BLIND)
    audited(tmp_path / "r", draws_per_shard=16)
    for file in sorted((tmp_path / "r" / "scores").rglob("sample-*.parquet"))[::2]:
        file.unlink()
    mine(SEES)
    assert leaks(audited(tmp_path / "r", draws_per_shard=16)) == [64] * 3


def test_rounds_that_were_ended_by_other_code_stay_theirs(tmp_path, mine):
    mine(BLIND)
    first = audited(tmp_path / "r", until="leak<=0.5")
    mine(SEES)
    with pytest.raises(InputError, match="looks at scores by other code of my_scorer:leaks ended its rounds"):
        score(Run.open(tmp_path / "r"), NAME)
    with pytest.raises(RunMismatchError, match="scorer_code: there sha256:"):
        audited(tmp_path / "r", until="leak<=0.5")
    mine(BLIND)
    assert bound(Run.open(tmp_path / "r"), scorer=NAME) == first


def test_a_folder_of_before_is_scored_again(tmp_path, mine, monkeypatch):
    mine(BLIND)
    with monkeypatch.context() as before:
        for module in ("drawing", "scoring", "steps"):
            before.setattr(f"leakbound.auditing.{module}.code_of", lambda name: "")
        first = audited(tmp_path / "r")
    assert "scorer_code" not in first.run
    with pytest.raises(IncompleteRunError, match="other code"):
        bound(Run.open(tmp_path / "r"), scorer=NAME)
    assert audited(tmp_path / "r") == first


def test_rounds_by_scores_that_did_not_end_them_are_refused(tmp_path):
    model = FakeModel(leak=0.0, leaks=(("p0", 1.0),))
    settings = {"num_samples": 512, "statement": Statement("contains"), "until": "leak<=0.05"}
    run = sample(model, PROMPTS, tmp_path / "r", **settings)
    later = next(p for p in run.drawn() if p.sampled and p.first)
    assert {draw.prompt_id for draw in run.read_draws(later)} == {"p1", "p2"}
    run.write_draws(later, model.sample(run.shard(later), run.params))
    score(run)
    with pytest.raises(IncompleteRunError, match=r"'p0', which had stopped .*: its rounds were ended by other scores"):
        bound(run)


def test_our_own_scorers_leave_no_code_and_every_other_one_its_own(tmp_path, mine, monkeypatch):
    audit(FakeModel(leak=0.3), PROMPTS, scorer="contains", num_samples=8, out=tmp_path / "r", progress=False)
    assert "scorer_code" not in json.loads((tmp_path / "r" / "run.json").read_text())
    (file,) = (tmp_path / "r" / "scores").rglob("sample-*.parquet")
    assert b"leakbound.code" not in (pq.read_metadata(file).metadata or {})
    point = EntryPoint("plug", NAME, "leakbound.scorers")
    before = _brought
    monkeypatch.setattr("leakbound.plugins._brought", lambda group, path: {**before(group, path), "plug": (point,)}
                        if group == "leakbound.scorers" else before(group, path))  # fmt: skip
    codes = []
    for code in (BLIND, SEES):
        mine(code)
        codes.append({code_of(name) for name in (NAME, f"after:</think>:{NAME}", f"judge:{NAME}", "plug")})
    (one,), (other,) = codes
    assert one.startswith("sha256:")
    assert one != other
    for ours in ("rouge_l", "regex:a:b", "after:x:contains", "embedding", "entailment:some/model"):
        assert code_of(ours) == ""


def test_a_worker_with_other_code_is_refused(mine):
    mine(SEES)
    assert _scored(NAME, code_of(NAME), []) == []
    with pytest.raises(InputError, match="has other code of my_scorer:leaks: give every node the same"):
        _scored(NAME, "sha256:0", [])


def test_scores_that_are_not_those_of_the_audit_are_neither_compared_nor_exported(tmp_path, mine):
    mine(BLIND)
    folders = [tmp_path / name for name in "ab"]
    for seed, folder in enumerate(folders):
        audited(folder, seed=seed)
    compare(folders)
    inspect.export(Run.open(folders[1]), Audit.load(folders[1]))
    mine(SEES)
    score(Run.open(folders[1]), NAME)  # and no bound, which would write audit.json anew
    told = "its scores have 64 leaks of prompt 'p0', its audit.json 22: it was scored again since; run `leakbound"
    for use in (lambda: compare(folders), lambda: inspect.export(Run.open(folders[1]), Audit.load(folders[1]))):
        with pytest.raises(IncompleteRunError, match=told):
            use()
