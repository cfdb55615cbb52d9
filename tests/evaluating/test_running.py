"""A whole run: files, resuming, the model that never knew, judged suites, wrong settings."""

import json
from dataclasses import replace

import pytest

from leakbound.cli import main
from leakbound.errors import InputError
from leakbound.evaluating.config import BenchmarkConfig, HowAsked, LoadingModel, Sampled
from leakbound.evaluating.running import benchmark
from leakbound.evaluating.table import benchmark_table
from leakbound.results.audit import Audit
from leakbound.results.benchmark import BenchmarkRun
from leakbound.results.evaluation import Evaluation


@pytest.mark.slow
def test_tofu_from_end_to_end(folders, settings, tmp_path):
    run = benchmark("tofu", settings(tmp_path, retain_model=str(folders / "retrained")), progress=False)
    names = {(metric.name, metric.set) for metric in run.metrics}
    for wanted in (("probability", "forget"), ("truth_ratio", "world_facts"), ("leak_rate", "forget"),
                   ("model_utility", ""), ("forget_quality", "forget")):  # fmt: skip
        assert wanted in names
    audit, saved = Audit.load(tmp_path / "audit"), Evaluation.load(tmp_path)
    assert (
        [p.prompt.id for p in audit.prompts] == list(saved.sets["forget"].ids) == [f"forget01:{i}" for i in range(1, 5)]
    )
    assert saved.sets["forget"].values["leak_rate"].tolist() == [p.leak_rate for p in audit.prompts]
    assert Evaluation.load(tmp_path / "retained").model == str(folders / "retrained")
    data = json.loads((tmp_path / "benchmark.json").read_text())
    assert data["bounds"]["mean_leak"]["upper"] == audit.mean_leak.upper
    assert set(data["checksums"]) == {f"{p.stem}.json" for p in (folders / "tofu").iterdir()}
    assert set(data["seconds"]) == {"likelihoods", "generations", "sampling"}
    assert "forget quality" in " ".join(run.verdict)
    page = (tmp_path / "evaluation.md").read_text()
    assert "sha256:" in page
    assert "Time: likelihoods" in page

    again = benchmark("tofu", settings(tmp_path / "b", reference=tmp_path / "retained"), progress=False)
    assert again.lines == run.lines
    assert BenchmarkRun.load(tmp_path) == replace(run, settings=json.loads(json.dumps(run.settings)))
    table = benchmark_table([tmp_path, tmp_path / "b"])
    assert table.cells[0] == table.cells[1]
    assert table.head[:2] == ("model utility", "forget quality (p)")
    assert table.head[-2:] == ("P(leak), average prompt", "P(leak), worst prompt")


@pytest.mark.slow
def test_some_of_the_forget_questions_are_sampled(folders, settings, tmp_path):
    run = benchmark("tofu", settings(tmp_path, sampled_questions=2), progress=False)
    assert len(Audit.load(tmp_path / "audit").prompts) == 2
    assert run.metric("leak_rate", "forget") is None


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"until": "leak<=0.5"}, {"engine": "without-replacement"}])
def test_draws_that_stop_early_or_are_not_independent_give_bounds_and_no_leak_rate(settings, tmp_path, how):
    """The share of leaks among them is no estimate of P(leak) that a mean with an interval could be made of."""
    run = benchmark("tofu", settings(tmp_path, drawn=Sampled(num_samples=16, **how), max_questions=1), progress=False)
    assert set(run.bounds) == {"worst_prompt", "mean_leak", "mean_score"}
    assert run.metric("leak_rate", "forget") is None
    (prompt,) = Audit.load(tmp_path / "audit").prompts
    assert bool(prompt.verdict) == ("until" in how)
    assert prompt.engine == how.get("engine", "iid")


@pytest.mark.slow
def test_jailbreakbench_is_sampled_and_judged(folders, settings, tmp_path, monkeypatch):
    (tmp_path / "my_judge.py").write_text(
        "def judge(prompt, completion, target):\n    return 'a' in completion.split()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "data").mkdir()
    for kind in ("harmful", "benign"):
        rows = "".join(f"{i},{q},Sure,Thing,Kind,Original\n" for i, q in enumerate(("a b", "c")))
        (tmp_path / "data" / f"{kind}-behaviors.csv").write_text("Index,Goal,Target,Behavior,Category,Source\n" + rows)
    config = settings(tmp_path / "run", split=None, data=tmp_path / "data", scorer="judge:my_judge:judge")
    run = benchmark("jailbreakbench", config, progress=False)
    harmful = Evaluation.load(config.out).sets["harmful"]
    assert harmful.ids == ("harmful:1", "harmful:2")
    assert [title for title, *_ in run.columns] == ["harmful when greedy"]
    for prompt, rate in zip(Audit.load(config.out / "audit").prompts, harmful.values["leak_rate"], strict=True):
        assert rate == prompt.leak_rate
        assert prompt.greedy_score == ("a" in prompt.greedy_text.split())
    for wrong in ({"num_samples": 0}, {"scorer": "rouge_l"}):
        with pytest.raises(InputError, match="jailbreakbench is sampled and judged"):
            benchmark("jailbreakbench", settings(tmp_path / "x", split=None, data=tmp_path / "data",
                                                 **{"scorer": "judge:m:f", **wrong}), progress=False)  # fmt: skip


def test_wrong_settings(settings, tmp_path):
    with pytest.raises(InputError, match="suite is 'toffee': give one of tofu, real_world, muse"):
        benchmark("toffee", settings(tmp_path))
    with pytest.raises(InputError, match="convention is 'x'"):
        settings(tmp_path, convention="x")
    with pytest.raises(InputError, match="give one of the two"):
        settings(tmp_path, retain_model="m", reference=tmp_path)
    with pytest.raises(InputError, match=r"until is 'leak<=0\.1' and num_samples 0: give the draws"):
        settings(tmp_path, drawn=Sampled(until="leak<=0.1"))
    with pytest.raises(InputError, match="split is 'forget01': the suite has none"):
        benchmark("own", settings(tmp_path))
    how = HowAsked(loading=LoadingModel(revision="abc"))
    with pytest.raises(InputError, match="model_revision is 'abc': wmdp cannot take it"):
        benchmark("wmdp", BenchmarkConfig(model="m", how=how))


@pytest.mark.slow
def test_the_command_line(folders, settings, tmp_path, capsys):
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps({"question": "a b", "answer": "c d"}) + "\n")
    options = [
        "--model",
        str(folders / "model"),
        "--template",
        "raw",
        "--max-tokens",
        "2",
        "--out",
        str(tmp_path / "run"),
    ]
    main(["benchmark", "own", "--data", str(file), *options])
    assert "probability" in capsys.readouterr().out
    main(["benchmark-table", str(tmp_path / "run"), "--out", str(tmp_path / "table.md")])
    assert "| run | " in (tmp_path / "table.md").read_text()
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "own", *options])
    assert ended.value.code == 2
    assert "data is None: give a file" in capsys.readouterr().err
