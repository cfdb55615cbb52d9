"""What a run folder holds, and what it refuses: settings, prompts, draws that add up, scores of those draws."""

import hashlib
import json
import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from leakbound.errors import IncompleteRunError, RunMismatchError
from leakbound.records import Draw, Prompt, SamplingParams, Shard
from leakbound.runs.files import read_json, write_json, write_table
from leakbound.runs.store import Run

PROMPTS = tuple(Prompt(f"p{i}", f"question {i}?", f"secret {i}") for i in range(5))


def info(**changes):
    return {"model": {"model": "m"}, "params": SamplingParams().to_json(), "num_samples": 10, "seed": 0, **changes}


def draw(prompt_id, count=1, first=0, text="x", logprob=None):
    return Draw(prompt_id, text, count, first, "stop", 1, logprob)


def part_of(run, kind):
    return next(part for part in run.parts if part.kind == kind)


def test_run_json_says_what_was_given_and_stays_readable(tmp_path):
    given = info(model={"model": "Zürich"}, engine={"name": "auto", "most_distinct": 7}, draws_per_shard=4, greedy=True)
    run = Run.start(tmp_path / "a" / "b" / "run", given, PROMPTS)
    text = (tmp_path / "a" / "b" / "run" / "run.json").read_text(encoding="utf-8")
    assert text.startswith('{\n "format": ')
    assert text.endswith("\n}\n")
    assert "Zürich" in text
    said = json.loads(text)
    assert {k: v for k, v in said.items() if k not in ("format", "layout", "seal")} == given
    assert [part["name"] for part in said["layout"]] == [part.name for part in run.parts]
    assert [part.name for part in run.parts if part.kind == "sample"] == [f"sample-{i:05d}" for i in range(3)]
    assert part_of(run, "distinct").num_samples == 7
    for again in (Run.open(tmp_path / "a" / "b" / "run"), Run.start(tmp_path / "a" / "b" / "run", given, PROMPTS)):
        assert (again.info, again.parts, again.prompts) == (run.info, run.parts, run.prompts)
        assert (again.params, again.engine, again.rule) == (SamplingParams(), given["engine"], {})
    assert Run.start(tmp_path / "plain", info(), PROMPTS).engine == {"name": "iid"}
    assert Run.start(tmp_path / "word", info(engine="theirs"), PROMPTS).engine == {"name": "iid"}


def test_prompts_come_back_with_their_aliases(tmp_path):
    prompts = (Prompt("ü", "q", "t", ("a", "b")), Prompt("2", "秘密?", "t2"))
    Run.start(tmp_path / "r", info(), prompts)
    assert Run.open(tmp_path / "r").prompts == prompts


def test_folders_are_found_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Run.start("~/r", info(), PROMPTS)
    assert Run.open("~/r").path == tmp_path / "r"


def test_what_is_not_a_run_is_named(tmp_path):
    with pytest.raises(RunMismatchError, match=r"^run is '.*nothing': there is no run\.json in it; give a run folder"):
        Run.open(tmp_path / "nothing")
    run = Run.start(tmp_path / "r", info(), PROMPTS)
    good = (tmp_path / "r" / "run.json").read_text()
    for format in (None, "1", 0, 99):
        (tmp_path / "r" / "run.json").write_text(json.dumps({**run.info, "format": format}))
        with pytest.raises(RunMismatchError, match=f"format {format!r}, but this version reads"):
            Run.open(tmp_path / "r")
    for broken in ("{", ""):
        (tmp_path / "r" / "run.json").write_text(broken)
        with pytest.raises(RunMismatchError, match=r"its run\.json cannot be read"):
            Run.open(tmp_path / "r")
    (tmp_path / "r" / "run.json").write_text(good)
    for broken in (b"PAR1", None):
        (tmp_path / "r" / "prompts.parquet").unlink()
        if broken:
            (tmp_path / "r" / "prompts.parquet").write_bytes(broken)
        with pytest.raises(IncompleteRunError, match=r"prompts\.parquet is damaged"):
            Run.open(tmp_path / "r")


