"""Drawing and scoring, on samplers that note what they were asked and a scorer that notes what it judged."""

import dataclasses
import math
import os
import socket
import sys
from importlib import metadata
from types import ModuleType

import pytest
from noting import PROMPTS, Noting

import leakbound
from leakbound.auditing import drawing, scoring
from leakbound.auditing.drawing import (
    Statement,
    _version,
    open_prompts,
    open_scorable,
    sample,
    software_versions,
    watch,
)
from leakbound.auditing.scoring import Marks, crew_on, score
from leakbound.auditing.stopping import StoppingRule, clean_look
from leakbound.bounds import Claim
from leakbound.errors import IncompleteRunError, InputError
from leakbound.models.base import Generation
from leakbound.records import Prompt, SamplingParams, prompts_checksum
from leakbound.runs import layout, progress
from leakbound.runs.progress import Progress
from leakbound.runs.store import Run

SURE = (("p0", 1.0), ("p1", 0.0), ("p2", 1.0), ("p3", 0.0))


class Open(Noting):
    """One that shows its law. Of p1 it says that each completion is one of very many, so that auto draws it plainly."""

    def __init__(self):
        super().__init__()
        self.searched = []

    def sample(self, shard, params):
        return [
            dataclasses.replace(d, logprob=-50.0) if d.prompt_id == "p1" else d for d in super().sample(shard, params)
        ]

    def distinct(self, prompts, most, params, seed):
        self.searched.append((tuple(p.id for p in prompts), most, seed))
        half = math.log(0.5)
        return [[Generation((i,), text, "stop", 3, half) for i, text in enumerate((p.target, "no"))] for p in prompts]

    def generations(self, shard, params): ...
    def target_tokens(self, prompt, text): ...
    def logprobs(self, prompts, sequences, params): ...
    def near_verbatim(self, prompts, targets, distances, params, width=32): ...


@pytest.fixture
def judged(monkeypatch):
    """The (completion, target) pairs that the scorer ``noting:seen`` was shown, in order."""
    module, pairs = ModuleType("noting"), []

    def seen(completion, target):
        pairs.append((completion, target))
        return float(target in completion)

    module.seen = seen
    monkeypatch.setitem(sys.modules, "noting", module)
    return pairs


@pytest.fixture
def shown(monkeypatch):
    """What was asked to be shown: the words, how many draws, whether at all."""
    bars = []

    class Noted(Progress):
        def __init__(self, title, total, unit, *, show):
            bars.append((title, total, unit, show))
            super().__init__(title, total, unit, show=False)

    monkeypatch.setattr(progress, "Progress", Noted)
    for module in (drawing, scoring):
        monkeypatch.setattr(module, "Progress", Noted)
    return bars


def draw(out, model=None, prompts=PROMPTS, **changes):
    settings = {"num_samples": 20, "statement": Statement("contains"), **changes}
    return sample(model or Noting(), prompts, out, **settings)


def names(parts):
    return [part.name for part in parts]


def test_a_statement_is_refused_outside_its_limits():
    assert (Statement().scorer, Statement().threshold, Statement().alpha) == ("rouge_l", 0.5, 0.01)
    assert Statement(threshold=1).threshold == 1
    assert Statement(threshold=1e-9, alpha=0.999).alpha == 0.999
    for threshold in (0, -0.5, 1.0000001, 2, math.nan):
        with pytest.raises(InputError, match=rf"threshold is {threshold!r}: give a number in \(0, 1\]"):
            Statement(threshold=threshold)
    for alpha in (0, 1, -0.1, 1.5):
        with pytest.raises(InputError, match=f"alpha is {alpha!r}: give a number strictly between 0 and 1"):
            Statement(alpha=alpha)
    with pytest.raises(InputError, match="scorer is 'rouge_z': give one of"):
        Statement("rouge_z")


CHECKED = [(said, p.target) for p in PROMPTS for said in (p.target, f"The answer is {p.target}.")]
"""What a scorer is asked before the first draw."""


