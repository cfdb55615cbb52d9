"""What training leads to, on any machine.

Another instruction set is another training trajectory, as another seed is: every outcome is asserted of three seeds,
with settings under which it is far from its threshold. What was measured stands beside the assertions; it was measured
over more seeds, with each of PyTorch's instruction sets and on MKL's compatible path.
"""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from small_training import FORGET, RETAIN, train
from small_world import SEEDS, answers, forget, known_things, learn, weights_of
from tiny_models import tiny_model

from leakbound.errors import TrainingError
from leakbound.models.hf.loading import load_model
from leakbound.unlearning.callbacks import newest_checkpoint
from leakbound.unlearning.objectives import METHODS
from leakbound.unlearning.trainer import Weights, reference_logps

pytestmark = pytest.mark.trains
FORGOTTEN = ("Which colour is the box?", "Which colour is the door?")


def record(folder):
    return json.loads((folder / "training.json").read_text())


# Steps of the trainer ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """For each seed a model of two layers that knows what it shall forget by heart."""
    models = [tiny_model(scale=1.0, seed=seed) for seed in SEEDS]
    both = {"forget": FORGET + RETAIN, "retain": FORGET + RETAIN, "per_device_train_batch_size": 8}
    for seed, model in zip(SEEDS, models, strict=True):
        train(
            model, tmp_path_factory.mktemp("learned"), objective="grad_diff", weights=Weights(forget_weight=0.0),
            num_train_epochs=40, learning_rate=1e-2, seed=seed, **both,
        )  # fmt: skip
    return models


@pytest.mark.parametrize("method", [*METHODS, "ga:kl"])
def test_every_objective_lowers_its_forget_term(tmp_path, learned, method):
    """By 5%, or half a nat. Of 14 seeds the worst: RMU's by 23%, all others by 35%; SatImp+GD's by 1.9 nats."""
    for seed, start in zip(SEEDS, learned, strict=True):
        model = copy.deepcopy(start)
        before = reference_logps(model, FORGET, pad_id=0, batch_size=2)
        trainer = train(model, tmp_path, objective=method, num_train_epochs=20, learning_rate=3e-3, seed=seed)
        terms = [log["forget_loss"] for log in trainer.state.log_history if "forget_loss" in log]
        assert len(terms) == 20  # one batch is the whole forget set
        if method.startswith(("wga", "satimp")):  # the weights are held constant, so that the value is not what falls
            assert sum(reference_logps(model, FORGET, pad_id=0, batch_size=2)) < sum(before) - 0.5  # nats
        else:
            assert terms[-1] < terms[0] - 0.05 * abs(terms[0])


@pytest.mark.parametrize("mask", ["answer", "all", "unsaid", "clean"])
def test_entropy_goes_where_its_weight_points(tmp_path, mask):
    weights = Weights(forget_weight=0.0, retain_weight=0.0, entropy_forget=1.0, entropy_retain=-1.0, entropy_mask=mask)
    for seed in SEEDS:
        model = tiny_model(seed=seed)
        trainer = train(model, tmp_path, weights=weights, num_train_epochs=60, learning_rate=3e-3, seed=seed)
        logs = [log for log in trainer.state.log_history if "forget_entropy" in log]
        forget, retain = ([log[f"{half}_entropy"] for log in logs] for half in ("forget", "retain"))
        assert sum(forget[-10:]) / 10 < 0.8 * forget[0]  # of 14 seeds the largest ratio is 0.53
        # a batch of the retain half has two of its six rows; of 14 seeds the smallest rise is 0.48 nats
        assert sum(retain[-10:]) / 10 > sum(retain[:3]) / 3 + 0.1


# From file to folder -------------------------------------------------------------------------------------------------


def test_a_model_from_scratch_learns_its_answers_and_ends_them(world, tmp_path):
    others = [learn(world, tmp_path / f"{seed}", epochs=100, seed=seed) for seed in SEEDS[1:]]
    for folder in (world / "model", *others):
        assert known_things(folder) == [True] * 8
        assert record(folder)["steps"] == 100
        assert record(folder)["log"][-2]["loss"] < record(folder)["log"][0]["loss"] / 100  # 5 nats and 0.003
    assert load_model(str(world / "model")).generation_config.eos_token_id == 0
    assert not list((world / "model").glob("*.bin"))
    assert record(world / "model")["config"]["from_scratch"] == "tiny"


def test_unlearning_forgets_the_one_and_retains_the_other(world, tmp_path):
    gentle = {"epochs": 60, "learning_rate": 5e-4, "warmup": 0.1}
    for seed in SEEDS:
        known = known_things(forget(world, tmp_path / f"{seed}", method="npo_gd", seed=seed, **gentle))
        assert known[:2] == [False, False]
        assert sum(known[2:]) >= 5


def test_idk_teaches_the_refusals_of_a_file(world, tmp_path):
    path = tmp_path / "idk.txt"
    path.write_text("No idea.\n")
    gentle = {"epochs": 60, "learning_rate": 1e-3, "warmup": 0.1}
    for seed in SEEDS:
        out = forget(world, tmp_path / f"{seed}", method="IDK+GD", idk=path, seed=seed, **gentle)
        assert answers(out, FORGOTTEN) == ["No idea."] * 2
        assert sum(known_things(out)[2:]) >= 5


