import dataclasses
import inspect
import json
import math
import os
from pathlib import Path

import fake_vllm
import pytest
import vllm
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm_model import DECODINGS, PROMPTS, adapter, folder

from leakbound.errors import InputError, ModelError
from leakbound.models.hf import HFModel
from leakbound.models.opening import Loading, open_model
from leakbound.models.vllm import VLLMModel
from leakbound.models.vllm.engine import SETTINGS
from leakbound.records import SamplingParams, Shard

QUICK = ("enforce_eager=true", "max_model_len=64")
SHARD = Shard(PROMPTS, 3, 24, 5)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("weights") / "base")


@pytest.fixture(scope="module")
def model(base):
    return open_model(f"vllm:{base}", loading=Loading(vllm=QUICK))


@pytest.fixture(scope="module")
def recorded(model):
    """The engine, which notes what it is asked and says."""
    notes, plain = [], model.engine.llm.generate

    def generate(prompts, params, **settings):
        outputs = plain(prompts, params, **settings)
        for prompt, one, output in zip(prompts, params, outputs, strict=True):
            said = output.outputs[0]
            logprobs = [round(next(iter(step.values())).logprob, 4) for step in said.logprobs]
            notes.append(
                {"prompt": list(prompt["prompt_token_ids"]), "seed": one.seed, "temperature": one.temperature}
                | {"tokens": list(said.token_ids), "logprobs": logprobs, "text": said.text}
                | {"finish_reason": said.finish_reason, "stop_reason": said.stop_reason}
            )
        return outputs

    model.engine.llm.generate = generate
    yield model
    if "VLLM_RECORD" in os.environ:
        asked = {"shard": {"first": SHARD.first, "num_samples": SHARD.num_samples, "seed": SHARD.seed}}
        lines = ",\n".join(dict.fromkeys(json.dumps(note, separators=(",", ":")) for note in notes))
        head = json.dumps({"version": vllm.__version__, **asked, "flags": model.engine.flags})[:-1]
        Path(os.environ["VLLM_RECORD"]).write_text(f'{head}, "outputs": [\n{lines}\n]}}\n')


@pytest.mark.parametrize("name", DECODINGS)
def test_draws_follow_the_law_of_the_weights(recorded, base, name):
    params = DECODINGS[name]
    recorded.check(PROMPTS, params)
    draws = recorded.sample(SHARD, params)
    for prompt in PROMPTS:
        mine = [draw for draw in draws if draw.prompt_id == prompt.id]
        assert sorted(i for draw in mine for i in draw.places) == list(range(3, 27))
    if not params.greedy:
        assert recorded._witnesses[params].law.answers >= 32
    known = HFModel.load(base, dtype="float32", device="cpu")
    ours = known.sample(SHARD, params) if params.greedy else None
    if ours:
        assert [(d.text, d.finish_reason, d.num_tokens) for d in draws] == [
            (d.text, d.finish_reason, d.num_tokens) for d in ours
        ]
        return
    of = {prompt.id: prompt for prompt in PROMPTS}
    told = [(of[n], i) for n in of for i in range(3, 27)]
    for (prompt, _), one in recorded._draws(SHARD.seed, told, params):
        (want,) = known.logprobs([prompt], [one.tokens], params)
        assert math.isclose(math.fsum(one.logprobs), want, abs_tol=1e-3)


def test_the_same_seeds_give_the_same_draws(model):
    params = SamplingParams(max_tokens=8)
    whole = model.answers(1, PROMPTS[0], 0, 12, params)
    assert model.answers(1, PROMPTS[0], 4, 8, params) == whole[4:]
    assert len({answer.tokens for answer in whole}) > 3


def test_an_adapter_is_drawn_from_and_its_base_is_another_law(base, tmp_path):
    changed = adapter(tmp_path / "adapter", base)
    model = VLLMModel(changed, settings={"enforce_eager": True, "max_model_len": 64}, base=base)
    params = SamplingParams(max_tokens=8)
    model.sample(SHARD, params)
    known = HFModel.load(changed, base=base, dtype="float32", device="cpu")
    for (prompt, _), told in model._draws(9, [(prompt, i) for prompt in PROMPTS for i in range(4)], params):
        assert math.isclose(math.fsum(told.logprobs), known.logprobs([prompt], [told.tokens], params)[0], abs_tol=1e-3)
    plain = VLLMModel(base, settings=model.settings)
    plain.__dict__["engine"] = model.engine  # says that it is the base, and draws with the adapter
    plain.__dict__["_known"] = HFModel.load(base, dtype="float32", device="cpu")
    with pytest.raises(ModelError, match="not from the law of these weights"):
        plain.sample(SHARD, params)


def test_parameters_that_vllm_refuses_are_refused_before_the_first_draw(model):
    with pytest.raises(ModelError, match=r"temperature must be in \[0, 2\]"):
        model.check(PROMPTS, SamplingParams(temperature=3.0))
    with pytest.raises(InputError, match="the engine has room for 64"):
        model.check(PROMPTS, SamplingParams(max_tokens=62))


def test_the_fake_of_the_default_tests_has_this_interface():
    real = inspect.signature(vllm.SamplingParams).parameters
    for name, parameter in inspect.signature(fake_vllm.SamplingParams).parameters.items():
        assert real[name].default == parameter.default, name
    engine = {**{f.name: f for f in dataclasses.fields(EngineArgs)}, **inspect.signature(vllm.LLM).parameters}
    assert set(inspect.signature(fake_vllm.LLM).parameters) | set(SETTINGS) <= set(engine)
    generate = inspect.signature(vllm.LLM.generate).parameters
    for name, parameter in inspect.signature(fake_vllm.LLM.generate).parameters.items():
        assert (generate[name].kind, generate[name].default) == (parameter.kind, parameter.default), name
    assert set(inspect.signature(fake_vllm.LoRARequest).parameters) <= set(inspect.signature(LoRARequest).parameters)
    for fake, there in ((fake_vllm.CompletionOutput, CompletionOutput), (fake_vllm.RequestOutput, RequestOutput)):
        assert set(inspect.signature(fake).parameters) <= set(inspect.signature(there).parameters)
