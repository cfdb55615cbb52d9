"""GGUF files and adapters: the very weights, or an error with the remedy."""

import json

import gguf
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_gguf import WORDS, written
from tiny_models import tiny_model, word_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from leakbound.errors import InputError, ModelError
from leakbound.models.hf import HFModel
from leakbound.models.hf.loading import load_model, load_tokenizer, weights_checksum
from leakbound.models.opening import Loading, open_model
from leakbound.records import Prompt, SamplingParams, Shard


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q8_0])
def test_a_gguf_file_is_the_model_with_its_weights_as_stored(tmp_path, kind):
    file = tmp_path / "tiny.gguf"
    model = written(file, kind)
    loaded = HFModel.load(str(file))
    assert loaded.describe()["checksum"] == weights_checksum(model)
    assert loaded.describe()["stored"] == "GGUF, dequantised"
    assert loaded.tokenizer("ab a")["input_ids"][-2:] == [WORDS.index("ab"), WORDS.index("Ġa")]
    loaded.model.save_pretrained(tmp_path / "plain")  # what it was stored in does not follow the weights
    assert weights_checksum(load_model(str(tmp_path / "plain"))) == weights_checksum(model)


def test_without_the_package_a_gguf_file_names_it(tmp_path, monkeypatch):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(tmp_path / "m.gguf"))
    monkeypatch.setattr("leakbound.models.hf.packed.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install 'leakbound\[gguf\]'"):
        load_model(str(tmp_path / "m.gguf"))
    with pytest.raises(ModelError, match="no such folder"):
        load_model(str(tmp_path / "other.gguf"))


@pytest.fixture
def base(tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    word_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base, tmp_path):
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(load_model(str(base)), config)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", adapted.merge_and_unload()


def test_an_adapter_is_merged_into_its_base(adapter, base, tmp_path):
    folder, whole = adapter
    loaded = open_model(str(folder))
    described = loaded.describe()
    assert (described["stored"], described["base"]) == ("adapter, merged", str(base))
    assert described["checksum"] == weights_checksum(whole) != weights_checksum(tiny_model())
    shard, params = Shard((Prompt("p", "a b", "c"),), 0, 50, 0), SamplingParams(max_tokens=4)
    drawn = [[(d.text, d.places) for d in m.sample(shard, params)] for m in (loaded, HFModel(whole, word_tokenizer()))]
    assert drawn[0] == drawn[1]
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=str(base)):
        open_model(str(folder))
    again = open_model(str(folder), loading=Loading(base=str(moved)))
    assert again.describe()["checksum"] == described["checksum"]


def test_an_adapter_that_does_not_fit_is_refused(adapter, base):
    folder, _ = adapter
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    some = dict(list(tensors.items())[1:])
    save_file(some, file)
    with pytest.raises(ModelError, match="1 of its tensors do not fit"):
        load_model(str(folder))
    save_file({**tensors, "base_model.model.extra.lora_A.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(ModelError, match="1 of its tensors do not fit"):
        load_model(str(folder))
    file.rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle files are not read"):
        load_tokenizer(str(folder))
    file.touch()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ModelError, match="give --base"):
        load_model(str(folder))
    with pytest.raises(ModelError, match="is no adapter: leave it out"):
        load_model(str(base), base=str(base))
    with pytest.raises(InputError, match="base"):
        open_model("http://localhost:1/v1#m", loading=Loading(base="x"))


def test_an_adapter_that_is_no_change_of_weights_is_refused(base, tmp_path):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    adapted = get_peft_model(load_model(str(base)), config)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(tmp_path / "soft")
    with pytest.raises(ModelError, match="cannot be merged"):
        load_model(str(tmp_path / "soft"))


def draws_of(model):
    shard = Shard((Prompt("p", "a b", "c"), Prompt("q", "c d a b", "c")), 0, 16, 0)
    return [(d.prompt_id, d.text, d.places) for d in model.sample(shard, SamplingParams(max_tokens=4))]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_model_spread_over_devices_is_the_same_model(tmp_path, tokenizer, monkeypatch, on_disk):
    plain = HFModel(tiny_model("llama"), tokenizer, template="raw", name=str(tmp_path))
    plain.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    if on_disk:  # a machine whose memory holds half of it
        half = sum(p.numel() * p.element_size() for p in plain.model.parameters()) // 2
        monkeypatch.setattr("accelerate.utils.modeling.get_max_memory", lambda *args, **kwargs: {"cpu": half})
        monkeypatch.setattr(
            "transformers.integrations.accelerate.get_max_memory", lambda *args, **kwargs: {"cpu": half}
        )
    spread = open_model(str(tmp_path), template="raw", loading=Loading(device_map="auto"))
    assert on_disk == ("disk" in getattr(spread.model, "hf_device_map", {}).values())
    assert spread.describe() == plain.describe()
    assert draws_of(spread) == draws_of(plain)


@pytest.mark.parametrize("wrong", [{"device_map": "all"}, {"device_map": "auto", "device": "cpu"}])
def test_a_way_to_spread_that_nobody_knows_is_refused(tmp_path, tokenizer, wrong):
    tiny_model("llama").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="device_map is"):
        load_model(str(tmp_path), **wrong)


@pytest.mark.parametrize("method", ["bitsandbytes", "torchao"])
def test_weights_that_stay_packed_are_named_and_drawn_from(tmp_path, tokenizer, method):
    """Run by hand where the packages are (docs/quickstart.md): no part of the usual environment, for they are large."""
    pytest.importorskip(method)
    if method == "bitsandbytes":
        from transformers import BitsAndBytesConfig

        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    else:
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        config = TorchAoConfig(Int8WeightOnlyConfig())
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=6, eos_token_id=1, **sizes)).save_pretrained(tmp_path / "plain")
    packed = LlamaForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=config)
    packed.save_pretrained(tmp_path / "packed")
    tokenizer.save_pretrained(tmp_path / "packed")
    ours = HFModel.load(str(tmp_path / "packed"), template="raw")
    again = HFModel.load(str(tmp_path / "packed"), template="raw")
    assert ours.describe()["stored"] == f"quantised by {method}"
    assert ours.describe() == again.describe()
    assert ours.describe()["checksum"] != weights_checksum(load_model(str(tmp_path / "plain")))
    assert draws_of(ours) == draws_of(again)
