"""X2, X3, X4, X5: what is damaged, elsewhere or half-begun is refused in one line; the disk's refusals too."""

import errno
import json
import os
import random
import shutil
import signal

import pyarrow.parquet as pq
import pytest

from leakbound.auditing.drawing import sample
from leakbound.auditing.scoring import score
from leakbound.auditing.steps import audit, bound
from leakbound.cli import main
from leakbound.errors import IncompleteRunError, InputError, LeakboundError, RunMismatchError, StorageError
from leakbound.models import FakeModel
from leakbound.records import Prompt
from leakbound.results.audit import Audit
from leakbound.runs import columns
from leakbound.runs.files import write_json, write_table, write_text
from leakbound.runs.store import Run

PROMPTS = (Prompt("a", "where?", "in the garden"), Prompt("b", "who?", "Ada Fennick", ("Ada",)))
MODEL = FakeModel(leak=0.3)
FILES = ("run.json", "prompts.parquet", "draws/greedy-00000.parquet", "draws/sample-00000.parquet",
         "scores/rouge_l/greedy-00000.parquet", "scores/rouge_l/sample-00000.parquet")  # fmt: skip


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    audit(MODEL, PROMPTS, num_samples=24, out=folder, progress=False)
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def flipped(good, seed):
    """40 copies of the bytes, one bit flipped in each."""
    rng = random.Random(seed)
    for _ in range(40):
        bit = rng.randrange(8 * len(good))
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        yield bad


@pytest.mark.parametrize("name", FILES)
def test_x2_no_flipped_bit_changes_an_audit(copied, name):
    """40 of the bits of each kind of file; benchmarks/flips.py flips thousands."""
    file = copied / name
    good = file.read_bytes()
    for bad in flipped(good, name):
        file.write_bytes(bad)
        with pytest.raises((IncompleteRunError, RunMismatchError)):
            bound(Run.open(copied))
    file.write_bytes(good)
    assert bound(Run.open(copied)) == Audit.load(copied)


def test_x2_a_flipped_bit_in_a_result_is_refused(copied):
    file = copied / "audit.json"
    for bad in flipped(file.read_bytes(), 2):
        file.write_bytes(bad)
        with pytest.raises(InputError, match="run `leakbound bound` again"):
            Audit.load(copied)


def test_x2_a_result_without_its_checksum_is_refused_where_there_must_be_one(copied):
    data = json.loads((copied / "audit.json").read_text())
    del data["seal"]
    (copied / "audit.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="its checksum is missing"):
        Audit.load(copied)


@pytest.mark.parametrize("name", FILES[2:])
def test_x2_a_file_of_another_run_or_shard_is_refused(copied, tmp_path, name):
    audit(MODEL, PROMPTS, num_samples=24, seed=1, out=tmp_path / "other", progress=False)
    shutil.copy(tmp_path / "other" / name, copied / name)
    with pytest.raises(IncompleteRunError, match="it was changed, or belongs to another run or to other draws"):
        bound(Run.open(copied))


def test_x2_a_result_of_another_run_is_refused_beside_this_ones_run_json(copied, tmp_path, capsys):
    there = audit(FakeModel(leak=0.0), PROMPTS, num_samples=24, out=tmp_path / "other", progress=False)
    shutil.copy(tmp_path / "other" / "audit.json", copied / "audit.json")
    for path in (copied, copied / "audit.json"):
        with pytest.raises(InputError, match=r"of another run than the run\.json beside it\); run `leakbound bound`"):
            Audit.load(path)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(copied)])
    assert ended.value.code == 2
    assert "of another run" in capsys.readouterr().err
    (tmp_path / "alone").mkdir()
    shutil.copy(copied / "audit.json", tmp_path / "alone")
    assert Audit.load(tmp_path / "alone") == there


def test_g7_scores_carry_the_hash_of_the_draws_they_judge(copied):
    """Draws written anew with everything in its place but the scores: the old scores are not used."""
    run = Run.open(copied)
    part = run.parts[-1]
    draws = FakeModel(leak=0.9).sample(run.shard(part), run.params)
    kept = (copied / FILES[5]).read_bytes()
    run.write_draws(part, draws)
    assert not (copied / FILES[5]).exists()
    (copied / FILES[5]).write_bytes(kept)
    with pytest.raises(IncompleteRunError, match=r"scores/rouge_l/sample-00000\.parquet is damaged .*other draws"):
        bound(run)


