"""Run folders in an object store: the bytes of those on a disk, whatever fails, and nothing taken for absent."""

import shutil
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from leakbound.auditing.steps import audit, bound, score
from leakbound.auditing.verifying import verify
from leakbound.errors import IncompleteRunError, InputError, RunMismatchError, StorageError
from leakbound.models import FakeModel
from leakbound.records import Prompt
from leakbound.report import write_html
from leakbound.results.audit import Audit
from leakbound.runs import layout, places
from leakbound.runs.files import new_folder, write_text
from leakbound.runs.places import Place, place
from leakbound.runs.store import Run
from leakbound.viewing.folder import open_folders
from leakbound.viewing.found import run_folders

PROMPTS = [Prompt(f"p{i}", f"What is {i}?", f"secret {i}") for i in range(6)]
ASKED = {"num_samples": 40, "progress": False, "draws_per_shard": 15}


@pytest.fixture
def store(monkeypatch):
    """The address of an empty store; nobody waits."""
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 80)
    monkeypatch.setattr(places, "WAIT", 0.0)
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    MemoryFileSystem.store.clear()


def on_disk(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def in_store(address):
    system, root = fsspec.core.url_to_fs(address)
    return {name.removeprefix(f"{root}/"): system.cat_file(name) for name in system.find(root)}


@pytest.fixture
def local(tmp_path, store):
    audit(FakeModel(leak=0.3), PROMPTS, out=tmp_path / "run", **ASKED)
    found = on_disk(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    return found


def test_an_address_survives_path_and_a_path_stays_one(tmp_path, monkeypatch):
    for given in ("s3://bucket/a/run", Path("s3://bucket/a/run")):
        found = place(given)
        assert isinstance(found, Place)
        assert str(found / "x") == "s3://bucket/a/run/x"
        assert place(Path(found)) == found
        assert str(found.parent) == "s3://bucket/a"
        assert (found.name, found.expanduser(), found.resolve()) == ("run", found, found)
    for given in ("runs/a", "a:/b", "odd:/b", "~/run", tmp_path / "s3:"):
        assert type(place(given)) is type(tmp_path)
    for given in ("S3://bucket/run", Path("S3://bucket/run")):
        assert str(place(given)) == "s3://bucket/run"
    for other in ("https://host/run", "FILE:///run"):
        with pytest.raises(InputError, match="give a folder of this machine, or one of s3, "):
            place(other)


def test_a_run_in_a_store_is_the_run_on_a_disk(local, store):
    run = f"{store}/run"
    audit(FakeModel(leak=0.3), PROMPTS, out=run, **ASKED)
    assert in_store(run) == local
    score(Run.open(run), progress=False)
    bound(Run.open(Path(run)), progress=False)
    assert str(write_html(Audit.load(run), f"{run}/report.html")) == f"{run}/report.html"
    assert in_store(run) == local
    assert verify(run).accepted
    (shown,) = open_folders(run_folders([Path(run)]))
    assert (shown.name, shown.problems, shown.fresh()) == ("run", [], shown)
    assert [folder.name for folder in open_folders(run_folders([Path(store)]))] == ["run"]
    place(f"{run}/audit.json").unlink()
    assert shown.fresh() is not shown


@pytest.mark.parametrize("stored", [False, True], ids=["before", "after"])
def test_requests_that_fail_lose_nothing_and_count_nothing_twice(local, store, monkeypatch, stored):
    """Every third request fails, before or after it was done; a folder that is begun again goes on."""
    number = 0

    def failing(method):
        def call(self, *args, **more):
            nonlocal number
            number += 1
            if number % 3 == 0:
                if stored:
                    method(self, *args, **more)
                raise ConnectionResetError("gone")
            return method(self, *args, **more)

        return call

    with monkeypatch.context() as patched:
        for name in ("cat_file", "pipe_file", "rm_file", "info", "ls"):
            patched.setattr(MemoryFileSystem, name, failing(getattr(MemoryFileSystem, name)))
        audit(FakeModel(leak=0.3), PROMPTS, out=f"{store}/run", **ASKED)
    assert number > 100
    assert in_store(f"{store}/run") == local


def test_a_store_that_is_gone_is_neither_empty_nor_damaged(local, store, monkeypatch):
    run = f"{store}/run"
    audit(FakeModel(leak=0.3), PROMPTS, out=run, **ASKED)

    def gone(*args, **more):
        raise ConnectionResetError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "info", gone)
        patched.setattr(MemoryFileSystem, "cat_file", gone)
        with pytest.raises(StorageError, match=r"run\.json cannot be reached \(gone\)"):
            audit(FakeModel(leak=0.3), PROMPTS, out=run, **ASKED)
        for look in (Run.open, Audit.load, verify):
            with pytest.raises(StorageError, match="cannot be reached"):
                look(run)
    assert in_store(run) == local


class Answered(Exception):
    code = 401


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (PermissionError("no"), 1),
        (OSError("Forbidden: b/x"), 1),
        (Answered("who?"), 1),
        (OSError("gone"), places.TRIES),
    ],
)
def test_a_store_that_refuses_is_not_asked_again(store, monkeypatch, error, tries):
    asked = []

    def refusing(*args, **more):
        asked.append(args)
        raise error

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refusing)
    with pytest.raises(StorageError, match="cannot be reached"):
        place(f"{store}/x").put(b"")
    assert len(asked) == tries