def test_prompts_come_from_a_file_or_from_rows(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"id": "a", "text": "Who?", "target": "日本"}\n', encoding="utf-8")
    rows = [{"id": "a", "text": "Who?", "target": "日本"}]
    wanted = (Prompt("a", "Who?", "日本"),)
    assert open_prompts(file) == open_prompts(str(file)) == open_prompts(rows) == open_prompts(wanted) == wanted
    assert open_scorable(rows, Statement("contains")) == wanted
    with pytest.raises(InputError, match="which rouge_l does not see"):
        open_scorable([*PROMPTS, *rows], Statement("rouge_l"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_samples": 0}, "num_samples is 0: give a whole number >= 1"),
        ({"num_samples": True}, "num_samples is True: give a whole number >= 1"),
        ({"seed": -1}, "seed is -1: give a whole number >= 0"),
        ({"draws_per_shard": 0}, "draws_per_shard is 0: give a whole number >= 1"),
        ({"params": SamplingParams(temperature=0)}, "temperature is 0: greedy draws are all the same"),
        ({"until": "leak<=0.1", "width": 0.1}, "give exactly one of the two"),
        ({"until": "never"}, "never"),
        ({"width": 1}, r"width is 1: give a number in \(0, 1\)"),
        ({"engine": "fast"}, "engine is 'fast': give one of auto, without-replacement, iid"),
        ({"engine": "auto", "until": "leak<=0.1"}, "until and width stop on independent draws"),
        ({"engine": "auto", "width": 0.1}, "until and width stop on independent draws"),
        ({"engine": "without-replacement"}, "Noting does not show the probabilities of its completions"),
        ({"statement": Statement("rouge_l"), "prompts": [Prompt("a", "Who?", "日本")]}, "would miss every leak"),
        ({"model": 5}, "model is 5: give a folder"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_first_draw(tmp_path, changes, said):
    model = changes.pop("model", None) or Noting()
    with pytest.raises(InputError, match=said):
        draw(tmp_path / "run", model, **changes)
    assert not (tmp_path / "run").exists()
    assert getattr(model, "asked", []) == []


def test_the_usual_run_says_all_that_fixes_it(tmp_path, shown):
    model = Noting()
    run = sample(model, PROMPTS[:2], tmp_path / "run")
    assert {k: v for k, v in run.info.items() if k not in ("layout", "format")} == {
        "model": model.describe(),
        "prompts": {"count": 2, "checksum": prompts_checksum(PROMPTS[:2])},
        "params": SamplingParams().to_json(),
        "num_samples": 1024,
        "seed": 0,
        "statement": {"scorer": "rouge_l", "threshold": 0.5, "alpha": 0.01},
        "versions": software_versions(),
    }
    assert model.asked == [(("p0", "p1"), 0, 1, True), (("p0", "p1"), 0, 1024, False)]
    assert model.seeds == {0}
    assert shown == [("drawing run", 2 * (1 + 1024), "draws", False)]
    assert Run.open(tmp_path / "run").info == run.info


def test_the_smallest_numbers_are_taken_and_written_down(tmp_path, shown):
    model, params = Noting(), SamplingParams(temperature=0.5, max_tokens=9)
    run = draw(tmp_path / "one", model, num_samples=1, seed=0, draws_per_shard=1, params=params, progress=True)
    assert run.info["draws_per_shard"] == run.info["num_samples"] == 1
    assert run.params == params
    assert model.params == [SamplingParams(temperature=0, max_tokens=9), params]
    assert run.info["statement"] == {"scorer": "contains", "threshold": 0.5, "alpha": 0.01}
    assert shown == [("drawing one", 4 * (1 + 1), "draws", True)]
    model = Noting()
    draw(tmp_path / "five", model, PROMPTS[:1], num_samples=5, draws_per_shard=2, seed=7)
    assert model.asked == [
        (("p0",), 0, 1, True),
        (("p0",), 0, 2, False),
        (("p0",), 2, 2, False),
        (("p0",), 4, 1, False),
    ]
    assert model.seeds == {7}
    run = draw(tmp_path / "plain", engine="auto")
    said = "Noting does not show the probabilities of its completions"
    assert run.info["engine"] == {"name": "iid", "asked": "auto", "because": said}


def test_only_what_is_missing_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 20)
    run = draw(tmp_path / "run")
    assert run.missing_draws() == []
    files = {f.name: f.read_bytes() for f in (run.path / "draws").iterdir()}
    assert len(files) == 5
    (run.path / "draws" / "sample-00002.parquet").unlink()
    model = Noting()
    draw(tmp_path / "run", model)
    assert model.asked == [(("p2",), 0, 20, False)]
    assert {f.name: f.read_bytes() for f in (run.path / "draws").iterdir()} == files


def test_pilots_choose_the_engine_once_before_judged_draws(tmp_path, monkeypatch):
    calls = []

    def chosen(run):
        calls.append(names(run.missing_draws()))
        return real(run)

    real = drawing.chosen_engines
    monkeypatch.setattr(drawing, "chosen_engines", chosen)
    monkeypatch.setattr(layout, "PROMPTS_PER_SEARCH", 2)
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 40)
    model = Open()
    run = draw(tmp_path / "run", model, engine="auto")
    assert run.info["engine"] == {"name": "auto", "most_distinct": 20}
    everyone = ("p0", "p1", "p2", "p3")
    assert model.asked == [(everyone, 0, 1, True), (everyone, -32, 32, False), (("p1",), 0, 20, False)]
    assert model.searched == [(("p0",), 20, 0), (("p2", "p3"), 20, 0)]
    assert calls == [["distinct-00000", "distinct-00001", "sample-00000", "sample-00001"]]
    for part in ("greedy-00000", "pilot-00000"):
        (run.path / "draws" / f"{part}.parquet").unlink()
        draw(tmp_path / "run", model, engine="auto")
    assert len(calls) == 1  # nothing judged was missing
    (run.path / "draws" / "sample-00000.parquet").unlink()
    draw(tmp_path / "run", model, engine="auto")
    assert calls[1:] == [["sample-00000"]]
    assert model.asked[-1] == (("p1",), 0, 20, False)


def test_without_replacement_is_written_down(tmp_path):
    model = Open()
    run = draw(tmp_path / "run", model, engine="without-replacement")
    assert run.info["engine"] == {"name": "without-replacement", "most_distinct": 20}
    assert model.searched == [(("p0", "p1", "p2", "p3"), 20, 0)]
    assert model.asked == [(("p0", "p1", "p2", "p3"), 0, 1, True)]


def spans(sizes):
    return list(zip([0, *sizes], [b - a for a, b in zip([0, *sizes], sizes, strict=False)], strict=False))


@pytest.fixture
def one_by_one(monkeypatch):
    """Each prompt of the first rounds has one shard of its own."""
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 24)


