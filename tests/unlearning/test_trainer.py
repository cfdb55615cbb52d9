"""The trainer on models of two layers, and the two commands from file to folder."""

import json
import math
import re
import types
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_training import FORGET, RETAIN, same_answers, train
from small_world import forget, learn, weights_of
from tiny_models import tiny_model
from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

from leakbound.errors import InputError, ModelError, PromptsError, TrainingError
from leakbound.models.hf.loading import load_tokenizer
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune
from leakbound.unlearning import trainer as trainer_module
from leakbound.unlearning.data import IGNORED, PairedData
from leakbound.unlearning.passes import attention_of
from leakbound.unlearning.trainer import UnlearningTrainer, Weights, reference_logps


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def first_log(trainer):
    return trainer.state.log_history[0]


def test_the_first_npo_loss_is_that_of_the_reference_model_itself(tmp_path):
    trainer = train(tiny_model(), tmp_path, weights=Weights(settings={"beta": 0.5}), objective="npo")
    assert first_log(trainer)["forget_loss"] == pytest.approx(2 / 0.5 * math.log(2), abs=1e-4)
    trainer = train(tiny_model(), tmp_path, objective="grad_ascent_kl")
    assert first_log(trainer)["retain_loss"] == pytest.approx(0.0, abs=1e-6)


def test_reference_logps_are_those_of_transformers_loss():
    model = tiny_model()
    expected = [
        -model(input_ids=torch.tensor([e.input_ids]), labels=torch.tensor([e.labels])).loss.item()
        * sum(label != IGNORED for label in e.labels)
        for e in RETAIN
    ]
    assert reference_logps(model, RETAIN, pad_id=0, batch_size=4) == pytest.approx(expected, abs=1e-5)


def test_the_loss_is_the_weighted_sum_of_its_terms(tmp_path):
    weights = Weights(forget_weight=0.7, retain_weight=3.0, entropy_forget=1.0, entropy_retain=-0.25)
    log = first_log(train(tiny_model(), tmp_path, objective="grad_diff", weights=weights))
    parts = 0.7 * log["forget_loss"] + 3.0 * log["retain_loss"] + log["forget_entropy"] - 0.25 * log["retain_entropy"]
    assert log["loss"] == pytest.approx(parts, abs=1e-5)


def test_one_forward_pass_for_each_half_that_matters(tmp_path):
    calls = []
    model = tiny_model()
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    entropies = Weights(entropy_forget=1.0, entropy_retain=-0.25)
    train(model, tmp_path, objective="npo_gd", weights=entropies, num_train_epochs=5)
    assert len(calls) == 2 + 2 * 5  # the head is looked at, the reference asked once; then both halves in five steps
    calls.clear()
    train(model, tmp_path, objective="grad_diff", weights=Weights(retain_weight=0.0), num_train_epochs=5)
    assert len(calls) == 5


