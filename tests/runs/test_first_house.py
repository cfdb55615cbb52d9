"""What version 0.1 left on disk: read with the right values, or refused with the command that makes it again.

The folders and how they were made: tests/support/first_house.
"""

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from scipy.stats import beta

from leakbound import Audit, Certification, Evaluation, demo
from leakbound.auditing.drawing import sample
from leakbound.auditing.steps import bound
from leakbound.errors import InputError, RunMismatchError
from leakbound.evaluating.table import benchmark_table
from leakbound.models import FakeModel
from leakbound.runs.cache import Cache, load_arrays
from leakbound.runs.store import Run

HOUSE = Path(__file__).resolve().parents[1] / "support" / "first_house"
COLOURS = [f"grey{words}" for words in ("", " red", " red green", " red green blue", " red green blue gold")]
"""Draw k says the (k % 5)-th of these; ROUGE-L recall is k % 5 / 4."""


@pytest.fixture
def copied(tmp_path):
    def copy(name):
        return Path(shutil.copytree(HOUSE / name, tmp_path / name))

    return copy


def never(*_):
    pytest.fail("computed again")


def clopper_pearson(leaks, draws, alpha=0.01):
    return beta.ppf(1 - alpha, leaks + 1, draws - leaks)


@pytest.mark.parametrize("format", [1, 2])
def test_draws_and_scores_are_those_of_the_first_house(format):
    run = Run.open(HOUSE / f"format{format}" / "audit")
    greedy, drawn = run.parts
    assert [d.text for d in run.read_draws(greedy)] == [COLOURS[1]]
    found = list(run.read_scored(drawn, "rouge_l"))
    assert [(d.text, d.count, d.first, score) for d, score in found] == [(COLOURS[i], 6, i, i / 4) for i in range(5)]
    places = [tuple(range(i, 30, 5)) if format == 2 else None for i in range(5)]
    assert [d.places for d, _ in found] == places  # format 1 did not write the order down


@pytest.mark.parametrize("format", [1, 2])
def test_they_are_bounded_again(copied, format):
    run = Run.open(copied(f"format{format}/audit"))
    (one,) = bound(run).prompts
    assert (one.num_leaks, one.num_samples, one.greedy_score, one.max_score) == (18, 30, 0.25, 1.0)
    assert one.leak.upper == pytest.approx(clopper_pearson(18, 30), rel=1e-9)
    assert one.mean.estimate == 0.5
    assert ("no order known" in one.mean.method) == (format == 1)


def test_an_audit_of_format_2_is_read():
    audit = Audit.load(HOUSE / "format2" / "audit")
    (one,) = audit.prompts
    assert (audit.scorer, audit.threshold, audit.alpha, audit.planned) == ("rouge_l", 0.5, 0.01, True)
    assert (one.num_leaks, one.num_samples, one.greedy_text) == (18, 30, COLOURS[1])
    assert one.leak.upper == pytest.approx(clopper_pearson(18, 30), rel=1e-9)
    assert one.mean.upper == pytest.approx(0.6754445481750846)


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("audit", "bet there on an order of the draws that is not known"),  # sorted by score and shuffled: no order
        ("auto", "gave the level of one prompt there as that of all prompts at once"),
    ],
)
def test_an_audit_of_format_1_that_claims_too_much_is_refused_until_it_is_bounded_again(copied, folder, why):
    path = copied(f"format1/{folder}")
    before = json.loads((path / "audit.json").read_text())
    with pytest.raises(InputError, match=rf"{why}.*; run `leakbound bound` again"):
        Audit.load(path)
    bound(Run.open(path))
    after = Audit.load(path)
    for old, new in zip(before["prompts"], after.prompts, strict=True):
        assert (new.num_leaks, new.num_samples) == (old["num_leaks"], old["num_samples"])
        assert new.leak.upper == pytest.approx(old["leak"]["upper"], rel=1e-9)
        assert new.leak_jointly.alpha == after.alpha == 0.01
        assert new.mean.upper >= old["mean"]["upper"] - 1e-9


def test_without_replacement_is_bounded_again(copied):
    p, q = bound(Run.open(copied("format1/auto"))).prompts
    assert (p.engine, q.engine) == ("without-replacement", "without-replacement")
    assert 0.999 < p.seen_mass < 1
    assert p.num_leaks == 0
    assert p.leak.upper <= p.limits.upper <= 1 - p.seen_mass + 1e-9
    assert q.num_leaks > 0


def test_a_run_that_stopped_has_its_verdict(copied):
    (one,) = bound(Run.open(copied("format1/stopped"))).prompts
    assert (one.verdict, one.num_samples, one.num_leaks) == ("proven", 32, 6)  # draws 4, 9, ..., 29 hold the target
    assert 6 / 32 < one.leak.upper <= 0.5


def test_an_imported_run_is_bounded_without_greedy_answers(copied):
    audit = bound(Run.open(copied("format1/imported")))
    (one,) = audit.prompts
    assert (one.num_samples, one.num_leaks, one.greedy_text, audit.planned) == (4, 1, None, False)
    assert one.leak.upper == pytest.approx(clopper_pearson(1, 4), rel=1e-9)


