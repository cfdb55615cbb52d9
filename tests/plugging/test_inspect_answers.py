"""What the importer refuses of a sample of inspect_ai, the scorer leaves unscored: both ask the same function."""

import pytest

from leakbound.errors import IncompleteRunError, InputError
from leakbound.plugging.copies import all_but_few, greedy
from leakbound.plugging.inspect_answers import answer, settings, settings_of


def output(*messages, reason="stop"):
    return {"choices": [{"message": {"role": "assistant", **one}, "stop_reason": reason} for one in messages]}


SAID = {"content": "In Rome.", "id": "m"}
TURN = {"role": "assistant", "content": "In Lisbon."}


@pytest.mark.parametrize(
    ("sample", "error", "said"),
    [
        ({"output": output({"content": "", "tool_calls": [{"arguments": {"city": "Lisbon"}}]}, reason="tool_calls")},
         InputError, "the model calls a tool"),
        ({"input": "Where?", "messages": [TURN, TURN], "output": output(SAID)}, InputError, "took 2 turns"),
        ({"output": output(SAID, {"content": "In Lisbon."})}, InputError, "has 2 answers"),
        ({"output": output(SAID), "events": [{"event": "model", "cache": "read"}]}, InputError, "cache"),
        ({"output": output({"content": [{"type": "tool_use", "result": "Lisbon"}]})}, InputError, "'tool_use'"),
        ({"output": output(SAID, reason="content_filter")}, IncompleteRunError, "withheld"),
        ({"output": {"choices": []}}, IncompleteRunError, "has no output"),
        ({"output": output(SAID), "error": {"message": "late"}}, IncompleteRunError, "sample 7, failed"),
        ({"output": output(SAID), "invalidation": {"author": "me"}}, IncompleteRunError, "was declared invalid"),
    ],
)  # fmt: skip
def test_what_is_not_one_answer_of_text_is_refused(sample, error, said):
    with pytest.raises(error, match=said):
        answer(sample, "sample 7")


def test_one_answer_is_read():
    parts = [{"type": "reasoning", "reasoning": "Hm"}, {"type": "text", "text": "In"}, {"type": "text", "text": "Rome"}]
    assert answer({"output": output({"content": parts})}, "") == ("In\nRome", "stop", True)  # joined as by inspect_ai
    assert answer({"output": output(SAID, reason="max_tokens")}, "") == ("In Rome.", "length", False)
    talk = {"input": [TURN], "messages": [TURN, TURN]}  # what the conversation began with, nobody said
    assert answer({**talk, "output": output(SAID), "limit": {"type": "time"}}, "") == ("In Rome.", "length", False)


def test_settings_are_those_of_the_answers_request():
    other = {"event": "model", "config": {"temperature": 0.0}, "output": output({"id": "other"})}
    config = {"temperature": 0.7, "seed": None, "timeout": 9, "extra_body": {"min_p": 0.1}}
    mine = {"event": "model", "config": config, "output": output(SAID)}
    assert settings_of({"output": output(SAID), "events": [other, mine, {"event": "info"}]}) == settings(config)
    assert settings(config) == {"temperature": 0.7, "min_p": 0.1}
    assert settings_of({"output": output(SAID), "events": [other]}) is None
    assert settings_of({"output": output(SAID)}) is None


def test_what_takes_the_likeliest_token_is_greedy():
    for one, said in (
        ({"temperature": 0.0}, "temperature is 0"),
        ({"top_k": 1}, "top_k is 1"),
        ({"top_p": 0}, "top_p"),
    ):
        assert greedy(one).startswith(said)
    assert not greedy({"temperature": 0.1, "top_k": 0, "top_p": 1.0})
    assert not greedy({})


def test_all_but_a_few_are_nearly_all():
    assert all_but_few([1, 1])
    assert all_but_few([1] * 10 + [2])
    assert not all_but_few([1] * 9 + [2])
    assert not all_but_few([])
