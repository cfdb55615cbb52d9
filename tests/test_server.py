"""The door to servers: what is no answer, addresses, redirects and time; each case by its id in the list of cases."""

import time

import pytest
from chat_server import chat_server, like_vllm

from leakbound.auditing.steps import audit
from leakbound.cli import main
from leakbound.errors import IncompleteRunError, InputError, ModelError
from leakbound.models.openai import OpenAIModel
from leakbound.records import Prompt, SamplingParams, Shard
from leakbound.scoring.chat_judge import ChatJudge
from leakbound.server import Server

PROMPTS = (Prompt("p1", "Where was she born?", "Paris"), Prompt("p2", "Who is he?", "a baker"))
ONE = Shard(PROMPTS[:1], 0, 4, 0)
LONG = SamplingParams()


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ({"error": {"message": "out of memory", "code": 500}}, IncompleteRunError, "out of memory"),
        ({"error": {"message": "context too long", "code": 400}}, IncompleteRunError, "refuses: .*context too long"),
        ({"error": "overloaded"}, IncompleteRunError, "overloaded"),
        ({"object": "error", "message": "no such model", "code": 404}, ModelError, "refuses: .*no such model"),
        ('"I cannot"', ModelError, "no JSON object but .*I cannot.*is base_url right"),
        ("[]", ModelError, "no JSON object"),
        ("<html><body>Welcome</body></html>", ModelError, "no JSON object but '<html>"),
        ("", ModelError, "no JSON object"),
        ('{"choices": [{"message": {"content": "x"', IncompleteRunError, "ends early or is damaged"),
        ('{"a":' * 100_000, IncompleteRunError, "ends early or is damaged"),
        ({}, IncompleteRunError, "gave 0 completions for n = 1"),
        ({"choices": {"0": "x"}}, IncompleteRunError, "gave 0 completions for n = 1"),
        ({"choices": ["x"]}, IncompleteRunError, "has no message"),
    ],
)  # fmt: skip
def test_o03_o04_a_body_that_is_no_answer_is_named(body, error, said):
    with chat_server(lambda _: body) as (url, _), pytest.raises(error, match=said):
        OpenAIModel(url, "little", per_request=1, retries=0).sample(Shard(PROMPTS[:1], 0, 1, 0), LONG)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_o21_another_host_is_not_asked_in_place_of_the_first(status):
    with chat_server(like_vllm(1.0)) as (other, got):
        elsewhere = other.replace("127.0.0.1", "localhost") + "/chat/completions"
        with (
            chat_server(lambda _: (status, elsewhere)) as (url, _),
            pytest.raises(ModelError, match="the server sends on to localhost /v1/chat/completions"),
        ):
            OpenAIModel(url, "little").sample(ONE, LONG)
        assert not got


@pytest.mark.parametrize("address", ["http://me:hunter2@HOST", "http://hunter2@HOST", "HOST?key=hunter2",
                                     "http://me:hunter2#x@HOST"])  # fmt: skip
def test_o21_credentials_in_an_address_go_nowhere(address, tmp_path, capsys):
    with chat_server(like_vllm(0.2)) as (url, got):
        model = address.replace("http://", "").replace("HOST", url.removeprefix("http://"))
        with pytest.raises(InputError) as raised:
            audit(f"http://{model}", PROMPTS, num_samples=4, out=tmp_path / "run", progress=False)
        prompts = tmp_path / "p.jsonl"
        prompts.write_text('{"text": "Where?", "target": "Paris"}\n')
        with pytest.raises(SystemExit, match="2"):
            main(["audit", f"http://{model}", "--prompts", str(prompts), "--out", str(tmp_path / "run")])
        assert not got
    with pytest.raises(InputError, match="base_url"):
        ChatJudge("judge", base_url="http://me:hunter2@host/v1").ready()
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in "".join(capsys.readouterr())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_o21_an_address_is_one(address):
    with pytest.raises(InputError, match="give an address such as"):
        Server(address)


@pytest.mark.parametrize(("status", "asked"), [(500, 1), (502, 1), (504, 1), (429, 3), (503, 3)])
def test_a_draw_is_asked_for_again_only_where_it_was_not_answered(status, asked, monkeypatch):
    """A guard that answers 500 where the model leaks: to ask until it does not would draw from what is clean."""
    slept = []
    monkeypatch.setattr("leakbound.server.time.sleep", slept.append)
    with chat_server(lambda _: (status, "guard")) as (url, got):
        with pytest.raises(IncompleteRunError, match="guard") as raised:
            Server(url, retries=2, draws=True).ask("a draw", "/chat/completions", {})
        assert len(got) == asked
        assert ("sound only where failures do not depend on answers" in str(raised.value)) == (asked == 1)
    assert slept == [0.5, 1.0][: asked - 1]


def test_a_draw_is_asked_for_again_where_there_was_no_connection_and_not_where_it_broke(monkeypatch):
    slept = []
    monkeypatch.setattr("leakbound.server.time.sleep", slept.append)
    with pytest.raises(IncompleteRunError, match="run it again when the server answers"):
        Server("http://127.0.0.1:9/v1", retries=5, draws=True).ask("a draw", "/chat/completions", {})
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0]
    with chat_server(lambda _: lambda file: file.close()) as (url, got):
        with pytest.raises(IncompleteRunError, match="not asked again by itself"):
            Server(url, retries=5, draws=True).ask("a draw", "/chat/completions", {})
        assert len(got) == 1


def test_a_busy_server_is_asked_again_and_a_judge_after_any_failure(monkeypatch):
    slept, failures = [], [(503, "busy"), (429, "busy")]
    monkeypatch.setattr("leakbound.server.time.sleep", slept.append)
    with chat_server(lambda p: failures.pop() if failures else like_vllm(0.0)(p)) as (url, got):
        draws = OpenAIModel(url, "little", per_request=4).sample(ONE, LONG)
        assert [(d.text, d.count) for d in draws] == [("I do not know", 4)]
        assert len(got) == 3
        failures.append((500, "out of memory"))
        asked = {"messages": [{"content": "x"}], "n": 1, "temperature": 0, "model": "little"}
        assert Server(url).ask("judge", "/chat/completions", asked)["choices"]


def test_o21_the_time_is_that_of_the_whole_answer():
    def dribble(file):
        try:
            file.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while True:
                file.write(b" ")
                file.flush()
                time.sleep(0.05)
        except OSError:
            pass

    with chat_server(lambda _: dribble) as (url, _):
        server, begun = Server(url, timeout=0.4, retries=5), time.monotonic()
        with pytest.raises(IncompleteRunError, match=r"no answer within 0.4 seconds; what was done so far is kept"):
            server.ask("a question", "/chat/completions", {})
        assert time.monotonic() - begun < 60
        server.client.close()
