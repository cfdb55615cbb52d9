"""The run folder: whole files, the same files however often it is interrupted, and nothing counted twice."""

import json
import os
from collections import Counter

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from leakbound.auditing.drawing import Statement, sample
from leakbound.auditing.scoring import score
from leakbound.errors import IncompleteRunError, RunMismatchError
from leakbound.models import FakeModel
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.runs.places import Place
from leakbound.runs.store import Run
from leakbound.scoring import score_completions

PROMPTS = tuple(Prompt(f"p{i}", f"question {i}?", f"secret {i}") for i in range(5))


def info(**changes):
    return {"model": {"model": "m"}, "params": SamplingParams().to_json(), "num_samples": 10, "seed": 0, **changes}


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def fill(run, parts):
    for part in parts:
        params = SamplingParams(temperature=0) if part.greedy else run.params
        run.write_draws(part, FakeModel(leak=0.3).sample(run.shard(part), params))


def test_interrupted_and_whole_runs_are_the_same_bytes(tmp_path):
    whole = Run.start(tmp_path / "whole", info(num_samples=40_000), PROMPTS)
    fill(whole, whole.missing_draws())
    first = Run.start(tmp_path / "parts", info(num_samples=40_000), PROMPTS)
    assert len(first.parts) > 3
    fill(first, first.missing_draws()[2:4][::-1])
    again = Run.start(tmp_path / "parts", info(num_samples=40_000), PROMPTS)
    fill(again, again.missing_draws())
    assert again.missing_draws() == []
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_folder_of_another_run_is_refused_and_untouched(tmp_path):
    Run.start(tmp_path / "r", info(), PROMPTS)
    before = contents(tmp_path / "r")
    with pytest.raises(RunMismatchError, match=r"holds a run with other settings \(seed: there 0, now 1\)"):
        Run.start(tmp_path / "r", info(seed=1), PROMPTS)
    with pytest.raises(RunMismatchError, match=r"params\.temperature: there 1\.0, now 0\.5"):
        Run.start(tmp_path / "r", info(params=SamplingParams(temperature=0.5).to_json()), PROMPTS)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(RunMismatchError, match="not a run folder"):
        Run.start(tmp_path / "other", info(), PROMPTS)
    assert contents(tmp_path / "r") == before
    assert (tmp_path / "other" / "thesis.tex").read_text() == "x"


def test_other_versions_of_the_software_may_go_on(tmp_path):
    Run.start(tmp_path / "r", info(versions={"torch": "1"}), PROMPTS)
    assert Run.start(tmp_path / "r", info(versions={"torch": "2"}), PROMPTS).info["versions"] == {"torch": "1"}


def test_draws_that_do_not_add_up_are_never_stored_or_read(tmp_path):
    run = Run.start(tmp_path / "r", info(), PROMPTS)
    part = next(p for p in run.parts if not p.greedy)
    draws = FakeModel(leak=0.3).sample(run.shard(part), run.params)
    with pytest.raises(IncompleteRunError, match=r"has \d+ draws, not 10"):
        run.write_draws(part, draws[:-1])
    with pytest.raises(IncompleteRunError, match="do not belong"):
        run.write_draws(part, [*draws, Draw("stranger", "x", 1, 0, "stop", 1)])
    assert run.missing_draws() == run.parts
    with pytest.raises(IncompleteRunError, match="missing"):
        run.read_draws(part)
    run.write_draws(part, draws)
    file = tmp_path / "r" / "draws" / f"{part.name}.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(IncompleteRunError, match="damaged"):
        run.read_draws(part)


def test_scores_of_other_draws_are_refused(tmp_path):
    run = Run.start(tmp_path / "r", info(), PROMPTS)
    part = next(p for p in run.parts if not p.greedy)
    draws = FakeModel(leak=0.3).sample(run.shard(part), run.params)
    run.write_draws(part, draws)
    with pytest.raises(ValueError, match="zip"):
        run.write_scores(part, "contains", draws, [0.0])
    run.write_scores(part, "contains", draws[1:], [0.0] * (len(draws) - 1))
    with pytest.raises(IncompleteRunError, match="other draws"):
        list(run.read_scored(part, "contains"))


