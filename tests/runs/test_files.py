"""Files that exist whole or not at all, whatever ends the process that writes them."""

import os
import socket

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leakbound.runs.files import sweep, write_table, write_text


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