@pytest.mark.parametrize("sealed", [False, True])
def test_x3_prompts_with_swapped_ids_or_other_targets_are_refused(copied, sealed):
    a, b = PROMPTS
    run = Run.open(copied)
    for others in ((Prompt(b.id, a.text, a.target), Prompt(a.id, b.text, b.target, b.aliases)),
                   (Prompt(a.id, a.text, "elsewhere"), b)):  # fmt: skip
        rows = [p.to_json() for p in others]
        table = pq.read_table(copied / "prompts.parquet").from_pylist(rows, schema=columns.PROMPTS)
        write_table(copied / "prompts.parquet", table, where=f"{run.id} prompts" if sealed else None)
        wrong = "it holds other prompts than run.json says" if sealed else "its checksum is missing"
        with pytest.raises(IncompleteRunError, match=wrong):
            Run.open(copied)


@pytest.mark.parametrize("last", ["prompts.parquet", ".prompts.parquet.h.1.tmp", ".run.json.h.1.tmp"])
def test_x4_killed_before_run_json_a_folder_starts_again(whole, tmp_path, monkeypatch, last):
    out, replace = tmp_path / "run", os.replace
    child = os.fork()
    if child == 0:

        def killed(there, to):
            if last == "prompts.parquet" and str(to).endswith(last):
                replace(there, to)
            if str(to).endswith(last) or last.startswith(f".{os.path.basename(to)}"):
                os.kill(os.getpid(), signal.SIGKILL)
            replace(there, to)

        monkeypatch.setattr(os, "replace", killed)
        sample(MODEL, PROMPTS, out, num_samples=24)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not (out / "run.json").exists()
    assert any(out.iterdir())
    audit(MODEL, PROMPTS, num_samples=24, out=out, progress=False)
    assert contents(out) == contents(whole)


def test_x4_prompts_of_the_callers_own_are_not_written_over(tmp_path):
    (tmp_path / "prompts.parquet").write_bytes(b"mine")
    with pytest.raises(RunMismatchError, match="is not a run folder"):
        sample(MODEL, PROMPTS, tmp_path, num_samples=24)
    assert (tmp_path / "prompts.parquet").read_bytes() == b"mine"


def test_x4_the_folder_of_a_new_file_is_synced(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def note(handle):
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_text(tmp_path / "a" / "b" / "x", "text")
    assert [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path)] == synced[1:]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_x5_a_full_disk_is_one_line_and_nothing_is_lost(copied, monkeypatch, capsys, call):
    before = contents(copied)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(SystemExit) as ended:
            main(["bound", str(copied), "--threshold", "0.3"])
    said = capsys.readouterr().err
    assert ended.value.code == StorageError.exit_code == 5
    assert said.count("error: ") == 1
    assert "audit.json cannot be stored (No space left on device): what was there before is whole" in said
    assert contents(copied) == before


def test_x5_a_disk_that_fills_while_drawing_loses_nothing_and_goes_on(whole, tmp_path, monkeypatch):
    replace, room = os.replace, iter(range(3))

    def fills(there, to):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(there, to)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fills)
        with pytest.raises(StorageError, match=r"run the same again, which goes on"):
            audit(MODEL, PROMPTS, num_samples=24, out=tmp_path / "run", progress=False)
    assert len(contents(tmp_path / "run")) == 3
    audit(MODEL, PROMPTS, num_samples=24, out=tmp_path / "run", progress=False)
    assert contents(tmp_path / "run") == contents(whole)


def test_x5_a_name_too_long_or_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / ("n" * 300), tmp_path / "file" / "run", tmp_path / "file" / "deep" / "run"):
        with pytest.raises(StorageError, match=r"cannot be stored \(.*give another folder"):
            sample(MODEL, PROMPTS, out, num_samples=8)
        for read in (Run.open, Audit.load):
            with pytest.raises(LeakboundError):
                read(out)
    assert (tmp_path / "file").read_text() == "x"


def test_x5_a_read_only_folder_is_one_line(copied, monkeypatch):
    """The system's refusal is played: whoever may do everything is refused nothing."""
    before, opened = contents(copied), type(copied).open

    def refused(self, mode="r", *args, **kwargs):
        if "w" in mode:
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        return opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(type(copied), "open", refused)
    with pytest.raises(StorageError, match=r"cannot be stored \(Read-only file system\)"):
        score(Run.open(copied), "contains")
    assert contents(copied) == before


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "1" * 5000 + "}", "[]", "null", '{"format": 3}', "\0"])
def test_x6_a_hostile_run_json_is_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunMismatchError):
        Run.open(tmp_path)
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(InputError):
        Audit.load(tmp_path)


def test_a_layout_cannot_lead_out_of_the_folder(copied):
    info = Run.open(copied).info
    info["layout"][1]["name"] = "sample-0/../../../evil"
    write_json(copied / "run.json", info)
    with pytest.raises((IncompleteRunError, RunMismatchError)):
        score(Run.open(copied), "contains")
