"""A server that draws from a small model, honestly or not, against its weights."""

import json
import threading

import pytest
from chat_server import answer, chat_server
from tiny_models import tiny_model, word_tokenizer

from leakbound import OpenAIModel, attest
from leakbound.cli import main
from leakbound.errors import InputError
from leakbound.models.hf import HFModel
from leakbound.models.hf.faults import faults
from leakbound.models.openai import raw_tokens, token_ids
from leakbound.records import Prompt, SamplingParams, Shard
from leakbound.results.attestation import Attestation

PROMPTS = [{"id": f"p{i}", "text": text, "target": "c"} for i, text in enumerate(("a b", "d c a", "b b a", "c"))]
MOST = 12


@pytest.fixture(scope="module")
def model():
    return HFModel(tiny_model(), word_tokenizer(), template="raw")


def served(model, *, copies=False, cut=None, tokens=True, **changed):
    """Replies that are drawn from the model: with other parameters than asked for, as copies, or cut short."""

    alone = threading.Lock()  # requests come at once, and a model is asked by one thread at a time

    def reply(payload):
        with alone:
            return drawn(payload)

    def drawn(payload):
        asked = {"temperature": payload["temperature"], "top_p": payload["top_p"], "max_tokens": cut or MOST, **changed}
        said = []
        for j in range(payload["n"]):
            seed = (payload["seed"] + j) % (3 if copies else 2**40)
            shard = Shard((Prompt("s", payload["messages"][-1]["content"], "c"),), 0, 1, seed)
            found = model.generations(shard, SamplingParams(**asked))[0][0]
            listed = {"content": [{"token": f"token_id:{t}", "logprob": -1.0} for t in found.tokens]}
            message = {"role": "assistant", "content": found.text}
            said.append(
                {"message": message, "finish_reason": found.finish_reason, **({"logprobs": listed} if tokens else {})}
            )
        raw = {"tokens": list(found.tokens)} if payload.get("return_tokens") else {}
        return answer(payload, said) | {"__verbose": raw}

    return reply


def found(model, reply, **settings):
    with chat_server(reply) as (url, _):
        asked = {"num_samples": 24, "params": SamplingParams(max_tokens=MOST), "progress": False, **settings}
        return attest(OpenAIModel(url, "little", per_request=8, concurrency=1), model, PROMPTS, **asked)


@pytest.mark.slow
def test_an_honest_server_is_not_refuted(model):
    result = found(model, served(model), num_samples=16)
    assert not result.refuted
    assert not result.contradictions
    assert result.num_answers > 40
    assert "not refuted" in str(result)


@pytest.mark.parametrize(("fault", "names"), [
    ({"temperature": 0.5}, "temperature"),
    pytest.param({"temperature": 2.0}, "temperature", marks=pytest.mark.slow),
    pytest.param({"top_p": 0.8}, "top_p", marks=pytest.mark.slow),
    ({"copies": True}, "copies"),
])  # fmt: skip
@pytest.mark.slow
def test_a_fault_is_refuted_and_named(model, fault, names):
    result = found(model, served(model, **fault))
    assert result.refuted
    assert names in result.nearest
    assert "refuted" in str(result)


@pytest.mark.slow
def test_answers_that_are_cut_early_need_no_statistics(model):
    result = found(model, served(model, cut=3))
    assert "cut after 3 tokens where max_tokens is 12" in result.contradictions[0]


def test_tokens_that_the_weights_do_not_have_are_another_models(model):
    honest = served(model)

    def reply(payload):
        said = honest(payload)
        said["choices"][0]["logprobs"]["content"][0]["token"] = "token_id:6"
        return said

    result = found(model, reply)
    assert "holds token 6, the weights have 6: another model's" in result.contradictions[0]
    assert not result.refuted
    assert "does not do what it was asked" in str(result)


def test_the_record_is_read_again_and_shown(model, tmp_path):
    result = found(model, served(model), num_samples=2, out=tmp_path)
    assert Attestation.load(tmp_path) == result
    assert json.loads((tmp_path / "attestation.json").read_text())["slack"] == 0.15
    assert len(result.to_frame()) == len(result.faults)


def test_what_shows_no_law_is_refused(model):
    with pytest.raises(InputError, match="no token numbers"):
        found(model, served(model, tokens=False))
    with pytest.raises(InputError, match="stop is"):
        found(model, served(model), params=SamplingParams(max_tokens=MOST, stop=("b",)))
    with pytest.raises(InputError, match="temperature is 0"):
        found(model, served(model), params=SamplingParams(temperature=0))
    with pytest.raises(InputError, match="server is"):
        attest(model, model, PROMPTS, progress=False)


def test_an_end_token_that_is_left_out_is_put_back_where_it_can_be_but_one(model):
    end = model._ends[0]
    assert model.with_end([3, end]) == (3, end)
    assert model.with_end([3]) == (3, end)
    several = HFModel(tiny_model(), word_tokenizer(), template="raw")
    several._ends = [end, 5]
    assert several.with_end([3, 5]) == (3, 5)
    with pytest.raises(InputError, match="has 2 of them"):
        several.with_end([3])
    several._ends = []
    assert several.with_end([3]) == (3,)
    assert not {"ends early", "never ends"} & set(faults(SamplingParams(), []))


def test_tokens_are_read_as_llama_cpp_and_vllm_give_them():
    assert token_ids({"logprobs": {"content": [{"token": "token_id:7"}, {"token": "token_id:2"}]}}) == (7, 2)
    assert token_ids({"logprobs": {"content": [{"token": "token_id:7"}, {"token": " a"}]}}) is None
    assert token_ids({"logprobs": {"content": [{"id": 5, "token": " a"}]}}) is None  # some tokens are not listed
    assert token_ids({"logprobs": None}) is None
    # vLLM 0.32, as it was, but for what is not read: of a chat, of a completion, an emoji of three tokens
    chat = {"content": [{"token": "token_id:19", "logprob": -1.5, "bytes": [50], "top_logprobs": []}]}
    plain = {"text_offset": [0, 13], "token_logprobs": [-0.25, -0.38], "tokens": ["token_id:7042", "token_id:30"]}
    emoji = {"content": [{"token": f"token_id:{t}", "bytes": b} for t, b in ((10813, []), (246, []), (117, [240]))]}
    assert [token_ids({"logprobs": x}) for x in (chat, plain, emoji)] == [(19,), (7042, 30), (10813, 246, 117)]
    assert token_ids({"logprobs": {"tokens": [" Paris", "."]}}) is None
    assert raw_tokens({"__verbose": {"tokens": [7, 2]}}) == (7, 2)
    assert raw_tokens({"__verbose": {"tokens": []}}) is None
    assert raw_tokens({}) is None


@pytest.mark.slow
def test_the_command_ends_with_one_where_the_law_is_refuted(model, tmp_path, capsys):
    folder = tmp_path / "model"
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    with chat_server(served(model, temperature=0.3)) as (url, _):
        line = ["attest", f"{url}#little", str(folder), str(file), "--max-tokens", str(MOST), "--template", "raw"]
        line += ["--server", "llama.cpp", "--per-request", "16", "--num-samples", "16"]
        with pytest.raises(SystemExit) as end:
            main([*line, "--out", str(tmp_path / "out")])
    assert end.value.code == 1
    assert "The stated law is refuted" in " ".join(capsys.readouterr().out.split())
