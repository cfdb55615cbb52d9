"""What a training shows: its steps, and where it is no terminal a line every 30 seconds."""

from types import SimpleNamespace

from leakbound.runs import progress
from leakbound.runs.progress import Progress
from leakbound.unlearning.callbacks import ShowProgress


def test_a_training_that_goes_on_shows_its_own_steps_and_the_last_loss(monkeypatch, capsys):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    with Progress("npo_gd out", 0, "steps") as shown:
        callback, state = ShowProgress(shown), SimpleNamespace(max_steps=12, global_step=4)
        now[0] = 300.0  # loading, and reference log-probabilities
        callback.on_train_begin(None, state, None)
        for step in range(5, 13):
            now[0] += 8
            callback.on_step_end(None, state, None)
            callback.on_log(None, state, None, logs={"loss": 10.0 / step} if step < 12 else {"train_runtime": 1.0})
    assert capsys.readouterr().err.splitlines() == [
        "npo_gd out: 8 of 12 steps, 66 %, 0.12/s, 0:00:32 left, loss 1.43",
        "npo_gd out: 12 of 12 steps, 100 %, 0.12/s, 0:00:00 left, loss 0.909",
        "npo_gd out: 12 of 12 steps, 100 %, 0.12/s, took 0:01:04, loss 0.909",
    ]
