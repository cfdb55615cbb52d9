"""What servers do that replaces evidence by something harmless: each case by its id in the list of cases."""

import json
import time

import pytest
from chat_server import answer, chat_server, choice, like_vllm, uniform
from llama_server import llama_server

from leakbound import report
from leakbound.auditing.drawing import sample
from leakbound.auditing.steps import audit, bound, score
from leakbound.cli import main
from leakbound.errors import IncompleteRunError, InputError, ModelError, RunMismatchError
from leakbound.models.openai import OpenAIModel, draw_seed
from leakbound.models.opening import Loading, open_model
from leakbound.records import Prompt, SamplingParams, Shard
from leakbound.runs.store import Run
from leakbound.server import Server

PROMPTS = (Prompt("p1", "Where was she born?", "Paris"), Prompt("p2", "Who is he?", "a baker"))
ONE = Shard(PROMPTS[:1], 0, 4, 0)
LONG = SamplingParams()


def run_json(folder):
    return json.loads((folder / "run.json").read_text())


def leaks(draws):
    return sum(d.count for d in draws if "Paris" in d.text)


@pytest.mark.parametrize("kind", ["llama.cpp", "other"])
def test_g6_the_whole_law_is_drawn_from_although_the_server_would_truncate_it(kind):
    with llama_server(0.4) as (url, got):
        draws = OpenAIModel(url, "little", server=kind).sample(Shard(PROMPTS[:1], 0, 400, 0), LONG)
        assert 100 < leaks(draws) < 220  # binomial(400, .4): outside with probability < 1e-8
        assert leaks(OpenAIModel(url, "little", server="openai").sample(Shard(PROMPTS[:1], 0, 400, 0), LONG)) == 0
    assert all(body["top_p"] == 1 for _, body in got)


def test_g6_run_json_separates_asked_sent_and_confirmed(tmp_path):
    with llama_server(0.4) as (url, _):
        sample(OpenAIModel(url, "little", server="llama.cpp"), PROMPTS, tmp_path / "a", num_samples=8)
        served = run_json(tmp_path / "a")["served"]
        assert (served["sent"]["top_k"], served["sent"]["min_p"], served["not_sent"]) == (0, 0.0, [])
        confirmed = served["confirmed"]
        assert confirmed["settings"].keys() == served["sent"].keys()
        assert confirmed["settings"]["samplers"] == ["temperature", "top_k", "top_p", "min_p"]
        assert (confirmed["model"], confirmed["system_fingerprint"]) == ("little", "b0-unknown")
        assert (confirmed["build_info"], confirmed["model_ftype"]) == ("b0-unknown", "Q4_1")
        run = sample(OpenAIModel(url, "little", server="openai"), PROMPTS, tmp_path / "b", num_samples=8)
        score(run)
    fixed = run_json(tmp_path / "b")
    assert fixed["served"]["not_sent"] == ["min_p", "repetition_penalty", "top_k"]
    assert fixed["served"]["confirmed"].keys() == {"model", "system_fingerprint"}
    assert not {"top_k", "min_p"} & (fixed["params"].keys() | fixed["served"]["sent"].keys())  # never recorded as off
    said = " ".join(report.to_markdown(bound(run)).split())
    assert "Not sent to the server, so that its own setting of it is part of every statement: min" in said


def test_g6_nothing_is_confirmed_where_nothing_is_said(tmp_path):
    with chat_server(like_vllm(0.2)) as (url, _):
        sample(OpenAIModel(url, "little", server="vllm"), PROMPTS, tmp_path / "run", num_samples=8)
    served = run_json(tmp_path / "run")["served"]
    assert served["confirmed"] == {"model": "little"}
    assert (served["sent"]["top_k"], served["sent"]["repetition_penalty"]) == (-1, 1.0)


@pytest.mark.parametrize(
    ("forced", "said"),
    [
        ({"top_k": 40}, "reports top_k 40, not 0"),
        ({"temperature": 0.9}, r"temperature 0.9, not 1.0"),
        ({"samplers": ["top_k"]}, "samplers"),
        ({"repeat_penalty": 1.05}, "repeat_penalty 1.05, not 1.0"),
    ],
)
def test_g6_a_server_that_decodes_otherwise_is_refused_before_the_first_draw(forced, said, tmp_path):
    with llama_server(0.4, forced=forced) as (url, _), pytest.raises(ModelError, match=said):
        sample(OpenAIModel(url, "little", server="llama.cpp"), PROMPTS, tmp_path / "run", num_samples=8)
    assert not (tmp_path / "run").exists()


