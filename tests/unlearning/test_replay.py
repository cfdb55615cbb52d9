"""Training again without some rows, from a checkpoint: the same bytes as training without them from the beginning."""

import json
import shutil

import pytest
import torch
from small_training import Killed
from small_world import weights_of

from leakbound.errors import InputError, Interrupted, RunMismatchError, TrainingError
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, ledger, train, unlearn
from leakbound.unlearning.ledger import STEP

pytestmark = pytest.mark.trains


def learn(world, out, **settings):
    """Nine steps of three epochs, two batches of two rows to a step but the last of an epoch, which has one."""
    defaults = {
        "data": world / "rows.jsonl", "from_scratch": "tiny", "tokenizer": str(world / "model"), "epochs": 3,
        "batch_size": 2, "accumulation": 2, "learning_rate": 2e-3, "save_every": 1, "warmup": 0.3,
    }  # fmt: skip
    return finetune(FinetuneConfig(out=out, **{**defaults, **settings}), progress=False)


def replay(folder, out, forget, **settings):
    return unlearn(
        UnlearnConfig(model=str(folder), forget=forget, method="replay", out=out, **settings), progress=False
    )


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """Ten rows, one of them twice, and a model that can be replayed."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(world / "model", folder / "model")
    lines = (world / "full.jsonl").read_text().splitlines()
    (folder / "rows.jsonl").write_text("\n".join([*lines, lines[3], lines[7].replace("grey", "gold")]) + "\n")
    learn(folder, folder / "original", replayable=True)
    return folder


def write(file, made, places):
    lines = (made / "rows.jsonl").read_text().splitlines()
    file.write_text("".join(lines[place] + "\n" for place in places))
    return file


def also(places):
    """With the rows that say the same: the ninth is the fourth again."""
    return {*places, 3, 8} if {3, 8} & set(places) else set(places)


def taken(made):
    """The rows of each step, by the log's own account of the order."""
    config = FinetuneConfig(**json.loads((made / "original-replay" / "config.json").read_text()))
    steps = ledger.rows_of_steps(config, 10)
    return [next(steps)[1] for _ in range(9)]


def test_the_log_holds_64_bytes_for_each_step_and_every_checkpoint_stays(made):
    folder = made / "original-replay"
    assert STEP.size == 64
    assert (folder / "steps.log").stat().st_size == 9 * 64
    assert sorted(f.name for f in folder.glob("checkpoint-*")) == [f"checkpoint-{n}" for n in range(1, 10)]
    assert [len(rows) for rows in taken(made)] == [4, 4, 2] * 3
    assert not (made / "original-checkpoints").exists()


def test_a_run_that_can_be_replayed_is_the_plain_run(made, tmp_path):
    assert weights_of(learn(made, tmp_path / "plain")) == weights_of(made / "original")


@pytest.mark.parametrize("case", ["first", "later", "whole step", "twice", "several"])
def test_a_replay_ends_with_the_bytes_of_training_without_the_rows(made, tmp_path, monkeypatch, case):
    steps = taken(made)
    places = {
        "first": steps[0][:1], "later": steps[2][:1], "whole step": steps[2], "twice": [3],
        "several": [steps[1][0], *steps[2]],
    }[case]  # fmt: skip
    forget = write(tmp_path / "forget.jsonl", made, places)
    first = min(i for i, rows in enumerate(steps) if not also(places).isdisjoint(rows))
    without = learn(made, tmp_path / "without", leave_out=forget)
    ran = []
    step = train.trainer_for
    monkeypatch.setattr(train, "trainer_for", lambda *a: ran.append(a[-1].checkpoint) or step(*a))
    again = replay(made / "original", tmp_path / "again", forget)
    assert weights_of(again) == weights_of(without) != weights_of(made / "original")
    assert ran == [made / "original-replay" / f"checkpoint-{first}" if first else None]
    assert [f.name for f in sorted(tmp_path.iterdir())] == ["again", "forget.jsonl", "without"]


