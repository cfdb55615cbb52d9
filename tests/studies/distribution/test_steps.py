"""The distribution study: what it finds by hand numbers, its cache, its page; the causal learner on a small model."""

import io
import json
import math
import os
import re
import signal
from pathlib import Path
from unittest.mock import ANY

import fake_learner
import numpy as np
import pytest
from fake_learner import FakeLearner
from rich.console import Console

from leakbound.errors import InputError, WorkerError
from leakbound.report.document import to_terminal
from leakbound.runs.cache import load_arrays
from leakbound.studies.distribution import page, steps, tables
from leakbound.studies.distribution.config import DistributionConfig
from leakbound.studies.distribution.corpora import INSIDE, Sizes, biography_corpora, file_corpora, own_pool, translate
from leakbound.studies.distribution.courses import Course, Curve, findings, reached
from leakbound.studies.distribution.findings import Study
from leakbound.studies.distribution.seeds import Median
from leakbound.studies.distribution.steps import Plan, report, study
from leakbound.workers import Workers, seats

pytestmark = pytest.mark.renders
SMALL = {"corpus_size": 30, "forget_size": 4, "heldout": 5, "validation": 4, "unlearn_steps": 24, "every": 3}


@pytest.fixture
def fake(monkeypatch):
    """The study with the fake learner; the list of its trainings."""
    monkeypatch.setattr("leakbound.studies.distribution.causal.CausalLearner", FakeLearner)
    monkeypatch.setattr(FakeLearner, "trained", [])
    return FakeLearner.trained


def run(tmp_path, **settings):
    return study(DistributionConfig(out=tmp_path / "study", **{"kinds": ("random",), **SMALL, **settings}))


def test_findings_by_hand(fake, tmp_path):
    """Exposure starts at 5 (20) nats and falls by 1 a step; a step raises the loss by 0.1 (0.01) per token."""
    found = run(tmp_path, seeds=6)
    inside, outside = found.kinds
    assert (inside.name, outside.name) == (INSIDE, "random")
    assert inside.curves["exposure"].centre[0] == pytest.approx(5 / math.log(2))
    assert outside.curves["genex"].centre[0] == pytest.approx(20 / math.log(2))
    assert inside.reached.steps == pytest.approx((5.0,) * 6)
    assert outside.reached.steps == pytest.approx((20.0,) * 6)
    assert inside.reached.lost["retain_loss"] == pytest.approx((0.5,) * 6)
    assert outside.reached.lost["retain_loss"] == pytest.approx((0.2,) * 6)
    assert inside.reached.lost["rouge_l"] == (0.0,) * 6
    assert {f.claim: f.estimate.estimate for f in found.findings} == pytest.approx(
        {"steps": 15.0, "trade-off": 0.3, "decay": 0.5 - 0.05}
    )
    assert [f.p_value for f in found.findings] == [1 / 64] * 3
    assert [f.verdict(0.05) for f in found.findings] == ["holds"] * 3  # 3 / 64, adjusted
    assert [f.verdict(0.04) for f in found.findings] == ["undecided"] * 3
    tokens = np.array([len(x.answer.split()) for x in Plan(DistributionConfig(**SMALL)).corpora.pools[INSIDE].items])
    assert inside.memorization == pytest.approx(5 / tokens)
    assert inside.difficulty == pytest.approx(6 / tokens)
    assert inside.learning_speed == (2.0,) * 8
    assert inside.bins["high memorization"][1].steps == pytest.approx((5.0,) * 6)
    assert inside.start.estimate == pytest.approx(5 / math.log(2))
    assert inside.start.lower <= inside.start.estimate <= inside.start.upper
    assert outside.candidates["original"] == pytest.approx(math.log2(31))  # above all sampled candidates
    assert outside.candidates["retrained"] == 0.0  # as likely as all of them
    assert outside.epsilon_end.lower <= outside.epsilon_start.lower


def test_every_set_is_apart_and_halves_are_known(fake):
    plan = Plan(DistributionConfig(**SMALL, kinds=("random", "shuffled", "foreign")))
    corpora = plan.corpora
    pools = [x for pool in corpora.pools.values() for x in (*pool.items, *pool.heldout)]
    ids = [x.id for x in (*corpora.base, *corpora.validation, *pools)]
    assert len(set(ids)) == len(ids)
    for kind in corpora.pools:
        assert (plan.members(0, kind) ^ plan.members(1, kind)).all()
        sets = plan.sets(1, kind)
        assert len(sets.forget) == 4
        assert not set(sets.forget) & {*sets.heldout, *sets.retain, *sets.validation}


