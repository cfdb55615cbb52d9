"""An audit in S3, or in Google's storage, is the audit on a disk, with failing requests and kills (make storage)."""

import os
import signal
import subprocess
import sys
import time

import pytest

for package in ("moto", "s3fs", "gcp_storage_emulator", "gcsfs"):
    pytest.importorskip(package)
pytestmark = [pytest.mark.storage, pytest.mark.slow]

from gs import gs_server  # noqa: E402
from s3 import s3_server  # noqa: E402

from leakbound.auditing.verifying import verify  # noqa: E402
from leakbound.cli import main  # noqa: E402
from leakbound.errors import RunMismatchError, StorageError  # noqa: E402
from leakbound.runs import places  # noqa: E402
from leakbound.runs.places import place  # noqa: E402
from leakbound.runs.store import Run  # noqa: E402
from leakbound.viewing.folder import open_folders  # noqa: E402
from leakbound.viewing.found import run_folders  # noqa: E402

SERVERS = {"s3": s3_server, "gs": gs_server}
SEED, SHARE = 0, 0.05
LEAST = 200
"""Requests of one audit; that none of them fails has a chance of 0.95^200 = 4e-5 once, for a seed that is fixed."""


@pytest.fixture(params=SERVERS)
def serve(request):
    """Begins the server of a store."""
    return SERVERS[request.param]


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def asked(tmp_path):
    """The command, but for its folder."""
    lines = [f'{{"id": "p{i}", "text": "What is {i}?", "target": "secret {i}"}}\n' for i in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(lines))
    asked = ["--prompts", str(tmp_path / "prompts.jsonl"), "--num-samples", "120", "--draws-per-shard", "15"]
    return ["audit", "away_models:Gradual", *asked, "--scorer", "contains", "--out"]


def begin(words):
    """A process that does a command."""
    path = os.pathsep.join(p for p in sys.path if p)
    line = [sys.executable, "-c", "from leakbound.cli import main; main()", *words]
    return subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )


@pytest.fixture
def without(asked, tmp_path):
    main([*asked, str(tmp_path / "run")])
    return files(tmp_path / "run")


def test_failing_requests_and_kills_change_no_byte(serve, asked, without, capsys):
    with serve(SHARE, SEED) as proxy:
        run = f"{proxy.root}/deep/run"
        for puts in (4, 20):  # killed when so many objects were sent
            begun, first = begin([*asked, run]), proxy.counts[proxy.sent]
            while proxy.counts[proxy.sent] < first + puts and begun.poll() is None:
                time.sleep(0.002)
            begun.send_signal(signal.SIGKILL)
            assert begun.wait() == -signal.SIGKILL
        main([*asked, run])
        assert f"report: {run}/report.html" in capsys.readouterr().out.replace("\n", "")
        assert proxy.objects("deep/run") == without
        for step in ("score", "bound", "report", "verify"):
            main([step, run])
        assert proxy.objects("deep/run") == without
        assert proxy.unfinished() == []
        assert sum(proxy.counts[m] for m in ("GET", "PUT", "HEAD", "POST", "DELETE")) > LEAST
        assert all(proxy.counts[kind] for kind in ("503", "reset before", "reset after"))


def test_what_the_store_holds_is_verified_and_shown(serve, asked, without):
    with serve() as proxy:
        run = place(f"{proxy.root}/run")
        for name, data in without.items():
            (run / name).put(data)
        assert proxy.objects("run") == without
        assert verify(run).accepted
        (shown,) = open_folders(run_folders([run]))
        assert (shown.problems, shown.fresh()) == ([], shown)
        assert [folder.name for folder in open_folders(run_folders([place(proxy.root)]))] == ["run"]
        for folder in ("run", "run/pieces", "run/draws"):
            proxy.mark(folder)
        assert Run.open(run).missing_draws() == []
        assert verify(run).accepted
        assert list((run / "pieces").iterdir()) == []
        file = run / "draws" / "sample-00000.parquet"
        whole = file.read_bytes()
        file.put(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert shown.fresh() is not shown
        assert not verify(run).accepted
        with pytest.raises(RunMismatchError, match=r"there is no run\.json"):
            Run.open(f"{proxy.root}/ru")


def test_more_objects_than_one_page_lists(serve):
    with serve() as proxy:
        folder = place(f"{proxy.root}/many")
        names = [f"{i:04d}" for i in range(20)]
        for name in names:
            (folder / "in" / name).put(b"")
        assert [p.name for p in (folder / "in").iterdir()] == names
        assert proxy.counts["GET"] == 3
        proxy.mark("many/in/more")  # somebody else's: nothing is remembered
        assert [p.name for p in (folder / "in").iterdir()] == [*names, "more"]


def test_a_name_that_is_taken_is_kept(serve):
    with serve() as proxy:
        file = place(f"{proxy.root}/run/run.json")
        file.put(b"mine", new=True)
        file.put(b"mine", new=True)  # as when the answer was lost
        with pytest.raises(FileExistsError):
            file.put(b"theirs", new=True)
        assert proxy.objects("run") == {"run.json": b"mine"}


def test_names_and_bytes_are_kept_as_they_are(serve):
    some = (b"", b"\r", b"a\r\n", b"a\n--==0==--\n", bytes(range(256)))
    with serve() as proxy:
        folder = place(f"{proxy.root}/odd")
        for name in ("a b", "a#1", "a?generation=3", "[x]*", "ü%2F{0}", "a+b&c=d"):
            for number, data in enumerate(some):
                file = folder / name / f"{number}"
                file.put(data, new=True)
                assert file.read_bytes() == data
            assert [p.name for p in (folder / name).iterdir()] == [str(i) for i in range(len(some))]
            for file in (folder / name).iterdir():
                file.unlink()
            assert not (folder / name).exists()
        assert proxy.objects("odd") == {}


def test_a_bucket_that_is_not_there_is_no_empty_one(serve, monkeypatch):
    monkeypatch.setattr(places, "WAIT", 0.0)
    said = r"absent/run\.json cannot be reached \(is there such a bucket"
    with serve() as proxy, pytest.raises(StorageError, match=said):
        place(f"{proxy.root}-absent/run.json").put(b"")


def test_large_objects_go_in_one_request(serve):
    with serve() as proxy:
        data = os.urandom(2**20) * 101  # s3fs cuts at 100 MiB
        place(f"{proxy.root}/large").put(data)
        assert proxy.counts == {proxy.sent: 1}
        assert place(f"{proxy.root}/large").read_bytes() == data
