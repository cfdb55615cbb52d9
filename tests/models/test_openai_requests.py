"""What the sampler asks of a server: every body, every seed, and what it does not ask for."""

import threading

import pytest
from chat_server import answer, chat_server, choice, like_vllm

from leakbound.errors import IncompleteRunError, InputError, ModelError
from leakbound.models.openai import UNKNOWN_TOKENS, OpenAIModel, draw_seed
from leakbound.records import Prompt, SamplingParams, Shard
from leakbound.server import Server

PROMPTS = (Prompt("p1", "Where was she born?", "Paris"), Prompt("p2", "Who is he?", "a baker"))


def shard(n=100, first=0, seed=0):
    return Shard(PROMPTS, first, n, seed)


def test_parameters_are_sent_as_they_are():
    params = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=17, stop=("\n", "END"))
    with chat_server(like_vllm(0.1)) as (url, got):
        OpenAIModel(url, "little", system="Be brief.").sample(Shard(PROMPTS[:1], 3, 2, 5), params)
        OpenAIModel(url, "little", api="completions").sample(Shard(PROMPTS[:1], 3, 2, 5), params)
        OpenAIModel(url, "little", server="openai").sample(Shard(PROMPTS[:1], 3, 2, 5), params)
        hidden = SamplingParams(top_k=40, min_p=0.05)
        OpenAIModel(url, "little", server="vllm").sample(Shard(PROMPTS[:1], 3, 2, 5), hidden)
        OpenAIModel(url, "little", server="vllm").sample(Shard(PROMPTS[:1], 3, 2, 5), SamplingParams())
    common = {
        "model": "little", "n": 2, "seed": draw_seed(5, "p1", 3), "temperature": 0.7, "top_p": 0.9, "max_tokens": 17,
        "stop": ["\n", "END"],
    }  # fmt: skip
    user = {"role": "user", "content": PROMPTS[0].text}
    asked = {"messages": [{"role": "system", "content": "Be brief."}, user]}
    for path, body, where, own in (
        (*got[0], "chat/completions", asked),
        (*got[1], "completions", {"prompt": PROMPTS[0].text}),
    ):
        assert path == f"/v1/{where}"
        assert {**body, **common, **own} == body
    assert got[2][1]["max_completion_tokens"] == 17
    assert "max_tokens" not in got[2][1]
    assert got[2][1].keys() & {"top_k", "min_p", "repetition_penalty"} == set()
    law = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    assert [got[3][1][k] for k in law] == [1.0, 1.0, 40, 0.05, 1.0, 0.0, 0.0]
    assert [got[4][1][k] for k in law] == [1.0, 1.0, -1, 0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (SamplingParams(top_k=5), 'top_k is 5: .*OpenAI protocol has no such parameter.*server="vllm"'),
        (SamplingParams(min_p=0.1, top_k=2), "top_k is 2 and min_p is 0.1"),
        (SamplingParams(adaptive_temperature=0.9), "adaptive_temperature is set"),
        (SamplingParams(stop=tuple("abcde")), "at most 4"),
    ],
)
def test_what_the_protocol_cannot_carry_raises(params, message):
    with pytest.raises(InputError, match=message):
        OpenAIModel("http://127.0.0.1:9/v1", "little", server="openai").sample(shard(), params)


