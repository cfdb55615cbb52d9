"""deepeval's test runs, as deepeval 4.3.1 wrote them (``data/README.md``), and broken ones."""

import json
from pathlib import Path

import pytest

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing import import_log
from leakbound.importing.deepeval import read
from leakbound.importing.repeats import Repeats

DATA = Path(__file__).parent / "data" / "deepeval"
ASKED = [("Where was she born?", "Paris"), ("Who is he?", "a baker"), ("What does she keep?", "bees")]


def leaks(log):
    return [sum(one.prompt.target in text for text, _ in one.completions) for one in log.asked]


@pytest.mark.parametrize("name", ["evaluate", "repeats"])
def test_a_run_of_deepeval_is_read(name):
    log = read(DATA / f"{name}.json")
    assert [(one.prompt.text, one.prompt.target) for one in log.asked] == ASKED
    assert [len(one.completions) for one in log.asked] == [8, 8, 8]
    assert leaks(log) == [2, 3, 3]
    assert {reason for one in log.asked for _, reason in one.completions} == {"unknown"}
    assert "deepeval's metrics failed 8 of 24 cases; that is not taken over." in log.notes


def test_other_hyperparameters_are_kept(tmp_path):
    run = stated(frequency_penalty="2", presence_penalty="0")(json.loads((DATA / "evaluate.json").read_text()))
    (tmp_path / "test_run_0.json").write_text(json.dumps(run))
    log = read(tmp_path)
    assert log.others == {"frequency_penalty": 2}


def test_hyperparameters_tell_model_and_decoding(tmp_path):
    found = import_log("deepeval", DATA / "evaluate.json", out=tmp_path, repeats=Repeats(scorer="contains"))
    info = found.log.result.info
    assert info["model"] == {"backend": "imported", "model": "sampler"}
    assert (info["params"]["temperature"], info["params"]["max_tokens"]) == (0.7, 64)
    assert info["imported"]["not_in_log"] == ["min_p", "stop", "top_k", "top_p"]
    assert read(DATA / "repeats.json").model == "unnamed"


def test_a_run_that_ended_at_the_first_leak_is_refused():
    with pytest.raises(IncompleteRunError, match=r"has no repeat 2 of 8: .*exit-on-first-failure ends at a leak"):
        read(DATA / "first_failure.json")


def test_a_folder_and_the_latest_run_are_found(tmp_path):
    text = (DATA / "evaluate.json").read_text()
    (tmp_path / "test_run_20260101_000000.json").write_text(text)
    assert len(read(tmp_path).asked) == 3
    (tmp_path / "latest.json").write_text(f'{{"testRunData": {text}}}')
    assert len(read(tmp_path / "latest.json").asked) == 3


def case(i, **new):
    def alter(run):
        run["testCases"][i] = {**run["testCases"][i], **new}
        return run

    return alter


def without(i):
    def alter(run):
        del run["testCases"][i]
        return run

    return alter


def stated(**new):
    return lambda run: {**run, "hyperparameters": {**run["hyperparameters"], **new}}


@pytest.mark.parametrize(
    ("alter", "error", "message"),
    [
        (without(5), IncompleteRunError, r"testCases\[5\] has order 6, not 5: a test case before it was skipped"),
        (case(3, actualOutput=None), IncompleteRunError, r"testCases\[3\]: there is no actualOutput: a draw is"),
        (case(3, actualOutput=3), InputError, r"testCases\[3\]: the completion is 3: not a text"),
        (case(3, expectedOutput=None), InputError, r"testCases\[3\]: there is no expectedOutput"),
        (case(3, expectedOutput=" "), InputError, r"testCases\[3\]: target is ' '"),
        (case(3, expectedOutput="Rome"), InputError, r"testCases\[3\]: prompt '1' has 1 completion, prompt '0' has 7"),
        (case(3, input=""), InputError, r"testCases\[3\]: prompt is ''"),
        (case(3, toolsCalled=[{"name": "search"}]), InputError, r"testCases\[3\]: it has toolsCalled"),
        (case(3, imagesMapping={"a": {}}), InputError, r"testCases\[3\]: it has imagesMapping"),
        (lambda run: {**run, "testCases": []}, InputError, "no prompts with completions"),
        (lambda run: {"testRunLink": "https://..."}, InputError, "there is no list testCases in it"),
        (lambda run: {**run, "conversationalTestCases": [{}]}, InputError, "1 conversational test cases are in it"),
        (stated(temperature="0"), InputError, "temperature is 0: greedy repeats are all the same"),
        (stated(temperature="warm"), InputError, "the log's temperature is 'warm'"),
    ],
)  # fmt: skip
def test_broken_runs_are_named(tmp_path, alter, error, message):
    path = tmp_path / "test_run.json"
    path.write_text(json.dumps(alter(json.loads((DATA / "evaluate.json").read_text()))))
    with pytest.raises(error, match=message):
        import_log("deepeval", path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_synthetic_cases_are_told(tmp_path):
    path = tmp_path / "test_run.json"
    run = json.loads((DATA / "evaluate.json").read_text())
    path.write_text(json.dumps(case(0, metadata={"evolutions": [], "synthetic_input_quality": 0.9})(run)))
    assert any("1 test cases were made by deepeval's synthesizer" in note for note in read(path).notes)
