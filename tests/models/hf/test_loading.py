import pytest
import torch
from tiny_models import tiny_model, word_tokenizer

from leakbound.errors import ModelError
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
