"""Files that exist whole or not at all, whatever ends the process that writes them."""

import os
import re
import signal
import socket
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leakbound.errors import InputError, StorageError
from leakbound.runs.files import kept, new_folder, sweep, write_table, write_text


def test_a_text_is_written_whole_in_a_new_folder(tmp_path):
    file = tmp_path / "a" / "b" / "x.json"
    write_text(file, "Zürich 秘密\n")
    assert file.read_bytes() == "Zürich 秘密\n".encode()
    write_text(file, "other")
    assert file.read_text() == "other"
    assert [f.name for f in file.parent.iterdir()] == ["x.json"]


def test_tables_are_compressed_parquet(tmp_path):
    write_table(tmp_path / "x.parquet", pa.table({"a": [1, 2]}))
    assert pq.read_table(tmp_path / "x.parquet").to_pydict() == {"a": [1, 2]}
    assert pq.read_metadata(tmp_path / "x.parquet").row_group(0).column(0).compression == "ZSTD"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "x", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "x", "new " * 10_000 + "\ud800")
    assert (tmp_path / "x").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_process_left_is_swept_and_its_file_is_as_before(tmp_path, monkeypatch):
    write_text(tmp_path / "deep" / "x", "old")
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "fsync", lambda _: os._exit(9))  # dies with everything written and nothing renamed
        write_text(tmp_path / "deep" / "x", "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = f".x.{socket.gethostname()}.{child}.tmp"
    assert {f.name for f in (tmp_path / "deep").iterdir()} == {"x", left}
    sweep(tmp_path)
    assert {f.name: f.read_text() for f in (tmp_path / "deep").iterdir()} == {"x": "old"}


def test_what_others_are_writing_is_kept(tmp_path, monkeypatch):
    host = socket.gethostname()
    names = {".x.elsewhere.1234.tmp", f".x.y.{host}.1234.tmp", f".x.{host}.5678.tmp", "x.tmp", f"x.{host}.1234.tmp"}
    for name in names:
        (tmp_path / name).write_text("half")
    asked = []

    def kill(pid, signal):
        asked.append((pid, signal))
        raise PermissionError if pid == 1234 else ProcessLookupError  # one of another user's, and one that is no more

    monkeypatch.setattr(os, "kill", kill)
    sweep(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == names - {f".x.{host}.5678.tmp"}
    assert sorted(asked) == [(1234, 0), (5678, 0)]  # signal 0 only asks


def test_two_may_sweep_at_once(tmp_path, monkeypatch):
    left = tmp_path / f".x.{socket.gethostname()}.1234.tmp"
    left.write_text("half")

    def kill(pid, signal):
        left.unlink()  # the other was faster
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def gone(work):
    """The number of a process that did this and was killed in the middle."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return child


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", ["model", "a[b]*c"])
def test_a_new_folder_takes_away_what_a_killed_process_left_of_it(tmp_path, name):
    def half():
        with new_folder(tmp_path / name) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "weights").write_text("half")
            killed()

    host, pid = socket.gethostname(), gone(half)
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(rf"\.{re.escape(name)}\.{re.escape(host)}\.{pid}-\w+\.tmp", left.name)
    others = {
        f".{name}.elsewhere.1234-x.tmp",
        f".{name}.more.{host}.{pid}-x.tmp",
        f".{name}.{host}.{os.getppid()}-x.tmp",
    }
    for other in others:
        (tmp_path / other).mkdir()
    before = tmp_path / f".{name}.{host}.{os.getpid()}-x.tmp"  # of a process of this number, before the machine started
    before.mkdir()
    with new_folder(tmp_path / name) as folder:
        assert not left.exists()
        assert not before.exists()
        (folder / "weights").write_text("whole")
        with new_folder(tmp_path / name.upper()), pytest.raises(InputError), new_folder(tmp_path):
            pass
        assert folder.exists()
    assert {f.name for f in tmp_path.iterdir()} == {name, name.upper(), *others}
    assert [f.name for f in (tmp_path / name).iterdir()] == ["weights"]


def test_two_threads_write_the_same_new_folder_and_the_first_one_keeps_it(tmp_path):
    with pytest.raises(StorageError), new_folder(tmp_path / "x") as first:  # noqa: PT012 - the first one's end raises
        (first / "a").write_text("first")
        with new_folder(tmp_path / "x") as second:
            assert first.exists()
            (second / "a").write_text("second")
    assert (tmp_path / "x" / "a").read_text() == "second"
    assert [f.name for f in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_launch_of_several_processes_left_is_not_in_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    def half():
        with new_folder(tmp_path / "x") as folder:
            (folder / "adapter").write_text("half")
            killed()

    gone(half)
    with new_folder(tmp_path / "x") as folder:
        (folder / "weights").write_text("whole")
    assert [f.name for f in (tmp_path / "x").iterdir()] == ["weights"]
    assert [f.name for f in tmp_path.iterdir()] == ["x"]


def test_a_file_takes_away_what_a_killed_process_left_of_it(tmp_path):
    def half():
        os.fsync = lambda _: killed()
        write_text(tmp_path / "x.json", "half")

    gone(half)
    assert len(list(tmp_path.iterdir())) == 1
    write_text(tmp_path / "y.json", "other")
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "x.json", "whole")
    assert {f.name for f in tmp_path.iterdir()} == {"x.json", "y.json"}


def test_what_nobody_keeps_is_in_a_folder_of_the_systems_also_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def half():
        with kept(None) as folder:
            write_text(folder / "x", "half")
            killed()

    gone(half)
    assert len(list(tmp_path.iterdir())) == 1
    with kept(None) as folder:
        write_text(folder / "x", "whole")
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    with kept(tmp_path / "asked") as folder:
        assert folder == tmp_path / "asked"
    assert list(tmp_path.iterdir()) == []
