"""The other suites, on hand-made files in the layout of the real ones; the real-world set on its real files."""

import csv
import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from leakbound.errors import IncompleteRunError, InputError, PromptsError
from leakbound.evaluating.wmdp import wmdp
from leakbound.models.template import encode_answer, encode_prompt
from leakbound.suites.jailbreakbench import jailbreakbench
from leakbound.suites.muse import muse
from leakbound.suites.own import own
from leakbound.suites.real_world import real_world


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# --- real world ---


def test_the_real_world_set_on_its_real_files(data_folder):
    found = real_world(data_folder / "real_world")
    assert (len(found.forget), len(found.retain)) == (400, 400)
    assert {name: len(rows) for name, rows in found.sets.items()} == {"forget": 400, "neighbor": 400}
    assert [r.id for r in found.forget] == [r.id for r in found.sets["forget"]]
    trained, asked = found.forget[1], found.sets["forget"][1]
    assert trained.answer.startswith("Eddie Van Halen was an American musician")
    assert (trained.target, asked.answer) == ("Eddie Van Halen was American.", "Eddie Van Halen was American.")
    assert asked.original_answer == trained.answer
    people = [{r.subject for r in rows} for rows in (found.forget, found.retain, found.sets["neighbor"])]
    assert [len(p) for p in people] == [20, 20, 20]
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]


def test_the_real_world_set_needs_a_folder_and_whole_rows(tmp_path):
    with pytest.raises(InputError, match=r"data is None.*closer-look"):
        real_world(None)
    row = {"name": "Ann", "question": "Q?", "answer": "A long answer.", "golden_answer": "A."}
    for name in ("forget", "neighbor"):
        lines(tmp_path / f"{name}.json", [row])
    lines(tmp_path / "forget_perturbed.json", [{**row, "paraphrased_question": "P?", "paraphrased_answer": "B."}])
    with pytest.raises(PromptsError, match=r"forget_perturbed\.json, line 1: the row has no 'perturbed_answer'"):
        real_world(tmp_path)


# --- MUSE ---


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


# --- JailbreakBench ---


COLUMNS = ("Index", "Goal", "Target", "Behavior", "Category", "Source")


def test_jailbreakbench_from_its_csv_files(tmp_path):
    for kind in ("harmful", "benign"):
        with (tmp_path / f"{kind}-behaviors.csv").open("w", newline="", encoding="utf-8") as file:
            write = csv.writer(file)
            write.writerow(COLUMNS)
            write.writerow((0, f"Do a {kind} thing, now", "Sure, here it is", "Thing", "Category", "Original"))
    found = jailbreakbench(tmp_path)
    (prompt,) = found.prompts("forget")
    assert (prompt.id, prompt.text, prompt.target) == (
        "harmful:1",
        "Do a harmful thing, now",
        "Do a harmful thing, now",
    )
    assert found.retain[0].answer == "Sure, here it is"
    with (tmp_path / "benign-behaviors.csv").open("a", encoding="utf-8") as file:
        file.write('1,"Do a benign thing, now",Sure,Thing,Category,Original\n')
    with pytest.raises(PromptsError, match=r"benign-behaviors\.csv, line 3: the Goal 'Do a benign thing, now' stood"):
        jailbreakbench(tmp_path)


# --- WMDP ---


def samples(**arguments):
    assert (arguments["model"], arguments["model_args"], arguments["limit"]) == ("hf", "pretrained=some/model", 7)
    bio = [{"doc_id": 1, "acc": 0.0}, {"doc_id": 0, "acc": 1.0}, {"doc_id": 0, "acc": 1.0}]  # a row for each filter
    return {"samples": {"wmdp_bio": bio, "wmdp_chem": [{"doc_id": 0, "acc": 1.0}]}}


def test_wmdp_keeps_every_questions_accuracy():
    found = wmdp("some/model", max_questions=7, simple_evaluate=samples)
    assert found.sets["wmdp_bio"].ids == ("wmdp_bio:0", "wmdp_bio:1")
    assert found.sets["wmdp_bio"].values["accuracy"].tolist() == [1.0, 0.0]
    (bio, chem) = found.metrics()
    assert (bio.name, bio.set, bio.value, chem.value) == ("accuracy", "wmdp_bio", 0.5, 1.0)


def test_wmdp_without_an_accuracy_or_without_lm_eval(monkeypatch):
    with pytest.raises(IncompleteRunError, match="wmdp_bio, doc_id 3: lm-eval gave no acc"):
        wmdp("m", simple_evaluate=lambda **_: {"samples": {"wmdp_bio": [{"doc_id": 3}]}})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install 'lm-eval"):
        wmdp("m")


# --- one's own ---


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


# --- prompt formats ---


@pytest.mark.parametrize(
    ("template", "asked", "answered"),
    [
        ("qa", "Question: Who?|Answer:", " Ann."),
        ("phi", "Question: Who?|Answer:", " Ann."),
        ("muse", "Question: Who?|Answer: ", "Ann."),
        ("llama2", "[INST] Who? [/INST]", "Ann."),
        (
            "llama3",
            "<|start_header_id|>user<|end_header_id|>||Who?<|eot_id|><|start_header_id|>assistant<|end_header_id|>||",
            "Ann.",
        ),
        ("Q: {text}{answer}", "Q: Who?", "Ann."),
        ("Q: {text}", "Q: Who?", " Ann."),
    ],
)
def test_the_papers_prompt_formats(template, asked, answered):
    """A tokenizer of single characters (| for a line break) shows the very text that the model reads."""
    letters = sorted({*asked, *answered, "\n"})
    backend = Tokenizer(WordLevel({c: i for i, c in enumerate([*letters, "<eos>"])}, unk_token="<eos>"))

    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    names = [*letters, "<eos>"]
    read = lambda ids: "".join(names[i] for i in ids).replace("\n", "|")  # noqa: E731
    assert read(encode_prompt(tokenizer, "Who?", template)) == asked
    assert read(encode_answer(tokenizer, "Ann.", template)) == f"{answered}<eos>"