def test_every_body_is_what_the_server_kind_takes():
    """The whole body, so that nothing else is sent: what a server kind does not know could be refused or ignored."""
    params = SamplingParams(temperature=0.5, max_tokens=9)
    user = [{"role": "user", "content": PROMPTS[0].text}]
    chat = {
        "model": "little",
        "n": 1,
        "seed": draw_seed(0, "p1", 0),
        "temperature": 0.5,
        "top_p": 1.0,
        "messages": user,
    }
    plain = {k: v for k, v in chat.items() if k != "messages"} | {"prompt": PROMPTS[0].text, "max_tokens": 9}
    off = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": {}}
    vllm = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    llama = {
        "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "typical_p": 1.0, "top_n_sigma": -1.0, "dry_multiplier": 0.0,
        "xtc_probability": 0.0, "dynatemp_range": 0.0, "mirostat": 0, "min_keep": 0, "ignore_eos": False, "grammar": "",
        "samplers": ["temperature", "top_k", "top_p", "min_p"],
    }  # fmt: skip
    small = {"seed": draw_seed(0, "p1", 0, 2**32 - 1)}
    expected = {
        ("other", "chat"): chat | {"max_tokens": 9} | off | llama | vllm,
        ("openai", "chat"): chat | {"max_completion_tokens": 9} | off,
        ("vllm", "chat"): chat | {"max_tokens": 9} | off | vllm,
        ("llama.cpp", "chat"): chat | {"max_tokens": 9} | off | llama | small,
        ("other", "completions"): plain | off | llama | vllm,
        ("openai", "completions"): plain | off,  # that side of the protocol has kept the old name
        ("vllm", "completions"): plain | off | vllm,
        ("llama.cpp", "completions"): plain | off | llama | small,
    }
    with chat_server(like_vllm(0.1)) as (url, got):
        for server, api in expected:
            OpenAIModel(url, "little", server=server, api=api).sample(Shard(PROMPTS[:1], 0, 1, 0), params)
    assert [body for _, body in got] == list(expected.values())


def test_how_many_stop_texts_and_what_is_hidden():
    with chat_server(like_vllm(0.1)) as (url, got):
        one = Shard(PROMPTS[:1], 0, 1, 0)
        OpenAIModel(url, "little").sample(one, SamplingParams(stop=tuple("abcd")))
        OpenAIModel(url, "little", server="vllm").sample(one, SamplingParams(stop=tuple("abcde")))
    assert [body["stop"] for _, body in got] == [list("abcd"), list("abcde")]
    with pytest.raises(InputError, match=r"^min_p is 0.1: .* the OpenAI protocol"):
        OpenAIModel("http://127.0.0.1:9/v1", "x", server="openai").sample(shard(), SamplingParams(min_p=0.1))
    for server in ("openai", "other"):
        with pytest.raises(InputError, match="stop has 5 texts"):
            OpenAIModel("http://127.0.0.1:9/v1", "x", server=server).sample(
                shard(), SamplingParams(stop=tuple("abcde"))
            )
    params = SamplingParams(adaptive_temperature=0.9)
    with pytest.raises(InputError, match="adaptive_temperature is set"):
        OpenAIModel("http://127.0.0.1:9/v1", "x", server="vllm").sample(shard(), params)


def test_requests_run_side_by_side_and_no_more_than_allowed():
    together, lock, running, most = threading.Barrier(3), threading.Lock(), [0], [0]

    def reply(payload):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(timeout=10)  # passes only where three requests are being answered at once
        with lock:
            running[0] -= 1
        return [choice("x")]

    with chat_server(reply) as (url, got):
        model = OpenAIModel(url, "little", per_request=1, concurrency=3, retries=0)
        model.sample(Shard(PROMPTS[:1], 0, 9, 0), SamplingParams())
    assert (len(got), most[0]) == (9, 3)


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (lambda p: [choice("x")] * (p["n"] - 1), IncompleteRunError, "gave 9 completions for n = 10"),
        (lambda p: [choice("x")] * 9 + [choice("", "content_filter")], IncompleteRunError, "is withheld"),
        (lambda p: [choice(None, "tool_calls")] * 10, IncompleteRunError, "finish_reason 'tool_calls'"),
        (
            lambda p: (500, "out of memory"),
            IncompleteRunError,
            "draws 0 to 9.*out of memory.*not asked again by itself.*run it again",
        ),
        (lambda p: (400, "not today"), IncompleteRunError, "refuses: .*not today"),
        (lambda p: (401, "not you"), ModelError, "refuses: .*not you"),
    ],
)
def test_a_failed_draw_raises_and_is_never_dropped(reply, error, message):
    with chat_server(reply) as (url, _):
        model = OpenAIModel(url, "little", retries=0)
        with pytest.raises(error, match=message):
            model.sample(Shard(PROMPTS[:1], 0, 10, 0), SamplingParams())


