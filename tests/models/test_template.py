import pytest
from tiny_models import word_tokenizer
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from leakbound.errors import InputError, ModelError
from leakbound.models.template import encode_pair, encode_prompt, other_prompts, read_answer, resolve_template

CHAT = "{% for m in messages %}a {{ m['content'] }} b{% endfor %}{% if add_generation_prompt %} c{% endif %}"


def test_templates(tokenizer):
    assert encode_prompt(tokenizer, "a b") == [2, 3]
    assert encode_prompt(tokenizer, "a", "b {text} c") == [3, 2, 4]
    assert encode_pair(tokenizer, "d", "a b") == ([5], [2, 3, 1])
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
    assert [read(ids) for ids in encode_pair(tokenizer, "Who?", "Ann.", template)] == [asked, f"{answered}<eos>"]


def chatty(chat):
    """A tokenizer of characters with this chat template, which shows what is sent."""
    names = [*(chr(i) for i in range(32, 127)), "\n", "<eos>"]
    backend = Tokenizer(WordLevel({c: i for i, c in enumerate(names)}, unk_token="<eos>"))
    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    tokenizer.chat_template = chat
    return tokenizer, lambda ids: "".join(names[i] for i in ids)


PLAIN = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}{% endfor %}"


def test_a_template_may_strip_the_question():
    tokenizer, read = chatty(PLAIN)
    assert read(encode_prompt(tokenizer, " Who? ")) == "<user>Who?"


@pytest.mark.parametrize(
    "chat",
    [
        "{% for m in messages %}<user>{% for p in m['content'] if p['type'] %}{{ p.text }}{% endfor %}{% endfor %}",
        "{% if messages | length > 5 %}{{ messages }}{% endif %}",
        "<user>user</user>",
    ],
)
def test_g10_m16_a_template_that_loses_the_question_is_refused(chat):
    tokenizer, _ = chatty(chat)
    for text in ("Who wrote it?", "user"):
        with pytest.raises(InputError, match=r"does not contain it .*list of parts.*use template 'raw'"):
            encode_prompt(tokenizer, text)
    assert encode_prompt(tokenizer, "Who?", "raw")


@pytest.mark.parametrize(
    "chat",
    ["{{ raise_exception('roles must alternate') }}", "{% for %}", "{{ messages[7]['content'] }}", "{{ 1 / 0 }}"],
)
def test_m13_a_template_that_raises_is_our_error(chat):
    with pytest.raises(ModelError, match="the chat template cannot render the prompt 'Which lantern"):
        encode_prompt(chatty(chat)[0], "Who?")


def test_m16_of_named_templates_the_default_is_used_or_none():
    tokenizer, read = chatty({"rag": "x", "default": PLAIN})
    assert read(encode_prompt(tokenizer, "Who?")) == "<user>Who?"
    tokenizer, _ = chatty({"rag": PLAIN, "tool_use": PLAIN})
    for template in ("auto", "chat"):
        with pytest.raises(InputError, match="named rag, tool_use and none named default"):
            encode_prompt(tokenizer, "Who?", template)
    assert encode_prompt(tokenizer, "Who?", "raw")


def test_a_template_with_a_clock_is_told_a_fixed_date():
    tokenizer, read = chatty("{{ strftime_now('%d %b %Y %H:%M') }}: " + PLAIN)
    assert read(encode_prompt(tokenizer, "Who?", "chat@2024-07-26")) == "26 Jul 2024 00:00: <user>Who?"
    today = resolve_template(tokenizer, "auto")
    assert today == resolve_template(tokenizer, today)
    assert today.startswith("chat@20")
    assert read(encode_prompt(tokenizer, "Who?", today)).endswith("00:00: <user>Who?")
    assert resolve_template(chatty(PLAIN)[0], "auto") == "chat"
    with pytest.raises(InputError, match="template is 'chat@soon': give a date"):
        encode_prompt(tokenizer, "Who?", "chat@soon")