def test_g6_a_float_is_confirmed_to_float32():
    with llama_server(0.4, forced={"temperature": 0.699999988079071}) as (url, _):
        served = OpenAIModel(url, "little", server="llama.cpp").agreement(SamplingParams(temperature=0.7))
    assert served["confirmed"]["settings"]["temperature"] == pytest.approx(0.7)


def test_g6_a_parameter_that_a_server_refuses_ends_the_audit_or_is_named(tmp_path):
    def strict(payload):
        for name in ("top_k", "min_p"):
            if name in payload:
                return (400, f"Unrecognized request argument supplied: {name}")
        return like_vllm(0.2)(payload)

    with chat_server(strict) as (url, _):
        with pytest.raises(ModelError, match=r"argument supplied: top_k.*give --not-sent top_k, or --server openai"):
            sample(OpenAIModel(url, "little"), PROMPTS, tmp_path / "run", num_samples=8)
        assert not (tmp_path / "run").exists()
        named = OpenAIModel(url, "little", not_sent=("top_k", "min_p"))
        sample(named, PROMPTS, tmp_path / "run", num_samples=8)
        served = run_json(tmp_path / "run")["served"]
        assert served["not_sent"] == ["min_p", "top_k"]
        assert not {"top_k", "min_p"} & served["sent"].keys()
        with pytest.raises(InputError, match="top_k is 3: it is not sent"):
            named.sample(ONE, SamplingParams(top_k=3))
    for name in ("temperature", "max_tokens", "n", "stop", "whatever"):
        with pytest.raises(InputError, match=f"not_sent holds '{name}': give some of seed, "):
            OpenAIModel("http://127.0.0.1:9/v1", not_sent=(name,))


def test_g6_a_resumed_run_has_sent_the_same_and_older_folders_are_read(tmp_path):
    with llama_server(0.4) as (url, _):
        sample(OpenAIModel(url, "little", server="llama.cpp"), PROMPTS, tmp_path / "run", num_samples=8)
        sample(OpenAIModel(url, "little", server="llama.cpp", per_request=3), PROMPTS, tmp_path / "run", num_samples=8)
        same = {"params": SamplingParams(), "num_samples": 8}
        for other in ({"not_sent": ("dry_multiplier",)}, {"server": "other"}):
            with pytest.raises(RunMismatchError, match="served"):
                sample(
                    OpenAIModel(url, "little", **{"server": "llama.cpp", **other}), PROMPTS, tmp_path / "run", **same
                )
        older = run_json(tmp_path / "run")
        del older["served"]
        (tmp_path / "run" / "run.json").write_text(json.dumps(older))
        assert len(Run.open(tmp_path / "run").read_draws(Run.open(tmp_path / "run").parts[-1])) >= 2
        with pytest.raises(RunMismatchError, match="served"):
            sample(OpenAIModel(url, "little", server="llama.cpp"), PROMPTS, tmp_path / "run", **same)


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


def message(**fields):
    return lambda p: [{"message": {"role": "assistant", **fields}, "finish_reason": "stop"}] * p["n"]


TOOL = [{"id": "1", "type": "function", "function": {"name": "say", "arguments": '{"text": "Paris"}'}}]


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
    empty = message(content="", refusal=None, tool_calls=[], reasoning="", reasoning_details=[], thinking=None)
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
    hidden = [{"type": "reasoning.encrypted", "data": "gAAAA"}]
    with chat_server(message(content="no", reasoning_details=hidden)) as (url, _):
        with pytest.raises(InputError, match="cannot be judged"):
            OpenAIModel(url, "little", reasoning="keep").sample(ONE, LONG)
        assert OpenAIModel(url, "little", reasoning="drop").sample(ONE, LONG)[0].text == "no"


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ({"error": {"message": "out of memory", "code": 500}}, IncompleteRunError, "out of memory"),
        ({"error": {"message": "context too long", "code": 400}}, ModelError, "refuses: .*context too long"),
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
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in "".join(capsys.readouterr())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_o21_an_address_is_one(address):
    with pytest.raises(InputError, match="give an address such as"):
        Server(address)


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


