"""A small TOFU of six words, two models, and the settings of a run on them."""

import json

import pytest
from tiny_models import tiny_model, word_tokenizer

from leakbound.evaluating.config import Answering, BenchmarkConfig, HowAsked, Sampled


@pytest.fixture(autouse=True)
def _without_pages(monkeypatch):
    """An audit's report.html is tested where it is made; its figures take most of the time of a small run."""
    monkeypatch.setattr("leakbound.auditing.steps.write_html", lambda result, path, guess=None: path)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Two saved models and TOFU in three tasks, of six words."""
    root = tmp_path_factory.mktemp("models")
    for name, seed in (("model", 3), ("retrained", 4)):
        tiny_model(seed=seed).save_pretrained(root / name)
        word_tokenizer().save_pretrained(root / name)
    data = root / "tofu"
    data.mkdir()
    words = [f"{x} {y} {z}" for x in "abcd" for y in "abcd" for z in "abcd"]

    def rows(first, number, wrong, **more):
        asked = [{"question": words[first + i], "answer": words[-1 - first - i]} for i in range(number)]
        return [{**row, "perturbed_answer": words[i : i + wrong], **more} for i, row in enumerate(asked)]

    tasks = [r for t in range(3) for r in rows(4 * t, 4, 5, task_id=str(t + 1), paraphrased_answer="a b")]
    tables = {
        "forget01": tasks, "forget01_perturbed": tasks, "retain90": rows(20, 6, 5),
        "retain_perturbed": rows(20, 6, 5, paraphrased_answer="b c"), "real_authors_perturbed": rows(30, 4, 3),
        "world_facts_perturbed": rows(40, 4, 3),
    }  # fmt: skip
    for name, table in tables.items():
        (data / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in table))
    return root


@pytest.fixture
def settings(folders):
    """A function: folder of the run, settings that differ -> the whole config."""

    def make(out, scorer="auto", num_samples=32, **more):
        how = HowAsked(template="raw", params=Answering(max_tokens=4), scorer=scorer)
        given = {"split": "forget01", "data": folders / "tofu", "how": how, "drawn": Sampled(num_samples=num_samples)}
        return BenchmarkConfig(model=str(folders / "model"), out=out, **{**given, **more})

    return make
