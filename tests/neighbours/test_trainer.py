"""The Trainer's reporters themselves: what a look found stands in the files that they write."""

import json
import os
import subprocess
import sys

import mlflow
import pytest
import torch
from neighbour_model import PROMPTS, page_blocks, save_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import tiny_model, word_tokenizer
from transformers import Trainer, TrainingArguments

from leakbound.plugging.trainer import LeakAudit
from leakbound.records import SamplingParams

ROWS = [
    {"input_ids": ids, "labels": ids} for ids in ([2, 3, 4, 5, 1], [3, 2, 5, 2, 1], [2, 2, 3, 3, 1], [5, 4, 3, 2, 1])
]
NAMES = ["eval_leak_average", "eval_leak_average_upper", "eval_leak_worst", "eval_leak_worst_upper", "eval_leak_alpha"]


def collated(rows):
    return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}


def new_trainer(place, report_to, steps=4, **more):
    args = TrainingArguments(
        output_dir=str(place / "training"), use_cpu=True, report_to=report_to, save_strategy="no", disable_tqdm=True,
        max_steps=steps, logging_steps=1, run_name="mine", **more,
    )  # fmt: skip
    return Trainer(
        tiny_model("gpt2", scale=1.0),
        args,
        train_dataset=ROWS,
        processing_class=word_tokenizer(),
        data_collator=collated,
    )


def trained(place, report_to, **more):
    """What the Trainer's own record says of the looks: step, and the values by name."""
    trainer = new_trainer(place, report_to, **more)
    LeakAudit(PROMPTS, every=2, num_samples=50, params=SamplingParams(max_tokens=4)).attach(trainer)
    trainer.train()
    return {
        line["step"]: {name: line[name] for name in NAMES} for line in trainer.state.log_history if NAMES[0] in line
    }


def test_tensorboard(tmp_path, monkeypatch, row):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    said = trained(tmp_path, "tensorboard")
    assert sorted(said) == [2, 4]
    (folder,) = {file.parent for file in tmp_path.rglob("*tfevents*")}
    board = EventAccumulator(str(folder)).Reload()
    for name in NAMES:
        read = {event.step: event.value for event in board.Scalars(name.replace("eval_", "eval/"))}
        assert read == {step: pytest.approx(values[name], rel=1e-6) for step, values in said.items()}
    row(
        "tensorboard",
        "`LeakAudit(every=2).attach(trainer)`, report_to tensorboard",
        "5 values of each of 2 looks read from the event file",
    )


def test_mlflow(tmp_path, monkeypatch, row):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    mlflow.set_tracking_uri(place)
    said = trained(tmp_path, "mlflow")
    client = mlflow.MlflowClient(place)
    (run,) = [run for one in client.search_experiments() for run in client.search_runs([one.experiment_id])]
    for name in NAMES:
        read = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}
        assert read == {step: pytest.approx(values[name], rel=1e-9) for step, values in said.items()}
    row(
        "mlflow-skinny",
        "`LeakAudit(every=2).attach(trainer)`, report_to mlflow",
        "5 values of each of 2 looks read by MlflowClient",
    )


def records(data):
    """The records of a W&B file, a log of LevelDB behind a header of 7 bytes: blocks of 32 KiB."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb(tmp_path, monkeypatch, row):
    import wandb
    from wandb.proto import wandb_internal_pb2

    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    said = trained(tmp_path, "wandb")
    wandb.finish()
    wandb.teardown()  # all is written only when its own process has ended
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    read = {}
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
        if "eval/leak_worst" in values:
            read[values["train/global_step"]] = values
    assert sorted(read) == sorted(said) == [2, 4]
    for step, values in said.items():
        assert [read[step][name.replace("eval_", "eval/")] for name in NAMES] == [values[name] for name in NAMES]
    row(
        "wandb",
        "`LeakAudit(every=2).attach(trainer)`, report_to wandb, offline",
        "5 values of each of 2 looks read from the .wandb file",
    )


def test_the_page_is_true(tmp_path, monkeypatch, row):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path)
    (block,) = page_blocks("transformers' Trainer", "python")
    names = {"trainer": new_trainer(tmp_path, "none", steps=8)}
    exec(compile(block, "docs/neighbours.md", "exec"), names)
    watch, steps = names["watch"], names["trainer"].state.global_step
    assert (watch.proven, steps) in ((True, 2), (True, 4), (False, 8))
    row("transformers", "the page's `LeakAudit(..., until=\"leak<=0.5\", stop=True)`, at most 8 steps",
        f"proven: {watch.proven}, after {steps} steps")  # fmt: skip


SEVERAL = """
import json, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_trainer import LeakAudit, PROMPTS, SamplingParams, new_trainer
trainer = new_trainer(Path(sys.argv[1]), "none", per_device_train_batch_size=1)
watch = LeakAudit(PROMPTS, every=2, num_samples=200, until="leak<=0.9", stop=True, params=SamplingParams(max_tokens=16))
watch.attach(trainer)
trainer.train()
rank = trainer.args.process_index
said = [trainer.args.world_size, trainer.state.global_step, watch.proven, watch.last is not None]
Path(sys.argv[1], f"rank-{{rank}}.json").write_text(json.dumps(said))
"""


def test_the_first_of_two_processes_audits_and_both_end(tmp_path, row):
    (tmp_path / "several.py").write_text(
        SEVERAL.format(paths=[os.path.dirname(__file__), *(p for p in sys.path if "support" in p)])
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29617",
         str(tmp_path / "several.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert said == [[2, 2, True, True], [2, 2, True, False]]
    row(
        "transformers",
        "`LeakAudit(stop=True)` under `torchrun --nproc_per_node=2` (gloo)",
        "the first process audits, both stop at the proof",
    )
