"""X1: nothing that somebody else's folder names is imported, opened or asked."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from leakbound.auditing.certifying import concluded
from leakbound.auditing.comparing import compare
from leakbound.auditing.drawing import Statement, sample
from leakbound.auditing.scoring import score
from leakbound.auditing.steps import bound
from leakbound.auditing.verifying import verify
from leakbound.checking.policy import Policy, read_demand
from leakbound.checking.running import check
from leakbound.cli import main
from leakbound.errors import IncompleteRunError, InputError
from leakbound.models import FakeModel
from leakbound.plugins import EntryPoint, _brought
from leakbound.runs.store import Run

HOUSE = Path(__file__).resolve().parents[1] / "support" / "first_house"
PROMPTS = [{"id": "a", "text": "where?", "target": "in the garden"}]
HOSTILE = (
    "x1_trap:run",
    "judge:x1_trap:run",
    "judge:x1_judge.yaml#0123456789ab",
    "embedding:./x1_model",
    "entailment:./x1_model",
    "x1_plugin",
    "contains:x1_trap",
)
TRAP = (
    "import pathlib\npathlib.Path(__file__).with_name('sprung').touch()\n"
    "def run(completion, target): return float(target in completion)\n"
)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported, a plug-in that imports it, a judge's file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x1_trap.py").write_text(TRAP)
    (tmp_path / "x1_judge.yaml").write_text("model: m\nbase_url: http://127.0.0.1:9/v1\napi_key_env: HOME\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("x1_plugin", "x1_trap:run", "leakbound.scorers")
    before = _brought
    monkeypatch.setattr("leakbound.plugins._brought", lambda group, path: {**before(group, path), "x1_plugin": (point,)}
                        if group == "leakbound.scorers" else before(group, path))  # fmt: skip
    yield tmp_path / "sprung"
    sys.modules.pop("x1_trap", None)


def theirs(folder, scorer, **settings):
    """A folder as somebody else would send it: whole, with this scorer in run.json and scores under its name."""
    run = sample(FakeModel(leak=0.3), PROMPTS, folder, num_samples=64, **settings)
    said = json.loads((folder / "run.json").read_text())
    info = {k: v for k, v in said.items() if k not in ("seal",)} | {
        "statement": asdict(Statement()) | {"scorer": scorer}
    }
    shutil.rmtree(folder)
    hostile = Run.start(folder, {k: v for k, v in info.items() if k not in ("format", "layout")}, run.prompts)
    for part in hostile.missing_draws():
        hostile.write_draws(part, FakeModel(leak=0.3).sample(hostile.shard(part), hostile.params))
        draws = hostile.read_draws(part)
        hostile.write_scores(part, scorer, draws, [0.0] * len(draws))
    return folder


@pytest.mark.parametrize("scorer", HOSTILE)
@pytest.mark.parametrize("step", [score, bound])
def test_x1_a_scorer_that_a_folder_names_is_not_run(trap, tmp_path, scorer, step):
    folder = theirs(tmp_path / "run", scorer)
    with pytest.raises(InputError, match=r"which is not built in.*name it yourself: `leakbound score .* --scorer "):
        step(Run.open(folder))
    assert not trap.exists()


@pytest.mark.parametrize("command", ["score", "bound"])
def test_x1_the_commands_refuse_in_one_line_with_the_command_that_names_it(trap, tmp_path, command, capsys):
    folder = theirs(tmp_path / "run", "x1_trap:run")
    with pytest.raises(SystemExit) as ended:
        main([command, str(folder)])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert f"leakbound score {folder} --scorer x1_trap:run" in said
    assert not trap.exists()


def test_x1_named_again_it_is_used(trap, tmp_path):
    folder = theirs(tmp_path / "run", "x1_trap:run")
    with pytest.raises(IncompleteRunError, match="was scored by other code than x1_trap:run is now"):
        bound(Run.open(folder), scorer="x1_trap:run")  # its zeros
    score(Run.open(folder), "x1_trap:run")
    found = bound(Run.open(folder), scorer="x1_trap:run")
    run = Run.open(folder)
    leaks = sum(d.count for p in run.parts if p.sampled for d in run.read_draws(p) if "garden" in d.text)
    assert (found.planned, found.prompts[0].num_leaks) == (True, leaks)
    assert leaks > 0
    assert trap.exists()


def test_x1_who_starts_a_run_has_named_its_scorer(trap, tmp_path):
    run = sample(FakeModel(), PROMPTS, tmp_path / "run", num_samples=8, statement=Statement("x1_trap:run"))
    score(run)
    assert bound(run).scorer == "x1_trap:run"


def test_x1_another_scorer_reads_the_rounds_of_a_foreign_one_without_running_it(trap, tmp_path):
    """What stopped the drawing stands in its scores; they are read, and the scorer is not loaded."""
    run = sample(FakeModel(), PROMPTS, tmp_path / "run", num_samples=64, until="leak<=0.5",
                 statement=Statement("x1_trap:run"))  # fmt: skip
    trap.unlink()
    del run, sys.modules["x1_trap"]
    again = Run.open(tmp_path / "run")
    score(again, "contains")
    assert bound(again, scorer="contains").scorer == "contains"
    assert not trap.exists()


def test_x1_report_guess_and_compare_run_nothing(trap, tmp_path):
    for name in ("one", "two"):
        score(Run.open(theirs(tmp_path / name, "x1_trap:run")), "x1_trap:run")
        bound(Run.open(tmp_path / name), scorer="x1_trap:run")
    trap.unlink()
    del sys.modules["x1_trap"]
    main(["report", str(tmp_path / "one"), "--guess", str(tmp_path / "two")])
    compare([tmp_path / "one", tmp_path / "two"])
    assert not trap.exists()


@pytest.mark.parametrize("shown", ["contains", "x1_trap:run"])
def test_x1_to_verify_a_certification_runs_nothing(trap, tmp_path, shown):
    """Also where certificate.json shows a built-in scorer, and run.json names another one."""
    old = Run.open(HOUSE / "format2" / "certificate")
    facts = [fact for file in sorted((old.path / "facts").iterdir()) for fact in old.read_facts(file.stem)]
    info = {k: v for k, v in old.info.items() if k not in ("format", "layout")}
    run = Run.start(tmp_path / "run", info | {"statement": info["statement"] | {"scorer": "x1_trap:run"}}, old.prompts)
    run.write_facts("00000", facts)
    replace(concluded(old), run=run.info, scorer=shown).save(run.path)
    assert "which is not built in" in str(verify(run.path))
    assert not trap.exists()


def test_x1_a_policy_that_asks_not_worse_than_a_folder_runs_nothing_of_it(trap, tmp_path):
    before = theirs(tmp_path / "before", "x1_trap:run")
    score(Run.open(before), "x1_trap:run")
    bound(Run.open(before), scorer="x1_trap:run")
    trap.unlink()
    del sys.modules["x1_trap"]
    models = {"m": "leakbound.models.fake:FakeModel"}
    claim = {"not_worse_than": str(before)}
    with pytest.raises(InputError, match=r"names the scorer 'x1_trap:run', which is not built.* scorer: x1_trap:run"):
        check(Policy(models=models, claims=(read_demand("test", claim, 0.01),)), tmp_path / "out", progress=False)
    assert not trap.exists()
    again = read_demand("test", claim | {"scorer": "x1_trap:run", "by": 0.9}, 0.01)
    assert check(Policy(models=models, claims=(again,)), tmp_path / "out", progress=False).verdict == "proven"
    assert trap.exists()


@pytest.mark.parametrize(
    "scorer", ["rouge_l", "rouge_l_f1", "rouge_1", "new_words", "exact_match", "contains", "regex:gard.n"]
)
def test_x1_what_is_built_in_needs_no_naming(tmp_path, scorer):
    sample(FakeModel(), PROMPTS, tmp_path / "run", num_samples=8, statement=Statement(scorer))
    score(Run.open(tmp_path / "run"))
    assert bound(Run.open(tmp_path / "run")).scorer == scorer
