"""One reader: what it reads and what it refuses is the same for prompts, training pairs, suites and logs."""

import csv
import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leakbound.errors import InputError, PromptsError
from leakbound.importing import import_log
from leakbound.reading.pairs import read_pairs
from leakbound.reading.prompts import as_prompts, load_prompts
from leakbound.reading.rows import open_rows, read_rows, write_rows
from leakbound.records import Prompt
from leakbound.suites import QuestionAnswer
from leakbound.suites.own import own

ROWS = [
    {"question": "Who,\n\u2028said\u0085 \"hi\"?", "answer": "Ann\u2029 and\u000b Bob", "target": "Ann"},
    {"question": "Where?", "answer": "In Rome.", "target": "Rome"},
]  # fmt: skip


def asked_and_said(path):
    """(question, answer or target) of each row, as the three readers give them."""
    suite = own(path).forget
    return (
        [(p.text, p.target) for p in load_prompts(path)],
        [(p.question, p.answer, p.secrets) for p in read_pairs(path)],
        [(q.question, q.answer, q.target) for q in suite],
    )


def write(path, rows=ROWS):
    kind = path.suffix
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    elif kind == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    else:
        write_rows(path, rows)
    return path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_kind_of_file_is_read_alike_by_every_reader(tmp_path, kind, end, mark):
    path = write(tmp_path / f"rows{kind}")
    if kind in (".jsonl", ".json"):
        path.write_bytes(mark + path.read_bytes().replace(b"\n", end))
    elif kind != ".parquet":
        path.write_bytes(mark + path.read_bytes())
    prompts, pairs, suite = asked_and_said(path)
    assert prompts == [(row["question"], row["target"]) for row in ROWS]
    assert pairs == [(row["question"], row["answer"], (row["target"],)) for row in ROWS]
    assert suite == [(row["question"], row["answer"], row["target"]) for row in ROWS]


GOOD = b'{"question": "Who?", "answer": "Ann"}\n'
BAD = {
    "UTF-16": ("a.jsonl", GOOD.decode().encode("utf-16"), r"a\.jsonl: this is UTF-16"),
    "UTF-16 without a mark": ("a.jsonl", GOOD.decode().encode("utf-16-be"), r"a\.jsonl: this is UTF-16"),
    "Latin 1": ("a.jsonl", GOOD + b'{"question": "\xe9"}', r"a\.jsonl, line 2: not UTF-8 text \(byte 52\)"),
    "empty": ("a.jsonl", b"", r"a\.jsonl: there are no \w+ in it"),
    "blank lines": ("a.jsonl", b"\r\n \n", r"a\.jsonl: there are no \w+ in it"),
    "an empty list": ("a.json", b"[]", r"a\.json: there are no \w+ in it"),
    "a header alone": ("a.csv", b"question,answer\n", r"a\.csv: there are no \w+ in it"),
    "a cut line": ("a.jsonl", GOOD + GOOD[:-5], r"a\.jsonl, line 2: broken JSON: .*cut off"),
    "a cut list": ("a.json", b"[" + GOOD + b"," + GOOD[:12], r"a\.json, line 2: broken JSON: .*cut off"),
    "U+2028 between rows": ("a.jsonl", GOOD[:-1] + "\u2028".encode() + GOOD, r"a\.jsonl, line 1: broken JSON: Extra"),
    "a list of a row": ("a.jsonl", b"[" + GOOD[:-1] + b"]", r"a\.jsonl, line 1: the row is a list"),
    "a number": ("a.json", b"[7]", r"a\.json, item 1: the row is a int"),
    "a key twice": ("a.jsonl", GOOD + b'{"question": "a", "question": "b"}', r"line 2: 'question' stands twice"),
    "a key twice in a list": (
        "a.json", b'[{"question": "a",\n "answer": "b",\n "\\u0061nswer": "c"}]', r"line 3: 'answer' stands twice",
    ),
    "a column twice": ("a.csv", b"question,answer,question\na,b,c\n", r"line 1: the column 'question' stands twice"),
    "NaN": ("a.json", b'[{"question": "NaN",\n "answer": NaN}]', r"a\.json, line 2: NaN is no JSON"),
    "minus infinity": ("a.jsonl", b'{"x": -Infinity}', r"a\.jsonl, line 1: -Infinity is no JSON"),
    "5,000 digits": ("a.jsonl", GOOD + b'{"id": ' + b"1" * 5000 + b"}", r"line 2: a number of 5,000 digits"),
    "100,000 brackets": ("a.jsonl", b'{"answer": ' + b"[" * 100_000, r"a\.jsonl, line 1: .* nested too deep"),
    "a truth value": ("a.jsonl", b'{"question": "a", "answer": true}', r"line 1: answer is True: give a non-empty"),
    "a number as an answer": ("a.jsonl", b'{"question": "a", "answer": 7}', r"line 1: answer is 7: give"),
    "a list as an answer": ("a.jsonl", b'{"question": "a", "answer": ["b"]}', r"line 1: answer is \['b'\]: give"),
    "half a character": (
        "a.jsonl", b'{"question": "say \\ud83d now", "answer": "b"}',
        r"line 1: question has the lone surrogate \\ud83d at character 5",
    ),
    "a row too long": ("a.csv", b'question,answer\n"a\nb",c\n\nd,e,f\n', r"a\.csv, line 5: the row does not fit"),
    "a row too short": ("a.tsv", b"question\tanswer\na\n", r"a\.tsv, line 2: the row does not fit"),
    "an open quote": ("a.csv", b'question,answer\na,"b\n', r"a\.csv, line 2: broken CSV"),
    "another separator": ("a.csv", b"question;answer\na;b\n", r"line 2: the row has no .*columns are question;answer"),
    "no Parquet": ("a.parquet", b"PAR1", r"a\.parquet: cannot be read as Parquet"),
    "an unknown kind": ("a.txt", GOOD, r"a\.txt: a file of unknown kind '\.txt'; give \.jsonl"),
    "aliases that are no list": ("a.csv", b'question,answer,aliases\na,b,"[1"\n', r"line 2: aliases.*broken JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD.keys())
def test_a_fault_is_named_alike_by_every_reader(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for read in (load_prompts, read_pairs, own):
        with pytest.raises(PromptsError, match=message):
            read(tmp_path / name)


def test_parquet_with_a_column_twice_or_bytes_that_are_no_text(tmp_path):
    texts = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pq.write_table(pa.Table.from_arrays(texts, names=["question", "answer", "answer"]), tmp_path / "twice.parquet")
    with pytest.raises(PromptsError, match=r"twice\.parquet: the column 'answer' stands twice"):
        load_prompts(tmp_path / "twice.parquet")
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"question": broken, "answer": ["b"]}), tmp_path / "bytes.parquet")
    with pytest.raises(PromptsError, match=r"bytes\.parquet: cannot be read as Parquet"):
        load_prompts(tmp_path / "bytes.parquet")