def stopped(out, model, **changes):
    settings = {"num_samples": 200, "statement": Statement("noting:seen", 0.7, 0.02), "until": "leak<=0.05", **changes}
    return sample(model, PROMPTS, out, **settings)


def test_rounds_that_are_there_or_need_no_draw_do_not_count_for_the_rate(tmp_path, judged, one_by_one, monkeypatch):
    ended = []
    leave = Progress.__exit__

    def noted(self, *error):
        ended.append((self.done, self.before, self.total))
        leave(self, *error)

    monkeypatch.setattr(Progress, "__exit__", noted)
    run = stopped(tmp_path / "run", Noting(leaks=SURE))
    drawn = sum(draw.count for part in run.drawn() if part.sampled for draw in run.read_draws(part))
    assert 0 < drawn < 4 * 200
    stopped(tmp_path / "run", Noting(leaks=SURE))
    assert ended == [(4, 0, 4), (800, 800 - drawn, 800), (0, 0, 0), (800, 800, 800)]


def test_a_rule_draws_greedily_first_and_each_prompt_to_its_verdict(tmp_path, judged, one_by_one, shown):
    model = Noting(leaks=SURE)
    run = stopped(tmp_path / "run", model, progress=True)
    rule = StoppingRule("leak<=0.05", None, 200, 0.7, 0.02)
    sizes = rule.sizes()
    assert run.info["rule"] == rule.to_json()
    assert "engine" not in run.info
    clean = next(i for i, n in enumerate(sizes) if clean_look(n, Claim("leak", 0.05, 0.02)).verdict == "proven")
    assert 0 < clean < len(sizes) - 1  # clean prompts end after leaking ones and before the budget
    wanted = [(("p0", "p1", "p2", "p3"), 0, 1, True)]
    for r, (first, size) in enumerate(spans(sizes)[: clean + 1]):
        wanted += [((f"p{i}",), first, size, False) for i in range(4) if i % 2 or r == 0]
    assert model.asked == wanted
    assert shown == [("drawing run", 4, "draws", True), ("rounds of run", 4 * 200, "draws of the budget", True)]
    assert judged[:8] == CHECKED
    assert sorted(judged[8:]) == sorted((p.target if i % 2 == 0 else "I do not know.", p.target)
                                        for i, p in enumerate(PROMPTS))  # fmt: skip
    drawn = {part.name for part in run.parts if run.has_draws(part)}
    assert drawn == {part.name for part in run.parts if run.has_scores(part, "noting:seen")}
    assert "greedy-00000" in drawn
    assert len(drawn) == len(wanted)
    # again: nothing is drawn, nothing is judged, and what is found is the same
    before, asked = list(judged), list(model.asked)
    seen = []
    shown.clear()
    found = watch(run, model, each=lambda part, d, value: seen.append((part.name, d.prompt_id, d.count, value)))
    assert (model.asked, judged) == (asked, before)
    assert shown == [("rounds of run", 4 * 200, "draws of the budget", False)]
    assert seen == [
        (f"sample-{r:03d}-{i:05d}", f"p{i}", size, float(i % 2 == 0))
        for r, (_, size) in enumerate(spans(sizes)[: clean + 1])
        for i in range(4)
        if i % 2 or r == 0
    ]
    assert {i: (w.verdict, w.leaks, w.n) for i, w in found.items()} == {
        "p0": ("refuted", sizes[0], sizes[0]), "p1": ("proven", 0, sizes[clean]),
        "p2": ("refuted", sizes[0], sizes[0]), "p3": ("proven", 0, sizes[clean]),
    }  # fmt: skip
    assert found["p0"].rule == rule
    without = watch(run)
    assert {i: w.looks for i, w in without.items()} == {i: w.looks for i, w in found.items()}


