import pytest
from tiny_models import word_tokenizer

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
