"""A look at a model in training leaves no trace in it, and its statements pay for all looks."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import CONFIGS, word_tokenizer
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from leakbound.bounds import look_shares
from leakbound.errors import InputError
from leakbound.plugging import trainer as trainer_module
from leakbound.plugging.trainer import LeakAudit
from leakbound.records import SamplingParams

PROMPTS = [{"id": "1", "text": "a b", "target": "c d"}, {"id": "2", "text": "b a", "target": "d a"}]
ROWS = [
    {"input_ids": ids, "labels": ids} for ids in ([2, 3, 4, 5, 1], [3, 2, 5, 2, 1], [2, 2, 3, 3, 1], [5, 4, 3, 2, 1])
]
SHORT = SamplingParams(max_tokens=3)


def new_model(kind="plain"):
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS["gpt2"])
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.2
    model = AutoModelForCausalLM.from_config(config)
    if kind == "lora":
        model = get_peft_model(
            model, LoraConfig(r=2, lora_dropout=0.2, target_modules=["c_attn"], task_type="CAUSAL_LM")
        )
    return model


def new_trainer(place, *, kind="plain", steps=6, callbacks=(), **more):
    settings = {"learning_rate": 1e-2, "logging_steps": 2, "per_device_train_batch_size": 1, "seed": 0}
    settings |= {"save_strategy": "no"} | more
    args = TrainingArguments(
        output_dir=str(place), use_cpu=True, report_to="none", disable_tqdm=True, max_steps=steps,
        activation_checkpointing=kind == "checkpointing", **settings,
    )  # fmt: skip
    return Trainer(
        new_model(kind), args, train_dataset=ROWS, processing_class=word_tokenizer(),
        data_collator=lambda rows: {k: torch.tensor([r[k] for r in rows]) for k in rows[0]}, callbacks=list(callbacks),
    )  # fmt: skip


def looking(every=2, **settings):
    return LeakAudit(PROMPTS, every=every, **{"num_samples": 40, "params": SHORT, **settings})


def left_by(trainer):
    """Everything that goes on from here: weights, modes, generators, and what was logged."""
    logged = [
        {k: v for k, v in row.items() if "runtime" not in k and "per_second" not in k}
        for row in trainer.state.log_history
    ]
    return (
        {name: tensor.numpy().tobytes() for name, tensor in trainer.model.state_dict().items()},
        [module.training for module in trainer.model.modules()],
        (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),  # noqa: NPY002
        [row for row in logged if "eval_leak_worst" not in row],
    )


@pytest.mark.parametrize("kind", ["plain", "checkpointing", "lora"])
def test_training_goes_on_as_if_nobody_had_looked(tmp_path, kind):
    trainer = new_trainer(tmp_path, kind=kind)
    trainer.train()
    alone = left_by(trainer)
    watched = new_trainer(tmp_path, kind=kind)
    looking().attach(watched)
    watched.train()
    for mine, theirs in zip(left_by(watched), alone, strict=True):
        assert mine == theirs
    assert [row["step"] for row in watched.state.log_history if "eval_leak_worst" in row] == [2, 4, 6]


def test_all_looks_together_have_alpha(tmp_path):
    trainer = new_trainer(tmp_path, steps=5)
    looking(alpha=0.02).attach(trainer)
    trainer.train()
    found = [row for row in trainer.state.log_history if "eval_leak_worst" in row]
    assert [row["step"] for row in found] == [2, 4, 5]
    assert [row["eval_leak_alpha"] for row in found] == [0.02 * share for share in look_shares(3)]
    assert sum(row["eval_leak_alpha"] for row in found) <= 0.02
    assert all(row["eval_leak_worst_upper"] >= row["eval_leak_worst"] for row in found)


def test_the_looks_are_audits_of_that_model_by_draws_of_their_own(tmp_path):
    from leakbound.auditing.steps import bound
    from leakbound.runs.store import Run

    trainer = new_trainer(tmp_path / "training", steps=4)
    looking(out=tmp_path / "looks").attach(trainer)
    trainer.train()
    folders = sorted((tmp_path / "looks").iterdir())
    assert [folder.name for folder in folders] == ["step-2-look-0", "step-4-look-1"]
    runs = [Run.open(folder) for folder in folders]
    assert runs[0].info["seed"] != runs[1].info["seed"]
    assert runs[0].info["model"]["checksum"] != runs[1].info["model"]["checksum"]
    logged = [row["eval_leak_average_upper"] for row in trainer.state.log_history if "eval_leak_worst" in row]
    assert logged == [bound(run).mean_leak.upper for run in runs]


def test_training_ends_where_the_claim_is_proven(tmp_path):
    trainer = new_trainer(tmp_path, steps=8)
    watch = looking(until="leak<=0.9", num_samples=400, stop=True).attach(trainer)
    trainer.train()
    assert (trainer.state.global_step, watch.proven) == (2, True)
    assert [row["eval_leak_proven"] for row in trainer.state.log_history if "eval_leak_worst" in row] == [1.0]


def test_what_is_not_proven_goes_on(tmp_path):
    trainer = new_trainer(tmp_path, steps=4)
    watch = looking(until="leak<=0.001", num_samples=40, stop=True).attach(trainer)
    trainer.train()
    assert (trainer.state.global_step, watch.proven) == (4, False)


@pytest.mark.parametrize(("every_answer_cut", "proven"), [(True, False), (False, True)])
def test_answers_that_were_all_cut_prove_nothing(tmp_path, monkeypatch, every_answer_cut, proven):
    """The same draws, once as answers that went on and once as ones that ended."""
    usual = trainer_module.audit

    def cut(*args, **settings):
        found, share = usual(*args, **settings), float(every_answer_cut)
        assert {p.verdict for p in found.prompts} == {"proven"}
        return replace(found, prompts=tuple(replace(p, cut_clean=share) for p in found.prompts))

    monkeypatch.setattr(trainer_module, "audit", cut)
    trainer = new_trainer(tmp_path, steps=2)
    watch = looking(until="leak<=0.9", num_samples=400, stop=True).attach(trainer)
    trainer.train()
    assert watch.proven is proven
    assert [row["eval_leak_proven"] for row in trainer.state.log_history if "eval_leak_worst" in row] == [proven]


class Ending(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step == 3


def test_a_training_that_ends_early_is_looked_at_where_it_ends(tmp_path):
    trainer = new_trainer(tmp_path, callbacks=[Ending()])
    looking().attach(trainer)
    trainer.train()
    found = [row for row in trainer.state.log_history if "eval_leak_worst" in row]
    assert [row["step"] for row in found] == [2, 3]
    assert found[-1]["eval_leak_alpha"] == 0.01 * look_shares(4)[-1]


def test_what_cannot_be_used_is_said_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match="every"):
        looking(every=0)
    with pytest.raises(InputError, match="until is None"):
        looking(stop=True)
    with pytest.raises(InputError, match="attach"):
        new_trainer(tmp_path, callbacks=[looking()]).train()


def test_a_second_training_has_a_look_of_its_own(tmp_path):
    trainer = new_trainer(tmp_path, steps=4, save_strategy="steps", save_steps=2)
    first = looking().attach(trainer)
    trainer.train()
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))  # the same training goes on
    assert first.last.alpha == pytest.approx(0.01 * look_shares(3)[1])
    with pytest.raises(InputError, match="spent its alpha and its seed on another training: attach a new one"):
        trainer.train()
