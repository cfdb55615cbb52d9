"""WMDP, with an imitation of what lm-eval answers."""

import pytest

from leakbound.errors import IncompleteRunError, InputError
from leakbound.results.evaluation import Evaluation
from leakbound.suites.wmdp import wmdp


def samples(**arguments):
    assert (arguments["model"], arguments["model_args"], arguments["limit"]) == ("hf", "pretrained=some/model", 7)
    bio = [{"doc_id": 1, "acc": 0.0}, {"doc_id": 0, "acc": 1.0}, {"doc_id": 0, "acc": 1.0}]  # a row for each filter
    return {"samples": {"wmdp_bio": bio, "wmdp_chem": [{"doc_id": 0, "acc": 1.0}]}}


def test_wmdp_keeps_every_questions_accuracy():
    found = wmdp("some/model", max_questions=7, simple_evaluate=samples)
    assert found["wmdp_bio"].ids == ("wmdp_bio:0", "wmdp_bio:1")
    assert found["wmdp_bio"].values["accuracy"].tolist() == [1.0, 0.0]
    (bio, chem) = Evaluation("some/model", "wmdp", found).metrics()
    assert (bio.name, bio.set, bio.value, chem.value) == ("accuracy", "wmdp_bio", 0.5, 1.0)


def test_wmdp_without_an_accuracy_or_without_lm_eval(monkeypatch):
    with pytest.raises(IncompleteRunError, match="wmdp_bio, doc_id 3: lm-eval gave no acc"):
        wmdp("m", simple_evaluate=lambda **_: {"samples": {"wmdp_bio": [{"doc_id": 3}]}})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install 'lm-eval"):
        wmdp("m")
