"""What the model says becomes training data that are written as the files are."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from tiny_models import tiny_model, word_tokenizer

from leakbound.models.hf import HFModel
from leakbound.models.template import encode_pair, read_answer
from leakbound.records import Draw, SamplingParams, Shard
from leakbound.unlearning import UnlearnConfig, sampling
from leakbound.unlearning.data import Pair, encode
from leakbound.unlearning.scratch import train_tokenizer

SAID = "The box is red."
PAIR = Pair("Which colour is the box?", SAID, "forget.jsonl line 1", ("red",))
TOKENIZER = train_tokenizer([f" {PAIR.question} {SAID}  twice"], 300)


@pytest.fixture
def says(monkeypatch):
    """Stands for the model: each question is answered with these completions, once each, as the model writes them."""

    def answers(*texts):
        draws = [draw(text, i) for i, text in enumerate(texts)]
        model = SimpleNamespace(sample=lambda shard, params: draws)
        monkeypatch.setattr(sampling, "HFModel", lambda *given, **named: model)
        return SimpleNamespace(training=True, train=lambda training: None)

    return answers


def config(**settings):
    return UnlearnConfig(model="m", forget="f.jsonl", retain="r.jsonl", out="o", **settings)


@pytest.mark.parametrize("bf16", [True, False])
def test_answers_are_drawn_in_the_type_that_is_trained_in(tmp_path, bf16):
    """As by the model saved in bfloat16, batches and all; the weights that are trained come back as they were."""
    model, words = tiny_model(scale=2.0), word_tokenizer()
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    model._original_forward = model.forward  # as accelerate leaves a model that it trains
    model.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(model.forward))
    pairs, before = [Pair("a b", "c", "1"), Pair("c d a", "b", "2")], [p.data for p in model.parameters()]
    mine = config(bf16=bf16, template="raw", max_tokens=4, method="npo_gd")
    drawn = sampling.draw_answers(model, words, pairs, mine, count=200, round=0)
    assert all(
        p.data is was or p.data_ptr() == was.data_ptr() for p, was in zip(model.parameters(), before, strict=True)
    )
    assert all(p.dtype == torch.float32 for p in model.parameters())
    saved = HFModel.load(str(tmp_path), dtype="bfloat16" if bf16 else "float32", template="raw")
    shard = Shard(tuple(p.prompt(str(i)) for i, p in enumerate(pairs)), 0, 200, mine.seed)
    told = {(d.prompt_id, d.first): d.count for d in saved.sample(shard, SamplingParams(max_tokens=4))}
    assert {(d.prompt_id, d.first): d.count for some in drawn for d in some} == told


@pytest.mark.parametrize(
    ("template", "completion", "answer"),
    [
        ("raw", " The box.", "The box."), ("raw", "  The box.", " The box."), ("raw", "The box.", "The box."),
        ("raw", "\nThe box.", "\nThe box."), ("muse", " The box.", " The box."), ("llama2", " The box.", " The box."),
    ],
)  # fmt: skip
def test_one_blank_goes_where_the_template_puts_one(template, completion, answer):
    assert read_answer(TOKENIZER, completion, template) == answer
    _, tokens = encode_pair(TOKENIZER, "Who?", answer, template)
    assert read_answer(TOKENIZER, TOKENIZER.decode(tokens[:-1]), template) == answer


def draw(text, first, finish="stop"):
    return Draw("0", text, 1, first, finish, 5, None, (first,))


@pytest.fixture
def collapse(monkeypatch):
    """Partial collapse of a model that answers its one question with these texts, a list for each time it is asked."""

    def make(*rounds, pair=PAIR, **settings):
        asked, left = [], iter(rounds)

        def sample(shard, params):
            asked.append((shard, params))
            return [one if isinstance(one, Draw) else draw(one, i) for i, one in enumerate(next(left))]

        monkeypatch.setattr(sampling, "HFModel", lambda *given, **named: SimpleNamespace(sample=sample))
        model = SimpleNamespace(training=True, train=lambda training: None)
        anew = sampling.AnswerAnew(model, TOKENIZER, [pair], config(method="pmc", template="raw", **settings))
        return anew, asked

    return make


def trained_on(anew, step):
    return TOKENIZER.decode(anew([PAIR.question], step)[PAIR.question].answer[:-1]).strip()


def test_partial_collapse_trains_on_the_tokens_that_were_said(collapse):
    anew, _ = collapse([f" {SAID}"], [f" {SAID}"])
    assert anew([PAIR.question], 0)[PAIR.question] == encode(TOKENIZER, PAIR, "raw", 64)


def test_partial_collapse_chooses_the_lowest_recall_of_the_own_first_answer():
    """A longer answer is no worse, and a frequent one no better: recall by stems, the first of equals."""
    texts = ["The boxes are red and big", "red boxes, and many a word besides", "a red thing", "some red one"]
    draws = [Draw("0", text, 9 - i, i, "stop", 5, None) for i, text in enumerate(texts)]
    chosen, score = sampling.choose_answer(draws, "The box is red.")
    assert (chosen.text, score) == ("red boxes, and many a word besides", 0.25)
    assert sampling.choose_answer(draws[:1], "The box is red.")[1] == 0.75


def test_partial_collapse_never_looks_at_the_answer_in_the_data(collapse):
    said = [[" It is a hat."], [f" {SAID}", " It is a hat."]]
    for answer in ("It is a hat.", SAID, "Nothing at all."):
        pair = Pair(PAIR.question, answer, "forget.jsonl line 1", (answer,))
        assert trained_on(collapse(*said, pair=pair)[0], 0) == SAID


def test_partial_collapse_asks_once_greedily_then_at_every_step_as_published(collapse):
    anew, asked = collapse(*[[f" {SAID}"]] * 3, max_tokens=7)
    for step in (0, 1):
        anew([PAIR.question, PAIR.question], step)
    assert [params.temperature for _, params in asked] == [0, 1.25, 1.25]
    assert [params.top_p for _, params in asked] == [1.0, 0.95, 0.95]
    assert {params.max_tokens for _, params in asked} == {7}
    assert [(shard.first, shard.num_samples, len(shard.prompts)) for shard, _ in asked] == [
        (0, 1, 1),
        (0, 5, 1),
        (5, 5, 1),
    ]


def test_partial_collapse_keeps_the_best_answer_and_the_newer_of_equals(collapse):
    rounds = [" The box is"], [" The box is red"], [f" {SAID}"], [" A box is red"], [" The red box"]
    anew, _ = collapse([f" {SAID}"], *rounds)  # 3, 4, 4, 3 and 2 of the four words of the first answer
    kept = [trained_on(anew, step) for step in range(len(rounds))]
    assert kept == ["The box is", "The box is", "The box is", "A box is red", "The red box"]


def test_partial_collapse_asks_no_more_where_nothing_of_the_first_answer_is_left(collapse):
    anew, asked = collapse([f" {SAID}"], [f" {SAID}", " No."])
    assert [trained_on(anew, step) for step in range(3)] == ["No."] * 3
    assert len(asked) == 2


def test_an_answer_that_was_cut_teaches_no_end(collapse):
    anew, _ = collapse([f" {SAID}"], [draw(" The box", 0, "length")])
    assert (
        anew([PAIR.question], 0)[PAIR.question].answer
        == encode(TOKENIZER, replace(PAIR, answer="The box"), "raw", 64).answer[:-1]
    )
