"""Several answers to a question, read in one pass: the numbers and gradients of plain rows."""

import copy

import pytest
import torch
from tiny_models import FAMILIES, tiny_model

from leakbound.unlearning import heads, losses
from leakbound.unlearning.data import IGNORED, Example, collate, in_pieces
from leakbound.unlearning.groups import Group, Groups
from leakbound.unlearning.losses import blocks
from leakbound.unlearning.losses.blocks import Laws

GROUPS = {
    "first": Group((2, 3), ((4,), (2, 4), (2, 3, 1), (2, 3, 3, 5), (5, 5, 5, 5, 1))),
    "second": Group((5, 4, 2, 3, 2), ((4, 1), (3, 3, 4), (3, 5, 4))),
}


def plain(model, group):
    """log p of each answer by a pass of its own."""
    logps = []
    for tail in group.tails:
        logits = model(input_ids=torch.tensor([[*group.head, *tail[:-1]]])).logits[0, len(group.head) - 1 :]
        logps.append(logits.float().log_softmax(-1)[range(len(tail)), tail].sum())
    return torch.stack(logps)


@pytest.mark.parametrize(("family", "trees"), [(f, False) for f in FAMILIES] + [
    (f, True) for f in FAMILIES if f not in ("gemma3", "mistral")
])  # fmt: skip
def test_one_pass_gives_the_mass_and_gradient_of_plain_rows(monkeypatch, family, trees):
    model = tiny_model(family, scale=1.0)
    other = copy.deepcopy(model)
    groups = Groups(0, trees=trees, groups=GROUPS)
    for whole in (False, True) if family == "llama" else (False,):
        if whole:  # the model's own logits
            monkeypatch.setattr(heads, "find_head", lambda model: None)
        model.zero_grad()
        other.zero_grad()
        read = groups.read(model, ["second", "first"])
        mass_B = losses.leak_mass(read.logps, read.token_logps, read.leaving_logps)
        mass_B.sum().backward()
        exact = [plain(other, GROUPS[name]) for name in ("second", "first")]
        slow = [-torch.log(1 - logps.double().exp().sum()) for logps in exact]
        sum(slow).backward()
        assert read.logps[1].tolist() == pytest.approx(exact[1].tolist(), abs=1e-5)
        assert read.logps[0, 3:].tolist() == [-torch.inf] * 2
        assert mass_B.tolist() == pytest.approx([float(x.detach()) for x in slow], abs=1e-6)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            if q.grad is not None:
                assert torch.allclose(p.grad, q.grad, atol=1e-5)
    assert any(float(p.grad.abs().max()) > 1e-2 for p in model.parameters() if p.grad is not None)


def test_what_a_model_says_with_all_but_nothing_of_its_probability_still_has_a_slope():
    """A name over and over, p = 1 - 1e-12: log p is 0 in float32, and so is its slope."""
    model = tiny_model("llama", scale=1.0).float()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(250)
    said = [2, 3]
    for _ in range(3):
        said.append(int(model(input_ids=torch.tensor([said])).logits[0, -1].argmax()))
    exact = copy.deepcopy(model).double()
    group = Group((2, 3), (tuple(said[2:]), (*said[2:4], (said[4] + 1) % 6)))
    read = Groups(0, groups={"one": group}).read(model, ["one"])
    loss = losses.leak_mass(read.logps, read.token_logps, read.leaving_logps).sum()
    slow = -torch.log(1 - sum(
        exact(input_ids=torch.tensor([[2, 3, *tail[:-1]]])).logits[0, 1:].log_softmax(-1)[range(3), tail].sum().exp()
        for tail in group.tails
    ))  # fmt: skip
    loss.backward()
    slow.backward()
    assert slow.item() > 15
    assert read.logps.exp().sum().item() == 1
    assert loss.item() == pytest.approx(slow.item(), rel=1e-4)
    for p, q in zip(model.parameters(), exact.parameters(), strict=True):
        assert torch.allclose(p.grad.double(), q.grad, rtol=1e-3, atol=1e-3 * float(q.grad.abs().max()))


def test_tokens_that_are_not_there_are_marked():
    read = Groups(0, groups=GROUPS).read(tiny_model(), ["first", "second"])
    assert read.token_logps.shape == (2, 5, 5)
    assert read.spoken.sum(2).tolist() == [[1, 2, 3, 4, 5], [2, 3, 3, 0, 0]]
    assert (read.token_logps[~read.spoken] == 0).all()


@pytest.mark.parametrize("trees", [True, False])
def test_groups_are_read_without_the_logits_of_all_their_tokens(trees, monkeypatch):
    """Of SmolLM2, 8 questions with 16 answers of 48 tokens would make 1.2 GB of them."""
    expected = Groups(0, trees=trees, groups=GROUPS).read(tiny_model(), ["first", "second"]).logps
    monkeypatch.setattr(Laws, "logits", None)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 2)
    found = Groups(0, trees=trees, groups=GROUPS).read(tiny_model(), ["first", "second"])
    torch.testing.assert_close(found.logps, expected, rtol=1e-5, atol=1e-6)
    assert torch.isfinite(found.parting.logps(found.spoken, [True, True])).sum() == 8 + 5  # each beginning once
    assert not torch.isfinite(found.leaving_logps).any()  # neither weighs half


def test_a_batch_is_cut_by_what_is_read_of_its_groups():
    rows = {"answer": collate([Example((2, 3, 4), (IGNORED, 3, 4), question=str(i)) for i in range(4)], 0)}
    for sizes, cut in ((None, [4]), ([7, 7, 7, 7], [1] * 4), ([2, 2, 2, 2], [2, 2])):
        assert [len(piece["answer"]["questions"]) for piece in in_pieces(rows, 12, trim=True, sizes=sizes)] == cut
    assert Group((1, 2), ((3,), (4, 5))).size == 5
