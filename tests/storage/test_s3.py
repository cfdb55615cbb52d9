"""An audit in S3 is the audit on a disk, with failing requests and kills (make storage)."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("moto")
pytest.importorskip("s3fs")
pytestmark = [pytest.mark.storage, pytest.mark.slow]

from s3 import objects, s3_server, unfinished  # noqa: E402

from leakbound.auditing.verifying import verify  # noqa: E402
from leakbound.cli import main  # noqa: E402
from leakbound.errors import RunMismatchError  # noqa: E402
from leakbound.runs.places import place  # noqa: E402
from leakbound.runs.store import Run  # noqa: E402
from leakbound.viewing.folder import open_folders  # noqa: E402
from leakbound.viewing.found import run_folders  # noqa: E402

SEED, SHARE = 0, 0.05
LEAST = 200
"""Requests of one audit; that none of them fails has a chance of 0.95^200 = 4e-5 once, for a seed that is fixed."""


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


def test_failing_requests_and_kills_change_no_byte(asked, without, capsys):
    with s3_server(SHARE, SEED) as proxy:
        run = "s3://bucket/deep/run"
        for puts in (4, 20):  # killed when so many objects were sent
            begun, first = begin([*asked, run]), proxy.counts["PUT"]
            while proxy.counts["PUT"] < first + puts and begun.poll() is None:
                time.sleep(0.002)
            begun.send_signal(signal.SIGKILL)
            assert begun.wait() == -signal.SIGKILL
        main([*asked, run])
        assert f"report: {run}/report.html" in capsys.readouterr().out.replace("\n", "")
        assert objects(proxy, "deep/run") == without
        for step in ("score", "bound", "report", "verify"):
            main([step, run])
        assert objects(proxy, "deep/run") == without
        assert unfinished(proxy) == []
        assert sum(proxy.counts[m] for m in ("GET", "PUT", "HEAD", "DELETE")) > LEAST
        assert all(proxy.counts[kind] for kind in ("503", "reset before", "reset after"))


def test_what_the_store_holds_is_verified_and_shown(asked, without):
    with s3_server() as proxy:
        run = place("s3://bucket/run")
        for name, data in without.items():
            (run / name).put(data)
        assert objects(proxy, "run") == without
        assert verify(run).accepted
        (shown,) = open_folders(run_folders([run]))
        assert (shown.problems, shown.fresh()) == ([], shown)
        assert [folder.name for folder in open_folders(run_folders([place("s3://bucket")]))] == ["run"]
        (run / "pieces" / "").put(b"")  # the object that some tools put where a folder would be
        assert Run.open(run).missing_draws() == []
        file = run / "draws" / "sample-00000.parquet"
        whole = file.read_bytes()
        file.put(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert shown.fresh() is not shown
        assert not verify(run).accepted
        with pytest.raises(RunMismatchError, match=r"there is no run\.json"):
            Run.open("s3://bucket/ru")


def test_more_objects_than_one_page_lists():
    with s3_server() as proxy:
        folder = place("s3://bucket/many")
        names = [f"{i:04d}" for i in range(20)]
        for name in names:
            (folder / "in" / name).put(b"")
        assert [p.name for p in (folder / "in").iterdir()] == names
        assert proxy.counts["GET"] == 3


def test_a_name_that_is_taken_is_kept():
    with s3_server() as proxy:
        file = place("s3://bucket/run/run.json")
        file.put(b"mine", new=True)
        file.put(b"mine", new=True)  # as when the answer was lost
        with pytest.raises(FileExistsError):
            file.put(b"theirs", new=True)
        assert objects(proxy, "run") == {"run.json": b"mine"}


def test_large_objects_go_in_one_request():
    with s3_server() as proxy:
        data = os.urandom(2**20) * 101  # s3fs cuts at 100 MiB
        place("s3://bucket/large").put(data)
        assert proxy.counts["POST"] == 0
        assert proxy.counts["PUT"] == 1
        assert place("s3://bucket/large").read_bytes() == data