def test_only_new_and_empty_folders_become_runs(tmp_path):
    (tmp_path / "empty").mkdir()
    assert Run.start(tmp_path / "empty", info(), PROMPTS).path == tmp_path / "empty"
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunMismatchError, match="it exists and is not a run folder; give a new or empty one"):
        Run.start(tmp_path / "file", info(), PROMPTS)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seed": 1},
            r"out is .*, which holds a run with other settings \(seed: there 0, now 1\): give the same, or a new",
        ),
        ({"seed": 1, "model": {"model": "n"}}, r"\(model\.model: there m, now n; seed\)"),
        ({"num_samples": 11}, r"\(num_samples: there 10, now 11\)"),
        ({"draws_per_shard": 5}, r"\(draws_per_shard: there None, now 5\)"),
        ({"model": {"a": 2, "model": "m"}}, r"\(model\.a: there None, now 2\)"),
        ({"model": {"model": "m", "z": 2}}, r"\(model\.z: there None, now 2\)"),
        ({"model": "m"}, r"\(model: there \{'model': 'm'\}, now m\)"),
        ({"model": {"model": "y" * 99}}, rf"model\.model: there m, now {'y' * 60}\)"),
    ],
)
def test_the_first_difference_is_shown(tmp_path, changes, message):
    Run.start(tmp_path / "r", info(), PROMPTS)
    with pytest.raises(RunMismatchError, match=message):
        Run.start(tmp_path / "r", info(**changes), PROMPTS)


def test_what_stands_only_in_the_old_folder_is_a_difference_too(tmp_path):
    Run.start(tmp_path / "r", info(draws_per_shard=5, model={"model": "y" * 99}), PROMPTS)
    with pytest.raises(RunMismatchError, match=r"\(draws_per_shard: there 5, now None\)"):
        Run.start(tmp_path / "r", info(model={"model": "y" * 99}), PROMPTS)
    with pytest.raises(RunMismatchError, match=rf"model\.model: there {'y' * 60}, now m\)"):
        Run.start(tmp_path / "r", info(draws_per_shard=5), PROMPTS)


def test_a_layout_of_another_version_goes_on(tmp_path):
    run = Run.start(tmp_path / "r", info(), PROMPTS)
    file = tmp_path / "r" / "run.json"
    layout = [{**vars(part), "name": part.name.replace("sample-00000", "sample-77777")} for part in run.parts]
    write_json(file, {**run.info, "layout": layout})
    prompts = tmp_path / "r" / "prompts.parquet"
    write_table(prompts, pq.read_table(prompts), where=f"{read_json(file)[1]} prompts")
    assert [p.name for p in Run.start(tmp_path / "r", info(), PROMPTS).parts] == ["greedy-00000", "sample-77777"]
    assert len(run.parts) == 2


def test_a_shard_is_what_its_part_says(tmp_path):
    run = Run.start(tmp_path / "r", info(num_samples=8192, seed=9), PROMPTS)
    parts = [part for part in run.parts if part.kind == "sample"]
    assert [run.shard(part) for part in parts] == [
        Shard(PROMPTS[0:2], 0, 8192, 9), Shard(PROMPTS[2:4], 0, 8192, 9), Shard(PROMPTS[4:5], 0, 8192, 9)
    ]  # fmt: skip
    assert run.shard(parts[0], [PROMPTS[1]]) == Shard((PROMPTS[1],), 0, 8192, 9)
    assert run.shard(parts[0], []) == Shard((), 0, 8192, 9)


