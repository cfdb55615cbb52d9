"""Task after task: each starts from the model before, and what is there is not made again."""

import json
from dataclasses import replace

import pytest

from leakbound.errors import InputError, RunMismatchError
from leakbound.evaluating.config import ContinualConfig, HowAsked, LoadingModel
from leakbound.evaluating.continual import _settings, run_continual
from leakbound.results.benchmark import ContinualRun


@pytest.mark.slow
def test_the_continual_run_starts_from_the_last_and_is_resumed(folders, settings, tmp_path):
    how = ContinualConfig(continual=True, num_tasks=2, method="grad_diff", epochs=1, batch_size=4, learning_rate=1e-3)
    config = settings(tmp_path, num_samples=0, unlearning=how)
    found = run_continual("tofu", config, progress=False)
    assert [run.suite for run in found.runs] == ["tofu-forget01-task01", "tofu-forget01-task02"]
    record = json.loads((tmp_path / "task-02" / "model" / "training.json").read_text())["config"]
    assert record["model"] == str(tmp_path / "task-01" / "model")
    retained = (tmp_path / "task-01" / "data" / "retain.jsonl").read_text().splitlines()
    assert len(retained) == 6 + 8
    assert len((tmp_path / "task-02" / "data" / "retain.jsonl").read_text().splitlines()) == 6 + 4
    assert (tmp_path / "continual.md").read_text().count("\n| ") == 2 + 2  # head, rule and two tasks
    assert ContinualRun.load(tmp_path).runs[0].metrics == found.runs[0].metrics
    weights = tmp_path / "task-02" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = run_continual("tofu", config, progress=False)
    assert weights.stat().st_mtime_ns == before
    assert again == found
    other = settings(tmp_path, num_samples=0, unlearning=ContinualConfig(num_tasks=2, method="npo_gd"))
    with pytest.raises(RunMismatchError, match=r"other settings \(.*method"):
        run_continual("tofu", other, progress=False)


@pytest.mark.parametrize(("given", "reference"), [(None, None), ("last", "last"), ("initial", "BASE"), ("M", "M")])
def test_the_first_reference_of_all_tasks_is_the_benchmarks_model(settings, tmp_path, given, reference):
    config = settings(tmp_path, unlearning=ContinualConfig(continual=True, method="npo_gd", reference=given))
    made = _settings("before", tmp_path / "task-02", replace(config, model="BASE"))
    assert (made.model, made.reference) == ("before", reference)
    assert made.other_reference == (None if reference in (None, "last") else reference)


def test_settings_stand_beside_those_of_older_folders_only_where_they_are_given():
    """Folders from before all settings of unlearning could be given hold no others, and go on."""
    plain = ContinualConfig(like="ours").to_json()
    assert list(plain) == [
        "continual", "num_tasks", "method", "epochs", "batch_size", "learning_rate", "schedule", "warmup",
        "forget_weight", "retain_weight", "beta",
    ]  # fmt: skip
    assert (plain["epochs"], plain["learning_rate"], plain["forget_weight"]) == (5, 1e-5, 1.0)
    assert ContinualConfig(like="ours", lora_rank=0, gamma=0.5).to_json() == {**plain, "gamma": 0.5}
    theirs = ContinualConfig().to_json()
    assert (theirs["forget_weight"], theirs["me_mask"], theirs["pad_to"]) == (1.0, "all", 500)
    assert ContinualConfig(forget_weight=0.1).forget_weight == 0.1


def test_wrong_settings(settings, tmp_path):
    with pytest.raises(InputError, match="suite is 'muse': it has no tasks for the continual setting"):
        run_continual("muse", settings(tmp_path))
    with pytest.raises(InputError, match=r"num_tasks is 4: .* belongs to 3 tasks"):
        run_continual("tofu", settings(tmp_path, unlearning=ContinualConfig(num_tasks=4)))
    with pytest.raises(InputError, match="model_revision is 'abc': give the folder of the model to unlearn"):
        run_continual("tofu", settings(tmp_path, how=HowAsked(loading=LoadingModel(revision="abc"))))
    with pytest.raises(InputError, match="none such"):
        run_continual("tofu", settings(tmp_path, unlearning=ContinualConfig(method="none such")))
    assert not list(tmp_path.iterdir())