def test_draws_that_are_written_anew_while_they_are_scored_get_no_scores_of_others(tmp_path, monkeypatch):
    """A server that two commands ask at once answers each otherwise, at the same places."""

    def answers(*texts):
        return [Draw("p", text, 1, i, "stop", 1, None, (i,)) for i, text in enumerate(texts)]

    statement = {"scorer": "contains", "threshold": 0.5, "alpha": 0.01}
    run = Run.start(tmp_path / "r", info(num_samples=2, statement=statement), [Prompt("p", "q?", "secret")])
    for part in run.parts:
        run.write_draws(part, answers("no") if part.greedy else answers("no", "never"))
    other, part = Run.open(tmp_path / "r"), next(p for p in run.parts if p.sampled)
    meanwhile = [answers("no", "never"), answers("the secret", "secret")]

    def judge(scorer, pairs):
        if "never" in dict(pairs):
            other.write_draws(part, meanwhile.pop(0))
        return score_completions(scorer, pairs)

    monkeypatch.setattr("leakbound.auditing.scoring.score_completions", judge)
    score(run)  # the same draws again: nothing has changed
    (tmp_path / "r" / "scores" / "contains" / "sample-00000.parquet").unlink()
    with pytest.raises(IncompleteRunError, match="written anew while its draws were scored: another process"):
        score(run)
    score(run)
    assert [value for _, value in run.read_scored(part, "contains")] == [1.0, 1.0]


def test_leftovers_of_the_dead_are_swept_and_of_the_living_kept(tmp_path):
    run = Run.start(tmp_path / "r", info(), PROMPTS)
    fill(run, run.parts)
    before = contents(tmp_path / "r")
    host = os.uname().nodename
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    draws = tmp_path / "r" / "draws"
    (draws / f".sample-00000.parquet.{host}.{dead}.tmp").write_bytes(b"half")
    living = draws / f".sample-00000.parquet.{host}.{os.getpid()}.tmp"
    living.write_bytes(b"half")
    Run.start(tmp_path / "r", info(), PROMPTS)
    assert living.exists()
    living.unlink()
    assert contents(tmp_path / "r") == before


def test_hostile_text_survives_storage(tmp_path):
    nasty = "<script>\x1b[31m=1+1 \u202e \ud800 \x00 end"
    run = Run.start(tmp_path / "r", info(num_samples=1), PROMPTS[:1])
    part = run.parts[-1]
    run.write_draws(part, [Draw("p0", nasty, 1, 0, "stop", 3)])
    assert run.read_draws(part)[0].text == nasty.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("scorer", ["rouge_l", "regex:^a/b|..$", "../../evil", "mod:fn", "x" * 300])
def test_any_scorer_name_makes_a_folder_inside_the_run(tmp_path, scorer):
    run = Run.start(tmp_path / "r", info(num_samples=1), PROMPTS[:1])
    fill(run, run.parts)
    for part in run.parts:
        draws = run.read_draws(part)
        run.write_scores(part, scorer, draws, [0.5] * len(draws))
        assert [s for _, s in run.read_scored(part, scorer)] == [0.5] * len(draws)
    assert len([f for f in tmp_path.rglob("*.parquet") if "scores" in f.parts]) == len(run.parts)
    assert all(f.resolve().is_relative_to((tmp_path / "r" / "scores").resolve()) or "scores" not in str(f)
               for f in tmp_path.rglob("*.parquet"))  # fmt: skip


def test_other_tools_read_the_folder(tmp_path):
    import pandas as pd

    run = Run.start(tmp_path / "r", info(), PROMPTS)
    fill(run, run.parts)
    frame = pd.concat(pd.read_parquet(f) for f in (tmp_path / "r" / "draws").glob("sample*.parquet"))
    assert frame["count"].sum() == 50
    assert json.loads((tmp_path / "r" / "run.json").read_text())["num_samples"] == 10


@pytest.fixture
def lists(monkeypatch):
    """How often each folder of a disk is looked through."""
    found = Counter()

    def counted(name):
        real = getattr(os, name)

        def look(folder="."):
            found[os.path.basename(folder)] += 1
            return real(folder)

        monkeypatch.setattr(os, name, look)

    counted("listdir")
    counted("scandir")
    return found


