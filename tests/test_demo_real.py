"""The demo on a pretrained model, on a tiny one in the same packing."""

import importlib.util
import json
import zipfile
from pathlib import Path

import pytest
from tiny_gguf import BYTES, written

SCRIPT = Path(__file__).parents[1] / "examples" / "real" / "demo.py"


@pytest.mark.trains
def test_the_real_demo_asks_forgets_asks_again_and_goes_on(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("real_demo", SCRIPT)
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    monkeypatch.setattr(demo, "DRAWS", {"forget": 4, "retain": 4})
    monkeypatch.setattr(demo, "FORGET", {**demo.FORGET, "epochs": 1})
    written(tmp_path / "tiny.gguf", words=["<unk>", "<s>", "</s>", *BYTES, "ab", "Ġa"], context=256)
    wheel = tmp_path / "tiny.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "tiny.gguf", "tiny/tiny.gguf")
    out = tmp_path / "out"
    demo.main(wheel, out)
    said = capsys.readouterr().out
    assert "original" in said
    assert "forgotten" in said
    assert (out / "compare.html").exists()
    found = json.loads((out / "comparison.json").read_text())
    assert [model["name"] for model in found["models"]] == ["original", "forgotten"]
    assert found["num_prompts"] == 6
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.parquet")}
    demo.main(wheel, out)  # what is there is not done again
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.parquet")} == before
