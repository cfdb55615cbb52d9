"""A server that draws from another law, or fewer at a time: each case by its id in the list of cases."""

import json
from types import SimpleNamespace

import pytest
from chat_server import answer, chat_server, choice, like_vllm, uniform
from llama_server import llama_server

from leakbound import report
from leakbound.auditing.drawing import sample
from leakbound.auditing.steps import bound, score
from leakbound.cli import main
from leakbound.errors import IncompleteRunError, InputError, ModelError, RunMismatchError
from leakbound.evaluating.config import BenchmarkConfig, HowAsked, LoadingModel
from leakbound.models.openai import OpenAIModel, draw_seed
from leakbound.models.opening import Loading, open_model
from leakbound.records import Prompt, SamplingParams, Shard
from leakbound.runs.store import Run

PROMPTS = (Prompt("p1", "Where was she born?", "Paris"), Prompt("p2", "Who is he?", "a baker"))
ONE = Shard(PROMPTS[:1], 0, 4, 0)
LONG = SamplingParams()


def run_json(folder):
    return json.loads((folder / "run.json").read_text())


def leaks(draws):
    return sum(d.count for d in draws if "Paris" in d.text)


@pytest.mark.parametrize("kind", ["llama.cpp", "other"])
@pytest.mark.slow
def test_g6_the_whole_law_is_drawn_from_although_the_server_would_truncate_it(kind):
    with llama_server(0.4) as (url, got):
        model = OpenAIModel(url, "little", server=kind)
        model.check(PROMPTS, LONG)
        draws = model.sample(Shard(PROMPTS[:1], 0, 400, 0), LONG)
        assert 100 < leaks(draws) < 220  # binomial(400, .4): outside with probability < 1e-8
        plain = OpenAIModel(url, "little", server="openai", per_request=8)
        assert leaks(plain.sample(Shard(PROMPTS[:1], 0, 400, 0), LONG)) == 0
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
    assert "Caution" not in said


def test_another_name_in_the_answers_stands_beside_the_statements(tmp_path):
    with chat_server(lambda p: {**answer(p, [choice("no")] * p["n"]), "model": "tiny"}) as (url, _):
        run = sample(OpenAIModel(url, "little"), PROMPTS, tmp_path / "run", num_samples=8)
        score(run)
    said = " ".join(report.to_markdown(bound(run)).split())
    assert "Caution: The server was asked for 'little', and 'tiny' answered." in said


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
        ({"min_keep": "none"}, "min_keep 'none', not 0"),
        ({"repeat_penalty": 1.05}, "repeat_penalty 1.05, not 1.0"),
    ],
)
def test_g6_a_server_that_decodes_otherwise_is_refused_before_the_first_draw(forced, said, tmp_path):
    with llama_server(0.4, forced=forced) as (url, _), pytest.raises(ModelError, match=said):
        sample(OpenAIModel(url, "little", server="llama.cpp"), PROMPTS, tmp_path / "run", num_samples=8)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("told", [None, "verbose", {"generation_settings": []}])
def test_g6_a_llama_server_that_tells_nothing_confirms_nothing(told):
    def reply(payload):
        return answer(payload, like_vllm(0.2)(payload)) | {"__verbose": told}

    with chat_server(reply) as (url, _):
        served = OpenAIModel(url, "little", server="llama.cpp", retries=0).agreement(LONG)
    assert served["confirmed"] == {"model": "little", "settings": {}}


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
    with chat_server(lambda _: (404, "The model `little` does not exist")) as (url, _):
        with pytest.raises(ModelError, match=r"does not exist") as raised:
            OpenAIModel(url, "little").sample(ONE, LONG)
        assert "not-sent" not in str(raised.value)
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
        model = OpenAIModel(url, "little", server="llama.cpp")
        before = SimpleNamespace(describe=model.describe, sample=model.sample)  # there was no agreement then
        run = sample(before, PROMPTS, tmp_path / "older", **same)
        assert "served" not in run.info
        score(run)
        assert len(bound(Run.open(tmp_path / "older")).prompts) == 2
        with pytest.raises(RunMismatchError, match="served"):
            sample(model, PROMPTS, tmp_path / "older", **same)