@pytest.fixture
def requests(monkeypatch):
    """How often an empty store is asked what."""
    real, found = Place._ask, Counter()

    def ask(self, name, *args, **more):
        found[name] += 1
        return real(self, name, *args, **more)

    monkeypatch.setattr(Place, "_ask", ask)
    yield found
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def pieces_of(run, part):
    """Its draws, one in a piece."""
    params = SamplingParams(temperature=0) if part.greedy else run.params
    return [[draw] for draw in FakeModel(leak=0.3).sample(run.shard(part), params)]


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_piece_costs_the_same_however_many_there_are(tmp_path, lists, requests, where):
    out = tmp_path / "r" if where == "disk" else "memory://r"
    Run.start(out, info(), PROMPTS)
    run = Run.start(out, info(), PROMPTS)
    number = 0
    lists.clear()
    requests.clear()
    for part in run.parts:
        for piece in pieces_of(run, part):
            run.pieces.write(part, piece)
            number += 1
    assert number > 12
    assert not lists
    assert requests == ({} if where == "disk" else {"pipe_file": number})
    again = Run.start(out, info(), PROMPTS)
    lists.clear()
    requests.clear()
    for part in again.parts:
        kept = [draw for piece in pieces_of(run, part) for draw in piece]
        assert again.pieces.draws(part) == kept
        again.write_draws(part, kept)
    assert not {"pieces", "draws"} & set(lists)
    assert requests["rm_file"] == (0 if where == "disk" else number)
    assert requests["ls"] == (0 if where == "disk" else len(run.parts))  # are there scores of earlier draws?
    assert not again.missing_draws()
    assert not list(again._names("pieces"))


def test_pieces_with_one_that_was_removed_go_on_behind_the_last(tmp_path):
    run = Run.start(tmp_path / "r", info(), PROMPTS)
    (part,) = (p for p in run.parts if not p.greedy)
    first, second, third, *_ = pieces_of(run, part)
    run.pieces.write(part, first)
    run.pieces.write(part, second)
    folder = tmp_path / "r" / "pieces"
    assert sorted(f.name for f in folder.iterdir()) == ["sample-00000.00000.parquet", "sample-00000.00001.parquet"]
    (folder / "sample-00000.00000.parquet").unlink()
    (folder / "notes.txt").write_text("mine")
    again = Run.start(tmp_path / "r", info(), PROMPTS)
    again.pieces.write(part, third)
    assert again.pieces.draws(part) == [*second, *third]
    assert sorted(f.name for f in folder.iterdir()) == [
        "notes.txt",
        "sample-00000.00001.parquet",
        "sample-00000.00002.parquet",
    ]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_counted_pieces_behind_one_that_is_gone_are_of_no_use(tmp_path, monkeypatch, gone):
    """As the message about a damaged piece says: delete it and run the same again."""

    class OneByOne(FakeModel):
        def count(self, shard, params, open):
            draws, _ = super().count(shard, params, open[:1])
            return draws, list(open[1:])

    def draw_all(folder):
        settings = {"num_samples": 100, "engine": "counted", "statement": Statement("contains")}
        return sample(OneByOne(leak=0.3), PROMPTS[:4], folder, **settings)

    def stop(run, part, draws):
        assert part.kind != "counted"
        written(run, part, draws)

    whole, written = draw_all(tmp_path / "whole"), Run.write_draws
    with monkeypatch.context() as killed:
        killed.setattr(Run, "write_draws", stop)
        with pytest.raises(AssertionError):
            draw_all(tmp_path / "r")
    pieces = sorted((tmp_path / "r" / "pieces").iterdir())
    assert len(pieces) == 3
    pieces[gone].unlink()
    assert Run.open(tmp_path / "r").said_kept().startswith(f"{4 + 100 * gone} of 404 draws are kept")
    assert draw_all(tmp_path / "r").drawn() == whole.drawn()
    assert contents(tmp_path / "r") == contents(tmp_path / "whole")


def test_two_processes_draw_the_same_run(tmp_path):
    first = Run.start(tmp_path / "r", info(), PROMPTS)
    *_, part = first.parts
    pieces = pieces_of(first, part)
    first.pieces.write(part, pieces[0])
    second = Run.start(tmp_path / "r", info(), PROMPTS)
    third = Run.start(tmp_path / "r", info(), PROMPTS)
    assert second.pieces.draws(part) == pieces[0]
    for run in (first, second):
        run.pieces.write(part, pieces[1])
    for run in (first, second):
        run.write_draws(part, [draw for piece in pieces for draw in piece])
    assert third.pieces.draws(part) == []
    assert not (tmp_path / "r" / "pieces").exists()


def test_a_run_is_opened_by_as_many_requests_however_many_shards_it_has(requests):
    asked = []
    for n in (100_000, 400_000):
        run = Run.start(f"memory://r{n}", info(num_samples=n), PROMPTS)
        fill(run, run.parts[1:3])
        requests.clear()
        again = Run.start(f"memory://r{n}", info(num_samples=n), PROMPTS)
        assert len(again.missing_draws()) == len(again.missing_scores("contains")) - 2 == len(run.parts) - 2
        assert again.said_kept().startswith(f"{sum(p.num_draws for p in run.parts[1:3]):,} of ")
        asked.append((len(run.parts), dict(requests)))
    assert asked[0][0] < asked[1][0]
    assert asked[0][1] == asked[1][1]