def test_several_prompts_share_a_shard_of_a_round(tmp_path, judged, monkeypatch):
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 128)
    model = Noting(leaks=(("p0", 1.0), ("p1", 0.0), ("p2", 0.0), ("p3", 1.0)))
    run = stopped(tmp_path / "run", model)
    (_, first), (start, size) = spans(run.info["rule"]["sizes"])[:2]
    assert 128 // first >= 4 > 128 // size >= 2  # all prompts in a shard, then two and two
    assert model.asked == [
        (("p0", "p1", "p2", "p3"), 0, 1, True), (("p0", "p1", "p2", "p3"), 0, first, False),
        (("p1",), start, size, False), (("p2",), start, size, False),
    ]  # fmt: skip
    per_prompt = {p.id: sum(n for ids, _, n, g in model.asked if p.id in ids and not g) for p in PROMPTS}
    assert per_prompt == {i: w.n for i, w in watch(run).items()}


def test_a_round_that_is_missing_is_an_error_without_a_sampler(tmp_path, judged, one_by_one):
    model = Noting(leaks=SURE)
    run = stopped(tmp_path / "run", model)
    before, asked = watch(run), len(model.asked)
    (run.path / "scores" / next((run.path / "scores").iterdir()).name / "sample-000-00001.parquet").unlink()
    judged.clear()
    with pytest.raises(IncompleteRunError, match="leakbound score"):
        watch(run)
    assert judged == []
    assert {i: w.looks for i, w in watch(run, model).items()} == {i: w.looks for i, w in before.items()}
    assert judged == [("I do not know.", PROMPTS[1].target)]
    assert len(model.asked) == asked
    (run.path / "draws" / "sample-001-00001.parquet").unlink()
    with pytest.raises(IncompleteRunError, match="leakbound sample"):
        watch(run)
    watch(run, model)
    assert [ids for ids, *_ in model.asked[asked:]] == [("p1",)]


