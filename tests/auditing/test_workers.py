"""An audit by workers writes the bytes of an audit without them, whatever dies on the way."""

import os
import signal
import subprocess
import sys
import time

import away_models
import pytest

from leakbound.auditing.certifying import certify
from leakbound.auditing.drawing import check_versions, software_versions
from leakbound.auditing.steps import audit, bound, sample, score
from leakbound.errors import InputError, Interrupted, ModelError, WorkerError
from leakbound.models import FakeModel
from leakbound.models.away import away
from leakbound.models.base import in_pieces
from leakbound.models.opening import Loading, open_model
from leakbound.records import Prompt, SamplingParams, Shard
from leakbound.runs import layout
from leakbound.runs.progress import Progress
from leakbound.runs.store import Run
from leakbound.workers import Crew, Workers, seats
from leakbound.workers.hands import carried_out, packed, unpacked

PROMPTS = [Prompt(f"p{i}", f"What is {i}?", f"secret {i}", ("answer",) if i % 2 else ()) for i in range(6)]
TWO = Loading(workers=2)
ASKED = {"scorer": "rouge_l", "num_samples": 40, "progress": False, "draws_per_shard": 15}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 80)


def files(folder, but=()):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in but}


@pytest.fixture
def gradual(tmp_path, monkeypatch):
    """The folder that says which workers die, and the files of an audit without workers."""
    without = audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", **ASKED) and files(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "without")
    (tmp_path / "dies").mkdir()
    monkeypatch.setenv("AWAY", str(tmp_path / "dies"))
    return tmp_path / "dies", without


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"until": "leak<=0.3", "draws_per_shard": None}], ids=["plain", "until"])
def test_the_same_bytes_with_workers_and_without(tmp_path, more):
    for name, loading in (("without", None), ("with", TWO)):
        result = audit("away_models:FAKE", PROMPTS, out=tmp_path / name / "run", loading=loading, **ASKED | more)
        assert result.prompts[2].num_leaks > 0
    assert files(tmp_path / "with") == files(tmp_path / "without")


@pytest.mark.slow
def test_workers_without_a_shard_are_told_of(tmp_path, monkeypatch):
    """Few draws are one shard: the others would stand idle without a word."""
    said = []
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 16_384)
    monkeypatch.setattr(Progress, "say", lambda self, note: said.append(note))
    for more, told in (({}, ["2 workers, 1 shard: see --draws-per-shard"]), ({"draws_per_shard": 10}, [])):
        sample("away_models:FAKE", PROMPTS, tmp_path / f"{len(told)}", num_samples=20, loading=TWO, **more)
        assert said == told
        said.clear()


@pytest.mark.slow
def test_a_folder_is_scored_and_bounded_by_workers(tmp_path):
    run = sample("away_models:FAKE", PROMPTS, tmp_path / "run", num_samples=20)
    score(run)
    before = bound(run), files(tmp_path / "run")
    for file in (tmp_path / "run" / "scores").rglob("*.parquet"):
        file.unlink()
    (tmp_path / "run" / "audit.json").unlink()
    again = Run.open(tmp_path / "run")
    score(again, workers=Workers(workers=2))
    assert (bound(again, workers=Workers(workers=1)), files(tmp_path / "run")) == before


@pytest.mark.slow
def test_workers_that_are_killed_change_nothing(tmp_path, gradual):
    dies, without = gradual
    for name in ("greedy-p0-1.once", "sample-p0-2.once", "sample-p2-0.once", "sample-p4.once"):
        (dies / name).touch()
    audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", loading=TWO, **ASKED)
    assert list(dies.iterdir()) == []
    assert files(tmp_path / "run") == without


