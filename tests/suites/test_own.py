"""A file of one's own."""

import pytest
from json_lines import write_lines as lines

from leakbound.errors import InputError, PromptsError
from leakbound.suites.own import own


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "harry.jsonl"
    lines(file, [
        {"question": "Who?", "answer": "Hermione Granger is.", "target": "Hermione", "aliases": ["Granger"]},
        {"question": "Where?", "answer": "Paris.", "split": "retain", "perturbed_answer": []},
    ])  # fmt: skip
    found = own(file)
    assert (found.name, found.forget[0].id, found.retain[0].id) == ("harry", "harry:1", "harry:2")
    assert found.prompts("forget")[0].aliases == ("Granger",)
    assert found.retain[0].target == "Paris."
    assert list(found.sets) == ["forget", "retain"]


def test_what_a_benchmark_writes_can_be_read_again(tmp_path):
    lines(tmp_path / "q.jsonl", [
        {"id": "a", "question": "A?", "answer": "B C.", "perturbed_answer": ["D."], "original_answer": "E."},
        {"id": "b", "question": "B?", "answer": "C.", "perturbed_answer": ["D."], "split": "holdout"},
    ])  # fmt: skip
    first = own(tmp_path / "q.jsonl")
    first.write(tmp_path / "written")
    (tmp_path / "written" / "retain.jsonl").unlink()  # empty
    again = own(tmp_path / "written")
    assert (again.forget, again.holdout) == (first.forget, first.holdout)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "A?", "answer": "B."}] * 2, r"q\.jsonl, line 2: the question 'A\?' stood before \(.*line 1\)"),
        ([{"question": "A?"}], r"q\.jsonl, line 1: the row has no 'answer'; its columns are question"),
        ([{"question": "A?", "answer": "B.", "split": "train"}], r"q\.jsonl, line 1: split is 'train'"),
        (
            [{"question": f"{i}?", "answer": "B.", "perturbed_answer": ["C."] * (5 - i)} for i in range(2)],
            r"q\.jsonl, line 2: perturbed_answer has 4 texts, the first row has 5",
        ),
        ([{"question": "A?", "answer": "B.", "split": "retain"}], "it holds no questions to forget"),
    ],
)
def test_a_broken_file_of_ones_own(tmp_path, rows, message):
    lines(tmp_path / "q.jsonl", rows)
    with pytest.raises(InputError, match=message):
        own(tmp_path / "q.jsonl")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="data is None: give a file"):
        own(None)
    with pytest.raises(PromptsError, match=r"q\.jsonl: there is no such file"):
        own(tmp_path / "q.jsonl")
