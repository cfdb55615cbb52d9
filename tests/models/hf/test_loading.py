import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import ENDS, SMALL, tiny_model, word_tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig

from leakbound import audit
from leakbound.errors import ModelError, RunMismatchError
from leakbound.models.hf import HFModel
from leakbound.models.hf.loading import load_model, load_tokenizer, weights_checksum
from leakbound.records import Prompt, SamplingParams, Shard


@pytest.fixture
def folder(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_draws_as_it_did_in_memory(folder, tokenizer):
    shard, params = Shard((Prompt("p", "a b", "c"),), 0, 100, 0), SamplingParams(max_tokens=4)
    loaded = HFModel.load(str(folder))
    again = HFModel.load(str(folder))
    assert loaded.sample(shard, params) == again.sample(shard, params)
    counts = [(d.text, d.count, d.first) for d in loaded.sample(shard, params)]
    assert counts == [(d.text, d.count, d.first) for d in HFModel(tiny_model(), tokenizer).sample(shard, params)]
    assert loaded.describe()["checksum"] == weights_checksum(tiny_model())
    assert loaded.describe()["model"] == str(folder)


def test_what_the_law_follows_from_beside_the_weights_is_described(folder, tmp_path):
    """The same weights with another rotation, another epsilon, other words for two ids, another joining of tokens."""
    said = HFModel.load(str(folder)).describe()
    run = tmp_path / "run"
    asked = [Prompt("p", "a b", "c")]
    audit(HFModel.load(str(folder), template="raw"), asked, num_samples=4, params=SamplingParams(max_tokens=2), out=run)

    def changed(name, change):
        file = folder / name
        was = file.read_text()
        some = json.loads(was)
        change(some)
        file.write_text(json.dumps(some))
        try:
            found = HFModel.load(str(folder)).describe()
            with pytest.raises(RunMismatchError, match=r"model\.(config|tokenizer)"):
                audit(HFModel.load(str(folder), template="raw"), asked, num_samples=4, out=run,
                      params=SamplingParams(max_tokens=2))  # fmt: skip
        finally:
            file.write_text(was)
        return {key for key in said if found[key] != said[key]}

    def swap(tokenizer):
        words = tokenizer["model"]["vocab"]
        first, second = list(words)[-2:]
        words[first], words[second] = words[second], words[first]

    def glue(tokenizer):
        tokenizer["decoder"] = {"type": "Fuse"}

    assert changed("config.json", lambda c: c["rope_parameters"].update(rope_theta=77.0)) == {"config"}
    assert changed("config.json", lambda c: c.update(rms_norm_eps=0.5)) == {"config"}
    assert changed("tokenizer.json", swap) == {"tokenizer"}
    assert changed("tokenizer.json", glue) == {"tokenizer"}
    padded = HFModel.load(str(folder))
    padded.tokenizer(["a b", "a"], padding=True, truncation=True, max_length=1)
    assert padded.describe() == said  # what a call sets for itself is not told


def test_models_that_cannot_or_must_not_be_loaded(folder, tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="that is a file"):
        load_model(str(folder / "config.json"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_tokenizer(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="no-such-user/no-such-model"):
        load_model("no-such-user/no-such-model")
    with pytest.raises(ModelError, match="dtype is 'int3'"):
        load_model(str(folder), dtype="int3")
    with pytest.raises(ModelError, match="device is 'toaster'"):
        load_model(str(folder), device="toaster")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder))


def test_a_folder_may_hold_a_tokenizer_alone(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "words")
    assert load_tokenizer(str(tmp_path / "words")).get_vocab() == tokenizer.get_vocab()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(str(tmp_path / "words"))


def test_pickle_weights_are_never_opened(folder):
    (folder / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("a pickle was opened",)

    torch.save({"weight": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickle files .*convert them to safetensors"):
        load_model(str(folder))


def configured(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return str(folder)


def stored(folder, change):
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_g8_weights_that_are_not_there_are_never_random(folder):
    lost = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight")
    stored(folder, lambda weights: {k: v for k, v in weights.items() if k not in lost})
    with pytest.raises(
        ModelError, match=r"tensors missing, 2: model\.embed_tokens\.weight, model\.layers\.0\.mlp\.up_proj"
    ):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"num_hidden_layers": 4}, r"missing, 18: model\.layers\.2\.input_layernorm\.weight, .*, …\)"),
        ({"num_hidden_layers": 1}, r"unexpected, 9: model\.layers\.1\.input_layernorm"),
        ({"vocab_size": 9}, r"of another shape, 2: lm_head\.weight, model\.embed_tokens\.weight\)"),
    ],
)
def test_g8_a_configuration_that_does_not_fit_its_weights_is_refused(folder, settings, fault):
    with pytest.raises(ModelError, match=fault):
        load_model(configured(folder, **settings))


def test_g8_an_adapter_that_was_not_merged_is_refused_with_the_remedy(folder):
    renamed = "q_proj.base_layer.weight"
    stored(folder, lambda weights: {k.replace("q_proj.weight", renamed): v for k, v in weights.items()})
    with pytest.raises(ModelError, match=r"adapter that was not merged .* merge_and_unload"):
        load_model(str(folder))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"adapter that was not merged .* merge_and_unload"):
        load_model(str(folder))


def test_tied_weights_and_old_buffers_are_no_fault(folder, tmp_path):
    config = LlamaConfig(**SMALL, **ENDS, intermediate_size=32, tie_word_embeddings=True)
    tied = AutoModelForCausalLM.from_config(config)
    tied.save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    assert weights_checksum(load_model(str(tmp_path / "tied"))) == weights_checksum(tied)
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    assert weights_checksum(load_model(stored(folder, lambda weights: weights | old))) == weights_checksum(tiny_model())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes.*; install"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "optimum.*; install the package"),
        ({"model_type": "nonsense"}, "model type `nonsense`.*pip install -U transformers"),
        ({"model_type": "mine", "auto_map": {"AutoConfig": "my.C"}}, "own code: read that.*trust_remote_code"),
        ({"hidden_act": "nonsense"}, "KeyError: 'nonsense'"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"hidden_size": "many"}, "hidden_size"),
    ],
)
def test_a05_what_transformers_raises_is_our_error_with_a_remedy(folder, settings, reason):
    with pytest.raises(ModelError, match=rf"model '.*' cannot be loaded: .*{reason}"):
        load_model(configured(folder, **settings))


@pytest.mark.parametrize("method", ["foo", "mlx", "nvfp9"])
def test_a05_weights_quantised_in_an_unknown_way_are_refused_by_its_name(folder, method):
    """transformers passes over it with a warning, and takes what stands there for the weights."""
    with pytest.raises(ModelError, match=rf"model is .*quantised by '{method}', which .*\(pip install -U"):
        load_model(configured(folder, quantization_config={"quant_method": method, "bits": 4}))


def test_a05_weights_that_were_cut_are_our_error(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"SafetensorError: .*damaged or was cut: get it again"):
        load_model(str(folder))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer of .* cannot be loaded"):
        load_tokenizer(str(folder))
