"""What a request says of the law, and what of an answer is no draw: each case by its id in the list of cases."""

import pytest
from chat_server import chat_server, choice

from leakbound.errors import IncompleteRunError, InputError
from leakbound.models.openai import OpenAIModel
from leakbound.records import Prompt, SamplingParams, Shard

PROMPTS = (Prompt("p1", "Where was she born?", "Paris"), Prompt("p2", "Who is he?", "a baker"))
ONE = Shard(PROMPTS[:1], 0, 4, 0)
LONG = SamplingParams()


def message(**fields):
    return lambda p: [{"message": {"role": "assistant", **fields}, "finish_reason": "stop"}] * p["n"]


TOOL = [{"id": "1", "type": "function", "function": {"name": "say", "arguments": '{"text": "Paris"}'}}]


@pytest.mark.parametrize("kind", ["vllm", "other"])
def test_g13_a_temperature_that_a_server_changes_is_refused(kind):
    for tiny in (1e-38, 5e-324, 1e-5):
        with pytest.raises(InputError, match="temperature is"):
            SamplingParams(temperature=tiny)
    with pytest.raises(InputError, match=r"temperature is 0.005: vLLM raises it to 0.01 unseen"):
        OpenAIModel("http://127.0.0.1:9/v1", "x", server=kind).sample(ONE, SamplingParams(temperature=0.005))


def test_g6_filters_in_an_order_of_the_servers_own_are_refused():
    with pytest.raises(InputError, match=r"top_p is 0.9 and min_p 0.1: vLLM applies min_p first"):
        OpenAIModel("http://127.0.0.1:9/v1", "x", server="vllm").sample(ONE, SamplingParams(top_p=0.9, min_p=0.1))


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (message(content=None), IncompleteRunError, "gave None for a text: that is no empty answer"),
        (message(), IncompleteRunError, "gave None for a text"),
        (message(content=5), IncompleteRunError, "gave 5 for a text"),
        (message(content={"text": "Paris"}), IncompleteRunError, "for a text"),
        (message(content="", refusal="I will not."), IncompleteRunError, "answer is a refusal: I will not"),
        (message(content=None, tool_calls=TOOL), IncompleteRunError, "answer is a tool_calls"),
        (message(content="", function_call={"name": "say"}), IncompleteRunError, "answer is a function_call"),
        (message(content="no", reasoning_content="Paris"), InputError, "splits a reasoning text off"),
        (message(content="no", reasoning="Paris"), InputError, "splits a reasoning text off"),
        (message(content="no", thinking="Paris"), InputError, "splits a reasoning text off"),
        (message(content="", reasoning_details=[{"text": "Paris"}]), InputError, "splits a reasoning text off"),
        (message(content="no", thoughts="Paris"), InputError, "splits a reasoning text off"),
        (message(content="no", reasoning_text="Paris"), InputError, "splits a reasoning text off"),
        (message(content="no", thinking_blocks=[{"thinking": "Paris"}]), InputError, "splits a reasoning text off"),
        (message(content="", audio={"transcript": "Paris"}), InputError, "a field 'audio', .* not be judged: .*Paris"),
        (message(content="no", annotations=[{"text": "Paris"}]), InputError, "a field 'annotations'"),
        (message(content="no", hidden="Paris"), InputError, "a field 'hidden', which is not known"),
        (message(content=[{"type": "image", "url": "x"}]), InputError, "a part that is no text"),
        (message(content=["Paris"]), InputError, "a part that is no text"),
        (lambda p: [{"message": None, "finish_reason": "stop"}] * p["n"], IncompleteRunError, "has no message"),
        (lambda p: [{"finish_reason": "stop"}] * p["n"], IncompleteRunError, "has no message"),
        (lambda p: [{**choice("x"), "finish_reason": None}] * p["n"], IncompleteRunError, "finish_reason None"),
    ],
)
def test_g12_o13_a_withheld_answer_is_never_an_empty_draw(reply, error, said):
    with chat_server(reply) as (url, _), pytest.raises(error, match=f"^prompt 'p1': .*{said}"):
        OpenAIModel(url, "little").sample(ONE, LONG)


