"""Benchmark runs as records: what they read back, what a table of several shows of them, and their frames."""

import json

import pytest

from leakbound.bounds import Bound
from leakbound.metrics.intervals import Metric
from leakbound.results.benchmark import BenchmarkRun, BenchmarkTable, ContinualRun, Difference


def metric(name, value, of="forget"):
    return Metric(name, of, value, value / 2, min(1.0, 2 * value), 0.01, 40, "exact (betting)")


def bound(upper):
    return Bound("P(h >= 0.5)", upper / 2, 0.0, upper, 0.01, "upper", 128, "Clopper-Pearson")


def run(model="m", columns=None, sampled=True, **metrics):
    found = tuple(metric(name, value) for name, value in metrics.items())
    gap = Difference("rouge_l_recall", "forget", model, "r", 0.1, -0.1, 0.3, 0.01, 40, "exact", 0.5, "sign test, exact")
    return BenchmarkRun(
        suite="s", model=model, settings={"alpha": 0.01, "loading": {"dtype": "auto"}, "stop": []},
        checksums={"f.json": "sha256:0"}, reference="r", metrics=found, differences=(gap,),
        bounds={"mean_leak": bound(0.2), "worst_prompt": bound(0.4)} if sampled else {}, seconds={"sampling": 1.5},
        verdict=("It leaks.",), beside=(metric("rouge_l_recall", 0.3),),
        statements=(("P(leak) of every prompt", bound(0.4)),) if sampled else (),
        **({} if columns is None else {"columns": columns}),
    )  # fmt: skip


def test_a_run_reads_back_what_it_wrote(tmp_path):
    found = run(rouge_l_recall=0.4, probability=0.2)
    assert found.save(tmp_path) == tmp_path / "benchmark.json"
    assert BenchmarkRun.load(tmp_path) == found
    line, alone = BenchmarkRun.load(tmp_path).lines
    assert (line.other.value, line.gap.value) == (0.3, 0.1)
    assert (alone.other, alone.gap) == (None, None)


def test_a_file_from_before_the_new_fields_is_read(tmp_path):
    data = run(rouge_l_recall=0.4).to_json()
    for name in ("beside", "statements", "columns"):
        del data[name]
    (tmp_path / "benchmark.json").write_text(json.dumps(data))
    found = BenchmarkRun.load(tmp_path)
    assert found.statements == found.beside == ()
    assert BenchmarkTable(("a",), (found,)).head[0] == "forget ROUGE-L"


def test_a_table_has_the_columns_that_some_run_has():
    own = (("words", "rouge_l_recall", "forget"), ("none has it", "entailment", "forget"))
    table = BenchmarkTable(("a", "b"), (run(columns=own, rouge_l_recall=0.4), run(sampled=False, probability=0.2)))
    assert table.head == ("words", "forget ROUGE-L", "forget probability", "P(leak), average prompt",
                          "P(leak), worst prompt")  # fmt: skip
    frame = table.to_frame()
    assert frame["model"].tolist() == ["a", "b"]
    assert frame["words"][0] == 0.4
    assert frame["words, lower"][0] == 0.2
    assert frame["P(leak), worst prompt, upper"][0] == 0.4
    assert frame["forget probability"].isna().tolist() == [True, False]


def test_frames_and_files_of_the_others(tmp_path):
    found = ContinualRun("two tasks", (run(rouge_l_recall=0.4), run(rouge_l_recall=0.2)))
    assert found.to_frame()["task"].tolist() == [1, 2]
    found.save(tmp_path)
    assert ContinualRun.load(tmp_path) == found
    table = BenchmarkTable(("a",), found.runs[:1])
    table.save(tmp_path)
    assert BenchmarkTable.load(tmp_path) == table


@pytest.mark.parametrize(("low", "high", "noise"), [(-0.1, 0.3, True), (0.1, 0.3, False)])
def test_a_difference_says_whether_it_may_be_noise(low, high, noise):
    gap = Difference("rouge_l_recall", "forget", "a", "b", 0.2, low, high, 0.01, 40, "exact")
    assert gap.noise == noise
    assert ("may be noise" in str(gap)) == noise


def test_the_ends_of_a_difference_and_its_level_are_rounded_outward():
    gap = Difference("m", "", "a", "b", 0.2, -0.12345611, 0.32345611, 0.0123412341, 40, "exact")
    assert "is 0.200000, between -0.123457 and 0.323457 (alpha 0.0124, exact)" in str(gap)