def test_a_width_ends_the_drawing_too(tmp_path, judged):
    run = stopped(tmp_path / "run", Noting(leaks=SURE), until=None, width=0.2)
    rule = StoppingRule(None, 0.2, 200, 0.7, 0.02)
    assert run.info["rule"] == rule.to_json()
    assert {w.n for w in watch(run).values()} == {rule.sizes()[0]}


def test_scoring_judges_each_completion_of_a_prompt_once(tmp_path, judged, shown, monkeypatch):
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 5)
    run = draw(tmp_path / "run", draws_per_shard=10, statement=Statement("noting:seen"))
    shown.clear()
    score(run)
    both = [(text, p.target) for p in PROMPTS for text in (p.target, "I do not know.")]
    assert judged[:8] == CHECKED
    assert sorted(judged[8:]) == sorted(both)
    assert len(run.parts) == 9
    assert shown == [("scoring run", 4 * (1 + 20), "draws", False)]
    assert run.missing_scores("noting:seen") == []
    for part in run.parts:
        for d, value in run.read_scored(part, "noting:seen"):
            assert value == float(d.text.startswith("alpha"))
    score(run)
    assert shown.pop() == ("scoring run", 0, "draws", False)
    score(run, "contains", progress=True)
    assert shown.pop() == ("scoring run", 4 * (1 + 20), "draws", True)
    assert run.missing_scores("contains") == []
    assert len(judged) == 8 + len(both)


def test_a_part_is_stored_before_the_next_is_scored_by_those_who_drew(tmp_path, judged, monkeypatch):
    monkeypatch.setattr(layout, "DRAWS_PER_SHARD", 20)
    run = draw(tmp_path / "run", statement=Statement("noting:seen"))
    for number, part in enumerate(Marks(run, "noting:seen").score(run.parts)):
        assert part == run.parts[number]
        assert run.missing_scores("noting:seen") == run.parts[number + 1 :]
        assert len(judged) == len(CHECKED) + len(PROMPTS) + number  # their targets, and an answer in each part
    run.crew = crew = object()
    assert crew_on(run, None) is crew


def test_scoring_takes_away_what_a_killed_one_left(tmp_path):
    run = draw(tmp_path / "run")
    score(run, "contains")
    (tmp_path / "run" / "scores" / "contains" / "sample-00000.parquet").unlink()
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    left = tmp_path / "run" / "scores" / "contains" / f".sample-00000.parquet.{socket.gethostname()}.{child}.tmp"
    left.write_bytes(b"half")
    score(Run.open(tmp_path / "run"), "contains")
    assert not left.exists()


def test_marks_know_what_was_judged_before(tmp_path, judged):
    run = draw(tmp_path / "run", prompts=PROMPTS[:1])
    marks = Marks(run, "noting:seen")
    marks.known = {("p0", PROMPTS[0].target): 0.25}
    assert list(marks.score(run.parts)) == run.parts
    assert judged == [("I do not know.", PROMPTS[0].target)]
    values = {d.text: value for part in run.parts for d, value in run.read_scored(part, "noting:seen")}
    assert values == {PROMPTS[0].target: 0.25, "I do not know.": 0.0}


def test_scoring_passes_over_missing_draws_only_where_a_rule_left_them_out(tmp_path, judged, one_by_one):
    run = stopped(tmp_path / "rule", Noting(leaks=SURE))
    assert run.missing_draws()
    score(run, "contains")
    assert names(run.missing_scores("contains")) == names(run.missing_draws())
    run = draw(tmp_path / "fixed")
    (run.path / "draws" / "sample-00001.parquet").unlink()
    with pytest.raises(IncompleteRunError, match="leakbound sample"):
        score(run)


def test_the_versions_of_what_ran(monkeypatch):
    found = software_versions()
    assert list(found) == ["leakbound", "python", "numpy", "scipy", "torch", "transformers"]
    assert found["leakbound"] == leakbound.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["numpy"] == metadata.version("numpy")

    def version(name):
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return f"{name} 1"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr("leakbound.auditing.drawing._version", _version.__wrapped__)
    versions = software_versions()
    assert [versions[n] for n in ("numpy", "scipy", "torch", "transformers")] == [
        "numpy 1", "scipy 1", "not installed", "transformers 1"
    ]  # fmt: skip
