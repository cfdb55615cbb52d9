"""How these folders were made: by the code of the first house, which no longer stands here.

PYTHONPATH=<checkout of 6676b6d>/src:<its folder of tiny_models.py> python make.py format1
PYTHONPATH=<checkout of bcdb3b4>/src:<its folder of tiny_models.py> python make.py format2

Pages, figures and what would only repeat others are left out. Certificates, evaluations, trainings and studies were
written as in format1 to the last commit of that house.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from leakbound.certifying import certify
from tiny_models import tiny_model, word_tokenizer

from leakbound.auditing.steps import audit, bound, score
from leakbound.importing import import_log
from leakbound.models.hf import HFModel
from leakbound.records import Draw, SamplingParams

WORDS = ("red", "green", "blue", "gold")
FLAGS = [{"id": "p", "text": "Which colours has the flag?", "target": " ".join(WORDS)}]
LETTERS = [{"id": "p", "text": "a b", "target": "c d"}, {"id": "q", "text": "d c a b a", "target": "d"}]


def placed(numbers):
    """The order of the draws, from the commit on that stores it."""
    return {"places": tuple(numbers)} if "places" in Draw.__dataclass_fields__ else {}


class Painter:
    """Draw k has k % 5 right words, the greedy answer one."""

    def describe(self):
        return {"backend": "painter", "model": "painter"}

    def sample(self, shard, params):
        rows = {}
        for prompt in shard.prompts:
            for k in range(shard.first, shard.first + shard.num_samples):
                right = 1 if params.greedy else k % 5
                rows.setdefault((prompt.id, right), []).append(k)
        return [
            Draw(i, " ".join(("grey", *WORDS[:right])), len(ks), ks[0], "stop", right + 1, **placed(ks))
            for (i, right), ks in rows.items()
        ]


def main(name):
    """Everything is made under relative paths: the files name the folders they were made in."""
    os.chdir(mkdtemp())
    audit(Painter(), FLAGS, num_samples=30, out="audit", progress=False)
    audit(Painter(), FLAGS, num_samples=400, scorer="contains", until="leak<=0.5", out="stopped", progress=False)
    model, params = HFModel(tiny_model(), word_tokenizer(), template="raw", name="tiny"), SamplingParams(max_tokens=3)
    settings = {"scorer": "contains", "params": params, "progress": False}
    audit(model, LETTERS, num_samples=40, engine="auto", out="auto", **settings)
    certify(model, LETTERS, num_generations=10, proposal=model, out="certificate", **settings)
    certify(model, LETTERS[:1], num_generations=10, engine="iid", out="certificate-iid", **settings)
    said = [{"response": text} for text in ("grey red", "grey", "grey red", "red green blue gold")]
    log = {"prompt": FLAGS[0]["text"], "ground_truth": FLAGS[0]["target"], "responses": said}
    Path("generations_n4.json").write_text(json.dumps(log) + "\n")
    run = import_log("leak-k", "generations_n4.json", out="imported").log.result
    score(run)
    bound(run)
    kept = ["audit", "certificate"]
    if name == "format1":
        kept += ["stopped", "auto", "certificate-iid", "imported", *other_than_audits()]
        shutil.rmtree("benchmark/audit")
    for left_out in (*Path().rglob("report.html"), *Path().rglob("*.md"), *Path().glob("[si]*/audit.json")):
        left_out.unlink()
    for folder in kept:
        shutil.copytree(folder, Path(__file__).parent / name / folder)


def other_than_audits():
    from leakbound.studies.artefacts import Artefacts, save_arrays
    from leakbound.studies.benchmark_config import BenchmarkConfig
    from leakbound.studies.benchmarking import benchmark

    from leakbound.demo import DemoConfig, _start
    from leakbound.studies import parts, suite
    from leakbound.unlearning import UnlearnConfig, folders, unlearn

    Path("inputs").mkdir()
    get = parts.Parts.get

    def noted(self, name, kind, inputs, compute):
        Path("inputs", f"{name}-{kind}.json").write_text(json.dumps(inputs, ensure_ascii=False))
        return get(self, name, kind, inputs, compute)

    suite.Parts.get = noted
    tiny_model().save_pretrained("model")
    word_tokenizer().save_pretrained("model")
    rows = [{"question": "a b", "answer": "c d"}, {"question": "b c", "answer": "d a"}]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = BenchmarkConfig(
        model="model", data=Path("own.jsonl"), template="raw", max_tokens=4, num_samples=20, out=Path("benchmark")
    )
    benchmark("own", config, progress=False)
    learned = UnlearnConfig(
        model="model", forget=(Path("own.jsonl"),), retain=Path("own.jsonl"), out=Path("training"), epochs=1,
        like="ours", template="raw", on_collapse="ignore",
    )  # fmt: skip
    unlearn(learned, progress=False)
    for file in Path("training").iterdir():
        if file.name != "training.json":
            file.unlink()
    folders.checkpoint_folder(Path("later"), {"model": "m", "epochs": 3, "resume": True}, resume=False)
    numbers = {"steps": [0, 3], "retain_loss": np.array([0.5, 0.75])}
    Artefacts(Path("artefacts")).make("unlearned", {"seed": 1, "steps": 3}, lambda folder: save_arrays(folder, numbers))
    _start(DemoConfig(out=Path("demo"), methods=("npo", "wga")))
    return ["inputs", "benchmark", "training", "later-checkpoints", "artefacts", "demo"]


if __name__ == "__main__":
    main(sys.argv[1])
