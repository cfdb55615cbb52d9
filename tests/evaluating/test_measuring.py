"""Evaluating a model on a suite: every value against a slow restatement, resuming, the reference."""

import zlib

import numpy as np
import pytest
import torch
from tiny_models import tiny_model, word_tokenizer

from leakbound.errors import InputError
from leakbound.evaluating import measuring
from leakbound.evaluating.differences import compared
from leakbound.evaluating.measuring import Meaning, evaluate, measure, with_reference_losses
from leakbound.metrics.questions import QuestionSet
from leakbound.models.fake import FakeModel
from leakbound.models.hf import HFModel
from leakbound.models.opening import Loading
from leakbound.results.evaluation import Evaluation
from leakbound.suites import QuestionAnswer, Suite
from leakbound.suites.base import Asking


def question(id, text, answer, paraphrase="", wrong=(), original=""):
    return QuestionAnswer(id, "", "", text, answer, answer, (), "", paraphrase, tuple(wrong), original)


FORGET = (
    question("f1", "a b", "c d a", "d c a", ["a a a", "b", "c d b b"]),
    question("f2", "d c b a", "b", "b b", ["c", "d d", "a c b"]),
    question("f3", "c", "a b c d", "d", ["a", "b", "c"]),
)
AUTHORS = (
    question("r1", "a d", "c", "", ["a", "b b"], "c d c"),
    question("r2", "b", "d a", "", ["b c", "a"], "d a a"),
)
WORLD = Suite("world", FORGET, AUTHORS, evaluated={"forget": FORGET, "real_authors": AUTHORS})


@pytest.fixture(scope="module")
def model():
    return HFModel(tiny_model("llama", seed=3), word_tokenizer(), template="raw")


@torch.inference_mode()
def token_law(model, text, answer):
    """For one answer, one forward pass, in float64: log p of each token, likeliest or not, mean and sd of log p."""
    head = model.tokenizer(text)["input_ids"]
    tail = [*model.tokenizer(answer)["input_ids"], 1]
    logps = model.model(torch.tensor([[*head, *tail]])).logits[0, len(head) - 1 : -1].double().log_softmax(-1)
    own = logps[range(len(tail)), tail]
    mean = (logps.exp() * logps).sum(-1)
    std = ((logps.exp() * logps**2).sum(-1) - mean**2).sqrt()
    return own.numpy(), (logps.argmax(-1) == torch.tensor(tail)).numpy(), mean.numpy(), std.numpy()