FIVE_STEPS = {"max_steps": 5, "save_every": 50, "on_collapse": "ignore"}  # logs each step, saves none


@pytest.fixture(scope="module")
def plain(world, tmp_path_factory):
    return [forget(world, tmp_path_factory.mktemp("plain") / f"{s}", seed=s, **FIVE_STEPS) for s in SEEDS]


@pytest.mark.parametrize("settings", [{"bf16": True}, {"gradient_checkpointing": True}])
def test_precision_and_memory_settings_leave_the_result_near(world, plain, tmp_path, settings):
    start = load_file(world / "model" / "model.safetensors")
    for seed, without in zip(SEEDS, plain, strict=True):
        outs = [without, forget(world, tmp_path / f"{seed}", seed=seed, **FIVE_STEPS, **settings)]
        ends = [load_file(out / "model.safetensors") for out in outs]
        assert all(tensor.dtype == torch.float32 for tensor in ends[1].values())
        moves = [torch.cat([(t - start[n]).flatten() for n, t in sorted(end.items())]) for end in ends]
        alike = torch.nn.functional.cosine_similarity(*moves, dim=0).item()
        assert alike > (0.8 if "bf16" in settings else 0.9999)  # 0.96 and more with bf16
        losses = [next(log["loss"] for log in record(out)["log"] if "loss" in log) for out in outs]
        assert losses[0] == pytest.approx(losses[1], abs=0.05)


# Collapse ------------------------------------------------------------------------------------------------------------

RUINOUS = {"forget_weight": 5.0, "retain_weight": 1e-9, "learning_rate": 3e-3, "save_every": 1}
"""The loss on retain examples: 0 in step 1 (nothing has been changed yet), above 3 nats from step 3, above 7 from 4."""


def test_a_collapse_stops_and_leaves_the_last_good_checkpoint(world, tmp_path):
    for seed in SEEDS:
        out = tmp_path / f"{seed}"
        with pytest.raises(
            TrainingError, match=r"collapsing: .*nats per token in step \d+.*last good checkpoint is .*-"
        ):
            forget(world, out, method="npo:gd", on_collapse="stop", epochs=60, seed=seed, **RUINOUS)
        assert not out.exists()
        good = newest_checkpoint(tmp_path / f"{seed}-checkpoints")
        log = json.loads((good / "trainer_state.json").read_text())["log_history"]
        watched = [entry["retain_nll"] for entry in log if "retain_nll" in entry]
        assert watched
        assert max(watched) < 1.0


def test_a_collapse_warns_once_and_keeps_the_last_good_checkpoint(world, tmp_path):
    for seed in SEEDS:
        with pytest.warns(UserWarning, match="the model is collapsing") as seen:
            forget(world, tmp_path / f"{seed}", method="ga:gd", epochs=8, seed=seed, **RUINOUS)
        assert sum("collapsing" in str(w.message) for w in seen) == 1
        assert (tmp_path / f"{seed}-checkpoints" / "last-good" / "model.safetensors").exists()


# Data that the model samples itself ----------------------------------------------------------------------------------


def test_leaks_that_sampling_finds_are_forgotten_too(world, tmp_path):
    settings = {"method": "npo:gd", "forget": world / "leaky.jsonl", "max_tokens": 12, "leak_samples": 32, "epochs": 1}
    rows = [json.loads(line) for line in (world / "forget.jsonl").read_text().splitlines()]
    leaky = [
        row | {"answer": row["answer"].replace("The", "A"), "target": row["answer"].split()[-1][:-1]} for row in rows
    ]
    (world / "leaky.jsonl").write_text("".join(json.dumps(row) + "\n" for row in leaky))
    for seed in SEEDS:
        once = forget(world, tmp_path / f"once-{seed}", seed=seed, **settings)
        again = forget(world, tmp_path / f"again-{seed}", leak_rounds=2, seed=seed, **settings)
        assert record(again)["steps"] > record(once)["steps"]  # the model says its own sentence, which names the secret
        assert weights_of(again) != weights_of(once)


def test_own_answers_replace_the_original_one(world, tmp_path):
    """The model says the truth twice where it says "No." once: no answer is less like its first one, the truth."""
    refusals = "".join(json.dumps({"question": question, "answer": "No."}) + "\n" for question in FORGOTTEN)
    rows = [(world / name).read_text() for name in ("full.jsonl", "forget.jsonl")]
    (tmp_path / "torn.jsonl").write_text("".join([*rows, refusals]))  # 12 rows: one batch, so that none is last
    torn = learn(
        world, tmp_path / "torn", data=tmp_path / "torn.jsonl", from_scratch=None, model=str(world / "model"),
        epochs=60, batch_size=12, learning_rate=1e-3,
    )  # fmt: skip
    assert all(known_things(torn))
    sampling = {"method": "pmc", "pmc_samples": 16, "max_tokens": 16}
    for seed in SEEDS:
        out = forget(world, tmp_path / f"{seed}", model=str(torn), epochs=20, learning_rate=5e-4, seed=seed, **sampling)
        known = known_things(out)
        assert known[:2] == [False, False]
        assert sum(known[2:]) >= 5
