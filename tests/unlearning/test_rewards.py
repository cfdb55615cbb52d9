"""Groups of drawn answers and what each is worth."""

import numpy as np
import pytest
import torch
from enumerated import enumerate_law
from small_training import RETAIN, train
from small_world import SEEDS
from tiny_models import tiny_model, word_tokenizer

from leakbound.reading.pairs import Pair
from leakbound.records import SamplingParams
from leakbound.unlearning import UnlearnConfig
from leakbound.unlearning.adapters import reference_of
from leakbound.unlearning.data import example_of
from leakbound.unlearning.groups import Groups
from leakbound.unlearning.leaks import by_question
from leakbound.unlearning.rewards import GradeAnswers, advantages

PAIRS = [Pair("a b", "b c", "line 1", ("c",)), Pair("d c a", "d d", "line 2", ("d b", "b b"))]


def grader(seed=0, scale=2.0, pairs=PAIRS, **settings):
    config = UnlearnConfig(
        model="m", forget="f.jsonl", out="o", method="grpo", template="raw", max_tokens=3, seed=seed, **settings
    )
    model = tiny_model(seed=seed, scale=scale)
    asked = by_question(pairs)
    return GradeAnswers(model, word_tokenizer(), asked, config, Groups(0), reference=reference_of(model))


def test_advantages_are_those_of_all_draws():
    exact = np.array([1, 1, 1, 0.0])
    assert advantages([1.0, 0.0], [3, 1]) == pytest.approx((np.array([1, 0]) - 0.75) / (exact.std(ddof=1) + 1e-4))
    assert advantages([0.5, 0.5], [7, 2]).tolist() == [0, 0]
    assert advantages([1.0], [1]).tolist() == [0]


def test_a_group_holds_the_draws_their_shares_and_what_was_said_of_their_tokens():
    grade = grader(grpo_samples=24)
    with torch.no_grad():
        for p in grade.model.parameters():
            p.add_(0.01)  # the reference is another model now
    grade.again()
    for group, prompt in zip(grade.groups.groups.values(), grade.prompts, strict=True):
        graded = group.graded
        assert graded.shares.sum() == pytest.approx(1)
        assert set(graded.shares * 24) <= set(range(1, 25))
        assert float(graded.shares @ graded.advantages) == pytest.approx(0, abs=1e-9)
        texts = grade.tokenizer.batch_decode(group.tails, skip_special_tokens=True)
        leaks = [any(s in text for s in (prompt.target, *prompt.aliases)) for text in texts]
        assert [a < 0 for a in graded.advantages] == (leaks if len(set(leaks)) > 1 else [False] * len(leaks))
    read = grade.groups.read(grade.model, ["a b", "d c a"])
    assert torch.allclose(read.token_logps, read.drawn_logps, atol=1e-5)  # nothing was trained yet
    assert float((read.first_logps - read.drawn_logps).abs().max()) > 1e-3
    assert read.shares.sum(1).tolist() == pytest.approx([1, 1])


@pytest.mark.trains
def test_training_lowers_the_exact_probability_of_a_leak(tmp_path):
    """Of both questions below half of what it was; measured: from .10 and more to .011 at most."""
    asked = ((2, 3), 4), ((5, 4, 2), 3)
    pairs = [Pair("a b", "b c", "line 1", ("c",)), Pair("d c a", "d b", "line 2", ("b",))]
    for seed in SEEDS:
        grade = grader(seed, 1.0, pairs, grpo_samples=32, leak_every=4)
        before, after = [], []
        for rates in (before, after):
            for ids, secret in asked:
                law = enumerate_law(grade.model, ids, SamplingParams(max_tokens=3))
                rates.append(sum(p for tokens, p in law.items() if secret in tokens))
            if rates is before:
                forget = [example_of(ids, (1,), pair) for (ids, _), pair in zip(asked, pairs, strict=True)]
                train(
                    grade.model, tmp_path, objective="grpo_gd", forget=forget, retain=RETAIN[:2], groups=grade.groups,
                    callbacks=[grade], num_train_epochs=48, learning_rate=5e-3, seed=seed,
                )  # fmt: skip
        assert all(now < 0.5 * then for now, then in zip(after, before, strict=True))
