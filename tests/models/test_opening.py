"""How the name of a model becomes a Sampler."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import leakbound.models
from leakbound.auditing.certifying import certify
from leakbound.auditing.drawing import sample
from leakbound.errors import InputError
from leakbound.models import FakeModel
from leakbound.models.openai import OpenAIModel
from leakbound.models.opening import Loading, open_model
from leakbound.runs.store import Run


@pytest.fixture
def loaded(monkeypatch):
    """Stands for the back end that needs torch: notes what it is made from."""
    made = []

    class HFModel:
        def __init__(self, *given, **named):
            made.append(("made", given, named))

        @classmethod
        def load(cls, *given, **named):
            made.append(("loaded", given, named))
            return object.__new__(cls)

    hf = SimpleNamespace(HFModel=HFModel, load_tokenizer=lambda name: f"tokenizer of {name}")
    monkeypatch.setitem(sys.modules, "leakbound.models.hf", hf)
    monkeypatch.setattr(leakbound.models, "hf", hf, raising=False)

    def vllm(*given, **named):
        made.append(("vllm", given, named))

    monkeypatch.setitem(
        sys.modules, "leakbound.models.vllm", SimpleNamespace(VLLMModel=vllm, engine_settings=lambda told: list(told))
    )
    return made


def test_a_folder_or_hub_id_is_loaded_as_asked(loaded):
    usual = {"revision": None, "dtype": "auto", "device": "auto", "trust_remote_code": False}
    open_model("org/name")
    open_model("transformers:org/name")
    open_model(Path("some/folder"), template="raw", loading=Loading("v1", "float16", "cpu", "auto", True))
    other = {"revision": "v1", "dtype": "float16", "device": "cpu", "device_map": "auto", "trust_remote_code": True}
    assert loaded == [
        ("loaded", ("org/name",), {"template": "auto", **usual}),
        ("loaded", ("org/name",), {"template": "auto", **usual}),
        ("loaded", ("some/folder",), {"template": "raw", **other}),
    ]


def test_vllm_is_given_what_it_has_a_use_for(loaded):
    given = {"revision": "v1", "dtype": "float16", "trust_remote_code": True, "base": "org/base"}
    open_model("vllm:org/name", template="raw", loading=Loading(**given, vllm=("enforce_eager=true",)))
    assert loaded == [("vllm", ("org/name", "raw"), {"settings": ["enforce_eager=true"], **given})]


def test_a_model_in_memory_keeps_its_tokenizer_and_name(loaded):
    named = SimpleNamespace(config=SimpleNamespace(name_or_path="org/name"))
    unnamed, bare = SimpleNamespace(config=SimpleNamespace(name_or_path="")), SimpleNamespace(config=SimpleNamespace())
    open_model(named)
    open_model(named, tokenizer="mine", template="raw")
    open_model(named, tokenizer="")  # a tokenizer may be false: it is still the one that was given
    open_model(unnamed)
    open_model(bare, tokenizer="mine")
    assert loaded == [
        ("made", (named, "tokenizer of org/name"), {"template": "auto", "name": "org/name"}),
        ("made", (named, "mine"), {"template": "raw", "name": "org/name"}),
        ("made", (named, ""), {"template": "auto", "name": "org/name"}),
        ("made", (unnamed, "tokenizer of in-memory"), {"template": "auto", "name": "in-memory"}),
        ("made", (bare, "mine"), {"template": "auto", "name": "in-memory"}),
    ]


def fake():
    return FakeModel()


SETTINGS = {
    "template": {"template": "raw"},
    "tokenizer": {"tokenizer": "mine"},
    "revision": {"loading": Loading(revision="v1")},
    "dtype": {"loading": Loading(dtype="float16")},
    "device": {"loading": Loading(device="cpu")},
    "trust_remote_code": {"loading": Loading(trust_remote_code=True)},
    "base": {"loading": Loading(base="org/other")},
    "server": {"loading": Loading(server="vllm")},
    "per_request": {"loading": Loading(per_request=4)},
    "not_sent": {"loading": Loading(not_sent=("top_k",))},
    "vllm": {"loading": Loading(vllm=("enforce_eager=true",))},
}
WEIGHTS = ("revision", "dtype", "device", "trust_remote_code", "base")
SERVING = ("server", "per_request", "not_sent")


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    ("model", "used"),
    [
        ("org/name", ("template", *WEIGHTS)),
        (Path("some/folder"), ("template", *WEIGHTS)),
        ("transformers:org/name", ("template", *WEIGHTS)),
        ("http://localhost:1/v1#m", SERVING),
        ("openai:http://localhost:1/v1#m", SERVING),
        ("vllm:org/name", ("template", "revision", "dtype", "trust_remote_code", "base", "vllm")),
        (f"{__name__}:fake", ()),
        (f"module:{__name__}:fake", ()),
        (FakeModel(), ()),
        (SimpleNamespace(config=SimpleNamespace(name_or_path="m")), ("template", "tokenizer")),
    ],
    ids=str,
)
def test_what_a_model_has_no_use_for_is_refused_by_name(loaded, monkeypatch, model, used, name):
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(fake=fake))
    if name in used:
        open_model(model, **SETTINGS[name])
        return
    with pytest.raises(InputError, match=rf"^{name} is .*, and model is .*, which has no use for that: leave it out"):
        open_model(model, **SETTINGS[name])


def test_samplers_and_servers_need_no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "leakbound.models.hf", None)
    monkeypatch.delattr(leakbound.models, "hf", raising=False)
    sampler = FakeModel()
    assert open_model(sampler) is sampler
    monkeypatch.setattr(OpenAIModel, "from_url", lambda name, **_: ("server", name))
    for url in ("http://localhost:8000/v1#m", "https://example.org/v1#m"):
        assert open_model(url) == ("server", url)
        assert open_model(f"openai:{url}") == ("server", url)
    for model in (5, None, object()):
        with pytest.raises(InputError, match="give a folder, a hub id, a model of transformers, or a Sampler"):
            open_model(model)
    for model in ("org/name", Path("folder"), SimpleNamespace(config=None)):
        with pytest.raises(InputError, match=r"needs torch and transformers: pip install 'leakbound\[hf\]'"):
            open_model(model)


MINE = """
from leakbound import FakeModel

