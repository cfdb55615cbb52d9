"""The suites by name: each is read by its name, and asked as it says."""

import json

import pytest

from leakbound.errors import InputError
from leakbound.evaluating.config import BenchmarkConfig, HowAsked
from leakbound.evaluating.running import settled
from leakbound.metrics.questions import ATTACKS, OTHERS, SHARES
from leakbound.suites import Suite, SuiteKind
from leakbound.suites.table import SUITES


def test_every_suite_names_columns_that_can_be_measured():
    ours = {"model_utility", "forget_quality", "forget_distance", "forget_efficacy", "priv_leak", "probability"}
    known = {*ours, "truth_ratio", *SHARES, *OTHERS, *(f"{attack}_auc" for attack in ATTACKS)}
    for name, kind in SUITES.items():
        assert kind.columns, name
        assert {metric for _, metric, _ in kind.columns} <= known, name
        assert len({title for title, *_ in kind.columns}) == len(kind.columns), name


def test_a_suite_is_read_by_its_name(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"question": "A?", "answer": "B."}) + "\n")
    assert SUITES.find("own").open(None, file, None).forget[0].answer == "B."
    with pytest.raises(InputError, match="suite is 'toffee': give one of tofu, real_world, muse, wmdp, jailbreakb"):
        SUITES.find("toffee")


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        ("tofu", "forget02", "give one of forget10, forget05, forget01"),
        ("muse", "films", "give one of news, books"),
        ("own", "forget10", "the suite has none, leave it out"),
    ],
)
def test_a_split_that_a_suite_has_not(name, split, said):
    with pytest.raises(InputError, match=f"split is '{split}': {said}"):
        SUITES.find(name).open(split, None, None)


def test_a_suite_is_asked_as_it_says_where_nobody_says_otherwise():
    kind = SuiteKind(lambda *_: Suite("s", (), ()), template="raw", scorer="contains")
    config = settled("s", kind, BenchmarkConfig(model="m"))
    assert (config.how.template, config.how.scorer) == ("raw", "contains")
    given = BenchmarkConfig(model="m", how=HowAsked(template="qa", scorer="rouge_l"))
    assert settled("s", kind, given) == given
