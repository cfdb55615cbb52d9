"""TOFU's published logs give the published numbers; broken ones are named with file and place."""

import json
import re

import numpy as np
import pytest

from leakbound.cli import main
from leakbound.errors import InputError
from leakbound.importing import FORMATS, import_log
from leakbound.importing.repeats import Repeats
from leakbound.importing.tofu import SETS
from leakbound.metrics.questions import QuestionSet
from leakbound.results.evaluation import Evaluation

PUBLISHED = {  # ../shared/README.md: utility, then retain and forget of ROUGE, probability, truth ratio
    "phi_full": (0.522074, (0.929253, 0.924861), (0.926088, 0.928239), (0.482683, 0.483356)),
    "phi_retain90": (0.531991, (0.920043, 0.427867), (0.923114, 0.134907), (0.484739, 0.628842)),
    "phi_retain99": (0.518603, (0.931592, 0.437849), (0.928359, 0.171090), (0.484195, 0.644595)),
}
FORGET_IDS = tuple(map(str, range(300)))
QUALITY = {"phi_retain90": 2.1942743e-16, "phi_retain99": 7.367328e-05}


@pytest.fixture(scope="module")
def logs(data_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("imported")
    return {name: import_log("tofu", data_folder / "tofu_eval_logs" / name, out=out / name) for name in PUBLISHED}


@pytest.fixture(scope="module")
def metrics(logs):
    """phi_full against phi_retain90, the retrained ones alone."""
    against = {"phi_full": logs["phi_retain90"].log.result}
    return {name: found.log.result.metrics(reference=against.get(name)) for name, found in logs.items()}


@pytest.mark.slow
def test_the_published_table_is_reproduced_to_six_digits(metrics):
    for name, (utility, *pairs) in PUBLISHED.items():
        found = {(m.name, m.set): m.value for m in metrics[name]}
        assert round(found["model_utility", ""], 6) == utility
        for metric, pair in zip(("rouge_l_recall", "probability", "truth_ratio"), pairs, strict=True):
            assert (round(found[metric, "retain"], 6), round(found[metric, "forget"], 6)) == pair, (name, metric)


def test_forget_quality_is_the_published_p_value(logs, metrics):
    found = {m.name: m for m in metrics["phi_full"]}
    assert found["forget_quality"].value == pytest.approx(QUALITY["phi_retain90"], rel=5e-7)
    assert found["forget_distance"].lower > 0
    full = QuestionSet("forget", FORGET_IDS, logs["phi_full"].log.result.sets["forget"].values)
    alone = Evaluation("full", "tofu", {"forget": full})
    found = {m.name: m for m in alone.metrics(reference=logs["phi_retain99"].log.result)}["forget_quality"]
    assert found.value == pytest.approx(QUALITY["phi_retain99"], rel=5e-7)
    assert "40 other questions" in found.method


def test_rouge_is_recomputed_from_every_stored_answer(logs):
    sizes = {"phi_full": 817, "phi_retain90": 817, "phi_retain99": 557}
    for name, total in sizes.items():
        assert logs[name].log.notes == tuple(
            f"{value} recomputed from the stored answers: {total} of {total} equal"
            for value in ("rouge_l_recall", "rouge1_recall")
        )


def test_the_stored_truth_ratios_are_r_wrong_over_right(logs, data_folder):
    """So that the direction of r is read off the data and not remembered."""
    from leakbound.metrics.conventions import truth_ratios

    stored = json.loads((data_folder / "tofu_eval_logs/phi_full/eval_log_aggregated.json").read_text())
    for key, name in SETS.items():
        questions = logs["phi_full"].log.result.sets[name]
        theirs = [stored[key]["truth_ratio"][i] for i in questions.ids]
        assert truth_ratios(questions) == pytest.approx(np.array(theirs), rel=1e-5)


def test_the_evaluation_is_written_and_reads_back(logs):
    for found in logs.values():
        assert Evaluation.load(found.out).to_json() == found.log.result.to_json()


def small_log(questions=3):
    """A log in TOFU's format: every set has these questions."""
    numbers = {str(i): 0.5 + i for i in range(questions)}
    one = {
        "avg_gt_loss": numbers,
        "avg_paraphrased_loss": numbers,
        "average_perturb_loss": {i: [1.0, 2.0, 3.0] for i in numbers},
        "rougeL_recall": dict.fromkeys(numbers, 0.5),
        "rouge1_recall": dict.fromkeys(numbers, 1.0),
        "num_token_gt": dict.fromkeys(numbers, 7),
        "generated_text": {i: ["Question: Who?\n", "was Jane here", "Jane was"] for i in numbers},
    }
    return {key: json.loads(json.dumps(one)) for key in SETS}


def write(folder, log, name="eval_log_aggregated.json"):
    file = folder / name
    file.write_text(log if isinstance(log, str) else json.dumps(log, indent=1))
    return file


def test_a_small_log_needs_no_data(tmp_path):
    found = import_log("tofu", write(tmp_path, small_log()), out=tmp_path / "out", retain=tmp_path)
    forget = found.log.result.sets["forget"]
    assert forget.ids == ("0", "1", "2")
    assert forget.values["perturbed_loss"].shape == (3, 3)
    assert forget.generations[0] == ("Question: Who?\n", "was Jane here", "Jane was")
    assert found.log.result.model == tmp_path.name
    assert (tmp_path / "out" / "retain" / "evaluation.json").exists()


def test_a_statement_needs_a_format_with_repeated_draws(tmp_path):
    with pytest.raises(InputError, match="format tofu has no repeated draws"):
        import_log("tofu", write(tmp_path, small_log()), out=tmp_path / "out", repeats=Repeats(alpha=0.05))
    assert not (tmp_path / "out").exists()


def test_questions_are_sorted_by_number_and_stay_aligned(tmp_path):
    log = small_log(12)
    for one in log.values():
        one["avg_gt_loss"] = dict(reversed(one["avg_gt_loss"].items()))
    forget = import_log("tofu", write(tmp_path, log), out=tmp_path / "out").log.result.sets["forget"]
    assert forget.ids == tuple(map(str, range(12)))
    assert forget.values["answer_loss"].tolist() == forget.values["paraphrase_loss"].tolist()


def test_answers_that_do_not_fit_their_scores_are_counted(tmp_path):
    log = small_log()
    log["eval_log.json"]["rougeL_recall"]["1"] = 0.75
    notes = import_log("tofu", write(tmp_path, log), out=tmp_path / "out").log.notes
    assert "11 of 12 equal" in notes[0]
    assert notes[1] == "rouge_l_recall, retain: 1 of 3 differ, by at most 0.250000"


def breaking(change):
    log = small_log()
    change(log)
    return log


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("eval_log_forget.json"), r"json has no 'eval_log_forget.json'; it has 'eval_log.json'"),
        (lambda d: d["eval_log.json"].pop("rougeL_recall"), r"eval_log.json has no 'rougeL_recall'"),
        (lambda d: d["eval_log.json"]["rougeL_recall"].pop("1"), r"eval_log.json: rougeL_recall has no question '1'"),
        (lambda d: d["eval_log.json"]["rougeL_recall"].update({"9": 1}), "has question '9', which other values"),
        (lambda d: [m.pop("1") for m in d["eval_log.json"].values()], "avg_gt_loss has no question '1'"),
        (lambda d: d["eval_log.json"]["avg_gt_loss"].update({"1": None}), "question '1' has None"),
        (lambda d: d["eval_log.json"]["avg_gt_loss"].update({"1": float("nan")}), "question '1' has nan"),
        (lambda d: d["eval_log.json"]["avg_gt_loss"].update({"1": -1.0}), r"eval_log.json: .*answer_loss\[1\] is -1"),
        (
            lambda d: d["eval_log.json"]["average_perturb_loss"].update({"1": [1, 2]}),
            r"'1' has \[1, 2\], the first one",
        ),
        (lambda d: d["eval_log.json"]["average_perturb_loss"].update({"1": [1, 2, None]}), "'1' has None"),
        (lambda d: d["eval_log.json"].update(avg_gt_loss={}), "'avg_gt_loss' is {}"),
        (lambda d: d["eval_log.json"]["generated_text"].pop("2"), "generated_text has no question '2'"),
        (lambda d: d["eval_log.json"]["generated_text"].update({"2": ["a", "b"]}), "question '2' is .* not \\[prompt"),
        (lambda d: d["eval_log.json"]["rouge1_recall"].pop("2"), "rouge1_recall has no question '2'"),
    ],
)
def test_a_broken_log_is_named_with_its_place(tmp_path, change, said):
    file = write(tmp_path, breaking(change))
    with pytest.raises(InputError, match=said) as error:
        import_log("tofu", file, out=tmp_path / "out")
    assert str(file) in str(error.value)