@pytest.mark.trains
def test_accumulated_batches_equal_the_large_batch_even_at_the_end_of_an_epoch(tmp_path):
    ends = []
    for batch, steps in ((4, 1), (2, 2), (1, 4)):  # six examples: the last step of an epoch has two
        model = tiny_model()
        train(
            model, tmp_path, forget=RETAIN, retain=RETAIN[::-1], objective="grad_diff", optim="sgd",
            per_device_train_batch_size=batch, gradient_accumulation_steps=steps,
        )  # fmt: skip
        ends.append(parameters(model))
    assert torch.allclose(ends[0], ends[1], atol=1e-6)
    assert torch.allclose(ends[0], ends[2], atol=1e-6)
    assert not torch.allclose(ends[0], parameters(tiny_model()), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_mean_over_tokens_is_that_of_each_batch_then_that_of_the_batches(tmp_path, monkeypatch, batch):
    """As transformers' own loss of a batch, summed over the batches and divided by how many there are."""
    seen = []
    monkeypatch.setattr(
        UnlearningTrainer, "training_step",
        lambda self, model, inputs, *a, step=UnlearningTrainer.training_step:
        (seen.append(inputs), step(self, model, inputs, *a))[1],
    )  # fmt: skip
    model, plain = tiny_model(), tiny_model()
    arguments = {"optim": "sgd", "max_steps": 1, "learning_rate": 0.1, "max_grad_norm": 0.0, "forget": RETAIN}
    train(
        model, tmp_path, objective="grad_diff", weights=Weights(forget_weight=0.5, reduction="tokens"), **arguments,
        per_device_train_batch_size=batch, gradient_accumulation_steps=-(-len(RETAIN) // batch), weight_decay=0.0,
    )  # fmt: skip
    loss = torch.zeros(())
    for inputs in seen:
        for half, weight in (("forget", -0.5), ("retain", 1.0)):
            rows = {name: inputs[half]["answer"][name] for name in ("input_ids", "attention_mask", "labels")}
            loss = loss + weight * plain(**rows).loss / len(seen)
    loss.backward()
    stepped = torch.cat([(p.detach() - 0.1 * p.grad).flatten() for p in plain.parameters()])
    assert len(seen) == -(-len(RETAIN) // batch)
    assert torch.allclose(parameters(model), stepped, atol=1e-6)


def test_partners_are_drawn_anew_at_every_epoch(tmp_path, monkeypatch):
    epochs = []
    monkeypatch.setattr(
        PairedData,
        "set_epoch",
        lambda self, epoch, draw=PairedData.set_epoch: (epochs.append(epoch), draw(self, epoch)),
    )
    train(tiny_model(), tmp_path, per_device_train_batch_size=1, num_train_epochs=4)
    assert [epoch for i, epoch in enumerate(epochs) if i == 0 or epochs[i - 1] != epoch] == [0, 1, 2, 3]


def test_own_answers_are_those_of_the_model_of_this_very_step(tmp_path):
    model, seen = tiny_model(), []

    def anew(questions, step):
        seen.append((step, len(questions), parameters(model)))
        return same_answers(questions, step)

    train(model, tmp_path, objective="pmc", anew=anew, per_device_train_batch_size=1, gradient_accumulation_steps=2)
    assert [(step, count) for step, count, _ in seen] == [(0, 2), (1, 2), (2, 2)]
    assert not any(torch.equal(a[2], b[2]) for a, b in pairwise(seen))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] = math.inf
    before = parameters(model)
    with pytest.raises(TrainingError, match=r"the loss is nan in step 1 \(forget_loss nan.*lower learning_rate"):
        train(model, tmp_path, objective="grad_diff")
    assert torch.equal(parameters(model).nan_to_num(), before.nan_to_num())


def test_a_loss_without_any_weight_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="weight 0"):
        train(tiny_model(), tmp_path, weights=Weights(forget_weight=0.0, retain_weight=0.0))


# From file to folder ------------------------------------------------------------------------------------------------


@pytest.mark.trains
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(world, tmp_path):
    first, again = learn(world, tmp_path / "a"), learn(world, tmp_path / "b")
    assert weights_of(first) == weights_of(again)
    assert weights_of(first) != weights_of(learn(world, tmp_path / "c", seed=1))
    first, again = forget(world, tmp_path / "d"), forget(world, tmp_path / "e")
    assert weights_of(first) == weights_of(again)
    assert weights_of(first) != weights_of(forget(world, tmp_path / "f", seed=1))


def test_training_goes_on_from_a_folder_and_can_borrow_a_tokenizer(world, tmp_path):
    further = learn(world, tmp_path / "further", from_scratch=None, model=str(world / "model"), max_steps=1)
    assert json.loads((further / "training.json").read_text())["steps"] == 1
    borrowed = learn(world, tmp_path / "borrowed", tokenizer=str(world / "model"), epochs=1)
    assert load_tokenizer(str(borrowed)).get_vocab() == load_tokenizer(str(world / "model")).get_vocab()


def test_the_callers_random_state_is_left_alone(world, tmp_path):
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    learn(world, tmp_path / "model", epochs=1)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


def test_nothing_is_left_behind_on_failure(world, tmp_path):
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "Who?", "answer": "Ada."}\n{"question": "Wh')
    out = tmp_path / "runs" / "model"
    with pytest.raises(PromptsError, match=r"broken\.jsonl, line 2"):
        finetune(FinetuneConfig(data=broken, from_scratch="tiny", out=out), progress=False)
    with pytest.raises(TrainingError):
        forget(world, out, method="ga:none", learning_rate=1e9, epochs=50, max_grad_norm=0.0)
    with pytest.raises(ModelError):
        forget(world, out, model=str(tmp_path / "nowhere"))
    assert list(out.parent.iterdir()) == []


def test_a_folder_that_holds_something_is_not_written_over(world):
    before = weights_of(world / "model")
    with pytest.raises(InputError, match=r"out is .* exists already: give a new folder"):
        learn(world, world / "model")
    assert weights_of(world / "model") == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0: give a whole number >= 1"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: give a finite number > 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0: give a finite number >= 0"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"schedule": "cyclic"}, "schedule is 'cyclic': give one of constant, linear, cosine"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"method": "npo_gdd"}, "method is 'npo_gdd'"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"forget_weight": -1.0}, "forget_weight is -1.0"),
        ({"entropy_retain": math.inf}, "entropy_retain is inf: give a finite number"),
        ({"entropy_mask": "padding"}, "entropy_mask is 'padding': give one of answer, all"),
        ({"retain": None}, "retain is None: method 'npo_gd' needs a file"),
        ({"retain": None, "method": "mismatch:none"}, "retain is None"),
        ({"forget": ()}, r"forget is []: give one file or several different ones"),
        ({"forget": ("f.jsonl", "f.jsonl")}, "several different ones"),
        ({"lora_rank": -1}, "lora_rank is -1"),
        ({"save_every": 0}, "save_every is 0"),
        ({"report_to": "paper"}, "report_to is 'paper': give one of none, tensorboard, wandb, mlflow"),
        ({"gamma": math.nan}, "gamma is nan"),
        ({"rmu_scale": 0.0}, "rmu_scale is 0.0: give a finite number > 0"),
        ({"rmu_layer": 0}, "rmu_layer is 0"),
        ({"rmu_depth": 1.0}, "rmu_depth is 1.0: give the share of the layers, a number in (0, 1)"),
        ({"rmu_part": "head"}, "rmu_part is 'head': give one of layer, down_proj"),
        ({"ce_u_skip": -1}, "ce_u_skip is -1"),
        ({"kl_mask": "question"}, "kl_mask is 'question': give one of answer, all, text"),
        ({"reduction": "mean"}, "reduction is 'mean': give one of rows, tokens"),
        ({"pad_to": -1}, "pad_to is -1"),
        ({"me_mask": "question"}, "me_mask is 'question': give one of answer, all, text"),
        ({"me_direction": "up"}, "me_direction is 'up': give one of uniform, model"),
        ({"pmc_samples": 0}, "pmc_samples is 0"),
        ({"leak_threshold": 0.0}, "leak_threshold is 0.0: give a number in (0, 1]"),
        ({"collapse_factor": 1.0}, "collapse_factor is 1.0: give a finite number > 1"),
        ({"on_collapse": "panic"}, "on_collapse is 'panic': give one of warn, stop, ignore"),
        ({"retain": None, "method": "npo", "entropy_retain": -0.25}, "retain is None"),
    ],
)
def test_bad_settings_are_named_with_the_remedy(settings, message):
    files = {"model": "m", "forget": "f.jsonl", "retain": "r.jsonl", "out": "o"}
    with pytest.raises(InputError, match=re.escape(message)):
        UnlearnConfig(**{**files, **settings})


