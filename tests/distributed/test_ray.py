"""An audit by the actors of a two-node Ray cluster writes the bytes of an audit without it (make ray)."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

from ray.cluster_utils import Cluster  # noqa: E402

from leakbound.auditing.steps import audit  # noqa: E402
from leakbound.errors import InputError, WorkerError  # noqa: E402
from leakbound.models.opening import Loading, open_model  # noqa: E402
from leakbound.records import Prompt  # noqa: E402
from leakbound.runs import layout  # noqa: E402
from leakbound.workers import Workers, crew_for  # noqa: E402
from leakbound.workers.crew import collected  # noqa: E402

PROMPTS = [Prompt(f"p{i}", f"What is {i}?", f"secret {i}") for i in range(6)]
ASKED = {"num_samples": 40, "progress": False, "draws_per_shard": 15}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 80)


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    """A cluster of two nodes of two cores; its workers read in ``dies`` whether to die."""
    (tmp_path / "dies").mkdir()
    monkeypatch.setenv("AWAY", str(tmp_path / "dies"))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 2**27})
    cluster.second = cluster.add_node(num_cpus=2, object_store_memory=2**27)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def without(tmp_path):
    audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", **ASKED)
    found = files(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "without")
    return found


def test_the_same_bytes_by_one_two_and_three_actors_one_of_them_killed(nodes, tmp_path, without):
    for number in (1, 2, 0):
        (tmp_path / "dies" / "sample-p2-0.once").touch()
        audit(
            "away_models:Gradual",
            PROMPTS,
            out=tmp_path / "run",
            loading=Loading(workers=number, ray=nodes.address),
            **ASKED,
        )
        assert not list((tmp_path / "dies").iterdir())
        assert files(tmp_path / "run") == without
        (tmp_path / "run").rename(tmp_path / f"run{number}")


def test_a_node_that_is_killed_is_done_without_and_a_new_one_is_used(nodes, tmp_path, without):
    def kill():
        while not list((tmp_path / "run" / "draws").glob("*.parquet")):
            time.sleep(0.01)
        nodes.remove_node(nodes.second, allow_graceful=False)
        nodes.add_node(num_cpus=2, object_store_memory=2**27)

    killer = threading.Thread(target=kill)
    killer.start()
    audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", loading=Loading(ray=nodes.address), **ASKED)
    killer.join()
    assert files(tmp_path / "run") == without


def test_a_driver_that_is_killed_goes_on(nodes, tmp_path, without):
    code = f"""
import leakbound.runs.layout as layout
layout.DRAWS_PER_SHARD = 80
from leakbound.auditing.steps import audit
from leakbound.models.opening import Loading
from leakbound.records import Prompt
prompts = [Prompt(f"p{{i}}", f"What is {{i}}?", f"secret {{i}}") for i in range(6)]
audit("away_models:Gradual", prompts, out={str(tmp_path / "run")!r}, loading=Loading(ray={nodes.address!r}), **{ASKED})
"""
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", code], env=path, start_new_session=True)
    while not list((tmp_path / "run" / "draws").glob("*.parquet")):
        time.sleep(0.01)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", loading=Loading(ray=nodes.address), **ASKED)
    assert files(tmp_path / "run") == without


def test_errors_are_those_of_one_process(nodes, tmp_path):
    import away_models

    said = []
    for loading in (None, Loading(ray=nodes.address)):
        with pytest.raises(InputError) as caught:
            open_model("away_models:Loud", loading=loading)
        said.append(str(caught.value))
    assert said[0] == said[1]
    crew = crew_for(Workers(ray=nodes.address))
    assert crew.place.room() == 3
    (tmp_path / "dies" / "b.always").touch()
    with pytest.raises(WorkerError, match="b was given up: its worker died 4 times"):
        collected(crew, "ab", lambda do, x: do(away_models.dying, x, x))
    crew.close()


def test_no_cluster_is_said():
    with pytest.raises(InputError, match="no cluster answers there"):
        crew_for(Workers(ray="127.0.0.1:1"))