def test_truncated_and_repeated_json_is_named_with_its_line(tmp_path):
    text = json.dumps(small_log(), indent=1)
    file = write(tmp_path, text[: len(text) // 2])
    lines = text[: len(text) // 2].count("\n") + 1
    with pytest.raises(InputError, match=rf"line {lines}: broken JSON.*cut off"):
        import_log("tofu", file, out=tmp_path / "out")
    lines = text.splitlines()
    place = next(i for i, line in enumerate(lines) if re.search(r'"1": 1.5', line))
    file = write(tmp_path, "\n".join([*lines[: place + 1], lines[place], *lines[place + 1 :]]))
    with pytest.raises(InputError, match=rf"line {place + 2}: '1' stands twice"):
        import_log("tofu", file, out=tmp_path / "out")
    with pytest.raises(InputError, match="holds a list"):
        import_log("tofu", write(tmp_path, "[]"), out=tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        import_log("tofu", tmp_path / "nothing.json", out=tmp_path / "out")
    (tmp_path / "bytes.json").write_bytes(b'{"\xff')
    with pytest.raises(InputError, match="not UTF-8"):
        import_log("tofu", tmp_path / "bytes.json", out=tmp_path / "out")


def test_an_unknown_format_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="format is 'excel': give one of tofu, open-unlearning"):
        import_log("excel", tmp_path, out=tmp_path)


def test_every_format_of_the_table_leads_to_a_reader():
    import importlib

    for target in FORMATS.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_command_prints_the_table(tmp_path, capsys):
    log = small_log()
    log["eval_log.json"]["generated_text"]["0"][1] = "[bold]markup[/bold] \x1b[31mred"
    file = write(tmp_path, log)
    main(["import", "tofu", str(file), "--retain", str(tmp_path), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    for wanted in ("model_utility", "forget_quality", "rouge_l_recall recomputed", "leakbound audit", "no guarantee"):
        assert wanted in " ".join(said.split()), wanted
    page = (tmp_path / "out" / "evaluation.md").read_text()
    assert "harmonic mean of 9" in page
    with pytest.raises(SystemExit) as stop:
        main(["import", "tofu", str(tmp_path / "none.json"), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
