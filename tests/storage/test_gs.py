"""What Google's storage has of its own (make storage)."""

import json
import time

import pytest

for package in ("gcp_storage_emulator", "gcsfs"):
    pytest.importorskip(package)
pytestmark = [pytest.mark.storage, pytest.mark.slow]

from gs import LIST, gs_server  # noqa: E402

from leakbound.runs import places  # noqa: E402
from leakbound.runs.places import place  # noqa: E402

TORN = b"a\n--==0==\r"
"""Bytes that go by two requests."""


def fail(proxy, *kinds):
    """The next requests of a proxy fail so, or do not (None)."""
    left = iter(kinds)

    def fault(method):
        proxy.counts[method] += 1
        return next(left, None)

    proxy.fault = fault


@pytest.mark.parametrize(("data", "times"), [(b"mine", 1), (TORN, 2)], ids=["once", "twice"])
def test_only_a_put_that_is_new_says_so(data, times):
    with gs_server() as proxy:
        file = place("gs://bucket/x")
        file.put(b"old")
        file.put(data)
        assert proxy.counts["new"] == 0
        file.unlink()
        file.put(data, new=True)
        assert proxy.counts["new"] == times
        with pytest.raises(FileExistsError):
            file.put(b"theirs" + data, new=True)
        assert proxy.counts["new"] == times + 1
        assert file.read_bytes() == data
        assert json.loads(proxy.pass_on("GET", f"{LIST}/x")[2])["cacheControl"] == "no-store"


@pytest.mark.parametrize("data", [b"mine", TORN], ids=["once", "twice"])
@pytest.mark.parametrize("kinds", [("reset after",), (None, "reset after")], ids=["first", "second"])
def test_an_answer_that_is_lost_is_no_other_writer(data, kinds):
    with gs_server() as proxy:
        fail(proxy, *kinds)
        file = place("gs://bucket/x")
        file.put(data, new=True)
        assert file.read_bytes() == data


def test_an_upload_that_the_store_has_lost_begins_anew(monkeypatch):
    monkeypatch.setattr(places, "WAIT", 0.0)
    with gs_server() as proxy:
        pass_on, lost = proxy.pass_on, ["upload_id"]

        def losing(method, path, *more):
            if method == "POST" and lost and lost[0] in path:
                lost.clear()
                return 404, {}, b"", None
            return pass_on(method, path, *more)

        proxy.pass_on = losing
        place("gs://bucket/x").put(TORN)
        assert lost == []
        assert place("gs://bucket/x").read_bytes() == TORN


def test_an_object_that_arrived_with_other_bytes_is_put_again(monkeypatch):
    monkeypatch.setattr(places, "WAIT", 0.0)
    with gs_server() as proxy:
        pass_on = proxy.pass_on

        def changing(method, path, body=b"", headers=()):
            return pass_on(method, path, body.replace(b"whole", b"wh") if proxy.counts["POST"] == 1 else body, headers)

        proxy.pass_on = changing
        place("gs://bucket/x").put(b"whole")
        assert place("gs://bucket/x").read_bytes() == b"whole"


def test_no_object_is_appended_to(monkeypatch):
    """As gcsfs does in buckets of one zone, where what is half there is seen."""

    def asked(*args, **more):
        raise AssertionError

    monkeypatch.setattr("gcsfs.extended_gcsfs.ExtendedGcsFileSystem._lookup_bucket_type", asked)
    with gs_server():
        place("gs://bucket/x").put(b"x")
        assert list(place("gs://bucket").iterdir()) == [place("gs://bucket/x")]


def test_a_server_that_is_silent_is_asked_again(monkeypatch):
    monkeypatch.setattr(places, "SILENCE", 0.2)
    with gs_server() as proxy:
        left = iter([3.0])

        def fault(method):
            proxy.counts[method] += 1
            time.sleep(next(left, 0.0))

        proxy.fault = fault
        place("gs://bucket/x").put(b"x")
        assert proxy.counts["POST"] == 2
