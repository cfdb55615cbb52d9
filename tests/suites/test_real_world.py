"""The real-world set on its real files."""

import pytest
from json_lines import write_lines as lines

from leakbound.errors import InputError, PromptsError
from leakbound.suites.real_world import real_world


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
