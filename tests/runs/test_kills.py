"""benchmarks/kills.py in small: kill -9 in the middle of work that is then done again."""

import importlib.util
from pathlib import Path

import pytest

from leakbound.auditing.steps import audit
from leakbound.models import FakeModel
from leakbound.runs.cache import Cache, save_arrays
from leakbound.runs.files import new_folder

SPEC = importlib.util.spec_from_file_location("kills", Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py")
kills = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(kills)

PROMPTS = [{"id": f"p{i}", "text": f"question {i}?", "target": f"secret number {i}"} for i in range(4)]


def audited(**settings):
    audit(FakeModel(leak=0.3), PROMPTS, num_samples=64, draws_per_shard=16, out="out", progress=False, **settings)


def artefacts():
    cache = Cache(Path("out"))
    for i in range(3):
        cache.make("numbers", {"i": i}, lambda folder, i=i: save_arrays(folder, {"x": [i]}))
        cache.get("value", "kind", {"i": i}, lambda i=i: i)


def careless():
    """What the script must see: a file that appears before it is whole, and a folder that nobody takes away."""
    Path("out").mkdir(exist_ok=True)
    if not Path("out/file").exists():
        with Path("out/file").open("w") as file:
            file.write("half")
            file.flush()
            Path("out/half").mkdir()
            Path("out/half").rmdir()
            file.write(", whole")


@pytest.mark.parametrize(
    ("work", "kwargs"),
    [
        pytest.param(audited, {}, marks=pytest.mark.slow, id="audit"),
        pytest.param(audited, {"until": "leak<=0.2"}, marks=pytest.mark.slow, id="until"),
        pytest.param(artefacts, {}, id="cache"),
    ],
)
def test_killed_work_ends_with_the_same_files_and_leaves_nothing(tmp_path, monkeypatch, work, kwargs):
    monkeypatch.setattr("leakbound.auditing.steps.write_html", lambda result, path, guess=None: path)
    (tmp_path / "once").mkdir()
    monkeypatch.chdir(tmp_path / "once")
    work(**kwargs)  # so that what is imported on the way is there before the forks
    found = kills.try_kind("work", lambda: work(**kwargs), tmp_path, 8, 0)
    assert found.kills == 8
    assert found.wrong == []
    assert found.times <= {name for name in found.times if name.endswith("json: seconds")}


@pytest.mark.slow
def test_what_is_left_half_is_seen(tmp_path):
    assert kills.try_kind("work", careless, tmp_path, 8, 0).wrong


@pytest.mark.parametrize("change", range(1, 8))
def test_a_new_folder_killed_before_each_change_of_the_disk(tmp_path, change):
    def work():
        with new_folder(Path("out")) as folder:
            (folder / "a").write_text("a")

    (tmp_path / "home").mkdir()
    kills.start(work, tmp_path / "home", change=change)
    again = kills.start(work, tmp_path / "home")
    assert again.code == 0 or "exists already" in again.said
    assert set(kills.tree(tmp_path / "home")) == {"tmp", "out", "out/a"}
