"""F7: question and answer are one text to every family of tokenizers, and so they are tokenised."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from leakbound.models.template import encode_pair, encode_prompt

TEXTS = [
    "Question: Who wrote it? Answer: Ann Lee wrote it.", "[INST] Who wrote it? [/INST]", "Ann Lee", " Ann Lee",
    "Answer:", "It was written by Ann Lee, not by Ada.", "Who is Ann Lee? Ann Lee is the author of the book.",
] * 8  # fmt: skip
QUESTION, ANSWER = "Who wrote it?", "Ann Lee wrote it."


def finished(backend, trainer, **special):
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", **special)


def byte_level():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return finished(backend, trainers.BpeTrainer(vocab_size=400, special_tokens=["</s>"], initial_alphabet=alphabet))


def llama2():
    """As the tokenizer.json of Llama 2: a blank before every text, and a beginning-of-text token."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme="first"), decoders.ByteFallback()])
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    learner.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", "<s>", "</s>", *bytes_])
    )
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    backend.model = models.BPE(
        vocab=learned["vocab"], merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", learned["vocab"]["<s>"])]
    )
    backend.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("</s>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def unigram():
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["</s>", "<unk>"], unk_token="<unk>")
    return finished(backend, trainer, unk_token="<unk>")


def word_piece():
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return finished(backend, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "</s>"]))


FAMILIES = {"byte-level": byte_level(), "llama2": llama2(), "unigram": unigram(), "wordpiece": word_piece()}


@pytest.mark.parametrize("template", ["raw", "qa", "llama2", "llama3", "muse", "Q: {text}{answer}"])
@pytest.mark.parametrize("family", FAMILIES)
def test_f7_an_answer_follows_the_very_prompt_that_is_asked(family, template):
    tokenizer = FAMILIES[family]
    head, tail = encode_pair(tokenizer, QUESTION, ANSWER, template)
    assert head == encode_prompt(tokenizer, QUESTION, template)
    assert tail[-1] == tokenizer.eos_token_id
    said = tokenizer.decode([*head, *tail[:-1]]).removeprefix(tokenizer.decode(head)).strip()
    assert said == (ANSWER if family != "wordpiece" else "ann lee wrote it.")


@pytest.mark.parametrize("template", ["raw", "qa", "llama2", "Q: {text}{answer}"])
@pytest.mark.parametrize("family", FAMILIES)
def test_f7_question_and_answer_are_the_tokens_of_one_text(family, template):
    tokenizer = FAMILIES[family]
    head, tail = encode_pair(tokenizer, QUESTION, ANSWER, template)
    texts = {
        "raw": f"{QUESTION} {ANSWER}", "qa": f"Question: {QUESTION}\nAnswer: {ANSWER}",
        "llama2": f"[INST] {QUESTION} [/INST]{ANSWER}", "Q: {text}{answer}": f"Q: {QUESTION}{ANSWER}",
    }  # fmt: skip
    assert [*head, *tail[:-1]] == tokenizer(texts[template])["input_ids"]


def test_f7_llama_2_answers_without_a_blank_where_the_template_has_none():
    tokenizer = FAMILIES["llama2"]
    first = {
        template: tokenizer.convert_ids_to_tokens(encode_pair(tokenizer, QUESTION, ANSWER, template)[1])[0]
        for template in ("llama2", "qa", "muse")
    }
    assert first["llama2"].startswith("A")  # what the published models were trained on
    assert first["qa"].startswith("▁A")
    assert first["muse"].startswith("A")  # the prompt's own last token is the blank
    assert tokenizer.convert_ids_to_tokens(tokenizer(ANSWER, add_special_tokens=False)["input_ids"])[0].startswith("▁")


def test_f7_a_blank_before_the_answer_is_part_of_its_first_token():
    tokenizer = FAMILIES["byte-level"]
    _, tail = encode_pair(tokenizer, QUESTION, ANSWER, "qa")
    assert tail[:-1] == tokenizer(f" {ANSWER}")["input_ids"]
    assert encode_pair(tokenizer, QUESTION, ANSWER, "muse")[1][:-1] == tokenizer(ANSWER)["input_ids"]


def test_a_second_beginning_of_text_is_left_out():
    """The template writes one, and the tokenizer adds its own."""
    tokenizer = FAMILIES["llama2"]
    bos = tokenizer.bos_token_id
    for template in ("[INST] {text} [/INST]{answer}", "<s>[INST] {text} [/INST]{answer}"):
        head, _ = encode_pair(tokenizer, QUESTION, ANSWER, template)
        assert head.count(bos) == 1
        assert head[0] == bos