def test_an_answer_follows_as_the_chat_template_writes_it():
    """Llama 2's template puts a blank before each answer, Zephyr's a line break."""
    for between in ("", " ", "\n"):
        tokenizer, read = chatty(
            "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}"
            f"{{{{ '{between}' + m['content'] }}}}{{% endif %}}{{% endfor %}}"
        )
        head, tail = encode_pair(tokenizer, "Who?", "Ann.")
        assert (read(head), read(tail)) == ("[INST] Who? [/INST]", f"{between}Ann.<eos>")
        assert read_answer(tokenizer, f"{between}Ann.") == "Ann."


def test_a_clock_whose_format_is_computed_is_refused():
    with pytest.raises(InputError, match="computes how it writes the date"):
        encode_prompt(chatty("{% set f = '%d' %}{{ strftime_now(f) }}" + PLAIN)[0], "Who?")


@pytest.mark.parametrize("adds", ["$A", "<bos> $A", "<bos> $A <eos>", "$A <eos>"])
def test_of_special_tokens_only_those_that_the_tokenizer_adds_are_left_out(adds):
    """One beginning where the text wrote one too, no end; what a template writes is asked, twice where it says so."""
    names = [*(chr(i) for i in range(32, 127)), "\n", "<eos>", "<bos>"]
    backend = Tokenizer(WordLevel({c: i for i, c in enumerate(names)}, unk_token="<eos>"))
    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", bos_token="<bos>")
    both = [(name, names.index(name)) for name in ("<bos>", "<eos>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=adds, special_tokens=both)
    read = lambda ids: "".join(names[i] for i in ids)  # noqa: E731
    begin = "<bos>" if adds.startswith("<bos>") else ""
    for template in ("Q {text}", "Q {text}<eos>", "<eos>{text}"):
        asked = begin + template.replace("{text}", "Who?")
        assert read(encode_prompt(tokenizer, "Who?", template)) == asked
        assert [read(ids) for ids in encode_pair(tokenizer, "Who?", "Ann", template)] == [asked, " Ann<eos>"]
        assert read(encode_pair(tokenizer, "Who?", "Ann<eos>", template)[1]) == " Ann<eos>"
    for written in ("<bos>", "<bos><bos>"):
        assert read(encode_prompt(tokenizer, "Who?", written + "{text}")) == f"{written}Who?"
    tokenizer.chat_template = "<bos>{{ messages[0]['content'] }}<eos>"
    assert read(encode_prompt(tokenizer, "Who?")) == "<bos>Who?<eos>"


TURNS = (("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes."))


def test_what_was_said_before_is_part_of_the_prompt():
    tokenizer, read = chatty(PLAIN)
    before = "<system>Be brief.<user>Hi<assistant>Yes."
    assert read(encode_prompt(tokenizer, "Who?", before=TURNS)) == f"{before}<user>Who?"
    head, tail = encode_pair(tokenizer, "Who?", "Ann.", before=TURNS)
    assert (read(head), read(tail)) == (f"{before}<user>Who?", "Ann.<eos>")


def test_turns_are_never_left_out_unseen():
    tokenizer, _ = chatty("{% for m in messages if m['role'] != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    with pytest.raises(InputError, match=r"leaves out the system message 'Be brief\.'"):
        encode_prompt(tokenizer, "Who?", before=TURNS)
    assert encode_prompt(tokenizer, "Who?", before=TURNS[1:])
    for template in ("raw", "qa", "Ask: {text}"):
        with pytest.raises(InputError, match="has no place for them"):
            encode_prompt(tokenizer, "Who?", template, before=TURNS)


def test_other_ways_of_asking_are_named():
    tokenizer, read = chatty(PLAIN)
    others = {name: read(ids) for name, ids in other_prompts(tokenizer, "Who?", "chat").items()}
    assert others["template raw"] == "Who?"
    assert "template chat" not in others
    others = {name: read(ids) for name, ids in other_prompts(tokenizer, "Who?", "chat", TURNS).items()}
    assert others == {"nothing said before": "<user>Who?"}
