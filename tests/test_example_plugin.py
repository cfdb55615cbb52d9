"""Somebody else's package adds a scorer, a method, a suite and a back end, and the command line has them like ours."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from leakbound import plugins
from leakbound.cli import main
from leakbound.errors import InputError
from leakbound.models.opening import BACKENDS
from leakbound.scoring import SCORERS
from leakbound.suites.table import SUITES

PACKAGE = Path(__file__).parent / "support" / "example_plugin"
ROWS = [{"id": f"p{i}", "text": "Who?", "target": f"Ann Lee {i}"} for i in range(3)]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as an installer leaves it, but where its modules stand: pip is not needed."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    said = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(said)
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))
    folders = [str(tmp_path / "site"), str(PACKAGE)]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    yield folders
    for name in [name for name in sys.modules if name.startswith("leakbound_example")]:
        del sys.modules[name]


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(file)


def refused(*command):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in command])
    assert ended.value.code == 2


def test_the_tables_name_what_it_brings_and_load_none_of_it(installed):
    assert list(SCORERS)[-1] == "initials"
    assert list(SUITES)[-1] == "capitals"
    assert list(BACKENDS)[-1] == "parrot"
    assert not [name for name in sys.modules if name.startswith("leakbound_example")]


@pytest.mark.slow
def test_its_back_end_and_its_scorer_audit(installed, prompts, tmp_path, capsys):
    out = tmp_path / "run"
    main(
        [
            "audit",
            "parrot:0.25",
            "--prompts",
            prompts,
            "--scorer",
            "initials",
            "--num-samples",
            "300",
            "--out",
            str(out),
        ]
    )
    run, audit = (json.loads((out / f"{name}.json").read_text()) for name in ("run", "audit"))
    assert run["model"]["model"] == "fake(leak=0.25)"
    assert run["statement"]["scorer"] == audit["scorer"] == "initials"
    rates = [p["leak"]["estimate"] for p in audit["prompts"]]
    assert all(abs(rate - 0.25) < 5.7 * (0.25 * 0.75 / 300) ** 0.5 for rate in rates)  # false alarm < 1e-6
    assert audit["mean_leak"]["estimate"] == pytest.approx(audit["mean_score"]["estimate"])  # it declares itself binary


def test_its_names_are_in_the_messages(installed, prompts, capsys, tmp_path):
    refused("audit", "parrot:0.5", "--prompts", prompts, "--scorer", "initial", "--out", tmp_path / "run")
    refused("benchmark", "capital", "--model", "m", "--out", tmp_path / "run")
    said = capsys.readouterr().err
    assert "scorer is 'initial': give one of rouge_l," in said
    assert "initials, or module:function for your own. Did you mean initials?" in said
    assert "suite is 'capital': give one of tofu, real_world, muse, wmdp, jailbreakbench, own, capitals" in said


@pytest.mark.slow
def test_its_names_are_in_the_help(installed):
    path = os.pathsep.join([*installed, os.environ.get("PYTHONPATH", "")])
    shown = subprocess.run(
        [sys.executable, "-c", "from leakbound.cli import main; main(['audit', '-h']); main(['benchmark', '-h'])"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path, "COLUMNS": "300"},
    ).stdout  # fmt: skip
    assert all(name in shown for name in ("initials", "parrot", "capitals"))


def test_its_method_is_found_alone_and_in_pairs(installed):
    from leakbound.unlearning.objectives import METHODS, TERMS, find_objective

    hinge = find_objective("Hinge")
    assert hinge.forget.settings == {"gamma": 4.0}
    assert find_objective("hinge:kl").forget is hinge.forget
    assert find_objective("HINGE+KL").retain is TERMS["retain"]["kl"]
    assert find_objective("hinge:none").retain is None
    assert "hinge" in METHODS
    with pytest.raises(InputError, match=r"method is 'hing': give one of grad_ascent, .*, hinge, or a pair"):
        find_objective("hing")


@pytest.mark.parametrize("name", ["npo_gd", "GA", "npo-ap", "Grad Diff"])
def test_a_method_that_is_ours_by_name_alias_or_pair_is_refused(name, monkeypatch):
    from leakbound.unlearning.objectives import find_objective

    point = EntryPoint(name, "leakbound_example_method:HINGE", "leakbound.methods")
    find_objective("npo_gd")
    monkeypatch.setattr(plugins, "_brought", lambda group, path: {name: (point,)})
    with pytest.raises(InputError, match=f"method is '{name}', which leakbound and a package .* both bring"):
        find_objective(name)


@pytest.mark.slow
@pytest.mark.trains
def test_its_method_unlearns_and_its_setting_is_an_option(installed, tmp_path):
    from tiny_models import tiny_model, word_tokenizer

    tiny_model().save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    for name, row in (("forget", {"question": "a b", "answer": "c d"}), ("retain", {"question": "b a", "answer": "d"})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    files = [
        "--model",
        tmp_path / "model",
        "--forget",
        tmp_path / "forget.jsonl",
        "--retain",
        tmp_path / "retain.jsonl",
    ]
    losses = []
    for gamma in ("--gamma", "60"), ():
        out = tmp_path / f"out{len(losses)}"
        options = ["--method", "hinge", "--max-steps", "1", "--save-every", "1", "--device", "cpu", *gamma]
        main([str(word) for word in ["unlearn", *files, *options, "--out", out]])
        record = json.loads((out / "training.json").read_text())
        assert record["config"]["method"] == "hinge"
        losses.append(record["log"][0]["forget_loss"])
    assert losses[0] > 60 - 30 > losses[1]  # gamma + log p, where log p is a few nats


@pytest.mark.slow
def test_its_suite_is_a_benchmark(installed, tmp_path):
    from tiny_models import tiny_model, word_tokenizer

    tiny_model().save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    main(
        [
            "benchmark",
            "capitals",
            "--model",
            str(tmp_path / "model"),
            "--num-samples",
            "20",
            "--max-tokens",
            "4",
            "--out",
            str(out),
        ]
    )
    found = json.loads((out / "benchmark.json").read_text())
    assert "capitals" in json.dumps(found)
    assert json.loads((out / "audit" / "run.json").read_text())["statement"]["scorer"] == "initials"