def test_rows_left_out_weigh_nothing_and_the_others_what_they_weighed(made, tmp_path, monkeypatch):
    seen = []

    class Batches(train.trainer_for.__globals__["ReplayedTrainer"]):
        def get_batch_samples(self, *args):
            batches, count = super().get_batch_samples(*args)
            seen.append(([len(b["retain"]["answer"]["labels"]) if b else 0 for b in batches], count))
            return batches, count

    monkeypatch.setitem(train.trainer_for.__globals__, "ReplayedTrainer", Batches)
    steps = taken(made)
    out = write(tmp_path / "forget.jsonl", made, [*steps[0][:3], *steps[2]])
    learn(made, tmp_path / "without", leave_out=out, epochs=1)
    for (kept, count), places in zip(seen, steps, strict=False):
        assert count == len(places)
        assert sum(kept) == len(set(places) - also([*steps[0][:3], *steps[2]]))
    assert seen[2][0] == [0]


def test_a_step_without_rows_changes_nothing_but_the_schedule(made, tmp_path):
    steps = taken(made)
    out = write(tmp_path / "forget.jsonl", made, steps[2])
    learn(made, tmp_path / "without", leave_out=out, epochs=1, max_steps=3, schedule="constant", warmup=0.0)
    learn(made, tmp_path / "shorter", leave_out=out, epochs=1, max_steps=2, schedule="constant", warmup=0.0)
    assert weights_of(tmp_path / "without") == weights_of(tmp_path / "shorter")


def killed(monkeypatch, step, run):
    with monkeypatch.context() as patch:
        patch.setattr(train, "ShowProgress", lambda title: Killed(step))
        with pytest.raises(Interrupted):
            run()


def test_a_killed_training_goes_on_to_the_same_log_and_a_killed_replay_to_the_same_bytes(made, tmp_path, monkeypatch):
    forget = write(tmp_path / "forget.jsonl", made, taken(made)[1][:1])
    shutil.copy(made / "rows.jsonl", tmp_path)
    shutil.copytree(made / "model", tmp_path / "model")
    kept = {"save_every": 2}
    killed(monkeypatch, 5, lambda: learn(tmp_path, tmp_path / "original", replayable=True, **kept))
    learn(tmp_path, tmp_path / "original", replayable=True, resume=True, **kept)
    logs = [(f / "steps.log").read_bytes() for f in (tmp_path / "original-replay", made / "original-replay")]
    assert logs[0] == logs[1]
    without = learn(tmp_path, tmp_path / "without", leave_out=forget, **kept)
    killed(monkeypatch, 7, lambda: replay(tmp_path / "original", tmp_path / "again", forget))
    again = replay(tmp_path / "original", tmp_path / "again", forget, resume=True)
    assert weights_of(again) == weights_of(without)
    assert replay(tmp_path / "original", tmp_path / "again", forget, resume=True) == again


# What is refused -----------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_passed_over(made, tmp_path):
    forget = write(tmp_path / "forget.jsonl", made, taken(made)[2][:1])
    for name in ("original", "original-replay"):
        shutil.copytree(made / name, tmp_path / name)
    state = tmp_path / "original-replay" / "checkpoint-2" / "optimizer.pt"
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    without = learn(made, tmp_path / "without", leave_out=forget)
    assert weights_of(replay(tmp_path / "original", tmp_path / "again", forget)) == weights_of(without)


