from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_models import word_tokenizer

from leakbound.errors import InputError, PromptsError
from leakbound.models.template import encode_prompt
from leakbound.reading.pairs import Pair
from leakbound.unlearning.data import (
    IGNORED,
    Example,
    PairCollator,
    PairedData,
    collate,
    encode,
    with_refusals,
)
from leakbound.unlearning.scratch import train_tokenizer


def examples(count, start=0):
    return [Example((start + i,), (start + i,)) for i in range(count)]


@pytest.mark.parametrize("template", ["raw", "qa", "Q: {text} A:"])
def test_training_sees_the_tokens_that_the_audit_asks_with_and_scores_the_answer_only(template):
    tokenizer = train_tokenizer(["Who wrote it? Ada wrote it in 1843. Question: Answer: Q: A:"], 400)
    example = encode(tokenizer, Pair("Who wrote it?", "Ada wrote it.", "here"), template, 64)
    prompt = encode_prompt(tokenizer, "Who wrote it?", template)
    assert list(example.input_ids[: len(prompt)]) == prompt
    assert set(example.labels[: len(prompt)]) == {IGNORED}
    answer = example.labels[len(prompt) :]
    assert answer == example.input_ids[len(prompt) :]
    assert answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(answer[:-1]) == " Ada wrote it."


def test_a_row_that_is_too_long_is_an_error_and_not_cut():
    pair = Pair("a b c", "d a", "pairs.jsonl line 4")
    encode(word_tokenizer(), pair, "raw", 6)
    with pytest.raises(PromptsError, match=r"pairs\.jsonl line 4: .* have 6 tokens, more than max_length 5"):
        encode(word_tokenizer(), pair, "raw", 5)


def test_padding_is_on_the_right_and_has_no_label():
    batch = collate([Example((5, 6, 7), (IGNORED, 6, 7)), Example((8,), (8,))], pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [8, IGNORED, IGNORED]]
    assert "ref_logps" not in batch


def test_reference_log_probabilities_travel_with_the_examples():
    batch = collate([Example((1,), (1,), ref_logp=-2.5), Example((2,), (2,), ref_logp=-1.0)], pad_id=0)
    assert batch["ref_logps"].tolist() == [-2.5, -1.0]
    assert batch["ref_logps"].dtype == torch.float32


def test_the_halves_are_padded_apart():
    items = [{"forget": Example((1, 2), (1, 2)), "retain": Example((3,), (3,))}]
    batch = PairCollator(0)(items)
    assert batch["forget"]["answer"]["input_ids"].shape == (1, 2)
    assert batch["retain"]["answer"]["input_ids"].shape == (1, 1)
    assert set(PairCollator(0)([{"retain": items[0]["retain"]}])) == {"retain"}


def test_partners_are_drawn_anew_each_epoch_from_the_seed():
    def partners(seed, epoch):
        data = PairedData(examples(8), examples(40, start=100), seed=seed)
        data.set_epoch(epoch)
        assert [data[i]["forget"].input_ids[0] for i in range(len(data))] == list(range(8))
        return tuple(data[i]["retain"].input_ids[0] for i in range(len(data)))

    assert partners(0, 1) == partners(0, 1)
    assert len({partners(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert len(set(partners(0, 0))) == 8  # no partner twice before all were used


@pytest.mark.parametrize(("forget", "retain"), [(8, 40), (7, 40), (10, 3), (5, 5)])
def test_over_all_epochs_what_is_retained_is_used_evenly(forget, retain):
    data = PairedData(examples(forget), examples(retain, start=100), seed=3)
    used = Counter(dict.fromkeys(range(retain), 0))
    for epoch in range(13):
        data.set_epoch(epoch)
        used.update(data.partners)
        assert max(used.values()) - min(used.values()) <= 1
    assert sum(used.values()) == 13 * forget


def test_a_small_retain_set_is_used_evenly():
    data = PairedData(examples(10), examples(3, start=100), seed=0)
    used = [data[i]["retain"].input_ids[0] for i in range(10)]
    assert sorted(used.count(100 + i) for i in range(3)) == [3, 3, 4]


def question(tokens, answer):
    return Example((*tokens, *answer), ((IGNORED,) * len(tokens)) + tuple(answer), source="here")


def test_an_example_knows_its_question_and_takes_another_answer():
    example = question((2, 3), (4, 1))
    assert (example.prompt, example.answer) == ((2, 3), (4, 1))
    other = example.answered((5, 5, 1))
    assert other.input_ids == (2, 3, 5, 5, 1)
    assert other.labels == (IGNORED, IGNORED, 5, 5, 1)
    assert other.source == "here"


def test_the_mismatch_is_the_answer_of_the_partner():
    data = PairedData([question((2,), (4, 1))], [question((3,), (5, 1)), question((3, 3), (2, 1))], seed=0)
    seen = set()
    for epoch in range(8):
        data.set_epoch(epoch)
        item = data[0]
        assert item["forget"].mismatch.input_ids == (2, *item["retain"].answer)
        seen.add(item["forget"].mismatch.input_ids)
    assert seen == {(2, 5, 1), (2, 2, 1)}


def test_only_the_answers_that_are_wanted_are_collated():
    example = question((2,), (4, 1))
    item = {"forget": replace(example, refusal=example.answered((5, 5, 1)))}
    assert set(PairCollator(0, ["refusal", "mismatch"])([item])["forget"]) == {"answer", "refusal"}
    assert set(PairCollator(0, [])([item])["forget"]) == {"answer"}


def test_refusals_are_drawn_from_the_seed_and_kept():
    tokenizer = word_tokenizer()
    examples, pairs = [question((2,), (4, 1))] * 20, [Pair("a", "c", "here")] * 20
    first = with_refusals(examples, pairs, ["a b", "c"], tokenizer, "raw", seed=0)
    assert first == with_refusals(examples, pairs, ["a b", "c"], tokenizer, "raw", seed=0)
    assert {e.refusal.answer for e in first} == {(2, 3, 1), (4, 1)}
    assert first != with_refusals(examples, pairs, ["a b", "c"], tokenizer, "raw", seed=1)


def test_one_half_alone():
    assert set(PairedData(examples(2), (), seed=0)[0]) == {"forget"}
    learning = PairedData((), examples(5), seed=0)
    assert set(learning[0]) == {"retain"}
    assert {learning[i]["retain"].input_ids[0] for i in range(5)} == set(range(5))
    with pytest.raises(InputError, match="both empty"):
        PairedData((), (), seed=0)


def test_the_leaks_of_a_question_share_one_row_of_an_epoch_in_proportion_to_their_weights():
    first, second, third = examples(3, start=50)
    data = PairedData(
        examples(4), examples(9, start=100), seed=0, leaks=[[(first, 3.0), (second, 1.0)], [(third, 1e-9)]]
    )
    drawn = []
    for epoch in range(400):
        data.set_epoch(epoch)
        assert len(data) == 6
        assert [data[i]["forget"].input_ids for i in range(4)] == [e.input_ids for e in data.forget]
        assert data[5]["forget"].input_ids == third.input_ids
        drawn.append(data[4]["forget"].input_ids == first.input_ids)
    assert 250 < sum(drawn) < 350  # binomial(400, 3/4): 5.8 standard deviations to either side
    data.set_epoch(0)
    assert (data[4]["forget"].input_ids == first.input_ids) == drawn[0]