def test_draws_come_back_as_they_were_written(tmp_path):
    run = Run.start(tmp_path / "r", info(), PROMPTS)
    part = part_of(run, "sample")
    assert (part.start, part.stop) == (0, 5)
    assert not run.has_draws(part)
    draws = []
    for p in PROMPTS:
        draws += [Draw(p.id, "no", 7, 0, "stop", 2, -0.25), Draw(p.id, "cut", 3, 4, "length", 128)]
    run.write_draws(part, draws)
    assert run.read_draws(part) == draws
    assert run.has_draws(part)
    assert run.missing_draws() == [part_of(run, "greedy")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([draw("p0", 9)], "prompt 'p0' has 9 draws, not 10"),
        ([draw("p0", 11)], "prompt 'p0' has 11 draws, not 10"),
        ([draw("p0", 6), draw("p0", 5, 5, "y")], "prompt 'p0' has 11 draws, not 10"),
        ([], "prompt 'p0' has 0 draws, not 10"),
        ([draw("p0", 10), draw("p0", 0, 5, "y")], "0 draws of prompt 'p0' do not belong there"),
        ([draw("p0", 11), draw("p0", -1, 5, "y")], "-1 draws of prompt 'p0' do not belong there"),
        ([draw("p0", 10), draw("p9", 10)], "10 draws of prompt 'p9' do not belong there"),
    ],
)
def test_counts_must_add_up_for_each_prompt(tmp_path, wrong, message):
    run = Run.start(tmp_path / "r", info(), PROMPTS[:2])
    part = part_of(run, "sample")
    right = [draw("p1", 10)]
    with pytest.raises(IncompleteRunError, match=message):
        run.write_draws(part, [*wrong, *right])
    run.write_draws(part, [draw("p0", 1), draw("p0", 9, 1, "y"), *right])


ENGINES = {
    "auto": {"name": "auto", "most_distinct": 3},
    "without-replacement": {"name": "without-replacement", "most_distinct": 3},
}
RULE = {"until": "leak<=0.01", "width": None, "budget": 10, "sizes": [10]}


@pytest.mark.parametrize(
    ("kind", "changes", "may"),
    [
        ("greedy", {}, False),
        ("sample", {}, False),
        ("sample", {"engine": {"name": "iid", "most_distinct": 3}}, False),
        ("greedy", {"engine": ENGINES["auto"]}, False),
        ("pilot", {"engine": ENGINES["auto"]}, False),
        ("distinct", {"engine": ENGINES["auto"]}, True),
        ("sample", {"engine": ENGINES["auto"]}, True),
        ("distinct", {"engine": ENGINES["without-replacement"]}, True),
        ("greedy", {"rule": RULE}, False),
        ("sample", {"rule": RULE}, True),
    ],
)
def test_a_prompt_may_be_absent_only_where_it_stopped_or_has_another_engine(tmp_path, kind, changes, may):
    run = Run.start(tmp_path / "r", info(**changes), PROMPTS[:2])
    part = part_of(run, kind)
    if kind == "distinct":
        mine = [draw("p1", 1, i, f"x{i}", math.log(0.25)) for i in range(3)]
    else:
        mine = [draw("p1", part.num_samples, part.first)]
    if may:
        run.write_draws(part, mine)
        assert len(run.read_draws(part)) == len(mine)
    else:
        with pytest.raises(IncompleteRunError, match="prompt 'p0' has 0 draws"):
            run.write_draws(part, mine)
    if kind in ("sample", "pilot"):  # absent or whole, nothing between
        some = replace(mine[0], prompt_id="p0", count=part.num_samples - 1)
        with pytest.raises(IncompleteRunError, match=f"prompt 'p0' has {part.num_samples - 1} draws"):
            run.write_draws(part, [some, *mine])


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        ([(0, 1, 0.3), (1, 1, 0.2), (2, 1, 0.1)], True),  # as many as were asked for
        ([(0, 1, 0.3), (1, 1, 0.7)], True),  # fewer, but all that the model can say
        ([(0, 1, 0.3), (1, 1, 0.7 - 9e-7)], True),  # up to rounding
        ([(0, 1, 0.3), (1, 1, 0.7 - 1.1e-6)], False),
        ([(0, 1, 0.3), (1, 1, 0.2)], False),
        ([(0, 1, 0.3), (2, 1, 0.7)], False),  # one is lost
        ([(1, 1, 0.3), (0, 1, 0.7)], False),  # not in the order drawn
        ([(1, 1, 0.3), (2, 1, 0.2), (3, 1, 0.1)], False),
        ([(0, 2, 0.3), (1, 1, 0.7)], False),  # one is counted twice
        ([(0, 1, 0.4), (1, 1, 0.3), (2, 1, 0.2), (3, 1, 0.1)], False),  # more than were asked for
        ([(0, 1, 0.3), (1, 1, None), (2, 1, 0.1)], False),  # a probability is unknown
    ],
)
def test_distinct_completions_are_all_that_were_asked_for_or_all_there_are(tmp_path, rows, right):
    run = Run.start(tmp_path / "r", info(engine=ENGINES["without-replacement"]), PROMPTS[:1])
    part = part_of(run, "distinct")
    draws = [draw("p0", n, i, f"x{i}", None if p is None else math.log(p)) for i, n, p in rows]
    if right:
        run.write_draws(part, draws)
        assert [d.logprob for d in run.read_draws(part)] == [d.logprob for d in draws]
    else:
        with pytest.raises(
            IncompleteRunError,
            match=r"distinct-00000: prompt 'p0' has \d draws(, not 3| whose places are not each of 0 to 2 once): no",
        ):
            run.write_draws(part, draws)


