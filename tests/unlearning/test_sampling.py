"""What the model says becomes training data that are written as the files are."""

from types import SimpleNamespace

import pytest

from leakbound.models.template import encode_pair, read_answer
from leakbound.records import Draw
from leakbound.unlearning import UnlearnConfig, sampling
from leakbound.unlearning.data import Pair, PairedData, encode
from leakbound.unlearning.scratch import train_tokenizer

SAID = "The box is red."
PAIR = Pair("Which colour is the box?", SAID, "forget.jsonl line 1", ("red",))
TOKENIZER = train_tokenizer([f" {PAIR.question} {SAID}  twice"], 300)


@pytest.fixture
def says(monkeypatch):
    """Stands for the model: each question is answered with these completions, once each, as the model writes them."""

    def answers(*texts):
        draws = [Draw("0", text, 1, i, "stop", 5, None, (i,)) for i, text in enumerate(texts)]
        model = SimpleNamespace(sample=lambda shard, params: draws)
        monkeypatch.setattr(sampling, "HFModel", lambda *given, **named: model)
        return SimpleNamespace(training=True, train=lambda training: None)

    return answers


def config(**settings):
    return UnlearnConfig(model="m", forget="f.jsonl", retain="r.jsonl", out="o", **settings)


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


def test_partial_collapse_trains_on_the_tokens_that_were_said(says):
    model, example = says(f" {SAID}"), encode(TOKENIZER, PAIR, "raw", 64)
    data = PairedData([example], [], seed=0)
    sampling.AnswerAnew(model, TOKENIZER, data, [PAIR], config(method="pmc", template="raw")).draw(0)
    assert data.sampled[0].input_ids == example.input_ids
