"""What is kept: found again under the same name, whole or not at all, refused when damaged or of other settings."""

import hashlib
import json
from functools import partial

import numpy as np
import pytest

from leakbound.errors import IncompleteRunError, RunMismatchError
from leakbound.runs.cache import Cache, check_same, checksum, load_arrays, read, save_arrays, settle


def never(*_):
    pytest.fail("computed again")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_checksum_is_of_the_value():
    assert checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1}) != checksum({"a": 1, "b": 3})
    assert checksum("秘密") == hashlib.sha256('"秘密"'.encode()).hexdigest()
    assert len(checksum("\ud800")) == 64  # what no UTF-8 holds has one as well


def test_values_are_computed_once_and_timed(tmp_path):
    cache = Cache(tmp_path / "parts")
    assert cache.get("forget", "likelihoods", {"a": 1}, lambda: {"x": [1.5]}) == {"x": [1.5]}
    (name,) = names(tmp_path / "parts")
    assert name == f"forget-likelihoods-{checksum(['likelihoods', {'a': 1}])[:16]}.json"
    file = tmp_path / "parts" / name
    assert json.loads(file.read_text())["seconds"] == cache.seconds["likelihoods"] > 0
    file.write_text('{"part": {"x": [2.5]}, "seconds": 7}\n')
    again = Cache(tmp_path / "parts")
    assert again.get("forget", "likelihoods", {"a": 1}, never) == {"x": [2.5]}
    assert again.get("forget", "generations", {"a": 1}, lambda: 3) == 3
    assert again.get("forget", "likelihoods", {"a": 2}, lambda: 4) == 4
    assert again.seconds["likelihoods"] > 7
    assert again.found == cache.made == [name]
    assert set(again.made) == set(names(tmp_path / "parts")) - {name}


def test_a_failure_keeps_nothing(tmp_path):
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.get("x", "y", {}, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.make("x", {}, lambda folder: 1 / 0)
    assert names(tmp_path) == []


def test_in_memory_nothing_is_kept_but_the_seconds():
    cache = Cache(None)
    assert [cache.get("x", "y", {}, partial(int, i)) for i in range(2)] == [0, 1]
    assert cache.seconds["y"] > 0
    assert cache.made == cache.found == []


@pytest.mark.parametrize("text", ['{"part": 1, "sec', "", "[]", '{"seconds": 1}', '{"part": 1, "seconds": "x"}'])
def test_a_damaged_value_is_refused(tmp_path, text):
    cache = Cache(tmp_path)
    cache.get("x", "y", {}, lambda: 1)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    with pytest.raises(IncompleteRunError, match=r"x-y-.*\.json is damaged .* remove it and run the same again"):
        cache.get("x", "y", {}, never)


def test_folders_are_built_once_and_hold_their_settings(tmp_path):
    cache = Cache(tmp_path)
    made = cache.make("numbers", {"a": 1}, lambda folder: save_arrays(folder, {"x": [1.0, 2.0]}))
    assert made.name == f"numbers-{checksum({'format': 1, 'kind': 'numbers', 'a': 1})[:16]}"
    assert load_arrays(made)["x"].tolist() == [1.0, 2.0]
    assert json.loads((made / "config.json").read_text()) == {"a": 1, "format": 1, "kind": "numbers"}
    assert cache.make("numbers", {"a": 1}, never) == made
    assert (cache.made, cache.found) == ([made.name], [made.name])
    assert names(tmp_path) == [made.name]


def test_a_faster_process_keeps_its_place(tmp_path):
    def slower(folder):
        Cache(tmp_path).make("numbers", {}, lambda theirs: save_arrays(theirs, {"by": [1]}))
        save_arrays(folder, {"by": [2]})

    assert load_arrays(Cache(tmp_path).make("numbers", {}, slower))["by"].tolist() == [1]
    assert len(names(tmp_path)) == 1


def test_a_folder_with_other_settings_or_none_is_refused(tmp_path):
    cache = Cache(tmp_path)
    made = cache.make("numbers", {"a": 1}, lambda folder: None)
    (made / "config.json").write_text('{"a": 3, "format": 1, "kind": "numbers"}')
    with pytest.raises(RunMismatchError, match=r"numbers-.* holds a run with other settings \(a: there 3, now 1\)"):
        cache.make("numbers", {"a": 1}, never)
    (made / "config.json").unlink()
    with pytest.raises(IncompleteRunError, match=r"config\.json is damaged .*: remove its folder"):
        cache.make("numbers", {"a": 1}, never)


@pytest.mark.parametrize("left", [0, 100, -1])
def test_damaged_numbers_are_refused(tmp_path, left):
    save_arrays(tmp_path, {"x": np.arange(1000.0)})
    file = tmp_path / "result.npz"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(IncompleteRunError, match="is damaged"):
        load_arrays(tmp_path)
    file.unlink()
    with pytest.raises(IncompleteRunError, match="is damaged"):
        load_arrays(tmp_path)


def test_settings_are_compared_by_name_as_json():
    check_same("x", {"a": [1, 2], "b": None, "v": 1}, {"a": (1, 2), "c": None, "v": 2}, but=("v",))
    with pytest.raises(RunMismatchError) as error:
        check_same("out is 'x', which", {"b": 1, "how": {"beta": 0.1, "z": 1}}, {"a": 2, "how": {"beta": 1.0, "z": 1}})
    assert str(error.value) == (
        "out is 'x', which holds a run with other settings (a: there None, now 2; b; how): give the same, or a new "
        "folder"
    )
    with pytest.raises(RunMismatchError, match=r"\(how\.beta: there 0\.1, now 1\.0\)"):
        check_same("x", {"how": {"beta": 0.1, "z": 1}}, {"how": {"beta": 1.0, "z": 1}})


def test_a_folder_is_settled_once(tmp_path):
    file = tmp_path / "out" / "demo.json"
    settle(file, {"seed": 0, "methods": ("npo",)})
    before = file.read_bytes()
    assert before == b'{\n "seed": 0,\n "methods": [\n  "npo"\n ]\n}\n'
    settle(file, {"methods": ("npo",), "seed": 0})
    with pytest.raises(RunMismatchError, match=r"out is '.*out', which holds a run with other settings \(seed:"):
        settle(file, {"methods": ("npo",), "seed": 1})
    assert file.read_bytes() == before
    file.write_text("{")  # to remove it would let other settings in
    with pytest.raises(IncompleteRunError, match=r"demo\.json is damaged .*: give a new folder"):
        settle(file, {"methods": ("npo",), "seed": 0})
    file.write_text("[]")
    with pytest.raises(RunMismatchError, match=r"other settings \(methods:"):
        settle(file, {"methods": ("npo",), "seed": 0})


def test_what_is_not_there_cannot_be_read(tmp_path):
    with pytest.raises(IncompleteRunError, match="remove it"):
        read(tmp_path / "x.json")