def test_n1_fewer_at_a_time_where_the_server_takes_fewer_and_the_same_draws():
    seeds = {8: [], 32: [], 1: []}
    found = {}
    for slots, used in seeds.items():
        with llama_server(0.3, slots=slots, seeds=used) as (url, got):
            model = OpenAIModel(url, "little", server="llama.cpp", concurrency=1)
            found[slots] = model.sample(Shard(PROMPTS, 0, 40, 3), LONG)
            refused = sum(body["n"] > slots for _, body in got)
            assert refused == {8: 2, 32: 0, 1: 5}[slots]  # 32, 16, 8, 4, 2: once each
    first = draw_seed(3, "p1", 0, 2**32 - 1)
    for used in seeds.values():
        assert sorted(used) == sorted(seeds[32])
        assert [s for text, s in used if text == PROMPTS[0].text][:40] == [first + i for i in range(40)]
    assert found[8] == found[32]
    assert {(d.prompt_id, d.text, d.count) for d in found[1]} == {(d.prompt_id, d.text, d.count) for d in found[32]}
    assert all(d.places for d in found[1])  # each came alone, so the order is known
    assert not any(d.places for d in found[8])


def test_n1_a_server_that_knows_no_n_is_asked_one_by_one():
    def reply(payload):
        return [choice("Paris" if uniform(payload["seed"]) < 0.5 else "no")]

    with chat_server(reply) as (url, got):
        draws = OpenAIModel(url, "little", per_request=16, concurrency=1).sample(Shard(PROMPTS[:1], 5, 20, 0), LONG)
    expected = [uniform(draw_seed(0, "p1", k)) < 0.5 for k in range(5, 25)]
    assert leaks(draws) == sum(expected)
    assert [len(d.places) for d in draws] == [d.count for d in draws]
    assert [body["n"] for _, body in got] == [16] + [1] * 20


def test_n1_llama_seeds_stay_within_32_bits_and_differ():
    for draw in (0, 2**32 - 2, 2**32 - 1, 2**40):
        assert 0 <= draw_seed(0, "p", draw, 2**32 - 1) < 2**32 - 1  # the largest of 32 bits means: any seed
    assert len({draw_seed(0, "p", d, 2**32 - 1) for d in range(1000)}) == 1000


def test_another_model_in_the_middle_of_a_run_ends_it():
    def reply(payload):
        body = answer(payload, [choice("x")])
        return {**body, "model": "first" if payload["seed"] % 2 else "second"}

    with chat_server(reply) as (url, _), pytest.raises(IncompleteRunError, match="another model answers"):
        OpenAIModel(url, "little", per_request=1).sample(ONE, LONG)


def test_the_command_line_reaches_the_server(tmp_path, capsys):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"text": "Where was she born?", "target": "Paris"}\n')
    own = ["--server", "llama.cpp", "--per-request", "4"]
    with llama_server(0.4) as (url, got):
        asked = [f"{url}#little", "--prompts", str(prompts), "--num-samples", "8", "--scorer", "contains"]
        main(["audit", *asked, *own, "--out", str(tmp_path / "a")])
        assert {body["n"] for _, body in got} == {1, 4}
        main(["sample", *asked, *own, "--not-sent", "xtc_probability", "--out", str(tmp_path / "b")])
        main(["plan", "leak<=0.1", "--model", f"{url}#little", "--prompts", str(prompts), *own])
    assert run_json(tmp_path / "a")["model"]["server"] == "llama.cpp"
    assert run_json(tmp_path / "b")["served"]["not_sent"] == ["xtc_probability"]
    assert "1 prompt x" in capsys.readouterr().out


def test_options_of_servers_are_refused_for_other_models():
    for model in ("org/name", "leakbound.models.fake:FakeModel"):
        with pytest.raises(InputError, match="server, per_request given, and model is"):
            open_model(model, loading=Loading(server="vllm", per_request=1))
    assert open_model(
        "http://127.0.0.1:9/v1#m", loading=Loading(server="vllm", per_request=1, not_sent=("min_p",))
    ) == (OpenAIModel("http://127.0.0.1:9/v1", "m", server="vllm", per_request=1, not_sent=("min_p",)))
    assert Loading().to_json().keys() == {"revision", "dtype", "device", "trust_remote_code"}
    assert Loading(server="vllm").to_json()["server"] == "vllm"
