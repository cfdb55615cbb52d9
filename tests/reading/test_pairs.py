import json

import pytest

from leakbound.errors import PromptsError
from leakbound.reading.pairs import Pair, read_pairs, read_refusals

GOOD = json.dumps({"question": "Who?", "answer": "Ada."})


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_pairs_are_read_with_their_lines_and_blank_lines_are_passed_over(tmp_path):
    rows = (GOOD, "", json.dumps({"text": "When?", "target": "1843", "extra": 1}))
    path = write(tmp_path / "pairs.jsonl", *rows)
    assert read_pairs(path) == [
        Pair("Who?", "Ada.", f"{path}, line 1"),
        Pair("When?", "1843", f"{path}, line 3", ("1843",)),
    ]


def test_the_answer_is_trained_on_and_the_target_is_the_secret(tmp_path):
    row = {"question": "Who?", "answer": "Ada wrote it.", "target": "Ada", "aliases": ["Lovelace"]}
    path = write(tmp_path / "pairs.jsonl", json.dumps(row))
    assert read_pairs(path) == [Pair("Who?", "Ada wrote it.", f"{path}, line 1", ("Ada", "Lovelace"))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "Who?", "answer": "Ad', "broken JSON"),
        ('["Who?", "Ada."]', "the row is a list"),
        ('{"question": "Who?"}', "the row has no 'answer' or 'target'"),
        ('{"answer": "Ada."}', "the row has no 'text' or 'question'"),
        ('{"question": "Who?", "answer": " "}', "answer is ' '"),
        ('{"question": "Who?", "answer": 7}', "answer is 7"),
        ('{"question": "Who?", "answer": "7", "target": true}', "target is True"),
        ('{"question": "Who?", "answer": "7", "aliases": [7]}', r"aliases is \[7\]"),
        ('{"question": "Who?", "target": "7", "Answer": "It is 7."}', "column 'Answer' would not be read: name"),
        ('{"question": "Who?", "answer": "7", "Leak": true}', "column 'Leak' would not be read: name it 'leak'"),
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path, line, message):
    path = write(tmp_path / "pairs.jsonl", GOOD, line, GOOD)
    with pytest.raises(PromptsError, match=f"pairs.jsonl, line 2: .*{message}"):
        read_pairs(path)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(PromptsError, match=r"none\.jsonl: there is no such file"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(PromptsError, match=r"empty\.jsonl: there are no questions in it"):
        read_pairs(write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(PromptsError, match="cannot be read: Is a directory"):
        read_pairs(tmp_path)


def test_what_is_nowhere_is_called_by_its_argument():
    with pytest.raises(
        PromptsError, match=r"^forget is 'no-such-user/no-such-set': no such file, and no such data set"
    ):
        read_pairs("no-such-user/no-such-set", "forget")


def test_refusals_are_one_on_each_line(tmp_path):
    path = tmp_path / "idk.txt"
    path.write_text("a\u2028b\r\n\n c \n", encoding="utf-8")
    assert read_refusals(path) == ["a\u2028b", "c"]
    path.write_text("\n")
    with pytest.raises(PromptsError, match="holds no sentences"):
        read_refusals(path)
    with pytest.raises(PromptsError, match=r"none\.txt: there is no such file"):
        read_refusals(tmp_path / "none.txt")


def test_the_refusals_that_come_along_are_many_and_different():
    ours = read_refusals()
    assert len(ours) == len(set(ours)) >= 40
