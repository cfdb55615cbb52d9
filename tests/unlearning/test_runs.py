"""Adapters, recomputed activations, checkpoints, guards, requests in turn, and data that the model makes itself."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_training import Killed
from small_world import forget, weights_of
from tiny_models import FAMILIES, tiny_model

from leakbound.errors import InputError, Interrupted, RunMismatchError, TrainingError
from leakbound.models.hf.loading import load_model, weights_checksum
from leakbound.reading.pairs import Pair, read_pairs
from leakbound.unlearning import UnlearnConfig, adapters, running, train, unlearn
from leakbound.unlearning.adapters import add_lora, checkpoint_activations, choose_layer, find_layers, reference_of
from leakbound.unlearning.callbacks import CollapseGuard, newest_checkpoint

IDS = torch.tensor([[2, 3, 4, 1], [5, 2, 3, 1]])


def record(folder):
    return json.loads((folder / "training.json").read_text())


def tensors(folder):
    return load_file(folder / "model.safetensors")


# Adapters and activations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_alone_are_trained_also_with_recomputed_activations(name):
    plain = tiny_model(name)
    adapted = add_lora(tiny_model(name), rank=2, alpha=8)
    checkpoint_activations(adapted)
    adapted.eval()
    assert torch.allclose(adapted(input_ids=IDS).logits, plain(input_ids=IDS).logits, atol=1e-6)  # nothing yet
    own = {n: p.detach().clone() for n, p in adapted.named_parameters() if "lora_" not in n}
    before = {n: p.detach().clone() for n, p in adapted.named_parameters() if "lora_" in n}
    adapted.train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # B is zero at first, so that A moves in the second step
        optimizer.zero_grad()
        adapted(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        optimizer.step()
    after = dict(adapted.named_parameters())
    assert all(torch.equal(after[n], p) for n, p in own.items())
    assert all(not torch.equal(after[n], p) for n, p in before.items())
    with reference_of(adapted)() as reference, torch.no_grad():
        assert torch.allclose(reference(input_ids=IDS).logits, plain(input_ids=IDS).logits, atol=1e-6)
    assert adapted.training


@pytest.mark.parametrize("name", FAMILIES)
def test_recomputed_activations_give_the_same_gradients(name):
    gradients = []
    for recompute in (False, True):
        model = tiny_model(name)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if recompute:
            checkpoint_activations(model)
        model.train()
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_layers_of_every_architecture_are_found(name):
    assert len(find_layers(tiny_model(name))) == 2
    assert choose_layer(tiny_model(name), None, 1 / 3) == 1
    with pytest.raises(InputError, match="rmu_layer is 2: give a layer from 1 to 1"):
        choose_layer(tiny_model(name), 2, 1 / 3)


def test_the_published_layer_is_the_eighth_of_32(monkeypatch):
    monkeypatch.setattr(adapters, "find_layers", lambda model: range(32))
    assert (choose_layer(None, None, 1 / 4), choose_layer(None, None, 1 / 3)) == (8, 11)


@pytest.mark.parametrize("name", FAMILIES)
def test_of_a_layer_the_last_matrix_alone_can_be_trained(name):
    for model in (tiny_model(name), add_lora(tiny_model(name), rank=2, alpha=4)):
        adapters.train_layers(model, 1, "down_proj")
        trained = [n for n, p in model.named_parameters() if p.requires_grad]
        assert len(trained) == (2 if adapters.is_adapted(model) else 1), trained
        assert all(".0." in n and n.endswith("weight") and "attn" not in n for n in trained)


def test_a_layer_without_such_a_matrix_is_refused(monkeypatch):
    monkeypatch.setattr(adapters, "find_layers", lambda model: [torch.nn.Linear(2, 2)])
    with pytest.raises(InputError, match="rmu_part is 'down_proj': Linear has no matrix of a known name: give layer"):
        adapters.train_layers(torch.nn.Linear(2, 2), 1, "down_proj")


@pytest.mark.trains
def test_a_run_with_adapters_saves_merged_weights_and_the_adapter(world, tmp_path):
    out = forget(world, tmp_path / "lora", method="npo_kl", lora_rank=4, gradient_checkpointing=True, epochs=8)
    assert (out / "adapter" / "adapter_model.safetensors").exists()
    old, new = tensors(world / "model"), tensors(out)
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert all("proj" in name for name in changed)  # no norm, no embedding
    assert load_model(str(out)) is not None


# Methods from file to folder -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["IDK+AP", "DPO+KL", "ME+GD", "LLMU", "RMU", "UNDIAL", "JensUn", "PMC"])
def test_methods_that_need_more_than_the_answers_run_from_file_to_folder(world, tmp_path, method):
    out = forget(world, tmp_path / "out", method=method, epochs=2, on_collapse="ignore")
    assert weights_of(out) != weights_of(world / "model")
    assert record(out)["config"]["method"] == method
    assert record(out)["peak_memory_bytes"] > 1e6


@pytest.mark.trains
def test_rmu_changes_only_the_layers_up_to_its_own(world, tmp_path):
    out = forget(world, tmp_path / "out", method="rmu", rmu_layer=2, epochs=3, on_collapse="ignore")
    old, new = tensors(world / "model"), tensors(out)
    changed = {name.split(".")[2] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"0", "1"}
    assert record(out)["settings"] == {
        "from": "ours", "there": {"epochs": 5, "batch_size": 16, "learning_rate": 1e-5, "schedule": "linear"},
    }  # fmt: skip


@pytest.mark.trains
def test_rmu_by_its_name_trains_down_projections_and_the_record_says_whose_settings_these_are(world, tmp_path):
    out = tmp_path / "out"
    files = {"model": str(world / "model"), "forget": world / "forget.jsonl", "retain": world / "retain.jsonl"}
    train.unlearn(UnlearnConfig(method="RMU", out=out, max_steps=2, **files), progress=False)
    old, new = tensors(world / "model"), tensors(out)
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"model.layers.0.mlp.down_proj.weight"}  # the first of four layers lies at a quarter
    assert record(out)["settings"]["from"].startswith("centerforaisafety/wmdp f2d346f")
    assert record(out)["settings"]["there"] == {"max_steps": 150}
    assert [record(out)["config"][name] for name in ("retain_weight", "rmu_depth", "reduction")] == [
        1200.0,
        0.25,
        "tokens",
    ]


# Checkpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.trains
@pytest.mark.parametrize("step", [5, 6, 8])  # an epoch has 3 steps, checkpoints are at 4 and 8
def test_a_killed_run_that_goes_on_equals_the_uninterrupted_one(world, tmp_path, monkeypatch, step):
    settings = {"method": "npo_gd", "forget": world / "retain.jsonl", "retain": world / "full.jsonl",
                "save_every": 4, "epochs": 3, "schedule": "linear", "entropy_forget": 0.5,
                "on_collapse": "ignore"}  # fmt: skip
    whole = forget(world, tmp_path / "whole", **settings)
    assert not (tmp_path / "whole-checkpoints").exists()
    with monkeypatch.context() as patch:
        patch.setattr(train, "ShowProgress", lambda title: Killed(step))
        config = {"model": str(world / "model"), "like": "ours", "batch_size": 2, "learning_rate": 1e-3} | settings
        with pytest.raises(Interrupted, match=r"killed-checkpoints/checkpoint-[48] is kept") as stopped:
            train.unlearn(UnlearnConfig(out=tmp_path / "killed", **config), progress=True)
    assert stopped.value.more == "--resume"
    assert not (tmp_path / "killed").exists()
    with pytest.raises(InputError, match=r"killed-checkpoints holds checkpoints of an interrupted run: give resume"):
        forget(world, tmp_path / "killed", **settings)
    with pytest.raises(InputError, match=r"other settings \(learning_rate: there 0\.001, now 0\.0001\)"):
        forget(world, tmp_path / "killed", **settings, resume=True, learning_rate=1e-4)
    resumed = forget(world, tmp_path / "killed", **settings, resume=True)
    assert weights_of(resumed) == weights_of(whole)
    logs = [[{k: v for k, v in x.items() if k[:8] != "train_ru" and "_per_" not in k} for x in record(f)["log"]]
            for f in (resumed, whole)]  # fmt: skip
    assert logs[0] == logs[1]
    assert "train_loss" in logs[0][-1]
    assert not (tmp_path / "killed-checkpoints").exists()


@pytest.mark.trains
@pytest.mark.parametrize("moment", [0, 1, "whole"])
def test_a_run_killed_while_its_checkpoints_go_is_done(world, tmp_path, monkeypatch, moment):
    """The model is in its place before the first of them goes: what is left of them is never started from."""
    settings = {"save_every": 2, "epochs": 1, "on_collapse": "ignore"}

    def killed(folder, **_):
        if str(folder).endswith("-checkpoints"):
            for file in list(folder.rglob("*.safetensors"))[:moment] if moment != "whole" else folder.rglob("*"):
                file.is_file() and file.unlink()
            raise KeyboardInterrupt
        return remove(folder, **_)

    remove = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(world, tmp_path / "out", **settings)
    there = weights_of(tmp_path / "out")
    assert (tmp_path / "out-checkpoints").exists()
    with pytest.raises(RunMismatchError, match=r"resume: .*out holds a run with other settings \(epochs"):
        forget(world, tmp_path / "out", **{**settings, "epochs": 2}, resume=True)
    monkeypatch.setattr(running, "load", None)  # nothing is trained
    assert forget(world, tmp_path / "out", **settings, resume=True) == tmp_path / "out"
    assert weights_of(tmp_path / "out") == there
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


@pytest.mark.trains
def test_a_run_goes_on_only_with_the_rows_and_weights_it_began_with(world, tmp_path, monkeypatch):
    """A finished model is not taken for one that forgot rows which came into the file later; nor a killed one."""
    shutil.copy(world / "forget.jsonl", tmp_path / "forget.jsonl")
    shutil.copy(world / "retain.jsonl", tmp_path / "retain.jsonl")
    shutil.copytree(world / "model", tmp_path / "model")
    idk = tmp_path / "idk.txt"
    idk.write_text("No idea.\n")
    mine = {"forget": tmp_path / "forget.jsonl", "retain": tmp_path / "retain.jsonl", "model": str(tmp_path / "model"),
            "method": "idk_gd", "idk": idk, "epochs": 4, "save_every": 2, "on_collapse": "ignore"}  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(train, "ShowProgress", lambda title: Killed(3))
        with pytest.raises(Interrupted):
            forget(world, tmp_path / "killed", **mine)
    done = forget(world, tmp_path / "done", **mine)
    inputs = record(done)["inputs"]
    assert inputs["start"] == weights_checksum(load_model(str(tmp_path / "model")))

    def refused(name, outs):
        for out in outs:
            with pytest.raises(RunMismatchError, match=rf"inputs\.{name}: there "):
                forget(world, tmp_path / out, **mine, resume=True)

    for name, file in (("forget", mine["forget"]), ("retain", mine["retain"]), ("refusals", idk)):
        was = file.read_text()
        row = json.dumps({"question": "Who else?", "answer": "Nobody."})
        file.write_text(was + ("Ask another.\n" if name == "refusals" else row + "\n"))
        refused(name, ("done", "killed"))
        file.write_text(was)
    other = load_model(str(tmp_path / "model"))
    with torch.no_grad():
        next(other.parameters()).add_(0.01)
    other.save_pretrained(tmp_path / "model")
    refused("start", ["killed"])
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(world / "model", tmp_path / "model")
    assert weights_of(forget(world, tmp_path / "killed", **mine, resume=True)) == weights_of(done)
    older = record(done)
    del older["inputs"]  # a folder of before
    (done / "training.json").write_text(json.dumps(older))
    assert forget(world, tmp_path / "done", **mine, resume=True) == done


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(tmp_path):
    for step, state in ((4, "{}"), (12, "{}"), (16, ""), (100, '{"epoch": 2, "log_his')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-20").mkdir()
    assert newest_checkpoint(tmp_path).name == "checkpoint-12"
    assert newest_checkpoint(None) is None


@pytest.mark.trains
def test_resume_without_a_checkpoint_starts_from_the_beginning(world, tmp_path):
    fresh = forget(world, tmp_path / "a", save_every=50, resume=True, epochs=1)
    assert weights_of(fresh) == weights_of(forget(world, tmp_path / "b", epochs=1))


@pytest.mark.trains
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_run_killed_after_its_last_step_takes_no_other(world, tmp_path, monkeypatch, lora_rank):
    """The last step lies within an epoch, so that the checkpoint says that there are more rows."""
    usual = {"max_steps": 3, "batch_size": 1, "save_every": 1, "schedule": "constant", "lora_rank": lora_rank}
    whole = forget(world, tmp_path / "whole", **usual)
    with monkeypatch.context() as patch:
        patch.setattr(running, "save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forget(world, tmp_path / "part", **usual)
    part = forget(world, tmp_path / "part", **usual, resume=True)
    assert record(part)["steps"] == record(whole)["steps"] == 3
    assert weights_of(part) == weights_of(whole)


# Guards --------------------------------------------------------------------------------------------------------------


def test_the_guard_gives_a_model_that_knows_all_by_heart_some_room():
    guard = CollapseGuard(start=0.001, factor=10, action="stop")
    guard.check(0.9, 1)
    with pytest.raises(TrainingError, match=r"more than 1 \(collapse_factor 10"):
        guard.check(1.1, 2)


def test_a_loss_that_is_not_finite_names_the_batch(world, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is .*in step \d+.*batch: .*forget\.jsonl, line [12]"):
        forget(world, tmp_path / "out", method="ga:none", learning_rate=1e9, epochs=50, max_grad_norm=0.0)


# Requests in turn, and sampled data ----------------------------------------------------------------------------------


@pytest.fixture
def requests(world, tmp_path):
    rows = (world / "full.jsonl").read_text().splitlines()
    for name, part in {"first": rows[:2], "second": rows[2:4], "rest": rows[4:]}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(part) + "\n")
    return {"forget": (tmp_path / "first.jsonl", tmp_path / "second.jsonl"), "retain": tmp_path / "rest.jsonl"}


def test_requests_come_one_after_another_and_later_ones_are_retained_until_then(world, tmp_path, requests, monkeypatch):
    seen = []
    inner = train._unlearn
    monkeypatch.setattr(
        train,
        "_unlearn",
        lambda c, f, r, p: (seen.append((c.model, len(f), [x.question for x in r])), inner(c, f, r, p))[1],
    )
    last = forget(world, tmp_path / "out", **requests, epochs=2)
    assert last == tmp_path / "out" / "02"
    second = [pair.question for pair in read_pairs(requests["forget"][1])]
    assert [(model, count) for model, count, _ in seen] == [(str(world / "model"), 2), (str(tmp_path / "out/01"), 2)]
    assert set(second) <= set(seen[0][2])
    assert not set(second) & set(seen[1][2])
    assert len(seen[0][2]) == 6
    assert len(seen[1][2]) == 4


@pytest.mark.parametrize("method", ["npo_gd", "npo_kl"])
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_the_reference_of_a_request_is_the_model_before_it_the_first_or_another(world, tmp_path, method, lora_rank):
    """By log-probabilities alone, and kept in memory for a term that wants its logits."""
    given = {"method": method, "epochs": 1, "learning_rate": 1e-3, "lora_rank": lora_rank}
    names = {"a": None, "b": "last", "c": "initial", "d": str(world / "model")}
    ends = [weights_of(forget(world, tmp_path / out, reference=name, **given)) for out, name in names.items()]
    assert len(set(ends)) == 1
    moved = forget(world, tmp_path / "moved", method="grad_diff", epochs=1, learning_rate=1e-3)
    there = forget(world, tmp_path / "there", reference=str(moved), **given)
    assert weights_of(there) != ends[0]
    assert set(json.loads((there / "training.json").read_text())["inputs"]) == {
        "forget",
        "retain",
        "start",
        "reference",
    }


def test_of_several_requests_initial_is_the_model_before_the_first(world, tmp_path, requests):
    given = {**requests, "method": "npo_gd", "epochs": 1, "learning_rate": 1e-3}
    last, initial = (forget(world, tmp_path / name, reference=name, **given) for name in ("last", "initial"))
    assert weights_of(last.parent / "01") == weights_of(initial.parent / "01")
    assert weights_of(last) != weights_of(initial)
    other = {**given, "forget": requests["forget"][1], "model": str(last.parent / "01")}
    for name, end in {"last": last, str(world / "model"): initial}.items():
        alone = forget(world, tmp_path / f"{end.parent.name} alone", reference=name, **other)
        assert weights_of(alone) == weights_of(end)


def test_a_reference_that_reads_other_tokens_is_refused(world, tmp_path):
    small = tmp_path / "small"
    tiny_model().save_pretrained(small)
    with pytest.raises(InputError, match=r"reference is '.*small', of \d+ tokens, where .* has \d+: give one"):
        forget(world, tmp_path / "out", reference=str(small), method="npo_gd")


@pytest.mark.trains
def test_requests_go_on_where_they_were_interrupted(world, tmp_path, requests):
    whole = forget(world, tmp_path / "whole", **requests, epochs=2)
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "02")
    config = json.loads((tmp_path / "part/01/training.json").read_text())
    config["config"]["out"] = str(tmp_path / "part/01")
    (tmp_path / "part/01/training.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="give a new folder, or resume"):
        forget(world, tmp_path / "part", **requests, epochs=2)
    with pytest.raises(InputError, match=r"other settings \(epochs: there"):
        forget(world, tmp_path / "part", **requests, epochs=3, resume=True)
    assert weights_of(forget(world, tmp_path / "part", **requests, epochs=2, resume=True)) == weights_of(whole)


@pytest.mark.parametrize("settings", [{"leak_rounds": 1}, {"method": "pmc"}])
def test_what_samples_its_own_data_cannot_be_resumed(settings):
    files = {"model": "m", "forget": "f.jsonl", "retain": "r.jsonl", "out": "o"}
    with pytest.raises(InputError, match="save_every is 4: a run that samples its own training data"):
        UnlearnConfig(**files, save_every=4, **settings)


def test_what_weighs_nothing_needs_no_reference_and_changes_nothing(world, tmp_path, monkeypatch):
    files = {"model": str(world / "model"), "forget": world / "forget.jsonl", "retain": world / "retain.jsonl"}
    settings = {"like": "ours", "epochs": 1, "batch_size": 2, "on_collapse": "ignore", "forget_weight": 0.0}
    monkeypatch.setattr(train, "reference_logps", None)
    npo = unlearn(UnlearnConfig(**files, out=tmp_path / "npo", method="npo_gd", **settings))
    ascent = unlearn(UnlearnConfig(**files, out=tmp_path / "ascent", method="grad_diff", **settings))
    assert weights_of(npo) == weights_of(ascent) != weights_of(world / "model")


def test_leak_rounds_share_the_steps_weigh_what_they_find_and_are_named(world, tmp_path, monkeypatch, capsys):
    asked, rows = [], read_pairs(world / "forget.jsonl")
    said = [Pair(rows[0].question, text, "drawn", leak=True) for text in (rows[0].answer, "qu")]
    monkeypatch.setattr(
        train, "find_leaks", lambda m, t, pairs, c, **_: asked.append(list(pairs)) or said[: 2 - len(asked)]
    )
    trained = []
    usual = train.PairedData
    monkeypatch.setattr(
        train, "PairedData", lambda *given, **named: trained.append(usual(*given, **named)) or trained[-1]
    )
    files = {"model": str(world / "model"), "forget": world / "forget.jsonl", "retain": world / "retain.jsonl"}
    config = UnlearnConfig(**files, out=tmp_path / "out", leak_rounds=2, max_steps=7, batch_size=2)
    unlearn(config)
    assert record(tmp_path / "out")["steps"] == 6  # all of them: what was lost is mended where no leak is found
    assert "npo_gd out, leak round 1 of 2" in capsys.readouterr().err
    assert [len(pairs) for pairs in asked] == [2, 3]
    assert [len(data) for data in trained] == [2, 3, 3]
    partners = [[tuple(data.partners) for epoch in range(9) if data.set_epoch(epoch) is None] for data in trained]
    assert [len(some[0]) for some in partners] == [2, 3, 3]
    assert partners[1] != partners[2]  # no round goes through what is retained as another one did
    (((example, weight),),) = trained[1].leaks
    assert example.answer == trained[1].forget[0].answer
    assert weight == 1.0
    assert example.ref_logp == pytest.approx(trained[1].forget[0].ref_logp, abs=1e-4)  # that of the beginning
    asked.clear()
    unlearn(dataclasses.replace(config, out=tmp_path / "short", max_steps=None, epochs=1))
    assert [len(pairs) for pairs in asked] == [2, 3]
    assert record(tmp_path / "short")["steps"] == 2  # an epoch each, and none that nothing asks for
    with pytest.raises(InputError, match="max_steps is 2 and leak_rounds is 2"):
        UnlearnConfig(**files, out=tmp_path / "other", leak_rounds=2, max_steps=2)
