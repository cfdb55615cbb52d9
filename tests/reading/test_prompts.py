import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leakbound.errors import PromptsError
from leakbound.reading.prompts import as_prompts, load_prompts, with_system
from leakbound.records import Prompt, prompts_checksum

GOOD = '{"question": "Who?", "answer": "Ann"}\n{"id": "x", "text": "Where?", "target": "Rome", "aliases": ["Roma"]}\n'
EXPECTED = (Prompt("0", "Who?", "Ann"), Prompt("x", "Where?", "Rome", ("Roma",)))


def test_json_lines(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text("\ufeff" + GOOD + "\n")
    assert load_prompts(file) == EXPECTED


def test_json_array_csv_and_parquet(tmp_path):
    rows = [json.loads(line) for line in GOOD.splitlines()]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    (tmp_path / "p.csv").write_text("id,text,target,aliases\n0,Who?,Ann,\nx,Where?,Rome,Roma\n")
    table = pa.table({"id": ["0", "x"], "question": ["Who?", "Where?"], "answer": ["Ann", "Rome"], "aliases": [[], ["Roma"]]})  # fmt: skip  # noqa: E501
    pq.write_table(table, tmp_path / "p.parquet")
    for name in ("p.json", "p.csv", "p.parquet"):
        assert load_prompts(tmp_path / name) == EXPECTED


def test_a_column_of_another_spelling_that_holds_nothing_is_passed_over():
    row = {"text": "q", "target": "t", "Target": "", "System": None, "Messages": [], "Kind": "x", "Aliases": ()}
    assert as_prompts([row]) == (Prompt("0", "q", "t"),)


def test_target_goes_before_answer():
    row = {"question": "Where was Ann born?", "answer": "Ann was born in Rome.", "target": "Rome"}
    assert as_prompts([row])[0].target == "Rome"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there are no prompts"),
        ("\n\n", "there are no prompts"),
        ('{"text": "a", "target": "b"}\n' * 6 + "{broken\n", r"line 7: broken JSON"),
        ('{"text": "a"}\n', r"line 1: the row has no 'target' or 'answer'"),
        ('{"target": "a"}\n', r"line 1: the row has no 'text' or 'question'"),
        ('{"text": "a", "target": "  "}\n', r"line 1: target is '  '"),
        ('{"text": "a", "target": 3}\n', r"line 1: target is 3"),
        (
            '{"id": 1, "text": "a", "target": "b"}\n{"id": "1", "text": "c", "target": "d"}\n',
            r"line 2: id '1' was used",
        ),
        ('{"text": "a", "target": "b"}\n{"id": "0", "text": "c", "target": "d"}\n', r"line 2: id '0' was"),
        ('{"id": true, "text": "a", "target": "b"}\n', r"line 1: id is True"),
        ('{"text": "a", "target": "b", "aliases": [""]}\n', r"line 1: aliases"),
        ('{"text": "a", "target": "b", "alias": ["c"]}\n', r"line 1: the column 'alias' would not be read"),
        ('{"text": "a", "target": "b", "Aliases": "c"}\n', r"line 1: the column 'Aliases' would not be read"),
        ('{"text": "a", "target": "b", "system": "Be brief."}\n', r"line 1: the column 'system' would not be read"),
        ('{"text": "a", "target": "b", "System Prompt": "Be brief."}\n', r"column 'System Prompt' would not be read"),
        ('{"text": "a", "answer": "b", "Target": "c"}\n', r"column 'Target' would not be read: name it 'target'"),
        ('{"text": "a", "answer": "b", " target": "c"}\n', r"line 1: the column ' target' would not be read"),
        ('{"Text": "a", "prompt": "b", "target": "c"}\n', r"column 'Text' would not be read: name it 'text'"),
        ('{"text": "a", "target": "c", "Messages": [1]}\n', r"line 1: the column 'Messages' would not be read"),
        ('{"text": "a", "target": null}\n', r"has no 'target' or 'answer'; its columns are text, target \(null\)$"),
        ("[1, 2]\n", r"line 1: the row is a list"),
        ('"text"\n', r"line 1: the row is a str"),
    ],
)
def test_defects_are_named_with_file_and_line(tmp_path, text, message):
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(PromptsError, match=message):
        load_prompts(file)
    with pytest.raises(PromptsError, match=r"bad\.jsonl"):
        load_prompts(file)


def test_other_defects(tmp_path):
    with pytest.raises(PromptsError, match="no such file"):
        load_prompts(tmp_path / "none.jsonl")
    (tmp_path / "p.txt").write_text("x")
    with pytest.raises(PromptsError, match="unknown kind"):
        load_prompts(tmp_path / "p.txt")
    (tmp_path / "p.parquet").write_text("x")
    with pytest.raises(PromptsError, match="Parquet"):
        load_prompts(tmp_path / "p.parquet")
    (tmp_path / "p.csv").write_text("text,target\na,b,c\n")
    with pytest.raises(PromptsError, match="line 2: the row does not fit"):
        load_prompts(tmp_path / "p.csv")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9", "target": "x"}')
    with pytest.raises(PromptsError, match="not UTF-8"):
        load_prompts(tmp_path / "latin.jsonl")
    with pytest.raises(PromptsError, match="no such data set on the hub"):
        load_prompts("no-such-user/no-such-set")


def test_an_empty_system_message_is_called_by_its_name():
    with pytest.raises(PromptsError, match=r"^system is ' ': give a non-empty text, or leave it out"):
        with_system([Prompt("a", "b", "c")], " ")


def test_checksum_sees_every_field():
    base = Prompt("a", "b", "c", ("d",))
    others = [Prompt("z", "b", "c", ("d",)), Prompt("a", "z", "c", ("d",)), Prompt("a", "b", "z", ("d",)), Prompt("a", "b", "c")]  # fmt: skip  # noqa: E501
    assert len({prompts_checksum([p]) for p in [base, *others]}) == 5
    assert prompts_checksum([base]) == prompts_checksum([Prompt("a", "b", "c", ("d",))])
