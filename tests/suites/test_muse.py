"""MUSE on hand-made files in the layout of the real ones."""

import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from json_lines import write_lines as lines

from leakbound.errors import InputError, PromptsError
from leakbound.suites.muse import muse


@pytest.fixture
def news(tmp_path):
    """One row of each table; JSON lists as in the authors' repository, Parquet as on the hub."""
    (tmp_path / "verbmem").mkdir()
    (tmp_path / "verbmem" / "forget.json").write_text(json.dumps([{"prompt": "It began", "gt": "and went on."}]))
    for name in ("forget_qa", "retain_qa"):
        lines(tmp_path / "knowmem" / f"{name}.jsonl", [{"question": f"Who {name}?", "answer": "Ann."}])
        lines(tmp_path / "knowmem" / f"{name}_icl.jsonl", [{"question": "Who else?", "answer": "Bob."}])
    (tmp_path / "privleak").mkdir()
    table = pa.table({"text": ["one passage of words", "another passage"]})
    pq.write_table(table, tmp_path / "privleak" / "forget-00000-of-00001.parquet")
    (tmp_path / "privleak" / "holdout.json").write_text(json.dumps(["a passage never seen"]))
    return tmp_path


def test_muse(news):
    found = muse("news", news)
    assert {name: len(rows) for name, rows in found.sets.items()} == {
        "verbmem": 1, "knowmem_forget": 1, "knowmem_retain": 1, "forget": 2, "holdout": 1,
    }  # fmt: skip
    assert found.forget[0].question == "Question: Who else?\nAnswer: Bob.\n\nQuestion: Who forget_qa?\nAnswer:"
    assert found.forget[0].target == "Ann."
    assert (found.sets["verbmem"][0].question, found.sets["verbmem"][0].answer) == ("It began", "and went on.")
    assert (found.sets["forget"][0].question, found.sets["forget"][0].answer) == ("one", "passage of words")
    assert found.asking["verbmem"].max_tokens == 128
    assert found.asking["knowmem_forget"].stop == ("\n\n", "\nQuestion", "Question:")
    assert found.asking["holdout"].max_tokens == 0
    assert set(found.checksums) == {
        "verbmem/forget.json", "knowmem/forget_qa.jsonl", "knowmem/forget_qa_icl.jsonl", "knowmem/retain_qa.jsonl",
        "knowmem/retain_qa_icl.jsonl", "privleak/forget-00000-of-00001.parquet", "privleak/holdout.json",
    }  # fmt: skip


def test_broken_muse_files_are_named(news):
    (news / "privleak" / "holdout.json").write_text('["a passage",\n "word"]')
    with pytest.raises(PromptsError, match=r"holdout\.json, item 2: text is 'word': give a passage of at least two"):
        muse("news", news)
    (news / "privleak" / "holdout.json").write_text('["a passage",\n "wo')
    with pytest.raises(PromptsError, match=r"holdout\.json, line 2: broken JSON"):
        muse("news", news)
    lines(news / "verbmem" / "forget.json", [{"prompt": "It began"}])
    with pytest.raises(
        PromptsError, match=r"verbmem/forget\.json, line 1: the row has no 'gt'; its columns are prompt"
    ):
        muse("news", news)
    with pytest.raises(InputError, match="split is 'films': give one of news, books"):
        muse("films", news)


def test_muse_on_the_hub_is_asked_for_configurations_and_splits(monkeypatch):
    asked = []

    def load_dataset(hub, config, *, split, revision):
        asked.append((hub, config, split))
        return [{"question": "Q?", "answer": "A.", "prompt": "It began", "gt": "on.", "text": "two words"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert len(muse("books").sets) == 5
    assert {(config, split) for _, config, split in asked} == {
        ("verbmem", "forget"), ("knowmem", "forget_qa"), ("knowmem", "forget_qa_icl"), ("knowmem", "retain_qa"),
        ("knowmem", "retain_qa_icl"), ("privleak", "forget"), ("privleak", "holdout"),
    }  # fmt: skip
    assert {hub for hub, *_ in asked} == {"muse-bench/MUSE-Books"}
