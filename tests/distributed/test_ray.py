"""An audit by the actors of a two-node Ray cluster writes the bytes of an audit without it (make ray)."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import fake_learner
import pytest
from fake_learner import FakeLearner
from json_lines import write_lines

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

from ray.cluster_utils import Cluster  # noqa: E402

from leakbound.auditing.steps import audit  # noqa: E402
from leakbound.cli import main  # noqa: E402
from leakbound.errors import InputError, WorkerError  # noqa: E402
from leakbound.models.opening import Loading, open_model  # noqa: E402
from leakbound.records import Prompt  # noqa: E402
from leakbound.runs import layout  # noqa: E402
from leakbound.studies.distribution import steps  # noqa: E402
from leakbound.workers import Workers, crew_for  # noqa: E402
from leakbound.workers.crew import collected  # noqa: E402
from leakbound.workers.hands import Lost  # noqa: E402

PROMPTS = [Prompt(f"p{i}", f"What is {i}?", f"secret {i}") for i in range(6)]
ASKED = {"num_samples": 40, "progress": False, "draws_per_shard": 15}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 80)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """A cluster of a node of one core and one of two; its workers read in its folder ``dies`` whether to die."""
    with pytest.MonkeyPatch.context() as patch:
        dies = tmp_path_factory.mktemp("dies")
        patch.setenv("AWAY", str(dies))
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        head = {"num_cpus": 1, "object_store_memory": 2**27, "ray_client_server_port": port}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.door = f"ray://127.0.0.1:{port}"
        cluster.dies = dies
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
    for number, address in ((1, nodes.address), (2, nodes.door), (0, nodes.address)):
        (nodes.dies / "sample-p2-0.once").touch()
        audit(
            "away_models:Gradual",
            PROMPTS,
            out=tmp_path / "run",
            loading=Loading(workers=number, ray=address),
            **ASKED,
        )
        assert not list(nodes.dies.iterdir())
        assert files(tmp_path / "run") == without
        (tmp_path / "run").rename(tmp_path / f"run{number}")


@pytest.fixture
def driver(nodes, tmp_path):
    """An audit by the cluster in a process of its own, from the first shard that it wrote on."""
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
    begun = subprocess.Popen([sys.executable, "-c", code], env=path, start_new_session=True)
    while not list((tmp_path / "run" / "draws").glob("*.parquet")):
        assert begun.poll() is None
        time.sleep(0.01)
    return begun


def test_a_node_that_is_killed_is_done_without_and_a_new_one_is_used(without, driver, nodes, tmp_path):
    nodes.remove_node(nodes.second, allow_graceful=False)
    nodes.second = nodes.add_node(num_cpus=2, object_store_memory=2**27)
    assert driver.wait() == 0
    pages = {"report.html"}  # pictures are not rendered here, and there they are
    found = files(tmp_path / "run")
    assert {name for name in found | without if found.get(name) != without.get(name)} <= pages


def test_a_driver_that_is_killed_goes_on(without, driver, nodes, tmp_path):
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", loading=Loading(ray=nodes.address), **ASKED)
    assert files(tmp_path / "run") == without


def test_errors_are_those_of_one_process(nodes):
    import away_models

    said = []
    for loading in (None, Loading(ray=nodes.address)):
        with pytest.raises(InputError) as caught:
            open_model("away_models:Loud", loading=loading)
        said.append(str(caught.value))
    assert said[0] == said[1]
    crew = crew_for(Workers(ray=nodes.address))
    assert crew.place.room() == 3
    (nodes.dies / "b.always").touch()
    with pytest.raises(WorkerError, match="b was given up: its worker died 4 times"):
        collected(crew, "ab", lambda do, x: do(away_models.dying, x, x))
    (nodes.dies / "b.always").unlink()
    crew.close()


def test_no_cluster_is_said():
    with pytest.raises(InputError, match="no cluster answers there"):
        crew_for(Workers(ray="127.0.0.1:1"))


def test_crews_of_one_process_share_a_connection_which_the_last_one_ends(nodes):
    one, other = crew_for(Workers(ray=nodes.address)), crew_for(Workers(ray="auto"))
    assert one.do(math.sqrt, 9) == 3
    with pytest.raises(InputError, match=f"connected to {nodes.address}: give auto"):
        crew_for(Workers(ray="127.0.0.1:1"))
    one.close()
    assert other.do(math.sqrt, 16) == 4
    late = other.place.hire()
    other.close()
    assert not ray.is_initialized()
    late.close()
    with pytest.raises(Lost):
        other.place.hire()
    assert not ray.is_initialized()  # Ray would begin a cluster of its own


QUESTIONS = [
    {"id": f"p{i}", "question": f"What is {i}?", "answer": f"It is secret {i}.", "target": f"secret {i}",
     "perturbed_answer": [f"It is secret {i + 1}."]}
    for i in range(6)
]  # fmt: skip
POLICY = {
    "model": "away_models:FAKE",
    "claims": [
        {"prompts": "questions.jsonl", "num_samples": 64, "claim": "leak<=0.1"},
        {"prompts": "questions.jsonl", "num_samples": 64, "claim": "known>=0.05"},
        {"not_worse_than": "loud", "by": 0.1},
    ],
}
AUDIT = "audit --prompts questions.jsonl --num-samples 64 --draws-per-shard 15 --model"
LOUD = f"{AUDIT} away_models:FAKE --out loud"
COMMANDS = {
    "certify": ["certify away_models:Open --prompts questions.jsonl --scorer contains --num-generations 9 --out out"],
    "score": [f"{AUDIT} away_models:FAKE --out out", "score out --scorer contains"],
    "bound": [f"{AUDIT} away_models:FAKE --out out", "bound out --threshold 0.3"],
    "compare": [LOUD, f"{AUDIT} away_models:Open --out open", "compare loud open --out out"],
    "check": [LOUD, "check policy.yaml --out out"],
    "benchmark": ["benchmark own --data questions.jsonl --model away_models:Likely --num-samples 8 --out out"],
    "study": [
        "study distribution --out out --seeds 4 --kinds random --corpus-size 12 --forget-size 2 --heldout 2 "
        "--validation 2 --epochs 1 --unlearn-steps 2 --every 1"
    ],
    "until": [
        "finetune --data questions.jsonl --from-scratch tiny --epochs 1 --out model",
        "unlearn --model model --forget questions.jsonl --out out --until leak<=0.1 --rounds 0 --proof-samples 16 "
        "--leak-samples 8 --max-tokens 4 --epochs 1 --like ours --method npo",
    ],
}
"""What is asked of leakbound; the last line by the cluster."""
TIMES = re.compile(
    rb'(?m)^(Time:| *"(seconds|likelihoods|generations|sampling|train_\w+|peak_memory_bytes|seal)":|[\d.]+$).*'
)
"""What a training and a benchmark say of their cost, and the seal of that."""


@pytest.mark.parametrize("asked", COMMANDS)
def test_every_command_that_takes_a_cluster_writes_the_same_bytes(asked, nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(steps.Plan, "learner", property(lambda plan: FakeLearner(plan.config.learning)))
    monkeypatch.setattr(steps, "_work", fake_learner.work)  # its twelve models are not trained
    found = []
    for name, where in (("here", []), ("away", ["--ray", nodes.address])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_lines(Path("questions.jsonl"), QUESTIONS)
        Path("policy.yaml").write_text(json.dumps(POLICY))
        *before, last = COMMANDS[asked]
        for line in before:
            leakbound(line.split())
        leakbound([*last.split(), *where])
        found.append({name: TIMES.sub(b"", data) for name, data in files(Path()).items()})
    here, away = found
    assert any(name.startswith("out/") for name in here)
    assert [name for name in here | away if here.get(name) != away.get(name)] == []


def leakbound(arguments):
    """A command line, which may end with a verdict."""
    try:
        main(arguments)
    except SystemExit as ended:
        if ended.code not in (0, 1, 3):
            raise