@pytest.mark.slow
def test_a_killed_study_goes_on_and_a_larger_one_reuses_it(fake, tmp_path, monkeypatch):
    """kill -9 in the fourth training: the three before it are not repeated. 4 seeds of 2 kinds are 12 trainings."""
    if (child := os.fork()) == 0:
        monkeypatch.setattr(
            FakeLearner,
            "before_training",
            staticmethod(lambda: len(fake) == 3 and os.kill(os.getpid(), signal.SIGKILL)),
        )
        run(tmp_path, seeds=4)
        os._exit(0)  # not reached
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert fake == []
    first = run(tmp_path, seeds=4)
    assert len(fake) == 12 - 3
    again = run(tmp_path, seeds=4)
    assert len(fake) == 12 - 3
    assert again.made == 0
    assert again.kinds == first.kinds
    run(tmp_path, seeds=5)
    assert len(fake) == 12 - 3 + 3
    run(tmp_path, seeds=5, kinds=("random", "shuffled"))
    assert len(fake) == 12 - 3 + 3 + 5
    run(tmp_path, seeds=4, unlearn_steps=27)
    assert len(fake) == 12 - 3 + 3 + 5  # other unlearning of the same originals
    run(tmp_path, seeds=4, epochs=31)
    assert len(fake) == 12 - 3 + 3 + 5 + 12


@pytest.mark.slow
def test_workers_make_the_same_files_and_one_that_is_killed_is_replaced(fake, tmp_path, monkeypatch):
    def kept(name, workers=None):
        monkeypatch.chdir(tmp_path / name)
        config = DistributionConfig(out="study", seeds=4, kinds=("random",), **SMALL)
        study(config, workers=workers, progress=False).save("study")
        return {str(p): p.is_file() and p.read_bytes() for p in Path("study").rglob("*")}

    for name in ("here", "away", "given up", "dies"):
        (tmp_path / name).mkdir()
    here = kept("here")
    monkeypatch.setattr(steps, "_work", fake_learner.work)
    monkeypatch.setenv("AWAY", str(tmp_path / "dies"))
    (tmp_path / "dies" / "random-3.once").touch()
    assert kept("away", Workers(workers=2)) == here
    assert list((tmp_path / "dies").iterdir()) == []
    (tmp_path / "dies" / "None-0.always").touch()
    monkeypatch.setattr(seats, "TRIES", 1)
    with pytest.raises(WorkerError, match=r"(?s)^the retrained model of seed 0 was given up.*my last words"):
        kept("given up", Workers(workers=1))


def test_what_a_worker_made_elsewhere_is_missed(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "_work", lambda config, seed, kind: ["trained-elsewhere"])
    with pytest.raises(InputError, match=r"a worker made trained-elsewhere there.*in common"):
        run(tmp_path, seeds=4)


@pytest.mark.slow
def test_page_table_and_json(fake, tmp_path):
    """All written from one document, also where a terminal is narrow."""
    folder = tmp_path / "study"
    shown, file = report(DistributionConfig(out=folder, seeds=4, kinds=("random",), **SMALL))
    page = file.read_text(encoding="utf-8")
    assert page.count("<svg") == 10
    assert "undefined" not in page
    assert not re.search(r"\bnan\b", page)
    for words in ("Memorization and difficulty", "random letters and digits", "not decided", "arXiv 2411.04388"):
        assert words in page
    assert "| random |" in (folder / "report.md").read_text(encoding="utf-8")
    assert (folder / "price.svg").read_text(encoding="utf-8").count("<svg") == 1
    found = Study.load(folder)
    assert found.kinds[0].reached.steps == pytest.approx([5.0] * 4)
    assert found.to_json() | {"seal": ANY} == json.loads((folder / "study.json").read_text())
    assert {row["value"] for row in found.rows() if row["measure"] == "relex_original" and row["step"] == 0} == {0.0}
    for width in (80, 200):
        text = io.StringIO()
        Console(width=width, file=text).print(to_terminal(shown))
        assert text.getvalue().count("undecided") == 3
        assert max(map(len, text.getvalue().splitlines())) <= width
    assert "costs less when done" in text.getvalue()