class Mine(FakeModel):
    def describe(self):
        return {"model": "mine", "version": 1}

def make():
    return Mine(leak=1.0)

def needy(path):
    return Mine()

class Silent:
    sample = FakeModel.sample

class Odd(Silent):
    def describe(self):
        return self.said

class Nameless(Odd):
    said = {"backend": "mine"}

class Unwritable(Odd):
    said = {"model": "mine", "weights": {1, 2}}

made, number = make(), 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_back_end.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_back_end", raising=False)


PROMPTS = [{"text": "What is it?", "target": "secret"}]


@pytest.mark.parametrize(
    "name", ["my_back_end:Mine", "my_back_end:make", "my_back_end:made", "module:my_back_end:make"]
)
def test_package_and_object_name_a_sampler_a_class_or_what_makes_one(name, mine, tmp_path):
    run = sample(name, PROMPTS, tmp_path / "run", num_samples=20)
    assert run.info["model"] == {"model": "mine", "version": 1}
    assert Run.open(tmp_path / "run").missing_draws() == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_package_here:Model", "importing 'no_such_package_here' failed: ModuleNotFoundError"),
        ("my_back_end:Yours", "'Yours' does not exist in module my_back_end"),
        ("my_back_end:needy", "cannot be made without arguments: TypeError"),
        ("my_back_end:number", "is 3, which has no sample: give a Sampler"),
        ("my_back_end:Silent", r"has no describe, so that nobody could tell whose draws .* return \{'model'"),
        ("my_back_end:Nameless", "describes itself as {'backend': 'mine'}: give a JSON object with its name as model"),
        ("my_back_end:Unwritable", "describes itself as .*: give a JSON object"),
    ],
)  # fmt: skip
def test_what_is_no_sampler_is_refused_by_name(name, said, mine):
    with pytest.raises(InputError, match=f"^model '{name}'.* ?{said}"):
        open_model(name)


def test_a_sampler_that_shows_no_probabilities_cannot_be_certified(mine):
    with pytest.raises(InputError, match="model is a Mine, which does not show its probabilities"):
        certify("my_back_end:Mine", PROMPTS, progress=False)


def test_a_folder_with_a_colon_is_a_folder(loaded, tmp_path):
    (tmp_path / "my:model").mkdir()
    open_model(str(tmp_path / "my:model"))
    assert loaded[0][1] == (str(tmp_path / "my:model"),)