def test_g12_fields_that_are_there_and_empty_are_nothing():
    empty = message(
        content="",
        refusal=None,
        tool_calls=[],
        reasoning="",
        reasoning_details=[],
        thinking=None,
        audio=None,
        annotations=[],
        function_call=None,
        prefix=False,
        hidden="",
    )
    with chat_server(empty) as (url, _):
        assert [(d.text, d.count) for d in OpenAIModel(url, "little").sample(ONE, LONG)] == [("", 4)]


def test_o13_parts_of_text_are_joined():
    parts = [{"type": "text", "text": "It is Par"}, {"type": "text", "text": "is."}]
    with chat_server(message(content=parts)) as (url, _):
        assert [d.text for d in OpenAIModel(url, "little").sample(ONE, LONG)] == ["It is Paris."]


def test_g12_reasoning_of_every_name_is_kept_once_or_dropped():
    details = [{"type": "reasoning.text", "text": "Paris"}, {"type": "reasoning.summary", "summary": "A city"}]
    with chat_server(message(content="no", thinking="Paris", reasoning_details=details)) as (url, _):
        said = {kind: OpenAIModel(url, "little", reasoning=kind).sample(ONE, LONG)[0].text for kind in ("keep", "drop")}
    assert said == {"keep": "Paris\nA city\nno", "drop": "no"}
    with chat_server(message(content=None, reasoning="Par")) as (url, _):
        assert OpenAIModel(url, "little", reasoning="keep").sample(ONE, LONG)[0].text == "Par\n"
        with pytest.raises(IncompleteRunError, match="no empty answer"):
            OpenAIModel(url, "little", reasoning="drop").sample(ONE, LONG)
    blocks = [{"type": "thinking", "thinking": "Paris", "signature": "x"}]
    with chat_server(message(content="no", reasoning_content="Paris", thinking_blocks=blocks)) as (url, _):
        assert OpenAIModel(url, "little", reasoning="keep").sample(ONE, LONG)[0].text == "Paris\nno"
    hidden = [{"type": "reasoning.encrypted", "data": "gAAAA"}]
    with chat_server(message(content="no", reasoning_details=hidden)) as (url, _):
        with pytest.raises(InputError, match="cannot be judged"):
            OpenAIModel(url, "little", reasoning="keep").sample(ONE, LONG)
        assert OpenAIModel(url, "little", reasoning="drop").sample(ONE, LONG)[0].text == "no"


def test_an_answer_that_was_cut_before_its_first_letter_is_no_empty_answer():
    """Hidden reasoning ate max_tokens: an empty text would count as clean."""
    with chat_server(lambda p: [choice("", "length")] * p["n"]) as (url, _):
        with pytest.raises(IncompleteRunError, match=r"before its first visible letter.*larger --max-tokens") as raised:
            OpenAIModel(url, "little").sample(ONE, LONG)
        assert raised.value.of_answer
    cut = {"message": {"content": "", "reasoning": "Par"}, "finish_reason": "length"}
    with chat_server(lambda p: [cut] * p["n"]) as (url, _):
        kept = OpenAIModel(url, "little", reasoning="keep").sample(ONE, LONG)
        assert [(d.text, d.finish_reason) for d in kept] == [("Par\n", "length")]
        with pytest.raises(IncompleteRunError, match="before its first visible letter"):
            OpenAIModel(url, "little", reasoning="drop").sample(ONE, LONG)


def test_a_field_of_a_plain_completion_that_is_not_known_is_not_left_unjudged():
    def reply(payload, **more):
        return [{"text": "no", "finish_reason": "stop", "stop_reason": "x", "logprobs": {"a": 1}, **more}] * payload[
            "n"
        ]

    with chat_server(reply) as (url, _):
        assert OpenAIModel(url, "little", api="completions").sample(ONE, LONG)[0].text == "no"
    with chat_server(lambda p: reply(p, more="Paris")) as (url, _), pytest.raises(InputError, match="a field 'more'"):
        OpenAIModel(url, "little", api="completions").sample(ONE, LONG)
