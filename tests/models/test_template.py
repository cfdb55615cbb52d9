import pytest
from tiny_models import word_tokenizer
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from leakbound.errors import InputError
from leakbound.models.template import encode_answer, encode_prompt

CHAT = "{% for m in messages %}a {{ m['content'] }} b{% endfor %}{% if add_generation_prompt %} c{% endif %}"


def test_templates(tokenizer):
    assert encode_prompt(tokenizer, "a b") == [2, 3]
    assert encode_prompt(tokenizer, "a", "b {text} c") == [3, 2, 4]
    assert encode_answer(tokenizer, "a b") == [2, 3, 1]
    chatty = word_tokenizer()
    chatty.chat_template = CHAT
    assert encode_prompt(chatty, "d") == [2, 5, 3, 4]
    assert encode_prompt(chatty, "d", "raw") == [5]
    with pytest.raises(InputError, match="no chat template"):
        encode_prompt(tokenizer, "a", "chat")
    with pytest.raises(InputError, match="template is 'nonsense'"):
        encode_prompt(tokenizer, "a", "nonsense")


@pytest.mark.parametrize(
    ("template", "asked", "answered"),
    [
        ("qa", "Question: Who?|Answer:", " Ann."),
        ("phi", "Question: Who?|Answer:", " Ann."),
        ("muse", "Question: Who?|Answer: ", "Ann."),
        ("llama2", "[INST] Who? [/INST]", "Ann."),
        (
            "llama3",
            "<|start_header_id|>user<|end_header_id|>||Who?<|eot_id|><|start_header_id|>assistant<|end_header_id|>||",
            "Ann.",
        ),
        ("Q: {text}{answer}", "Q: Who?", "Ann."),
        ("Q: {text}", "Q: Who?", " Ann."),
    ],
)
def test_the_papers_prompt_formats(template, asked, answered):
    """A tokenizer of single characters (| for a line break) shows the very text that the model reads."""
    letters = sorted({*asked, *answered, "\n"})
    backend = Tokenizer(WordLevel({c: i for i, c in enumerate([*letters, "<eos>"])}, unk_token="<eos>"))

    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    names = [*letters, "<eos>"]
    read = lambda ids: "".join(names[i] for i in ids).replace("\n", "|")  # noqa: E731
    assert read(encode_prompt(tokenizer, "Who?", template)) == asked
    assert read(encode_answer(tokenizer, "Ann.", template)) == f"{answered}<eos>"