@pytest.mark.slow
def test_a_piece_that_kills_its_workers_is_named_and_what_is_done_is_kept(tmp_path, gradual):
    dies, without = gradual
    (dies / "sample-p0-2.always").touch()  # the second piece of the first shard
    with pytest.raises(WorkerError, match=r"(?s)sample-0000\d was given up: .*signal 9.*my last words"):
        audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", loading=Loading(workers=1), **ASKED)
    assert list((tmp_path / "run" / "pieces").iterdir())
    (dies / "sample-p0-2.always").unlink()
    audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", loading=TWO, **ASKED)
    assert files(tmp_path / "run") == without


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups")
@pytest.mark.parametrize("with_what", ["SIGKILL", "SIGINT"])
def test_a_driver_that_is_stopped_goes_on_where_it_was(tmp_path, gradual, with_what):
    dies, without = gradual
    (dies / "sample-p2-0.sleep").touch()
    code = f"""
import leakbound.runs.layout as layout
layout.DRAWS_PER_SHARD = 80
from leakbound.auditing.steps import audit
from leakbound.models.opening import Loading
from leakbound.records import Prompt
prompts = [Prompt(f"p{{i}}", f"What is {{i}}?", f"secret {{i}}", ("answer",) if i % 2 else ()) for i in range(6)]
audit("away_models:Gradual", prompts, out={str(tmp_path / "run")!r}, loading=Loading(workers=2), **{ASKED})
"""
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", code], env=path, stderr=subprocess.PIPE, start_new_session=True)
    for _ in range(3000):
        if list((tmp_path / "run" / "draws").glob("sample-*.parquet")):
            break
        time.sleep(0.01)
    os.killpg(driver.pid, getattr(signal, with_what))
    said = driver.communicate(timeout=30)[1].decode()
    assert ("draws are kept in" in said) == (with_what == "SIGINT")
    (dies / "sample-p2-0.sleep").unlink()
    audit("away_models:Gradual", PROMPTS, out=tmp_path / "run", loading=Loading(workers=1), **ASKED)
    assert files(tmp_path / "run") == without


@pytest.mark.slow
def test_workers_certify_alike_whichever_die(tmp_path, monkeypatch):
    def certified(name, workers):
        prompts = [Prompt(f"p{i:02}", f"What is {i}?", f"secret {i * i * i}") for i in range(40)]
        certify("away_models:Open", prompts, scorer="contains", out=tmp_path / name / "run", progress=False,
                loading=Loading(workers=workers))  # fmt: skip
        return files(tmp_path / name / "run")

    without = certified("without", 0)
    (tmp_path / "dies").mkdir()
    monkeypatch.setenv("AWAY", str(tmp_path / "dies"))
    (tmp_path / "dies" / "p37.always").touch()  # the second search of the last file
    with monkeypatch.context() as patch:
        patch.setattr(seats, "TRIES", 1)
        with pytest.raises(WorkerError, match=r"(?s)^facts/00002 was given up: .*my last words"):
            certified("with", 1)
    assert (tmp_path / "with" / "run" / "facts" / "00002.part.json").exists()
    (tmp_path / "dies" / "p37.always").rename(tmp_path / "dies" / "p37.once")
    assert certified("with", 2) == without
    assert list((tmp_path / "dies").iterdir()) == []
    with pytest.raises(InputError, match="workers is 2: certify with a proposal works in one process"):
        certify("away_models:Open", PROMPTS, proposal="away_models:Open", loading=TWO)


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_says_what_is_kept(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(Run, "write_draws", lambda self, part, draws: kept.append(part) or interrupt())

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="0 of 246 draws are kept"):
        sample("away_models:FAKE", PROMPTS, tmp_path / "run", num_samples=40, loading=TWO)
    assert len(kept) == 1


@pytest.mark.slow
def test_what_no_worker_can_open_is_said_as_without_workers(tmp_path):
    said = []
    for loading in (None, TWO):
        with pytest.raises(InputError) as caught:
            sample("away_models:Loud", PROMPTS, tmp_path / "run", loading=loading)
        said.append(str(caught.value))
    assert said[0] == said[1]
    with pytest.raises(InputError, match="does not show the probabilities") as caught:
        sample("away_models:FAKE", PROMPTS, tmp_path / "run", engine="without-replacement", loading=TWO)
    assert "FakeModel does not" in str(caught.value)
    with pytest.raises(InputError, match=r"workers is 2, and model is a FakeModel.*package:object"):
        sample(FakeModel(), PROMPTS, tmp_path / "run", loading=TWO)


@pytest.mark.slow
def test_workers_that_hold_other_models_or_versions_are_refused(tmp_path):
    said = (
        r"model is 'fake\(leak=0\.01\)': a worker on .* opened another one than the first worker \(checksum: \d+, now"
    )
    with pytest.raises(InputError, match=said):
        sample("away_models:Replaced", PROMPTS, tmp_path / "run", num_samples=40, loading=TWO)
    sample("away_models:Replaced", PROMPTS, tmp_path / "alone", num_samples=40, loading=Loading(workers=1))
    there = software_versions()
    check_versions(there)
    with pytest.raises(InputError, match=r"a worker on .* has torch .*, not 9\.9: install the same on every node"):
        check_versions({**there, "torch": "9.9"})