def test_a_set_that_never_gets_there():
    exposure = np.array([[4.0, 2.0, -2.0], [4.0, 3.0, 2.0], [-1.0, -2.0, -3.0]])
    found = reached((0, 10, 20), exposure, {"retain_loss": np.array([[1.0, 1.0, 3.0]] * 3)}, 0.05)
    assert found.steps == (15.0, math.inf, 0.0)
    assert found.lost["retain_loss"] == (1.0, None, 0.0)
    assert found.count == 2
    assert found.steps_median.estimate == 15.0
    assert found.steps_median.upper == math.inf


def course(exposure, loss):
    """Of arrays (seeds, steps 0, 50, 100)."""
    values = {"retain_loss": np.array(loss)}
    return Course((0, 50, 100), Curve.of(values["retain_loss"], 0.05), reached((0, 50, 100), exposure, values, 0.05))


def test_a_set_that_gets_there_in_some_seeds_is_not_cheaper_by_them_alone():
    """8 of 20 seeds got there and cost less; the 12 others lost far more, and are not done."""
    inside = course(np.array([[5.0, -1.0, -2.0]] * 20), [[1.0, 1.5, 2.0]] * 20)
    outside = course(
        np.array([[5.0, -1.0, -2.0]] * 8 + [[5.0, 4.0, 3.0]] * 12), [[1.0, 1.1, 1.2]] * 8 + [[1.0, 4.0, 9.0]] * 12
    )
    steps, cost, _ = findings(inside, {"random": outside})
    assert (cost.in_favour, cost.against, cost.unknown, len(cost.differences)) == (8, 0, 12, 20)
    assert cost.p_value == pytest.approx(sum(math.comb(20, k) for k in range(8, 21)) / 2**20)  # 0.868
    assert cost.verdict(0.05) == "undecided"
    assert (cost.estimate.n, cost.estimate.confidence) == (8, 1 - 2 / 2**8)
    assert (steps.in_favour, steps.unknown) == (12, 0)  # not within the steps: more than the inside ones
    neither = course(np.array([[5.0, 4.0, 3.0]] * 20), [[1.0, 1.5, 2.0]] * 20)
    assert findings(neither, {"random": neither})[0].unknown == 20
    assert findings(neither, {"random": neither})[0].estimate is None


def test_a_confidence_is_never_shown_larger_than_it_is():
    shown = {n: tables._sure(Median(0.0, 0.0, 0.0, 1 - 2 / 2**n, n)) for n in (4, 7, 10)}
    assert shown == {4: "0.875", 7: "0.9843", 10: "0.99804"}  # 1 - 1/64 and 1 - 1/512


def test_intervals_have_the_level_that_was_asked_for_and_say_what_stands_behind_them():
    """2 of 7 seeds got there: their range holds the median with confidence 0.5, not with that of 7."""
    two = course(
        np.array([[5.0, 3.0, 2.0]] * 5 + [[5.0, 1.0, -1.0]] * 2), [[1.0, 1.1, 1.2 + i / 100] for i in range(7)]
    )
    lost, steps = two.reached.lost_median["retain_loss"], two.reached.steps_median
    assert (lost.confidence, steps.confidence) == (0.5, 1 - 2 / 2**7)
    assert tables._interval(lost, 3, steps).endswith("], confidence 0.5")
    assert "confidence" not in tables._interval(steps, 3, steps)
    inside = course(np.array([[5.0, -5.0, -6.0]] * 12), [[1.0, 2.0, 2.0]] * 12)
    outside = course(np.array([[5.0, -5.0 + i / 10, -6.0] for i in range(12)]), [[1.0, 1.5, 2.0]] * 12)
    loose, strict = (findings(inside, {"random": outside}, alpha=a)[0].estimate for a in (0.05, 0.001))
    assert strict.lower < loose.lower < loose.upper < strict.upper
    assert strict.confidence == 1 - 2 / 2**12


def test_curve_is_the_median_with_its_interval():
    curve = Curve.of(np.array([[1.0], [2.0], [9.0]]), 0.05)
    assert (curve.lower, curve.centre, curve.upper) == ((1.0,), (2.0,), (9.0,))