def test_a_failure_ends_the_rest_and_names_its_draws():
    def reply(payload):
        return (404, "no") if payload["seed"] == draw_seed(0, "p1", 4) else [choice("x")] * payload["n"]

    with chat_server(reply) as (url, got):
        model = OpenAIModel(url, "little", per_request=2, concurrency=1, retries=0)
        with pytest.raises(ModelError, match=r"^prompt 'p1', draws 4 to 5, at http.*: the server refuses: .*no"):
            model.sample(Shard(PROMPTS[:1], 0, 1000, 0), SamplingParams())
    assert 3 <= len(got) < 100  # of 500 requests: those that were not under way are not made


def test_another_number_of_answers_is_a_failure(monkeypatch):
    import chat_server as module

    with (
        chat_server(lambda p: [choice("x")] * (p["n"] + 1)) as (url, _),
        pytest.raises(IncompleteRunError, match=r"^prompt 'p1': the server gave 3 completions for n = 2"),
    ):
        OpenAIModel(url, "little").sample(Shard(PROMPTS[:1], 0, 2, 0), SamplingParams())
    monkeypatch.setattr(module, "answer", lambda p, c: {**answer(p, c), "choices": None})
    with (
        chat_server(lambda p: []) as (url, _),
        pytest.raises(IncompleteRunError, match="the server gave 0 completions for n = 1"),
    ):
        OpenAIModel(url, "little").sample(Shard(PROMPTS[:1], 0, 1, 0), SamplingParams())


def test_seeds_are_the_same_in_every_version():
    """Written out: an interrupted run must go on with its own seeds. Below 2^53, where JSON readers keep them exact."""
    assert draw_seed(0, "p1", 0) == 772_173_187_429_643
    assert draw_seed(20410, "forget-007", 65_536) == 2_862_395_338_329_762
    assert draw_seed(0, "p1", 2**53 + 3) == draw_seed(0, "p1", 3)
    assert draw_seed(0, "p1", 2**53 - 1) == draw_seed(0, "p1", 0) - 1
    assert UNKNOWN_TOKENS == -1


def test_the_usual_settings_and_the_door():
    usual = OpenAIModel("http://127.0.0.1:9/v1")
    assert (usual.model, usual.server, usual.api, usual.system, usual.reasoning) == ("", "other", "chat", "", "raise")
    assert (usual.per_request, usual.concurrency) == (32, 8)
    assert usual.door == Server("http://127.0.0.1:9/v1", "OPENAI_API_KEY", timeout=600.0, retries=5, draws=True)
    own = OpenAIModel("http://127.0.0.1:9/v1", timeout=7.0, retries=2, api_key_env="KEY", per_request=1, concurrency=1)
    assert own.door == Server("http://127.0.0.1:9/v1", "KEY", timeout=7.0, retries=2, draws=True)


def test_one_is_enough_and_none_is_not():
    for name in ("per_request", "concurrency"):
        assert getattr(OpenAIModel("http://127.0.0.1:9/v1", **{name: 1}), name) == 1
        with pytest.raises(InputError, match=f"{name} is 0: give a whole number >= 1"):
            OpenAIModel("http://127.0.0.1:9/v1", **{name: 0})
    assert OpenAIModel("http://127.0.0.1:9/v1", system="s").system == "s"
    for server in ("vllm", "openai", "other"):
        for api in ("chat", "completions"):
            assert OpenAIModel("http://127.0.0.1:9/v1", server=server, api=api).system == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"server": "tgi"}, "server is 'tgi'"),
        ({"api": "responses"}, "api is 'responses'"),
        ({"reasoning": True}, "reasoning is True"),
        ({"per_request": 0}, "per_request is 0"),
        ({"api": "completions", "system": "s"}, "put it into the prompts"),
    ],
)
def test_bad_settings_are_named(given, message):
    with pytest.raises(InputError, match=message):
        OpenAIModel("http://127.0.0.1:9/v1", "x", **given)