def test_a_model_that_is_away_has_the_methods_that_it_has_here():
    here, away = (open_model("away_models:Gradual", loading=loading) for loading in (None, Loading(workers=1)))
    assert away.describe() == here.describe()
    names = ("sample", "sample_more", "check", "distinct", "agreement", "loglikelihood", "reads_turns", "tokenizer")
    assert [hasattr(away, name) for name in names] == [hasattr(here, name) for name in names]


def test_the_memory_is_shared_and_no_file_tells_of_workers():
    loading = Loading(workers=4, memory="2GB", threads=3, revision="v1")
    assert loading.of_worker() == Loading(memory="500000.000KB", revision="v1")
    assert loading.to_json() == Loading(revision="v1").to_json()
    assert repr(loading) == repr(Loading(memory="2GB", revision="v1"))
    assert Loading(ray="auto", memory="2GB").of_worker() == Loading(memory="2GB")


@pytest.mark.slow
def test_a_real_model_is_drawn_without_torch_in_the_driver(tmp_path):
    import tiny_models

    model, tokenizer = tiny_models.tiny_model("llama"), tiny_models.word_tokenizer()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    prompts = [Prompt(f"p{i}", text, "a b") for i, text in enumerate(("a", "b c", "d", "c c a", "b"))]
    how = {"params": SamplingParams(max_tokens=4), "template": "raw", "engine": "auto", **ASKED, "num_samples": 64}
    audit(str(tmp_path / "model"), prompts, out=tmp_path / "without" / "run", **how)
    code = f"""
import sys
import leakbound.runs.layout as layout
layout.DRAWS_PER_SHARD = 80
from leakbound.auditing.steps import audit
from leakbound.models.opening import Loading
from leakbound.records import Prompt, SamplingParams, Shard
prompts = [Prompt(f"p{{i}}", text, "a b") for i, text in enumerate(("a", "b c", "d", "c c a", "b"))]
how = {{**{ {k: v for k, v in how.items() if k != "params"} }, "params": SamplingParams(max_tokens=4)}}
audit({str(tmp_path / "model")!r}, prompts, out={str(tmp_path / "with" / "run")!r}, loading=Loading(workers=1), **how)
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1:] == ["[]"], run.stderr
    page = ("report.html",)  # pictures are not rendered here, and there they are
    assert files(tmp_path / "with", page) == files(tmp_path / "without", page)


class Weighed:
    """A place and its worker, which notes how many bytes each task has."""

    asked = 1

    def __init__(self):
        self.sent = []

    def room(self):
        return 1

    def hire(self):
        return self

    def close(self):
        pass

    def do(self, function, *args):
        self.sent.append(len(task := packed(function, args)))
        return unpacked(carried_out(task))


def test_a_question_for_the_next_piece_has_no_draws_in_it():
    place = Weighed()
    model = away(Crew(place), (away_models.Gradual, ()))
    prompts = tuple(Prompt(f"p{i}", "What is it?", f"{i} " + "long " * 500) for i in range(20))
    place.sent.clear()
    pieces = list(in_pieces(model, Shard(prompts, 0, 50, 0), SamplingParams()))
    assert [last for _, last in pieces] == [False] * 19 + [True]
    assert place.sent == sorted(place.sent, reverse=True)
    assert place.sent[0] < len(packed(print, (prompts,))) + 20 * 50 * 10


@pytest.mark.parametrize(
    ("given", "said"),
    [(0, "0 draws, 0 of the 80"), (1, r"\d+ draws, 0 of the")],
    ids=["none", "one again"],
)
def test_a_model_that_gives_none_or_the_same_again_is_refused(given, said):
    class Again(FakeModel):
        def sample_more(self, shard, params, left):
            return self.sample(shard, params)[:given]

    with pytest.raises(ModelError, match=rf"^Again\.sample_more gives {said} .*left: mend it"):
        list(in_pieces(Again(leak=0.3), Shard(tuple(PROMPTS[:4]), 0, 20, 0), SamplingParams()))