def test_a_folder_of_that_name_adds_no_column(tmp_path):
    (tmp_path / "answer=c").mkdir()
    path = write(tmp_path / "answer=c" / "a.parquet", [{"question": "a", "answer": "b"}])
    assert load_prompts(path)[0].target == "b"


def test_a_cell_may_hold_a_book_and_the_limit_of_csv_is_as_before(tmp_path):
    before = csv.field_size_limit()
    path = write(tmp_path / "a.csv", [{"question": "a", "answer": "b" * 300_000}])
    assert len(read_pairs(path)[0].answer) == 300_000
    assert csv.field_size_limit() == before


def test_lists_in_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,question,answer,aliases,perturbed_answer\n7,a,b,c|d,\n,e,f,"[""g|h""]",\n')
    assert load_prompts(path) == (Prompt("7", "a", "b", ("c", "d")), Prompt("1", "e", "f", ("g|h",)))
    assert [q.aliases for q in own(path).forget] == [("c", "d"), ("g|h",)]
    assert [p.secrets for p in read_pairs(path)] == [("c", "d"), ("g|h",)]
    path.write_text('question,answer,perturbed_answer\na,b,"[""c"", ""d""]"\n')
    assert own(path).forget[0].perturbed_answers == ("c", "d")


def test_a_file_that_is_named_is_the_one_that_is_read(tmp_path):
    write(tmp_path / "a.json", [{"question": "a", "answer": "json"}])
    for kind in (".csv", ".tsv", ".jsonl"):
        assert own(write(tmp_path / f"a{kind}", [{"question": "a", "answer": kind}])).forget[0].answer == kind


def test_names_that_no_file_can_have(tmp_path):
    for name in ("x" * 5000 + ".jsonl", "a\0b.jsonl"):
        with pytest.raises(PromptsError, match="cannot be read"):
            read_rows(tmp_path / name)
        with pytest.raises(PromptsError, match="cannot be read"):
            load_prompts(str(tmp_path / name))
    for kind in ("xlsx", "jsonl", "csv", "parquet"):
        with pytest.raises(PromptsError, match=rf"none\.{kind}: there is no such file"):
            read_rows(tmp_path / f"none.{kind}")