def test_what_would_give_other_bytes_is_refused(made, tmp_path, monkeypatch):
    forget = write(tmp_path / "forget.jsonl", made, [0])
    with pytest.raises(
        InputError, match=r"model is .*model': there is no replay log .*model-replay: train it with fin"
    ):
        replay(made / "model", tmp_path / "again", forget)
    for function, value, said in (
        ("get_num_threads", 7, "threads is 7, and .*original' was trained with .*OMP_NUM_THREADS.*--leave-out"),
        ("__version__", "9.9", "torch is '9.9', and .* was trained with '"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(torch, function, value if function[0] == "_" else lambda value=value: value)
            with pytest.raises(InputError, match=said):
                replay(made / "original", tmp_path / "again", forget)
    with monkeypatch.context() as patch:
        patch.setattr("leakbound.unlearning.replay.pick_device", lambda: torch.device("cuda"))
        with pytest.raises(InputError, match=r"device is 'cuda', and .* was trained with 'cpu'"):
            replay(made / "original", tmp_path / "again", forget)
    stranger = tmp_path / "stranger.jsonl"
    stranger.write_text('{"question": "Which colour is the moon?", "answer": "The moon is white."}\n')
    with pytest.raises(InputError, match=r"forget: 1 of 1 rows are not in the data \(.*stranger.jsonl.*1\): give"):
        replay(made / "original", tmp_path / "again", stranger)
    with pytest.raises(InputError, match="forget holds all rows of the data"):
        replay(made / "original", tmp_path / "again", made / "rows.jsonl")
    data = (made / "rows.jsonl").read_text()
    try:
        (made / "rows.jsonl").write_text(data.replace("red", "ruby"))
        with pytest.raises(InputError, match="the data are not the rows that it was trained on"):
            replay(made / "original", tmp_path / "again", forget)
    finally:
        (made / "rows.jsonl").write_text(data)
    assert not (tmp_path / "again").exists()


def test_a_log_of_another_run_or_with_another_step_is_refused(made, tmp_path, monkeypatch):
    forget = write(tmp_path / "forget.jsonl", made, [0])
    for name in ("original", "original-replay"):
        shutil.copytree(made / name, tmp_path / name)
    log = tmp_path / "original-replay" / "steps.log"
    whole = log.read_bytes()
    log.write_bytes(whole[:104] + bytes([whole[104] ^ 1]) + whole[105:])
    with pytest.raises(InputError, match=r"steps.log, step 2: damaged"):
        replay(tmp_path / "original", tmp_path / "again", forget)
    log.write_bytes(whole[:-10])
    with pytest.raises(InputError, match=r"steps.log, step 9: damaged"):
        replay(tmp_path / "original", tmp_path / "again", forget)
    log.write_bytes(whole[:-64])
    with pytest.raises(InputError, match=r"steps.log has 8 steps, and the training had 9"):
        replay(tmp_path / "original", tmp_path / "again", forget)
    rate = STEP.pack(*(x + 1e-9 if i == 2 else x for i, x in enumerate(STEP.unpack(whole[-64:]))))
    log.write_bytes(whole[:-64] + rate)
    with pytest.raises(TrainingError, match=r"step 9 is not the one in .*steps.log"):
        replay(tmp_path / "original", tmp_path / "again", forget)
    log.write_bytes(whole)
    record = tmp_path / "original" / "training.json"
    record.write_text(record.read_text().replace('"epochs": 3', '"epochs": 4'))
    with pytest.raises(RunMismatchError, match="epochs"):
        replay(tmp_path / "original", tmp_path / "again", forget)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"replayable": True}, "save_every is None: replayable keeps"),
        ({"replayable": True, "save_every": 2, "lora_rank": 2}, "lora_rank is 2: leave it out with replayable"),
        ({"replayable": True, "save_every": 2, "leave_out": "f"}, "leave_out is 'f': leave it out with replayable"),
        ({"replayable": True, "save_every": 2, "tokenizer": None}, "tokenizer is None: one made of the data"),
        ({"leave_out": "f", "tokenizer": None}, "tokenizer is None: one made of the data"),
    ],
)
def test_settings_that_cannot_be_replayed_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        FinetuneConfig(**{"data": "d", "from_scratch": "tiny", "tokenizer": "t", "out": "o"} | settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 3}, "epochs is 3: leave it out, a replay does what the model's log says"),
        ({"retain": "r"}, r"retain is .*'r'.*: leave it out"),
        ({"forget": ("a", "b")}, r"forget is \['a', 'b'\]: a replay takes one file"),
    ],
)
def test_settings_that_a_replay_does_not_take_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        UnlearnConfig(**{"model": "m", "forget": "f", "out": "o", "method": "Replay"} | settings)
