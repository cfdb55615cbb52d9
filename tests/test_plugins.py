"""Tables that entry points add to, on distributions of one file each, made visible by a folder on sys.path."""

import sys
from collections.abc import Callable

import pytest

from leakbound.errors import InputError
from leakbound.plugins import Table, named_object

OWN = {"ours": len}


def table(group="leakbound.things"):
    return Table("thing", group, Callable, OWN)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes a distribution: its entry points, and a module of its own."""
    monkeypatch.syspath_prepend(tmp_path)

    def distribution(name, points, code="def thing():\n    return 'theirs'\n"):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{k} = {v}\n" for k, v in points.items())
        (folder / "entry_points.txt").write_text(f"[leakbound.things]\n{lines}")
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.setattr(sys, "path", [*sys.path, f"/seen-{name}"])  # another path is looked through anew
        monkeypatch.delitem(sys.modules, name, raising=False)

    return distribution


def test_without_packages_a_table_is_what_is_ours():
    assert dict(table("leakbound.nothing")) == OWN
    assert "theirs" not in table()


def test_a_package_adds_a_name_which_is_loaded_when_it_is_used(install):
    install("other", {"theirs": "other:thing"})
    assert list(table()) == ["ours", "theirs"]
    assert len(table()) == 2
    assert "theirs" in table()
    assert "other" not in sys.modules
    assert table()["theirs"]() == "theirs"
    assert table().find("ours") is len


def test_an_unknown_name_is_refused_with_all_there_are(install):
    install("other", {"theirs": "other:thing"})
    with pytest.raises(InputError, match=r"^thing is 'x': give one of ours, theirs$"):
        table().find("x")


def test_a_broken_entry_point_names_its_package_and_its_error_and_harms_no_other(install):
    install("sick", {"theirs": "sick:thing", "gone": "sick:nothing"}, "1 / 0\n")
    install("flat", {"text": "flat:text"}, "text = 'no function'\n")
    with pytest.raises(InputError, match=r"thing is 'theirs': sick \(entry point 'sick:thing' .*ZeroDivisionError"):
        table()["theirs"]
    with pytest.raises(InputError, match=r"sick .*cannot be loaded"):
        table().find("gone")
    with pytest.raises(InputError, match=r"flat \(.*\) is 'no function', not Callable"):
        table()["text"]
    assert table()["ours"] is len


def test_a_name_that_is_taken_is_refused_whoever_has_it(install):
    install("greedy", {"ours": "greedy:thing", "shared": "greedy:thing"})
    install("second", {"shared": "second:thing"})
    with pytest.raises(InputError, match=r"thing is 'ours', which leakbound and greedy \(.* both bring"):
        table()["ours"]
    with pytest.raises(InputError, match=r"thing is 'shared', which \w+ \(.*\) and \w+ \(.*rename one"):
        table().find("shared")
    assert list(table()) == ["ours", "shared"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("math", "write module:object"),
        (":pi", "write module:object"),
        ("no_such_module_here:x", "importing 'no_such_module_here' failed: ModuleNotFoundError"),
        ("math:tau2", "'tau2' does not exist in module math"),
    ],
)
def test_an_object_that_is_not_there(name, said):
    with pytest.raises(InputError, match=f"^thing '{name}': {said}"):
        named_object(name, "thing")


def test_an_object_is_looked_for_in_the_working_directory_last(tmp_path, monkeypatch):
    (tmp_path / "mine_only_here.py").write_text("value = 3\n")
    (tmp_path / "math.py").write_text("pi = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert named_object("mine_only_here:value", "thing") == 3
    assert named_object("math:pi", "thing") > 3.1