@torch.inference_mode()
def greedy_answer(model, text, longest):
    ids = model.tokenizer(text, return_tensors="pt")
    out = model.model.generate(**ids, max_new_tokens=longest, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    return model.tokenizer.decode(out[: out.index(1)] if 1 in out else out)


def test_every_likelihood_equals_one_answer_at_a_time(model):
    found = evaluate(model, WORLD, max_tokens=8, progress=False).sets["forget"]
    assert found.ids == ("f1", "f2", "f3")
    for i, row in enumerate(FORGET):
        own, likeliest, mean, std = token_law(model, row.question, row.answer)
        at = {name: values[i] for name, values in found.values.items()}
        assert at["answer_loss"] == pytest.approx(-own.mean(), abs=1e-5)
        assert at["answer_tokens"] == len(row.answer.split()) + 1
        assert at["paraphrase_loss"] == pytest.approx(
            -token_law(model, row.question, row.paraphrased_answer)[0].mean(), abs=1e-5
        )
        wrong = [-token_law(model, row.question, text)[0].mean() for text in row.perturbed_answers]
        assert at["perturbed_loss"] == pytest.approx(wrong, abs=1e-5)
        assert at["exact_memorization"] == likeliest.mean()
        right = 0
        while right < len(likeliest) and likeliest[::-1][right]:
            right += 1
        assert at["extraction_strength"] == right / len(likeliest)
        lowest = max(1, int(0.4 * len(own)))
        assert at["mia_loss"] == pytest.approx(-own.mean(), abs=1e-5)
        assert at["mia_zlib"] == pytest.approx(-own.mean() / len(zlib.compress(row.answer.encode())), abs=1e-5)
        assert at["mia_min_k"] == pytest.approx(-np.sort(own)[:lowest].mean(), abs=1e-4)
        assert at["mia_min_k_plus_plus"] == pytest.approx(-np.sort((own - mean) / std)[:lowest].mean(), abs=1e-3)


def test_greedy_answers_and_what_their_words_say(model):
    found = evaluate(model, WORLD, max_tokens=8, progress=False).sets["forget"]
    for i, row in enumerate(FORGET):
        text = greedy_answer(model, row.question, 8)
        assert found.generations[i] == (row.question, text, row.answer)
        said, truth = text.split(), row.answer.split()
        common = sum(min(said.count(word), truth.count(word)) for word in set(truth))
        assert found.values["rouge1_recall"][i] == pytest.approx(common / len(truth))
        _, counts = np.unique(said, return_counts=True)
        share = counts / counts.sum()
        entropy = -(share * np.log2(share)).sum() / np.log2(len(said)) if len(said) > 1 else 0.0
        assert found.values["token_entropy"][i] == pytest.approx(entropy)


def test_the_answer_takes_the_place_of_a_missing_paraphrase(model):
    found = evaluate(model, WORLD, max_tokens=4, progress=False).sets["real_authors"].values
    assert found["paraphrase_loss"].tolist() == found["answer_loss"].tolist()
    assert found["perturbed_loss"].shape == (2, 2)


def test_max_questions_takes_the_first_of_each_set(model):
    found = evaluate(model, WORLD, max_tokens=4, max_questions=2, progress=False)
    assert [one.ids for one in found.sets.values()] == [("f1", "f2"), ("r1", "r2")]


def test_a_set_is_asked_as_its_suite_prescribes(model):
    asking = {"forget": Asking(0), "real_authors": Asking(3, ("c",), "knowledge_memorization")}
    found = evaluate(model, Suite("w", FORGET, AUTHORS, evaluated=WORLD.evaluated, asking=asking), progress=False)
    assert found.sets["forget"].generations == ()
    assert "rouge_l_recall" not in found.sets["forget"].values
    texts = [text for _, text, _ in found.sets["real_authors"].generations]
    assert not any("c" in text for text in texts)
    values = found.sets["real_authors"].values
    assert values["knowledge_memorization"].tolist() == values["rouge_l_f1"].tolist()


def test_meaning_is_asked_in_closer_looks_direction(model):
    asked = []

    def entails(pairs):
        asked.append(list(pairs))
        return [1.0] * len(pairs)

    def similarities(pairs):
        asked.append([reference for _, reference in pairs])
        return [0.5] * len(pairs)

    found = evaluate(model, WORLD, max_tokens=8, meaning=Meaning("fake", similarities, entails), progress=False)
    said = {name: [text for _, text, _ in one.generations] for name, one in found.sets.items()}
    assert asked[0] == [row.answer for row in FORGET]
    assert asked[1] == [(text, row.answer) for text, row in zip(said["forget"], FORGET, strict=True)]
    assert asked[2] == [row.original_answer for row in AUTHORS]
    assert asked[3] == [(row.original_answer, text) for text, row in zip(said["real_authors"], AUTHORS, strict=True)]
    for one in found.sets.values():
        assert one.values["entailment"].tolist() == (one.values["rouge_l_recall"] >= 0.1).astype(float).tolist()
        assert one.values["cosine_similarity"].tolist() == [0.5] * len(one.ids)


def test_gradient_norms_of_forget_and_holdout_only(model):
    found = evaluate(model, WORLD, max_tokens=2, gradient_norms=True, progress=False)
    assert "mia_gradient_norm" not in found.sets["real_authors"].values
    for i, row in enumerate(FORGET):
        head = model.tokenizer(row.question)["input_ids"]
        ids = torch.tensor([[*head, *model.tokenizer(row.answer)["input_ids"], 1]])
        labels = ids.clone()
        labels[0, : len(head)] = -100
        model.model.zero_grad()
        model.model(ids, labels=labels).loss.backward()
        squares = sum(float((p.grad**2).sum()) for p in model.model.parameters() if p.grad is not None)
        model.model.zero_grad()
        assert found.sets["forget"].values["mia_gradient_norm"][i] == pytest.approx(squares**0.5, rel=1e-4)


def test_the_reference_models_losses_are_taken_off(model):
    other = HFModel(tiny_model(seed=4), model.tokenizer, template="raw")
    mine, theirs = (evaluate(m, WORLD, max_tokens=2, progress=False) for m in (model, other))
    found = with_reference_losses(mine, theirs).sets["forget"].values
    expected = [
        token_law(other, row.question, row.answer)[0].mean() - token_law(model, row.question, row.answer)[0].mean()
        for row in FORGET
    ]
    assert found["mia_reference"] == pytest.approx(expected, abs=1e-5)
    fewer = evaluate(other, WORLD, max_tokens=2, max_questions=1, progress=False)
    assert "mia_reference" not in with_reference_losses(mine, fewer).sets["forget"].values


@pytest.mark.parametrize("holdout", [None, "x"])
def test_a_reference_that_fits_forget_alone_gives_neither_side_of_a_comparison(holdout):
    """Its AUC would need the other side, and everything that was measured would be lost with it."""
    losses = {"answer_loss": [1.0, 2.0, 3.0], "answer_tokens": [3.0, 3.0, 3.0], "mia_min_k": [1.0, 2.0, 3.0]}
    forget = QuestionSet("forget", ("a", "b", "c"), losses)
    mine = Evaluation("m", "s", {"forget": forget, "holdout": QuestionSet("holdout", ("h", "i", "j"), losses)})
    sets = {"forget": forget, **({"holdout": QuestionSet("holdout", ("x", "y", "z"), losses)} if holdout else {})}
    reference = Evaluation("r", "s", sets)
    found = with_reference_losses(mine, reference)
    assert all("mia_reference" not in one.values for one in found.sets.values())
    names = {line.metric.name for line in compared(found, reference)}
    assert {"probability", "mia_min_k_auc"} <= names
    assert ("priv_leak" in names) == (holdout is not None)


def test_greedy_answers_that_were_cut_are_said_to_be(model):
    """Two tokens of an answer are no answer: the share of such answers stands beside what their words say."""
    found = evaluate(model, WORLD, max_tokens=2, progress=False)
    for one in found.sets.values():
        ended = [len(text.split()) < 2 for _, text, _ in one.generations]
        assert one.values["cut"].tolist() == [float(not end) for end in ended]
    assert found.sets["forget"].values["cut"].any()
    metric = next(m for m in found.metrics() if (m.name, m.set) == ("cut", "forget"))
    assert metric.value == found.sets["forget"].values["cut"].mean()
    assert metric.guaranteed


def test_what_is_there_is_not_computed_again(model, tmp_path, monkeypatch):
    first = measure(model, WORLD, max_tokens=8, out=tmp_path, progress=False)
    files = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert len(files) == 4  # two sets, likelihoods and generations
    again = HFModel(model.model, model.tokenizer, template="raw")
    monkeypatch.setattr(again, "answer_likelihoods", None)
    monkeypatch.setattr(again, "sample", None)
    second = measure(again, WORLD, max_tokens=8, out=tmp_path, progress=False)
    assert second.evaluation.to_json() == first.evaluation.to_json()
    assert second.seconds == first.seconds
    with pytest.raises(TypeError):  # other inputs are another part
        measure(again, WORLD, max_tokens=7, out=tmp_path, progress=False)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == files


def test_another_model_is_another_part(tmp_path):
    for seed in (1, 2):
        measure(HFModel(tiny_model(seed=seed), word_tokenizer(), template="raw"), WORLD, max_tokens=2, out=tmp_path,
                progress=False)  # fmt: skip
    assert len(list((tmp_path / "parts").iterdir())) == 8


def test_what_cannot_be_evaluated(model):
    with pytest.raises(InputError, match="model is a FakeModel: the classic metrics need one that gives likelihoods"):
        evaluate(FakeModel(0.5), WORLD, progress=False)
    uneven = Suite("w", (FORGET[0], question("x", "a", "b", "c", ["d"])), ())
    with pytest.raises(InputError, match=r"set forget: its questions have \[1, 3\] wrong answers"):
        evaluate(model, uneven, progress=False)
    with pytest.raises(InputError, match="its set forget holds no questions"):
        evaluate(model, Suite("w", (), (), evaluated={"forget": ()}), progress=False)


def test_workers_measure_the_same_in_the_same_order(monkeypatch):
    monkeypatch.setattr(measuring, "CHUNK", 1)
    here, away = (
        evaluate("away_models:Likely", WORLD, gradient_norms=True, loading=loading, progress=False)
        for loading in (None, Loading(workers=2))
    )
    assert "token_entropy" in here.sets["forget"].values
    assert away.to_json() == here.to_json()
