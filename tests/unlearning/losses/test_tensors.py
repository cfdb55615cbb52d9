"""What all losses share, by hand, against a slow restatement in float64, and against transformers."""

import math

import pytest
import torch
from slow_losses import LABELS, random_logits, slow_logps

from leakbound.unlearning import losses
from leakbound.unlearning.data import IGNORED


def test_sequence_logps_by_hand():
    # two tokens; the logits ln 3, ln 1 give the label 0 probability 3/4 and the label 1 probability 1/4
    logits = torch.log(torch.tensor([[[3.0, 1.0], [3.0, 1.0], [1.0, 1.0]]]))
    assert losses.sequence_logps(logits, torch.tensor([[1, 0, 1]])).tolist() == pytest.approx([math.log(3 / 4 * 1 / 4)])
    assert losses.sequence_logps(logits, torch.tensor([[1, IGNORED, 1]])).tolist() == pytest.approx([math.log(1 / 4)])


def test_sequence_logps_equals_the_slow_restatement():
    logits = random_logits()
    assert losses.sequence_logps(logits, LABELS).tolist() == pytest.approx(slow_logps(logits, LABELS), abs=1e-12)


def test_sequence_logps_agree_with_transformers_loss():
    from tiny_models import tiny_model

    model = tiny_model("llama")
    ids = torch.tensor([[2, 3, 4, 5]])
    labels = torch.tensor([[IGNORED, 3, 4, 5]])
    outputs = model(input_ids=ids, labels=labels)
    value = losses.nll(losses.sequence_logps(outputs.logits, labels), losses.answer_lengths(labels))
    assert value.item() == pytest.approx(outputs.loss.item(), abs=1e-6)


def test_lengths_count_what_is_scored():
    assert losses.answer_lengths(LABELS).tolist() == [3, 1, 5]
