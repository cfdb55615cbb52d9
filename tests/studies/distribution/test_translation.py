"""Encoder-decoder models: likelihoods, the whole study on a made-up language, exposure of models that are retrained."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from leakbound.errors import InputError, ModelError
from leakbound.metrics.exposure import generalized_exposure
from leakbound.studies.distribution.config import DistributionConfig
from leakbound.studies.distribution.corpora import Item, translation_corpora
from leakbound.studies.distribution.learners import Learning, bleu, chrf, likelihoods
from leakbound.studies.distribution.steps import Plan, study
from leakbound.studies.distribution.tables import tables
from leakbound.studies.distribution.translation import (
    TranslationLearner,
    TranslationSpeaker,
    check_objective,
    encode,
    load_t5,
    new_t5,
)
from leakbound.unlearning.objectives import find_objective
from leakbound.unlearning.scratch import train_tokenizer

HOW = Learning(
    model=None, size="nano", template="raw", epochs=16, batch_size=8, learning_rate=5e-3, max_tokens=24
)  # fmt: skip
SETTINGS = {
    "task": "translation", "size": "nano", "kinds": ("random",), "seeds": 4, "corpus_size": 44, "forget_size": 3,
    "heldout": 3, "validation": 3, "epochs": 2, "batch_size": 16, "unlearn_steps": 4, "every": 2,
    "unlearn_learning_rate": 3e-3, "unlearn_batch_size": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the small dog sees a house", "rima nogule"], 300)


@torch.no_grad()
def test_likelihoods_are_those_of_the_chain_rule(tokenizer):
    """Batched and padded, against a product over prefixes, one pass for each, in float64."""
    torch.manual_seed(0)
    model = new_t5("nano", tokenizer).eval()
    pairs = [("the small dog", "rima"), ("a house sees the small dog", "nogule rima nogule")]
    found = TranslationSpeaker(model, tokenizer, 8).likelihoods([q for q, _ in pairs], [[a] for _, a in pairs])
    model = model.double()
    for (source, target), row in zip(pairs, found, strict=True):
        ids = torch.tensor([tokenizer(source)["input_ids"]])
        tokens = [*tokenizer(target)["input_ids"], tokenizer.eos_token_id]
        prefix, total = [tokenizer.pad_token_id], 0.0
        for token in tokens:
            logits = model(input_ids=ids, decoder_input_ids=torch.tensor([prefix])).logits[0, -1]
            total += torch.log_softmax(logits, -1)[token].item()
            prefix.append(token)
        assert row[0].logp == pytest.approx(total, abs=1e-3)
        assert row[0].tokens == len(tokens)


def test_labels_end_once(tokenizer):
    batch = encode(tokenizer, [("a", "rima nogule"), ("a", "rima")], "cpu")
    assert (batch["labels"] == tokenizer.eos_token_id).sum(1).tolist() == [1, 1]
    assert batch["labels"][1, -1] == -100


def test_g8_weights_that_are_not_there_are_never_random(tokenizer, tmp_path):
    torch.manual_seed(0)
    new_t5("nano", tokenizer).save_pretrained(tmp_path)
    before = load_t5(str(tmp_path)).state_dict()
    weights = load_file(tmp_path / "model.safetensors")
    for name, tensor in weights.items():
        assert torch.equal(before[name], tensor)
    gone = "decoder.final_layer_norm.weight"
    save_file({k: v for k, v in weights.items() if k != gone}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"missing, 1: {gone}"):
        load_t5(str(tmp_path))


def test_bleu_and_chrf():
    texts = ["rima nogule tasa bero", "pito kala mune sedo"]
    assert bleu(texts, texts) == pytest.approx(100)
    assert chrf(texts, texts) == pytest.approx(100)
    assert bleu(["x y z w"], ["rima nogule tasa bero"]) < 1


def test_objectives_that_need_more_are_refused():
    check_objective(find_objective("npo_gd"), "npo_gd")
    for method in ("rmu", "grad_ascent_kl", "idk_gd"):
        with pytest.raises(InputError, match="for translation give"):
            check_objective(find_objective(method), method)


@pytest.mark.slow
@pytest.mark.trains
def test_the_whole_study(tmp_path):
    """Every training once; a second run finds everything, another method finds the models."""
    config = DistributionConfig(out=tmp_path, **SETTINGS)
    found = study(config)
    assert found.made == 1 + 4 * (1 + 2 + 2 + 2)  # tokenizer; retrained, originals, measurements, courses
    assert study(config).made == 0
    assert found.measures[2:] == ("bleu", "chrf")
    for kind in found.kinds:
        exposure = np.array(kind.curves["exposure"].values)
        assert (exposure[:, -1] < exposure[:, 0] - 10).all()  # bits, of four models: from 10 or 20 to -50
    assert "BLEU" in tables(found)[0].head
    plan = Plan(DistributionConfig(out=tmp_path, **{**SETTINGS, "method": "npo_gd"}))
    plan.unlearned(0, "random")
    assert len(plan.artefacts.made) == 1


@pytest.mark.slow
@pytest.mark.trains
def test_exposure_of_retrained_models_is_zero_within_its_interval_and_of_originals_positive(tmp_path):
    """Three models that saw two canaries, three and three that did not, of other seeds each.

    The interval is Welch's at alpha 1e-4; that it misses 0 for retrained models has probability 1e-4 at most where
    their mean log-likelihoods are normal, and the seeds are fixed: this run has been seen to pass.
    """
    base = translation_corpora(14, (), _sizes(), seed=0).base
    canaries = (Item("c1", "xq7 b0v k3z", "p9d wq2 l8m"), Item("c2", "j4n yy1 h6t", "e5c uo0 r7s"))
    learner = TranslationLearner(HOW)
    learner.make_tokenizer(base, tmp_path / "tokenizer")
    logps = []
    for seed in range(9):
        items = base + (canaries if seed < 3 else ())
        folder = tmp_path / f"model-{seed}"
        learner.train(items, (), seed=seed, tokenizer=tmp_path / "tokenizer", folder=folder)
        logps.append([said.logp for said in likelihoods(learner.load(folder), canaries)])
    originals, first, second = np.array(logps).reshape(3, 3, 2)
    same = generalized_exposure(first, second, alpha=1e-4, mean="log")
    assert same.lower <= 0 <= same.upper
    seen = generalized_exposure(originals, np.concatenate([first, second]), alpha=0.01, mean="log")
    assert seen.lower > 0
    assert seen.estimate > 20 / math.log(2)  # 108 bits: a model that never saw them gives them e^-77, one that did e^-4


def _sizes():
    from leakbound.studies.distribution.corpora import Sizes

    return Sizes(pool=2, heldout=1, validation=1)
