"""Two processes against one: ``accelerate launch`` with the shipped configuration, on the CPU with gloo.

The processes are forked with the environment that the launcher makes and torchrun would give them: four new ones would
take 20 s to load torch.
"""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from accelerate.state import AcceleratorState, GradientState
from forked import forked
from safetensors.torch import load_file
from small_world import forget

from leakbound.cli import main
from leakbound.errors import InputError, RunMismatchError
from leakbound.runs.files import is_main, new_folder
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, running
from leakbound.unlearning.folders import checkpoint_folder
from leakbound.unlearning.running import on_main, prepare
from leakbound.unlearning.scratch import new_model, train_tokenizer
from leakbound.unlearning.train import check_sharing

RECIPES = Path(__file__).parents[2] / "recipes"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def together(processes, work, port=None):
    """What each process of a group said that does this work, after the last of them ended well."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port()), "WORLD_SIZE": str(processes)}

    def begin(rank):
        os.environ.update(place | {"RANK": rank, "LOCAL_RANK": rank})
        AcceleratorState._reset_state(reset_partial_state=True)  # this process had a training alone
        GradientState._reset_state()
        torch.set_num_threads(1)  # threads do not outlive a fork
        work()

    ended = forked(*(lambda rank=str(rank): begin(rank) for rank in range(processes)))
    assert [code for code, _ in ended] == [0] * processes, ended
    return [said for _, said in ended]


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize(
    ("recipe", "placed", "reduction"), [("ddp", "whole", "rows"), ("fsdp", "(Shard(dim=0),)", "tokens")]
)
def test_two_processes_equal_one_with_twice_the_accumulation(world, tmp_path, monkeypatch, recipe, placed, reduction):
    """Five rows in twos: the second batch of one process has one repeated row, that of the other nothing else.

    By small steps of gradient descent: Adam makes whole steps of gradients that are rounding alone, as those of the KL
    at its minimum, and on each processor others.
    """

    def steadier(*given, of=running.arguments, **named):
        made = of(*given, **named)
        made.optim, made.learning_rate = "sgd", 0.003
        return made

    monkeypatch.setattr(running, "arguments", steadier)
    (tmp_path / "few.jsonl").write_text("".join((world / "retain.jsonl").open().readlines()[:5]))
    files = {"forget": (tmp_path / "few.jsonl",), "retain": world / "full.jsonl"}
    settings = {"method": "npo_kl", "batch_size": 2, "max_steps": 8, "learning_rate": 2e-4, "entropy_forget": 0.1}
    settings["reduction"] = reduction
    one = forget(world, tmp_path / "one", accumulation=4, device="cpu", **files, **settings)
    options = [
        "unlearn", "--model", world / "model", "--forget", tmp_path / "few.jsonl", "--retain", world / "full.jsonl",
        "--method", "NPO+KL", "--reduction", reduction, "--batch-size", 2, "--accumulation", 2, "--max-steps", 8,
        "--learning-rate", 2e-4, "--like", "ours", "--schedule", "constant", "--entropy-forget", 0.1, "--device", "cpu",
        "--out", tmp_path / "two",
    ]  # fmt: skip
    line = ["--config_file", RECIPES / f"{recipe}.yaml", "--num_processes", 2, "--main_process_port", free_port(),
            "-m", "leakbound", *options]  # fmt: skip

    said = []

    def saved(trainer, *rest, save=running.save):
        print(f"placed: {sorted({str(getattr(p, 'placements', 'whole')) for p in trainer.model.parameters()})}")
        save(trainer, *rest)

    def torchrun(args):
        assert (args.module, args.training_script) == (True, "leakbound")
        said.extend(together(int(args.nproc_per_node), lambda: main(args.training_script_args), args.master_port))

    monkeypatch.setattr(running, "save", saved)
    monkeypatch.setattr("torch.distributed.run.run", torchrun)
    launch_command(launch_command_parser().parse_args([str(part) for part in line]))
    assert [f"placed: {[placed]}\n" in one for one in said] == [True, True]
    record = json.loads((tmp_path / "two" / "training.json").read_text())
    assert (record["processes"], record["steps"]) == (2, 8)
    first, second, start = (
        load_file(folder / "model.safetensors") for folder in (one, tmp_path / "two", world / "model")
    )
    apart, moved = (max((first[name] - other[name]).abs().max() for name in first) for other in (second, start))
    assert moved > 1e-4
    assert apart < 0.05 * moved  # rounding: 0.0003 to 0.006 of it on three instruction sets
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert torch.isfinite(torch.tensor([log["loss"] for log in record["log"] if "loss" in log])).all()


@pytest.fixture
def launched(monkeypatch):
    def launch(processes, by=""):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        for name in ("FSDP", "DEEPSPEED"):
            monkeypatch.setenv(f"ACCELERATE_USE_{name}", str(by == name.lower()).lower())

    return launch


def written(out, *files):
    folder = out.with_name(f"{out.name}-checkpoints") / "checkpoint-4"
    for name in ("trainer_state.json", *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


ZERO = [f"global_step4/zero_pp_rank_{i}_mp_rank_00_optim_states.pt" for i in range(2)]


@pytest.mark.parametrize(
    ("files", "readers"),
    [
        (["optimizer.pt"], {(1, ""), (2, "")}),
        (["optimizer.bin", "pytorch_model_fsdp.bin"], {(1, "fsdp"), (2, "fsdp")}),
        (["optimizer_0/.metadata"], {(1, "fsdp"), (2, "fsdp")}),
        (ZERO, {(2, "deepspeed")}),
    ],
)
def test_a_checkpoint_goes_on_only_where_the_moments_of_its_optimiser_are_read(tmp_path, launched, files, readers):
    written(tmp_path / "out", *files)
    for way in [(n, by) for n in (1, 2) for by in ("", "fsdp", "deepspeed")]:
        launched(*way)
        if way in readers:
            assert (
                checkpoint_folder(tmp_path / "out", {"accumulation": 2 // way[0]}, resume=True)[1].name
                == "checkpoint-4"
            )
        else:
            with pytest.raises(InputError, match="was written by"):
                checkpoint_folder(tmp_path / "out", {"accumulation": 2 // way[0]}, resume=True)


def test_another_number_of_processes_goes_on_where_a_step_has_as_many_rows(tmp_path, launched):
    written(tmp_path / "out", "optimizer.pt")
    launched(1)
    checkpoint_folder(tmp_path / "out", {"accumulation": 4}, resume=True)
    launched(2)
    checkpoint_folder(tmp_path / "out", {"accumulation": 2}, resume=True)
    with pytest.raises(RunMismatchError, match="accumulation"):
        checkpoint_folder(tmp_path / "out", {"accumulation": 4}, resume=True)


def test_what_a_killed_launch_left_goes_with_the_next(tmp_path, launched):
    launched(2)
    (tmp_path / ".out-launch-29501" / "whole").mkdir(parents=True)
    with new_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("method", ["pmc", "leak_mass", "grpo"])
def test_methods_that_draw_in_every_step_are_refused_where_weights_are_shared_out(tmp_path, launched, method):
    config = UnlearnConfig(
        model="m", forget=(tmp_path / "f",), retain=tmp_path / "r", out=tmp_path / "o", method=method
    )
    launched(2)
    check_sharing(config)
    launched(2, "fsdp")
    with pytest.raises(InputError, match=r"recipes/ddp\.yaml"):
        check_sharing(config)


def test_adapters_start_the_same_in_each_process(tmp_path):
    tokenizer = train_tokenizer(["red green blue"], 300)
    config = FinetuneConfig(data=tmp_path / "d", model="m", out=tmp_path / "o", lora_rank=2, seed=3)
    states = [prepare(new_model("tiny", tokenizer, seed=0, max_length=16), config).state_dict() for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any("lora_A" in name and states[0][name].any() for name in states[0])


@pytest.mark.slow
def test_what_the_main_process_finds_or_raises_is_found_or_raised_in_all(tmp_path):
    config = FinetuneConfig(data="d", model="m", out=tmp_path / "out", device="cpu")

    def fail():
        raise InputError("no such file")

    def work():
        print(on_main(config, lambda: ["drawn", is_main()]))
        with pytest.raises(InputError) as caught:
            on_main(config, fail)
        print(caught.value)

    assert together(2, work) == ["['drawn', True]\nno such file\n"] * 2