def test_no_draws_of_today_join_those_of_format_1(copied):
    run = Run.open(copied("format1/audit"))
    with pytest.raises(RunMismatchError, match=r"format 1 without the order of the draws: .* give a new folder"):
        sample(FakeModel(), run.prompts, run.path, num_samples=30)


@pytest.mark.parametrize("format", [1, 2])
def test_a_certificate_is_read(format):
    found = Certification.load(HOUSE / f"format{format}" / "certificate")
    p, q = found.prompts
    assert (p.engine, p.num_generations, p.num_distinct, q.num_generations) == ("without-replacement", 10, 10, 10)
    assert p.leak.upper == pytest.approx(0.04068191978137387)
    assert (p.limits.lower, p.limits.upper) == pytest.approx((0, 1 - p.seen_mass), abs=1e-9)
    assert found.worst_prompt.upper == q.leak.upper == 1.0
    assert p.still_leaks.lower == 0


def test_a_certificate_that_claims_too_much_is_refused():
    with pytest.raises(InputError, match=r"an order of the draws that is not known.*; run `leakbound certify` again"):
        Certification.load(HOUSE / "format1" / "certificate-iid")


def test_a_benchmark_run_is_read():
    folder = HOUSE / "format1" / "benchmark"
    forget = Evaluation.load(folder).sets["forget"]
    assert forget.ids == ("own:1", "own:2")
    assert forget.values["rouge_l_recall"].tolist() == [0.5, 1.0]
    assert forget.values["answer_loss"].tolist() == [8.447550654151708, 8.37430163950196]
    table = benchmark_table([folder])
    leak = ("P(leak), average prompt", "P(leak), worst prompt")
    assert table.head == ("forget ROUGE-L", "forget probability", "forget extraction strength", *leak)
    row = next(table.rows())
    assert (row["model"], row["forget ROUGE-L"]) == ("benchmark", 0.75)
    limits = [row[f"{name}, upper"] for name in leak]
    assert limits == pytest.approx([0.9788336258249898, 0.9924081433415208], abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "first"), [("likelihoods", [8.447550654151708, 8.37430163950196]), ("generations", ["a d a", "a d a"])]
)
def test_parts_of_an_evaluation_are_found(kind, first):
    inputs = json.loads((HOUSE / "format1" / "inputs" / f"forget-{kind}.json").read_text())
    part = Cache(HOUSE / "format1" / "benchmark" / "parts").get("forget", kind, inputs, never)
    assert next(iter(part.values())) == first


def test_results_of_a_study_are_found():
    cache = Cache(HOUSE / "format1" / "artefacts")
    found = load_arrays(cache.make("unlearned", {"seed": 1, "steps": 3}, never))
    assert (found["steps"].tolist(), found["retain_loss"].tolist()) == ([0, 3], [0.5, 0.75])


def test_a_demo_goes_on_with_its_settings_only(copied, monkeypatch):
    class Reached(Exception):
        pass

    def make(config, name, files):
        raise Reached

    monkeypatch.setattr(demo, "_make", make)
    out, console = copied("format1/demo"), Console(file=StringIO())
    with pytest.raises(Reached):
        demo.run_demo(demo.DemoConfig(out=out, methods=("npo", "wga")), console=console, progress=False)
    with pytest.raises(RunMismatchError, match=r"other settings \(seed: there 0, now 1\): give the same, or a new"):
        demo.run_demo(demo.DemoConfig(out=out, methods=("npo", "wga"), seed=1), console=console)


def test_a_request_that_was_unlearned_is_not_unlearned_again(copied, monkeypatch):
    from leakbound.unlearning import UnlearnConfig
    from leakbound.unlearning.train import _done

    monkeypatch.chdir(copied("format1/training").parent)  # the record names the folder as it was given
    data = json.loads(Path("training/training.json").read_text())["config"]
    given = {"model": "model", "forget": (Path("own.jsonl"),), "retain": Path("own.jsonl"), "out": Path("training"),
             "like": "ours", "epochs": 1, "template": "raw", "on_collapse": "ignore", "resume": True}  # fmt: skip
    assert data["method"] == UnlearnConfig(**given).method
    assert _done(UnlearnConfig(**given))
    with pytest.raises(RunMismatchError, match=r"training holds a run with other settings \(epochs: there 1, now 2\)"):
        _done(UnlearnConfig(**{**given, "epochs": 2}))


def test_checkpoints_go_on_with_their_settings_only(copied):
    from leakbound.unlearning.folders import checkpoint_folder

    folder = copied("format1/later-checkpoints")
    (folder / "checkpoint-4").mkdir()
    (folder / "checkpoint-4" / "trainer_state.json").write_text("{}")
    out = folder.parent / "later"
    assert checkpoint_folder(out, {"model": "m", "epochs": 3}, resume=True) == (folder, folder / "checkpoint-4")
    with pytest.raises(InputError, match=r"resume: .* other settings \(epochs: there 3, now 4\)"):
        checkpoint_folder(out, {"model": "m", "epochs": 4}, resume=True)
