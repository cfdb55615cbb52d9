"""One pass for all rows of a half: what a term gets is what a pass of its own would have given."""

from dataclasses import replace

import pytest
import torch
from tiny_models import FAMILIES, tiny_model

from leakbound.unlearning import losses
from leakbound.unlearning.adapters import reference_of
from leakbound.unlearning.data import IGNORED, Example, PairCollator
from leakbound.unlearning.losses.blocks import Laws
from leakbound.unlearning.passes import Half, Passes

ROWS = [
    Example((2, 3, 4, 5, 1), (IGNORED, IGNORED, IGNORED, 5, 1)),
    Example((3, 2, 5, 5, 2, 4, 1), (IGNORED, IGNORED, 5, 5, 2, 4, 1)),
]


def batch():
    answered = [Example(e.input_ids, e.labels, refusal=e.answered((3, 1))) for e in ROWS]
    return PairCollator(0, ["refusal"])([{"forget": e} for e in answered])["forget"]


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_and_refusals_of_one_pass_equal_passes_of_their_own(name):
    model = tiny_model(name)
    with torch.no_grad():
        half = Passes().run(model, batch(), ["logps", "refusal.logps"])
        for got, rows in ((half, ROWS), (half.refusal, [e.answered((3, 1)) for e in ROWS])):
            for i, example in enumerate(rows):
                alone = model(input_ids=torch.tensor([example.input_ids])).logits
                exact = losses.sequence_logps(alone, torch.tensor([example.labels]))
                assert got.logps[i].item() == pytest.approx(exact.item(), abs=1e-4)
                assert got.lengths[i] == len(example.answer)


@pytest.mark.parametrize("name", FAMILIES)
def test_positions_before_the_answers_are_left_out_where_nothing_looks_at_them(name):
    model = tiny_model(name)
    passes = Passes(reference=reference_of(model))
    with torch.no_grad():
        short, whole = passes.run(model, batch(), ["logps"]), passes.run(model, batch(), ["logps"], whole=True)
        assert short.logits.shape == (2, 6, 6)  # the second row's answer begins at 2, and 1 predicts it
        assert whole.logits.shape == (2, 7, 6)
        assert torch.allclose(short.logps, whole.logps, atol=1e-5)
        assert torch.equal(short.lengths, whole.lengths)
        pair = [losses.entropy(half.logits, half.answer_mask) for half in (short, whole)]
        assert torch.allclose(*pair, atol=1e-5)
        referred = passes.run(model, batch(), ["logits", "ref_logits", "labels"])
        assert torch.allclose(referred.logits, referred.ref_logits, atol=1e-5)
        assert referred.logits.shape == short.logits.shape


@pytest.mark.parametrize(("needs", "length"), [("text_mask", 7), ("me_mask", 7), ("labels", 6)])
def test_terms_that_look_at_questions_get_them(needs, length):
    half = Passes().run(tiny_model(), batch(), ["logits", needs])
    assert half.logits.shape[1] == half.take([needs])[0].shape[1] == length


def test_positions_that_count_are_those_of_the_run():
    rows = [Example((2, 3, 4, 5, 1), (IGNORED, IGNORED, 4, 5, 1)), Example((3, 2, 1), (IGNORED, IGNORED, 1))]
    padded = PairCollator(0, (), {"forget": 8})([{"forget": row} for row in rows])["forget"]
    passes = Passes(me_positions="all", kl_positions="all", skip=1)
    half = passes.run(tiny_model(), padded, ["logits", "me_mask", "kl_mask", "later_labels"])
    assert half.counts("kl_mask").tolist() == [8, 8]
    assert half.counts("me_mask").tolist() == [7, 7]  # the last position predicts nothing
    assert half.counts("text_mask").tolist() == [5, 3]
    assert half.counts("lengths").tolist() == [3, 1]
    assert half.later_labels.tolist() == [[IGNORED] * 3 + [5, 1] + [IGNORED] * 3, [IGNORED] * 8]
    assert half.counts("later_lengths").tolist() == [2, 0]


def test_entropy_can_spare_what_the_model_says():
    """Laws given by hand: the first row's likeliest tokens are two of its three, the second's one of three."""
    labels = torch.tensor([[IGNORED, 2, 3, 1], [IGNORED, 2, 3, 1]])
    says = torch.tensor([[2, 3, 0, 4], [0, 3, 0, 4]])
    logits = torch.nn.functional.one_hot(says, 5).float().requires_grad_()
    half = Half(Laws(logits), labels, torch.ones_like(labels))
    assert half.unsaid_mask.tolist() == [[False, False, True, False], [True, False, True, False]]
    assert half.clean_mask.tolist() == [[False] * 4, [True, True, True, False]]
    states, weight = torch.eye(5)[says], torch.eye(5)
    assert torch.equal(replace(half, laws=Laws(states, weight)).unsaid_mask, half.unsaid_mask)


def test_max_entropy_over_answers_leaves_the_questions_out():
    half = Passes(me_positions="answer").run(tiny_model(), batch(), ["logits", "me_mask"])
    assert half.me_mask.shape == half.logits.shape[:2] == (2, 6)


def test_hidden_states_are_those_of_the_layer():
    model = tiny_model()
    direction = torch.ones(16)
    half = Passes(1, direction, reference=reference_of(model)).run(
        model, batch(), ["hidden", "ref_hidden", "direction", "text_mask"]
    )
    exact = model(**{k: batch()["answer"][k] for k in ("input_ids", "attention_mask")}, output_hidden_states=True)
    assert torch.equal(half.hidden, exact.hidden_states[1])
    assert torch.equal(half.hidden, half.ref_hidden)
    assert half.direction is direction