def test_what_is_missing_damaged_or_of_another_run_is_refused(store):
    run = f"{store}/run"
    audit(FakeModel(leak=0.3), PROMPTS, out=run, **ASKED)
    with pytest.raises(RunMismatchError, match=r"out is 'memory://bucket/run', which .*seed: there 0, now 1"):
        audit(FakeModel(leak=0.3), PROMPTS, out=run, seed=1, **ASKED)
    place(f"{store}/other/thesis.tex").put(b"x")
    with pytest.raises(RunMismatchError, match="not a run folder"):
        audit(FakeModel(leak=0.3), PROMPTS, out=f"{store}/other", **ASKED)
    file = place(f"{run}/draws/sample-00000.parquet")
    whole = file.read_bytes()
    file.put(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IncompleteRunError, match="its checksum does not fit"):
        bound(Run.open(run), progress=False)
    file.unlink()
    file.unlink()
    with pytest.raises(IncompleteRunError, match="is missing"):
        bound(Run.open(run), progress=False)


def test_of_two_that_begin_at_once_one_keeps_its_place(store):
    file = place(f"{store}/run/run.json")
    file.put(b"mine", new=True)
    file.put(b"mine", new=True)  # the answer was lost
    with pytest.raises(FileExistsError):
        file.put(b"theirs", new=True)
    assert file.read_bytes() == b"mine"


def test_prefixes_and_markers_of_folders_are_no_files(store):
    for name in (
        "run/scores/a/x.parquet",
        "run/scores/b/y.parquet",
        "run/scores.old/a/x.parquet",
        "run/scores/scores/z",
    ):
        place(f"{store}/{name}").put(b"")
    scores = place(f"{store}/run/scores")
    assert [p.name for p in scores.iterdir()] == ["a", "b", "scores"]
    assert list(scores.glob("*/x.parquet")) == [scores / "a" / "x.parquet"]
    assert list(scores.glob("?/*.parquet")) == [scores / "a" / "x.parquet", scores / "b" / "y.parquet"]
    assert list((scores / "none").iterdir()) == []
    assert (scores.is_dir(), (scores / "a" / "x.parquet").is_dir(), (scores / "c").exists()) == (True, False, False)


def test_a_package_that_is_missing_is_named_with_the_remedy(monkeypatch):
    def absent(*args, **more):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(StorageError, match=r"Install s3fs to access S3\): pip install 'leakbound\[storage\]'"):
        Run.open("s3://bucket/run")
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    for scheme in ("gs", "gcs"):
        with pytest.raises(StorageError, match=r"run\.json needs a package \(.*\): pip install 'leakbound\[gs\]'"):
            Run.open(f"{scheme}://bucket/run")


def test_what_is_only_written_to_a_disk_says_so(store):
    for out in (Path(f"{store}/run"), place(f"{store}/run")):
        with pytest.raises(InputError, match="only written to a disk"), new_folder(out):
            pass
    with pytest.raises(InputError, match="only written to a disk"):
        write_text(Path(f"{store}/run/x.md"), "x")
    assert not Path("memory:").exists()
