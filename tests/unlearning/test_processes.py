"""Two processes against one: ``accelerate launch`` with the shipped configuration, on the CPU with gloo."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_world import forget

RECIPES = Path(__file__).parents[2] / "recipes"
LAUNCH = """
import sys
from leakbound.cli import main
main(sys.argv[1:])
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
@pytest.mark.trains
def test_two_processes_equal_one_with_twice_the_accumulation(world, tmp_path):
    files = {"forget": (world / "retain.jsonl",), "retain": world / "full.jsonl"}
    settings = {"method": "npo_kl", "batch_size": 1, "max_steps": 8, "learning_rate": 2e-4, "entropy_forget": 0.1}
    one = forget(world, tmp_path / "one", accumulation=4, device="cpu", **files, **settings)
    script = tmp_path / "launch.py"
    script.write_text(LAUNCH)
    options = [
        "unlearn", "--model", world / "model", "--forget", world / "retain.jsonl", "--retain", world / "full.jsonl",
        "--method", "NPO+KL", "--batch-size", 1, "--accumulation", 2, "--max-steps", 8, "--learning-rate", 2e-4,
        "--like", "ours", "--schedule", "constant", "--entropy-forget", 0.1, "--device", "cpu",
        "--out", tmp_path / "two",
    ]  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", RECIPES / "ddp.yaml",
              "--num_processes", 2, "--main_process_port", free_port(), script]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in (*launch, *options)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "two" / "training.json").read_text())
    assert (record["processes"], record["steps"]) == (2, 8)
    first, second, start = (
        load_file(folder / "model.safetensors") for folder in (one, tmp_path / "two", world / "model")
    )
    assert max((first[name] - second[name]).abs().max() for name in first) < 1e-5  # rounding: 4e-7
    assert max((first[name] - start[name]).abs().max() for name in first) > 1e-3
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert torch.isfinite(torch.tensor([log["loss"] for log in record["log"] if "loss" in log])).all()
