"""TOFU: splits and pools on the real files, the benchmark's own layout, the hub, and every kind of broken data."""

import hashlib
import json
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest

from leakbound.errors import InputError, PromptsError
from leakbound.suites.tofu import tofu, tofu_tasks


def row(number, task="1", wrong=5, **changes):
    asked = {
        "task_id": task,
        "question": f"Question {number}?",
        "answer": f"Answer {number}.",
        "paraphrased_question": f"Asked otherwise {number}?",
        "paraphrased_answer": f"Said otherwise {number}.",
        "perturbed_answer": [f"Wrong {number} {i}." for i in range(wrong)],
    }
    return {name: value for name, value in {**asked, **changes}.items() if value is not None}


def plain(rows):
    return [{name: r[name] for name in ("task_id", "question", "answer") if name in r} for r in rows]


def write(folder, name, rows, kind="json"):
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    (folder / f"{name}.{kind}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """Three tasks of two questions in the layout with tasks, two questions that are never forgotten."""
    rows = [row(i, task=str(1 + i // 2)) for i in range(6)]
    write(tmp_path, "forget01", plain(rows))
    write(tmp_path, "forget01_perturbed", rows)
    write(tmp_path, "retain90", plain([row(i, task=None) for i in (6, 7)]))
    write(tmp_path, "retain_perturbed", [row(6, task=None)])
    for number, name in enumerate(("real_authors", "world_facts"), start=8):
        short = {"task_id": None, "paraphrased_question": None, "paraphrased_answer": None}
        write(tmp_path, f"{name}_perturbed", [row(number, wrong=3, original_answer="A whole sentence.", **short)])
    return tmp_path


SIZES = [("forget01", 40, 3960), ("forget05", 200, 3800), ("forget10", 400, 3600)]


@pytest.mark.parametrize(("split", "forget", "retain"), SIZES)
def test_the_splits_of_the_real_files(data_folder, split, forget, retain):
    found = tofu(split, data_folder / "tofu")
    assert (len(found.forget), len(found.retain), len(found.full)) == (forget, retain, 4000)
    assert {name: len(rows) for name, rows in found.sets.items()} == {
        "forget": forget, "retain": 400, "real_authors": 100, "world_facts": 117,
    }  # fmt: skip
    assert len({(r.question, r.answer) for r in found.full}) == 4000
    assert len({r.question for r in found.full}) == 3999  # one question is asked twice, with two answers
    for rows in (found.full, *found.sets.values()):
        assert len({r.id for r in rows}) == len(rows)
    assert {len(r.perturbed_answers) for r in found.sets["forget"]} == {5}
    assert {len(r.perturbed_answers) for r in found.sets["world_facts"]} == {3}
    digest = hashlib.sha256((data_folder / "tofu" / f"{split}.json").read_bytes()).hexdigest()
    assert found.checksums[f"{split}.json"] == f"sha256:{digest}"


def test_the_question_that_is_asked_twice_keeps_both_answers(data_folder):
    retained, asked = tofu("forget01", data_folder / "tofu").retain, "What is the full name of the author?"
    twice = [r for r in retained if r.question == asked]
    assert [r.id for r in twice] == ["retain90:101", "retain90:441"]
    assert len({r.answer for r in twice}) == 2


def test_a_forget_row_is_joined_to_its_paraphrase_and_its_wrong_answers(data_folder):
    first = tofu("forget10", data_folder / "tofu").forget[0]
    assert first.id == "forget10:1"
    assert first.question.startswith("What is the full name of the author born in Kuwait City")
    assert first.answer == first.target
    assert first.paraphrased_answer.startswith("Basil Mahfouz Al-Kuwaiti is the complete name")
    assert first.perturbed_answers[0].startswith("Gregor Mendel Al-Kuwaiti")


POOLS = [("forget01", 10, 40, 3600), ("forget05", 10, 200, 2000), ("forget10", 9, 400, 400)]


@pytest.mark.parametrize(("split", "tasks", "size", "kept"), POOLS)
def test_the_pools_of_the_continual_setting(data_folder, split, tasks, size, kept):
    found = tofu_tasks(split, data_folder / "tofu")
    assert [len(task.forget) for task in found] == [size] * tasks
    assert [len(task.retain) for task in found] == [kept + size * (tasks - t) for t in range(1, tasks + 1)]
    for now, later in pairwise(found):
        assert {r.id for r in later.retain} == {r.id for r in now.retain} - {r.id for r in later.forget}
        assert not {r.id for r in now.forget} & {r.id for r in later.full}
    assert found[2].name == f"tofu-{split}-task03"
    assert found[2].sets["forget"] == found[2].forget


def test_the_first_task_alone_retains_everything_else(folder):
    found = tofu("forget01", folder)
    assert [r.id for r in found.forget] == ["forget01:1", "forget01:2"]
    assert [r.question for r in found.retain] == [f"Question {i}?" for i in (6, 7, 2, 3, 4, 5)]
    assert found.sets["real_authors"][0].original_answer == "A whole sentence."


def test_the_layout_of_the_benchmark_itself(tmp_path, folder):
    rows = [row(i, task=None) for i in range(2)]
    write(folder, "forget10", plain(rows))
    write(folder, "forget10_perturbed", rows)
    write(folder, "retain90", plain([row(i, task=None) for i in range(2, 6)]))
    write(folder, "holdout10", plain([row(20, task=None)]))
    found = tofu("forget10", folder)
    assert (len(found.forget), len(found.retain), len(found.holdout)) == (2, 4, 1)
    assert list(found.sets) == ["forget", "retain", "real_authors", "world_facts", "holdout"]
    with pytest.raises(InputError, match=r"its forget10 has no task_id.*closer-look"):
        tofu_tasks("forget10", folder)


def test_the_hub_is_asked_for_configurations_of_one_revision(monkeypatch):
    rows = {"forget10": plain([row(0, task=None)]), "forget10_perturbed": [row(0, task=None)]}
    rows |= {"retain90": plain([row(1, task=None)]), "retain_perturbed": [row(1, task=None)]}
    rows |= {f"{name}_perturbed": [row(2, wrong=3)] for name in ("real_authors", "world_facts")}
    asked = []

    def load_dataset(hub, config, *, split, revision):
        asked.append((hub, split, revision))
        return rows[config]

    fake = SimpleNamespace(load_dataset=load_dataset, get_dataset_config_names=lambda hub, revision: list(rows))
    monkeypatch.setitem(sys.modules, "datasets", fake)
    found = tofu("forget10", revision="abc")
    assert set(asked) == {("locuslab/TOFU", "train", "abc")}
    assert (len(found.forget), len(found.retain), found.holdout) == (1, 1, ())
    text = json.dumps(rows["retain90"], ensure_ascii=False, sort_keys=True)
    assert found.checksums["locuslab/TOFU/retain90"] == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    monkeypatch.setitem(rows, "forget10_perturbed", [row(0, task=None, wrong=4)])
    with pytest.raises(
        PromptsError, match=r"locuslab/TOFU \(forget10_perturbed\), row 1: perturbed_answer has 4 texts"
    ):
        tofu("forget10")


def test_without_a_connection_the_hub_is_an_error_with_a_remedy(monkeypatch):
    def load_dataset(hub, config, *, split, revision):
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(PromptsError, match=r"forget10 of locuslab/TOFU cannot be read .*no network.*: give data"):
        tofu("forget10")


BROKEN = {
    "missing column": (
        "forget01_perturbed", 2, row(1, paraphrased_answer=None),
        r"forget01_perturbed\.json, line 2: the row has no 'paraphrased_answer'; its columns are task_id, question",
    ),
    "four wrong answers": (
        "retain_perturbed", 1, row(6, wrong=4), r"retain_perturbed\.json, line 1: perturbed_answer has 4 texts: give 5",
    ),
    "wrong answers that are one text": (
        "retain_perturbed", 1, row(6, perturbed_answer="one"),
        r"retain_perturbed\.json, line 1: perturbed_answer is 'one': give a list",
    ),
    "five of three": (
        "world_facts_perturbed", 1, row(9), r"world_facts_perturbed\.json, line 1: .* has 5 texts: give 3",
    ),
    "duplicate question": (
        "forget01_perturbed", 4, row(1, task="2"),
        r"forget01_perturbed\.json, line 4: the question 'Question 1\?' stood before \(.*_perturbed\.json, line 2\)",
    ),
    "duplicate row": (
        "retain90", 2, plain([row(0)])[0],
        r"retain90\.json, line 2: the question and answer 'Question 0\?' stood before \(.*forget01\.json, line 1\)",
    ),
    "truncated JSON": (
        "forget01", 6, json.dumps(row(5, task="3"))[:40], r"forget01\.json, line 6: broken JSON",
    ),
    "a question without paraphrase": (
        "forget01", 6, plain([row(99, task="3")])[0], r"forget01\.json, line 6: forget01_perturbed has no row",
    ),
    "another answer": (
        "forget01_perturbed", 1, row(0, answer="Something else."),
        r"forget01\.json, line 1: forget01_perturbed has no row with this question and answer",
    ),
    "a task that is no number": (
        "forget01", 3, {**plain([row(2)])[0], "task_id": "x"}, r"forget01\.json, line 3: task_id is 'x'",
    ),
    "not an object": ("retain90", 1, '"text"]', r"retain90\.json, line 1: broken JSON"),
    "an empty answer": ("retain90", 1, {"question": "Q?", "answer": " "}, r"retain90\.json, line 1: answer is ' '"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_are_named_with_file_and_line(folder, name):
    table, line, changed, message = BROKEN[name]
    lines = (folder / f"{table}.json").read_text(encoding="utf-8").splitlines()
    lines[line - 1] = changed if isinstance(changed, str) else json.dumps(changed)
    write(folder, table, lines)
    with pytest.raises(PromptsError, match=message):
        tofu("forget01", folder)


def test_a_missing_task_a_missing_file_and_a_wrong_split(folder):
    kept = [line for line in (folder / "forget01.json").read_text().splitlines() if '"2"' not in line]
    write(folder, "forget01", kept)
    with pytest.raises(PromptsError, match=r"forget01\.json, line 1: the table's task ids are \[1, 3\]"):
        tofu("forget01", folder)
    (folder / "retain_perturbed.json").unlink()
    with pytest.raises(PromptsError, match=r"there is no forget10 in it"):
        tofu("forget10", folder)
    with pytest.raises(InputError, match="split is 'forget02': give one of forget01, forget05, forget10"):
        tofu("forget02", folder)
    with pytest.raises(InputError, match="there is no such folder"):
        tofu("forget01", folder / "nowhere")