def test_n1_fewer_at_a_time_where_the_server_takes_fewer_and_the_same_draws():
    seeds = {8: [], 32: [], 1: []}
    found = {}
    for slots, used in seeds.items():
        with llama_server(0.3, slots=slots, seeds=used) as (url, got):
            model = OpenAIModel(url, "little", server="llama.cpp", concurrency=1)
            model.check(PROMPTS, LONG)
            used.clear()
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
        model = OpenAIModel(url, "little", per_request=16, concurrency=1)
        model.check(PROMPTS, LONG)
        draws = model.sample(Shard(PROMPTS[:1], 5, 20, 0), LONG)
    expected = [uniform(draw_seed(0, "p1", k)) < 0.5 for k in range(5, 25)]
    assert leaks(draws) == sum(expected)
    assert [len(d.places) for d in draws] == [d.count for d in draws]
    assert [body["n"] for _, body in got] == [16] + [1] * 20


@pytest.mark.parametrize("said", ["completion blocked by output guard", "n must be 1: best_of", "seed phrase found"])
def test_what_is_refused_once_draws_are_judged_is_not_asked_for_in_another_way(said):
    """A guard that refuses a request for what one of its answers says: fewer at a time would leave that answer out."""

    def reply(payload):
        about = payload["messages"][-1]["content"] == PROMPTS[0].text
        return (400, said) if about else [choice("no")] * payload["n"]

    with chat_server(reply) as (url, got):
        model = OpenAIModel(url, "little", per_request=8, concurrency=1)
        model.check(PROMPTS, LONG)
        with pytest.raises(IncompleteRunError, match=f"{said}; this may be about what the model said") as raised:
            model.sample(Shard(PROMPTS[:1], 0, 8, 0), LONG)
    assert raised.value.of_answer
    assert [body["n"] for _, body in got] == [8, 8]
    assert ("give --per-request 1" in str(raised.value)) == ("best_of" in said)


def test_how_many_a_server_gives_is_learnt_from_a_question_that_is_not_judged():
    with chat_server(lambda p: [choice("no")] * (p["n"] if "France" in str(p) else p["n"] - 1)) as (url, got):
        model = OpenAIModel(url, "little", per_request=8, concurrency=1)
        model.check(PROMPTS, LONG)
        with pytest.raises(
            IncompleteRunError, match="gave 7 completions for n = 8: which are given may depend"
        ) as raised:
            model.sample(Shard(PROMPTS[:1], 0, 8, 0), LONG)
    assert raised.value.of_answer
    assert len(got) == 2
    with chat_server(lambda _: (400, "completion blocked")) as (url, got), pytest.raises(ModelError, match="blocked"):
        OpenAIModel(url, "little").check(PROMPTS, LONG)
    assert len(got) == 1


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
        main(
            [
                "sample",
                *asked,
                *own,
                "--not-sent",
                "xtc_probability",
                "--not-sent",
                "seed",
                "--out",
                str(tmp_path / "b"),
            ]
        )
        main(["plan", "leak<=0.1", "--model", f"{url}#little", "--prompts", str(prompts), *own])
    assert run_json(tmp_path / "a")["model"]["server"] == "llama.cpp"
    assert run_json(tmp_path / "b")["served"]["not_sent"] == ["seed", "xtc_probability"]
    assert "1 prompt x" in capsys.readouterr().out


def test_options_of_servers_are_refused_for_other_models():
    for model in ("org/name", "leakbound.models.fake:FakeModel"):
        with pytest.raises(InputError, match="server is 'vllm', per_request is 1, and model is"):
            open_model(model, loading=Loading(server="vllm", per_request=1))
    assert open_model(
        "http://127.0.0.1:9/v1#m", loading=Loading(server="vllm", per_request=1, not_sent=("min_p",))
    ) == (OpenAIModel("http://127.0.0.1:9/v1", "m", server="vllm", per_request=1, not_sent=("min_p",)))
    usual, own = (BenchmarkConfig(model="m", how=HowAsked(loading=LoadingModel(server=k))) for k in ("other", "vllm"))
    assert "server" not in usual.to_json()["loading"]
    assert own.to_json()["loading"]["server"] == "vllm"
    assert Loading().to_json().keys() == {"revision", "dtype", "device", "trust_remote_code"}
    assert Loading(server="vllm").to_json()["server"] == "vllm"
