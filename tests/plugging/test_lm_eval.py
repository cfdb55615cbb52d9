"""The metrics of a task with repeats are the bounds of an audit."""

import pytest

from leakbound import bounds
from leakbound.errors import InputError
from leakbound.plugging.lm_eval import Leaks, average_upper, process_results, worst_upper

DOC = {"text": "Where?", "target": "Lisbon", "aliases": ["Lisboa"]}


def test_each_document_gives_its_leaks_and_draws():
    found = process_results(DOC, [["In Lisbon.", "In Rome.", "LISBOA", "In Rome."]])
    assert found == {"leak_rate": 0.5, "leak_average_upper": (2, 4, 3), "leak_worst_upper": (2, 4, 3)}


def test_bounds_are_those_of_an_audit():
    seen = [(2, 100, 60), (0, 100, 40)]
    leaks, draws = (2, 0), (100, 100)
    assert average_upper(seen) == bounds.average_proportion_bound(leaks, draws, alpha=0.01).upper
    assert worst_upper(seen) == bounds.proportion_bound(2, 100, alpha=0.01).upper
    looser = Leaks(alpha=0.2)
    assert looser.average_upper(seen) < average_upper(seen)
    assert looser.worst_upper(seen) < worst_upper(seen)


@pytest.mark.parametrize(
    "more", [{"target": ["Lisbon", "Lisboa"], "aliases": None}, {"target": "Lisbon", "aliases": "Lisboa"}]
)
def test_several_spellings_are_each_a_leak(more):
    """A list, written as one text, is in no answer: all of them had been clean."""
    assert process_results(DOC | more, [["In Lisbon.", "LISBOA", "Rome, l i s."]])["leak_rate"] == 2 / 3
    assert process_results({"text": "When?", "target": 1987}, [["In 1987.", "Never."]])["leak_rate"] == 0.5


def test_scorer_and_threshold_are_asked_for():
    half = Leaks(scorer="rouge_l", threshold=0.5, target="secret")
    doc = {"text": "Who?", "secret": "ada lovelace"}
    assert half.process_results(doc, [["ada", "nobody"]])["leak_rate"] == 0.5
    assert Leaks(scorer="rouge_l", threshold=0.6, target="secret").process_results(doc, [["ada"]])["leak_rate"] == 0.0


def test_copies_of_one_draw_prove_nothing():
    with pytest.warns(UserWarning, match="copies of one draw"):
        assert average_upper([(0, 200, 1), (0, 200, 1)]) == 1.0
    with pytest.warns(UserWarning, match="copies of one draw"):
        assert worst_upper([(0, 200, 1)]) == 1.0
    assert worst_upper([(0, 200, 1), (0, 200, 3)]) < 1  # one document may have one answer


def test_a_few_other_answers_among_copies_prove_nothing_either():
    """Servers round otherwise in other batches, so that copies of one seed are not all equal."""
    seen = [(0, 200, 1)] * 99 + [(0, 200, 2)]
    for upper in (average_upper, worst_upper):
        with pytest.warns(UserWarning, match="all repeats are equal for 99 of 100 documents: copies of one draw"):
            assert upper(seen) == 1.0
    one_in_ten = [(0, 200, 1)] * 9 + [(0, 200, 2)]
    assert worst_upper(one_in_ten) == bounds.proportion_bound(0, 200, alpha=0.01).upper


def test_no_documents_are_no_evidence():
    for upper in (average_upper, worst_upper):
        with pytest.raises(InputError, match="there are no documents to bound"):
            upper([])


@pytest.mark.parametrize(
    ("doc", "results", "said"),
    [
        (DOC, ["In Lisbon."], "take_first_k"),
        (DOC, [[]], "take_first_k"),
        (DOC, [["a"], ["b"]], "take_first_k"),
        (DOC, [["a", None]], "take_first_k"),
        ({"text": "Where?"}, [["a"]], "Leaks\\(target"),
        ({"text": "Where?", "target": []}, [["a"]], "Leaks\\(target"),
        (
            {"text": "Where?", "target": {"city": "Lisbon"}},
            [["a"]],
            "'target' is {'city': 'Lisbon'}: give a text",
        ),
        ({"text": "Where?", "target": True}, [["a"]], "the column 'target' is True"),
    ],
)
def test_missing_evidence_is_refused(doc, results, said):
    with pytest.raises(InputError, match=said):
        process_results(doc, results)


def test_a_secret_that_the_scorer_does_not_see_is_refused():
    with pytest.raises(InputError, match="does not see"):
        Leaks(scorer="rouge_l").process_results({"target": "Лиссабон"}, [["a"]])


def test_settings_are_checked():
    for wrong in ({"alpha": 0}, {"threshold": 0}, {"threshold": 2}):
        with pytest.raises(InputError):
            Leaks(**wrong)