def test_reading_checks_again(tmp_path):
    """A file of another run, copied in by hand, has the right form and the wrong number of draws."""
    for name, number in (("other", 20), ("r", 10)):
        run = Run.start(tmp_path / name, info(num_samples=number), PROMPTS)
        part = part_of(run, "sample")
        run.write_draws(part, [draw(p.id, number) for p in PROMPTS])
    file = f"draws/{part.name}.parquet"
    (tmp_path / "r" / file).write_bytes((tmp_path / "other" / file).read_bytes())
    with pytest.raises(
        IncompleteRunError, match=r"sample-00000\.parquet is damaged \(its checksum does not fit: .* another run"
    ):
        run.read_draws(part)


def test_scores_are_missing_until_they_are_written(tmp_path):
    run = Run.start(tmp_path / "r", info(engine=ENGINES["auto"]), PROMPTS[:1])
    assert {part.kind for part in run.missing_scores("contains")} == {"greedy", "distinct", "sample"}  # no pilots
    part = part_of(run, "sample")
    draws = [draw("p0", 3, 0), draw("p0", 5, 3, "y"), draw("p0", 2, 4, "z")]
    run.write_draws(part, draws)
    assert not run.has_scores(part, "contains")
    with pytest.raises(IncompleteRunError, match=r"sample-00000\.parquet is missing: .*; run `leakbound score`"):
        list(run.read_scored(part, "contains"))
    run.write_scores(part, "contains", draws, [0.25, 1.0, 0.0])
    assert run.has_scores(part, "contains")
    assert not run.has_scores(part, "rouge_l")
    assert part not in run.missing_scores("contains")
    assert part in run.missing_scores("rouge_l")
    assert [(d.text, d.count, s) for d, s in run.read_scored(part, "contains")] == [
        ("x", 3, 0.25), ("y", 5, 1.0), ("z", 2, 0.0)
    ]  # fmt: skip
    assert [p.kind for p in run.missing_scores("contains")] == ["greedy", "distinct"]
    with pytest.raises(IncompleteRunError, match=r"distinct-00000\.parquet is missing: .*; run `leakbound sample`"):
        run.read_draws(part_of(run, "distinct"))
    for others in ([draws[1], draws[0], draws[2]], [replace(draws[0], first=1), *draws[1:]]):
        run.write_scores(part, "contains", others, [0.25, 1.0, 0.0])
        with pytest.raises(
            IncompleteRunError, match=r"its scores belong to other draws.: delete the file and run `leakbound score"
        ):
            list(run.read_scored(part, "contains"))


def test_scorers_have_folders_of_their_own(tmp_path):
    """Plain names as they are; others made safe, with the first 12 digits of their SHA-256."""
    run = Run.start(tmp_path / "r", info(), PROMPTS)
    part = part_of(run, "greedy")
    run.write_draws(part, [draw(p.id) for p in PROMPTS])
    plain = {"rouge_l", "A-9_z", "0", "x" * 60}
    safe = {"x" * 61: "x" * 40, "regex:a b": "regex-a-b", "regex:a;;b": "regex-a-b", "..": "-", "": ""}
    for scorer in (*plain, *safe):
        run.write_scores(part, scorer, [], [])
    hashed = {f"{start}-{hashlib.sha256(name.encode()).hexdigest()[:12]}" for name, start in safe.items()}
    assert {f.name for f in (tmp_path / "r" / "scores").iterdir()} == plain | hashed