def test_corpora(tmp_path):
    sizes = Sizes(pool=4, heldout=3, validation=2, candidates=7)
    made = biography_corpora(12, ("random", "shuffled", "foreign"), sizes, seed=0)
    assert len(made.base) == 24 - 9
    for kind, pool in made.pools.items():
        assert (len(pool.items), len(pool.heldout)) == (4, 3)
        for item in pool.items:
            count = len(item.candidates)
            assert count == (item.space - 1 if item.exhaustive else 7), kind
            assert item.answer not in item.candidates or not item.exhaustive
    assert translate("the small dog sees a house") == translate("the small dog sees a house")
    words = translate("the small dog sees a house").split()
    assert len(words) == 6
    assert translate("the old dog sees a house").split()[1] == words[1]  # the noun stands second
    rows = [json.dumps({"question": f"q{i}", "answer": f"a{i}"}) for i in range(12)]
    (tmp_path / "own.jsonl").write_text("\n".join(rows))
    assert len(file_corpora(tmp_path / "own.jsonl", ("shuffled",), sizes, seed=0).base) == 3
    assert len(own_pool(tmp_path / "own.jsonl", sizes, seed=0).heldout) == 3
    with pytest.raises(InputError, match="larger corpus"):
        file_corpora(tmp_path / "own.jsonl", (), Sizes(8, 3, 2), seed=0)
    with pytest.raises(InputError, match="more than 12"):
        own_pool(tmp_path / "own.jsonl", Sizes(12, 3, 2), seed=0)
    (tmp_path / "bad.jsonl").write_text('{"question": "q"}')
    with pytest.raises(InputError, match="line 1"):
        own_pool(tmp_path / "bad.jsonl", sizes, seed=0)


@pytest.mark.parametrize(
    "settings",
    [{"task": "poetry"}, {"seeds": 3}, {"kinds": ("pairs",)}, {"kinds": ()}, {"alpha": 1.0}, {"learning_rate": 0.0},
     {"every": 0}, {"retain_weight": -1.0}, {"kinds": ("random", "random")}],
)  # fmt: skip
def test_bad_settings(settings):
    with pytest.raises(InputError):
        DistributionConfig(**settings)


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("method", ["grad_ascent", "npo_kl"])
def test_causal_learner(tmp_path, monkeypatch, method):
    """A small model from scratch: what is watched at step 0 is the saved model, and the forget set gets less likely."""
    from leakbound.studies.distribution.causal import CausalLearner
    from leakbound.studies.distribution.learners import likelihoods

    config = DistributionConfig(
        out=tmp_path, corpus_size=14, forget_size=2, heldout=2, validation=2, epochs=3, method=method, unlearn_steps=3,
        every=2, unlearn_learning_rate=1e-3, unlearn_batch_size=2,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    plan = Plan(config)
    assert isinstance(plan.learner, CausalLearner)
    model = plan.train(0, INSIDE)
    assert load_arrays(model)["reproduced"].shape == (3, 2)
    record = json.loads((model / "model" / "training.json").read_text())
    assert record["config"]["out"] == "model"  # not the folder in which it was made
    course = load_arrays(plan.unlearned(0, INSIDE))
    assert course["steps"].tolist() == [0, 2, 3]
    said = likelihoods(plan.learner.load(model / "model"), plan.sets(0, INSIDE).forget)
    assert course["forget_logps"][0] == pytest.approx([x.logp for x in said], abs=1e-4)
    for seed in range(3):  # three trajectories: each loses about 20 nats
        logps = load_arrays(plan.unlearned(seed, INSIDE))["forget_logps"]
        assert logps[-1].mean() < logps[0].mean() - 5
    assert course["candidates"].shape[:2] == (2, 2)
    assert 0 <= course["rouge_l"][0] <= 1
    assert [file.name for file in tmp_path.iterdir()] == ["artefacts"]  # nothing else is left where it was run


@pytest.mark.parametrize(
    ("model", "said"), [(None, "Small language models learn"), ("a/SmolLM2", "Copies of SmolLM2 learn")]
)
def test_the_page_says_what_the_models_start_from(model, said):
    words = page._done(DistributionConfig(model=model))
    assert words.startswith(f"{said} to answer questions.")
    assert ("start of the weights" in words) == (model is None)
