"""evaluation.json: it reads back what it wrote, and names what is broken."""

import json

import numpy as np
import pytest

from leakbound.errors import InputError
from leakbound.metrics.questions import QuestionSet
from leakbound.results.evaluation import Evaluation


def test_it_reads_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(1)
    one = QuestionSet(
        "forget",
        ("a", "b"),
        {"answer_loss": rng.random(2), "perturbed_loss": rng.random((2, 5)), "leak_rate": rng.random(2)},
        (("Q?", "ä\u202e\ud83d", "t"), ("", "", "")),
    )
    evaluation = Evaluation("org/model", "tofu", {"forget": one})
    file = evaluation.save(tmp_path / "run")
    assert file == tmp_path / "run" / "evaluation.json"
    for source in (file, tmp_path / "run"):
        again = Evaluation.load(source)
        assert (again.model, again.suite) == ("org/model", "tofu")
        assert again.to_json() == evaluation.to_json()
        for name, values in one.values.items():
            assert np.array_equal(again.sets["forget"].values[name], values)
    assert evaluation.save(tmp_path / "x.json") == tmp_path / "x.json"


def test_a_broken_file_is_named(tmp_path):
    file = tmp_path / "evaluation.json"
    with pytest.raises(InputError, match=r"there is no evaluation\.json; run"):
        Evaluation.load(tmp_path)
    file.write_text('{"model": "m", "benchmark": "b", "sets": {"forget": {')
    with pytest.raises(InputError, match=r"evaluation.json.*cannot be read"):
        Evaluation.load(file)
    data = small().to_json()
    data["sets"]["forget"]["values"]["answer_loss"][1] = None
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"evaluation.json.*'forget': answer_loss\[1\] is missing"):
        Evaluation.load(file)
    del data["sets"]["forget"]["ids"]
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match="cannot be read"):
        Evaluation.load(file)


def small():
    return Evaluation("m", "b", {"forget": QuestionSet("forget", ("a", "b"), {"answer_loss": np.array([1.0, 2.0])})})


def test_sets_have_names_and_there_is_at_least_one():
    with pytest.raises(InputError, match="no sets"):
        Evaluation("m", "b", {})
    with pytest.raises(InputError, match="under 'retain'"):
        Evaluation("m", "b", {"retain": small().sets["forget"]})


def test_a_row_for_each_question():
    forget = QuestionSet(
        "forget", ("a", "b"), {"answer_loss": np.array([1.0, 2.0]), "perturbed_loss": np.ones((2, 3))},
        (("Q?", "A.", "T"), ("R?", "B.", "U")),
    )  # fmt: skip
    frame = Evaluation("m", "b", {"forget": forget}).to_frame()
    assert frame["id"].tolist() == ["a", "b"]
    assert frame["answer_loss"].tolist() == [1.0, 2.0]
    assert frame["perturbed_loss"][0] == [1, 1, 1]
    assert frame["generation"].tolist() == ["A.", "B."]
