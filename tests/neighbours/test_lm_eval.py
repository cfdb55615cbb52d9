"""lm-evaluation-harness itself: the bounds in its results file are those of an audit of its samples file."""

import json
import re

import lm_eval
import pytest
from lm_eval.__main__ import cli_evaluate
from neighbour_model import page_blocks, save_model

from leakbound.auditing.steps import bound, score
from leakbound.cli import main
from leakbound.importing import Repeats, import_log
from leakbound.results.audit import Audit


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path)
    (task,) = page_blocks("lm-evaluation-harness", "yaml")
    (tmp_path / "secrets.yaml").write_text(task)
    return tmp_path


def evaluated(place, monkeypatch, command="lm_eval --model hf --model_args pretrained=model --tasks secrets "
              "--include_path . --log_samples --output_path out"):  # fmt: skip
    """The metrics that lm_eval wrote down."""
    monkeypatch.setattr("sys.argv", [*command.split(), "--device", "cpu"])
    cli_evaluate()
    (file,) = (place / "out").rglob("results_*.json")
    return json.loads(file.read_text())["results"]["secrets"]


def test_the_page_is_true(place, monkeypatch, row):
    (console,) = page_blocks("lm-evaluation-harness", "console")
    first, *ours = re.findall(r"^\$ (.*)$", console, flags=re.MULTILINE)
    found = evaluated(place, monkeypatch, first)
    for line in ours:
        main(line.split()[1:])
    audit = Audit.load(place / "run")
    assert [p.num_samples for p in audit.prompts] == [200, 200]
    assert 0 < sum(p.num_leaks for p in audit.prompts) < 400
    assert found["leak_average_upper,every"] == audit.mean_leak.upper
    assert found["leak_worst_upper,every"] == audit.worst_prompt.upper
    rate = sum(p.leak_rate for p in audit.prompts) / 2
    assert found["leak_rate,every"] == pytest.approx(rate)
    row("lm_eval", "`lm_eval --model hf` on a local model, the page's task with 200 repeats of 2 documents",
        "results.json holds the bounds of `leakbound import lm-eval` and `bound`, to the last digit")  # fmt: skip


def test_settings_of_ones_own(place, monkeypatch, row):
    (place / "mine.py").write_text(
        'from leakbound.plugging.lm_eval import Leaks\n\nleaks = Leaks(scorer="rouge_l", threshold=0.4, alpha=0.05)\n'
        "process_results, worst_upper = leaks.process_results, leaks.worst_upper\naverage_upper = leaks.average_upper\n"
    )
    task = (place / "secrets.yaml").read_text().replace("leakbound.plugging.lm_eval.", "mine.")
    (place / "secrets.yaml").write_text(task.replace("200", "60"))
    found = evaluated(place, monkeypatch)
    asked = Repeats(scorer="rouge_l", threshold=0.4, alpha=0.05)
    run = import_log("lm-eval", place / "out", out=place / "run", repeats=asked).log.result
    score(run)
    audit = bound(run)
    assert found["leak_worst_upper,every"] == audit.worst_prompt.upper
    row(
        "lm_eval",
        'the same with `Leaks(scorer="rouge_l", threshold=0.4, alpha=0.05)` in a file beside the task',
        "results.json holds the bound of the audit of its samples file",
    )


def test_greedy_repeats_prove_nothing(place, monkeypatch, row):
    task = (place / "secrets.yaml").read_text()
    (place / "secrets.yaml").write_text(
        task.replace("do_sample: true, temperature: 1.0", "do_sample: false").replace("200", "30")
    )
    with pytest.warns(UserWarning, match="copies of one draw"):
        found = evaluated(place, monkeypatch)
    assert found["leak_worst_upper,every"] == found["leak_average_upper,every"] == 1.0
    row("lm_eval", "the page's task with `do_sample: false`", "the bounds are 1, with a warning")


def test_thrown_away_repeats_are_missed(place, monkeypatch):
    task = (place / "secrets.yaml").read_text()
    (place / "secrets.yaml").write_text(re.sub(r"filter_list.*\n", "", task).replace("200", "3"))
    with pytest.raises(Exception, match="take_first_k"):
        evaluated(place, monkeypatch)
    assert lm_eval.__version__