def test_rows_of_the_hub(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return [{"question": "Who?", "answer": 3}] if name == "of/numbers" else []

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(PromptsError, match=r"^of/numbers \(train\), row 1: answer is 3"):
        load_prompts("of/numbers")
    with pytest.raises(PromptsError, match=r"of/v1\.5 \(test\): there are no rows in it"):
        open_rows("hub:of/v1.5:test")
    with pytest.raises(PromptsError, match=r"there are no prompts"):
        load_prompts("hub:of/v1.5", split="validation")
    assert asked == [("of/numbers", "train"), ("of/v1.5", "test"), ("of/v1.5", "validation")]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PromptsError, match=r"prompts is 'of/numbers': no such file, .*pip install 'leakbound\[hf\]'"):
        load_prompts("of/numbers")


def test_rows_that_are_given_are_checked_like_those_of_a_file():
    for row, message in (
        ({"text": "a\ud83d", "target": "b"}, r"row 0: text has the lone surrogate"),
        (Prompt("a", "b", "c", ("\udc00",)), r"row 0: aliases has the lone surrogate"),
        ({"text": "a", "target": float("nan")}, r"row 0: target is nan"),
        ([1], r"row 0: the row is a list"),
    ):
        with pytest.raises(PromptsError, match=message):
            as_prompts([row])


def test_the_writer_writes_no_nan_and_nothing_by_halves(tmp_path):
    with pytest.raises(ValueError):
        write_rows(tmp_path / "a.jsonl", [{"a": 1}, {"a": float("nan")}])
    assert list(tmp_path.iterdir()) == []


# --- what we write is what we read ---

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
ROW = st.tuples(TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=3))
HARD = "\ufeff \u2028\u2029\u0085\x0b\x0c\x1c\x1e\r\n\r\"'\\,|\t[{\0\U0010ffff é"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(ROW, min_size=1, max_size=3, unique_by=lambda row: row[0]))
@example([(HARD, HARD[::-1], HARD * 2, [HARD])])
def test_what_is_written_is_read_back_equal(tmp_path_factory, rows):
    check(tmp_path_factory.mktemp("rows"), rows)


def test_every_character_of_unicode_is_read_back(tmp_path):
    """All 1,112,064 of them, in a few long texts."""
    whole = "".join(map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]))
    check(tmp_path, [(f"a{whole[i::4]}z", f"b{whole[i::4]}z", f"c{i}z", []) for i in range(4)])


def check(folder, rows):
    questions = tuple(
        QuestionAnswer(f"forget:{i}", "", "", question, answer, target, tuple(aliases))
        for i, (question, answer, target, aliases) in enumerate(rows, start=1)
    )
    path = write_rows(folder / "forget.jsonl", [q.to_json() for q in questions])
    assert own(path).forget == questions
    assert load_prompts(path) == tuple(q.to_prompt() for q in questions)
    assert [(p.question, p.answer, p.secrets) for p in read_pairs(path)] == [
        (q.question, q.answer, (q.target, *q.aliases)) for q in questions
    ]


# --- logs ---


def test_a_log_with_every_line_break_is_read_and_a_fault_in_it_is_named(tmp_path):
    said = ["a\u2028b\u0085", "\ufeff", "c"]
    responses = [{"response": text, "rougeL_recall": float("nan")} for text in said]
    row = {"prompt": "Who\u2029?", "ground_truth": "Ann", "responses": responses}
    path = tmp_path / "g.json"
    path.write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8")
    run = import_log("leak-k", path, out=tmp_path / "run").log.result
    assert [draw.text for draw in run.read_draws(run.parts[-1])] == said
    assert run.prompts[0].text == "Who\u2029?"
    for change, message in (
        ({"ground_truth": 7}, r"g\.json, line 1: ground_truth is 7"),
        ({"ground_truth": True}, r"line 1: ground_truth is True"),
        ({"prompt": "\ud83d"}, r"line 1: prompt has the lone surrogate"),
        ({"responses": [{"response": "a"}, {"response": "\ud83d"}]}, r"line 1: response 1 has the lone surrogate"),
    ):
        path.write_text(json.dumps(row | change))
        with pytest.raises(InputError, match=message):
            import_log("leak-k", path, out=tmp_path / "other")