@pytest.mark.parametrize(
    ("settings", "package"), [({"lora_rank": 4}, "leakbound[hf]"), ({"report_to": "wandb"}, "wandb")]
)
def test_packages_that_are_missing_are_named(settings, package, monkeypatch):
    monkeypatch.setattr("leakbound.unlearning.config.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"pip install '?{re.escape(package)}"):
        UnlearnConfig(model="m", forget="f.jsonl", retain="r.jsonl", out="o", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give one of the two"),
        ({"model": "m", "from_scratch": "tiny"}, "give one of the two"),
        ({"from_scratch": "huge"}, "from_scratch is 'huge': give one of tiny, mini, small"),
        ({"model": "m", "tokenizer": "t"}, "tokenizer is 't': leave it out"),
    ],
)
def test_where_a_finetuned_model_comes_from_must_be_clear(settings, message):
    with pytest.raises(InputError, match=message):
        FinetuneConfig(data="d.jsonl", out="o", **settings)


def test_the_progress_bar_ends_with_the_training(world, tmp_path, capsys):
    config = FinetuneConfig(data=world / "full.jsonl", from_scratch="tiny", out=tmp_path / "shown", epochs=1)
    finetune(config, progress=True)
    assert "finetune shown" in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["npo_gd", "dpo_kl", "idk_ap", "rmu", "leak_mass_gd", "undial_gd"])
@pytest.mark.parametrize("reduction", ["rows", "tokens"])
def test_pieces_of_a_batch_add_up_to_it(tmp_path, monkeypatch, objective, reduction):
    """One row at a time, or all at once: one step of gradient descent ends at the same weights, to rounding."""
    ends, steps = [], []
    for tokens in (1, 10**6):
        monkeypatch.setattr(trainer_module, "piece_tokens", lambda model, bf16, tokens=tokens: tokens)
        model = tiny_model()
        trainer = train(
            model, tmp_path, objective=objective, weights=Weights(0.7, 1.3, 0.2, -0.1, reduction=reduction),
            optim="sgd", max_steps=1, learning_rate=0.1, max_grad_norm=0.0, per_device_train_batch_size=6,
            forget=[*FORGET, *RETAIN],
        )  # fmt: skip
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        steps.append({k: v for k, v in trainer.state.log_history[0].items() if "loss" in k or "entropy" in k})
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
    assert steps[0] == pytest.approx(steps[1], rel=1e-4, abs=1e-5)
    assert not torch.equal(ends[0], torch.cat([p.flatten() for p in tiny_model().parameters()]))


def test_pieces_are_small_beside_the_weights_and_never_tiny():
    """SmolLM2's shape: 134,515,008 numbers of 4 bytes, 30 layers of 576, some 1.4 MB of states a token."""
    model = tiny_model()
    assert trainer_module.piece_tokens(model) * 20 * 2 * model.config.hidden_size * 4 >= 2**26 * 0.99
    layer = types.SimpleNamespace()
    big = types.SimpleNamespace(
        config=types.SimpleNamespace(
            get_text_config=lambda: types.SimpleNamespace(num_hidden_layers=30, hidden_size=576)
        ),
        parameters=lambda: iter([torch.empty(134_515_008, device="meta")]),
        modules=lambda: [layer],
    )
    assert trainer_module.piece_tokens(big) == 194
    assert trainer_module.piece_tokens(big, bf16=True) == 778
    layer.gradient_checkpointing = True
    assert trainer_module.piece_tokens(big) == 3892


def test_short_rows_in_bfloat16_attend_by_plain_products_on_a_cpu():
    def kernels(device, bf16, *lengths):
        rows = [{"input_ids": torch.zeros(2, length)} for length in lengths]
        with attention_of(torch.device(device), bf16, {"forget": {"answer": rows[0], "refusal": rows[-1]}}):
            return _cur_sdpa_kernel_backends()

    usual = _cur_sdpa_kernel_backends()
    assert len(usual) > 1
    assert kernels("cpu", True, 67, 128) == [SDPBackend.MATH]
    assert kernels("cpu", True, 67, 129) == kernels("cpu", False, 67) == kernels("cuda", True, 67) == usual
    assert _cur_sdpa_kernel_backends() == usual


def test_a_step_in_bfloat16_is_one_in_float32_to_rounding(tmp_path):
    ends = []
    for bf16 in (False, True):
        model = tiny_model()
        settings = {"optim": "sgd", "max_steps": 1, "learning_rate": 0.1, "max_grad_norm": 0.0}
        train(model, tmp_path, objective="npo_gd", weights=Weights(0.7, 1.3), bf16=bf16, **settings)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    start = torch.cat([p.detach().flatten() for p in tiny_model().parameters()])
    moved, apart = (ends[0] - start).norm(), (ends[1] - ends[0]).norm()
    assert 0 < apart < 0.05 * moved
