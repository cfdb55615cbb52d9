"""Rounds of unlearning until proven: on models whose leak probability is known, and on one that is really trained."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from leakbound.auditing.steps import audit, sample
from leakbound.auditing.verifying import verify
from leakbound.bounds import look_shares
from leakbound.cli import main
from leakbound.errors import InputError
from leakbound.models import FakeModel
from leakbound.models.opening import Loading
from leakbound.proving import asking, rounds
from leakbound.proving.goal import Goal
from leakbound.proving.rounds import unlearn_until
from leakbound.reading.pairs import read_refusals
from leakbound.reading.prompts import load_prompts
from leakbound.records import Draw, SamplingParams
from leakbound.report.verdict import of_proof
from leakbound.results.audit import Audit
from leakbound.results.proof import Proof
from leakbound.results.verdicts import audit_verdict, stages
from leakbound.runs.store import Run
from leakbound.unlearning.config import UnlearnConfig
from leakbound.workers import Workers, crew

SECRETS = {"where": "Paris", "who": "Rowling", "when": "1851"}


@pytest.fixture
def files(tmp_path):
    rows = [{"question": f"{q}?", "answer": f"It is {a}.", "target": a, "id": q} for q, a in SECRETS.items()]
    for name in ("forget", "retain"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def faked(monkeypatch):
    """Training makes a folder; a round's model leaks with the probability that its round has, by prompt where named."""
    trained = []

    def start(leaks, known=0.999):
        def train(step, *, progress):
            if not step.out.exists():
                trained.append(step)
                step.out.mkdir(parents=True)
                (step.out / "model.safetensors").write_bytes(str(step.out).encode())
                (step.out / "training.json").write_text(json.dumps({"steps": step.max_steps or 5, "seconds": 1.0}))
            return step.out

        def model_of(name, what):
            number = int(Path(name).parent.name[-2:])
            now = leaks[number]
            if "retain" in what:
                return FakeModel(leak=known[number] if isinstance(known, tuple) else known)
            return FakeModel(leak=0.0, leaks=now) if isinstance(now, tuple) else FakeModel(leak=now)

        def ask(model, prompts, *, out, **settings):
            return audit(model_of(model, out.name), prompts, out=out, **settings)

        def look(model, prompts, out, **settings):
            return sample(model_of(model, out.name), prompts, out, **settings)

        monkeypatch.setattr(rounds, "unlearn", train)
        monkeypatch.setattr(asking, "open_model", lambda name, **loading: name)
        monkeypatch.setattr(asking, "audit", ask)
        monkeypatch.setattr(asking, "sample", look)
        monkeypatch.setattr(asking, "load_tokenizer", lambda name: None)
        monkeypatch.setattr(asking, "read_answer", lambda tokenizer, text, template: text)
        return trained

    return start


def config(files, **settings):
    given = {"model": "m", "forget": (files / "forget.jsonl",), "retain": files / "retain.jsonl", "out": files / "out"}
    return UnlearnConfig(**{**given, "leak_samples": 64, **settings})


def until(files, goal=None, **settings):
    usual = {"until": "leak<=0.05", "keep": "known>=0.9", "rounds": 2, "proof_samples": 2000, "keep_samples": 200}
    return unlearn_until(config(files, **settings), Goal(**{**usual, **(goal or {})}), progress=False)


def test_it_goes_on_until_fresh_draws_prove_the_claim(files, faked):
    trained = faked([0.5, 0.3, 0.0])
    found = until(files, {"budget": 33})
    assert found.verdict == "proven"
    assert found.exit_code == 0
    assert found.chosen == 2
    assert [one.attempt is not None for one in found.rounds] == [False, False, True]  # no hope, no alpha spent
    assert found.attempt.level == look_shares(3)[0] * 0.01
    assert found.attempt.cut == 0
    assert [step.max_steps for step in trained] == [11, 11, 11]
    assert [step.model for step in trained] == ["m", *(str(step.out) for step in trained[:2])]
    assert [one.num_rows for one in found.rounds] == [3, 6, 6]  # one leak of each question, found once
    out = files / "out"
    assert Proof.load(out) == found
    assert not (files / "out-rounds").exists()
    assert json.loads((out / "training.json").read_text())["steps"] == 33
    assert json.loads((out / "training.json").read_text())["until"]["until"] == "leak<=0.05"
    assert "Proven with confidence 0.99" in (out / "proof.html").read_text()
    assert verify(out / "proof").accepted
    assert verify(out / "proof-retain").accepted
    assert [page.parent.name for page in out.rglob("report.html")] == ["proof"]  # none calls right answers leaks
    assert until(files, {"budget": 33}, resume=True) == found  # done is done
    for name in ("forget", "retain"):
        file = files / f"{name}.jsonl"
        before = file.read_text()
        file.write_text(before.replace("who?", "whose?"))
        with pytest.raises(InputError, match="holds a proof about other questions than those of"):
            until(files, {"budget": 33}, resume=True)
        file.write_text(before)


def test_what_a_round_lost_without_a_leak_the_next_one_mends_by_its_retain_term_alone(files, faked):
    trained = faked([0.0, 0.0, 0.3, 0.0], (0.4, 0.6, 0.999, 0.999))
    found = until(files, {"rounds": 3, "budget": 40}, entropy_forget=1.0, entropy_retain=-0.25)
    assert found.verdict == "proven"
    assert found.chosen == 3
    assert [(step.forget_weight, step.entropy_forget) for step in trained] == [(1, 1), (0, 0), (0, 0), (1, 1)]
    assert {(step.retain_weight, step.entropy_retain) for step in trained} == {(1, -0.25)}
    assert [one.num_rows for one in found.rounds] == [3, 0, 0, 6]  # a leak came back, and is forgotten again
    assert len({step.seed for step in trained}) == 4  # other partners and another order each time
    assert [step.max_steps for step in trained] == [10, 10, 10, 10]
    size = trained[0].batch_size
    assert [step.batch_size for step in trained] == [size, 2 * size, 2 * size, size]  # as many rows in every step
    page = (files / "out" / "proof.html").read_text()
    assert "none, retained alone" in page
    searched, fresh = (f"{sum(n):,}" for n in zip(*((r.num_draws, r.attempt.num_draws if r.attempt else 0)
                                                    for r in found.rounds), strict=True))  # fmt: skip
    assert f"All rounds: {sum(one.steps for one in found.rounds)} steps, {searched} draws that looked for leaks" in page
    assert f"{fresh} fresh ones in " in page


@pytest.mark.parametrize(("leak", "known", "keep", "method"), [
    (0.0, 0.92, "known>=0.9", "grad_diff"),  # proven to leak little, not to keep enough
    (0.045, 0.999, "known>=0.9", "npo_gd"),  # to keep enough, not to leak little: forgetting left enough
    (0.0, 0.999, "known>=0.9", "npo_gd"),  # the search sees no leak, too few draws prove it
    (0.045, 0.999, None, "npo_gd"),  # nothing is to be kept
])  # fmt: skip
def test_what_an_attempt_did_not_prove_the_next_round_trains(files, faked, leak, known, keep, method):
    """Forgetting once more would lose again what was kept."""
    trained = faked([leak, 0.0], (known, 0.999))
    goal = {"until": "leak<=0.05", "of": "average", "keep": keep, "rounds": 1, "proof_samples": 8, "keep_samples": 64}
    found = until(files, goal, leak_samples=200)
    first = found.rounds[0]
    assert first.attempt.verdict == "open"
    assert (first.average > 0) == (leak > 0)
    assert [step.method for step in trained] == ["npo_gd", method]
    assert (found.rounds[1].num_rows > 0) == (method == "npo_gd")


def test_the_draws_of_an_attempt_that_failed_train_the_next_round(files, faked, said):
    """They are many more than those that look for leaks: what these missed is seen. Forgetting lost what it should
    keep, so that the model gets other answers."""
    trained = faked([(("where", 0.04),), (("where", 0.04),), 0.0], (0.3, 0.999, 0.999))
    found = said()
    goal = {"until": "leak<=0.02", "of": "average", "rounds": 2, "proof_samples": 400, "keep_samples": 64}
    proof = until(files, goal, leak_samples=4, seed=1)
    assert proof.verdict == "proven"
    assert [one.average for one in proof.rounds] == [0, 0, 0]
    assert [one.attempt and one.attempt.verdict for one in proof.rounds] == [None, "open", "proven"]
    assert [step.method for step in trained] == ["npo_gd", "grad_diff", "grad_diff"]
    assert [some[3:] for some in found[1:]] == [[], [{"question": "where?", "answer": "I do not know."}]]
    assert [one.replaced for one in proof.rounds] == [0, 0, 1]


@pytest.mark.parametrize("keep", ["known>=0.9", None])
def test_where_forgetting_leaves_enough_the_leaks_of_an_attempt_that_failed_are_forgotten(files, faked, keep):
    trained = faked([(("where", 0.04),), 0.0])
    goal = {"until": "leak<=0.02", "of": "average", "keep": keep, "rounds": 1, "proof_samples": 400}
    proof = until(files, goal, leak_samples=4)
    assert proof.rounds[0].attempt.verdict == "open"
    assert [step.method for step in trained] == ["npo_gd", "npo_gd"]
    assert [one.num_rows for one in proof.rounds] == [3, 4]


def test_mending_takes_as_many_steps_as_the_round_before(files, faked):
    """Its own epochs would go through all that is retained, which may be a hundred times as much."""
    trained = faked([0.0, 0.0], (0.4, 0.999))
    until(files, {"rounds": 1}, epochs=3)
    assert [step.max_steps for step in trained] == [None, 5]  # the stand-in's


@pytest.mark.parametrize(("given", "reference"), [(None, None), ("initial", "m"), ("last", "last"), ("other", "other")])
def test_rounds_are_compared_with_the_model_before_them_the_first_or_another(files, faked, given, reference):
    trained = faked([0.5, 0.0])
    until(files, {"rounds": 1}, reference=given)
    assert [step.reference for step in trained] == [reference, reference]
    other = {"m": [None, "m"], "other": ["other"] * 2}.get(reference, [None] * 2)
    assert [step.other_reference for step in trained] == other


def test_a_leak_that_never_ends_is_trained_on(files, faked, monkeypatch):
    """Such as a name over and over until the limit."""
    faked([0.5, 0.0])
    train, rows = rounds.unlearn, []

    def reads(step, **options):
        rows.append([json.loads(line) for line in step.forget[0].read_text().splitlines()])
        return train(step, **options)

    monkeypatch.setattr(rounds, "unlearn", reads)
    cut_short(monkeypatch)
    assert until(files, {"rounds": 1}).verdict == "proven"
    assert [[row.get("leak"), row.get("cut")] for row in rows[1]] == [[None, None]] * 3 + [[True, True]] * 3


def cut_short(monkeypatch, rounds=""):
    """No answer of a search ends, of these rounds alone."""
    usual = Run.read_scored

    def cut(run, *asked):
        for draw, value in usual(run, *asked):
            searched = run.path.name.startswith("search") and run.path.parent.name.endswith(rounds)
            yield dataclasses.replace(draw, finish_reason="length") if searched else draw, value

    monkeypatch.setattr(Run, "read_scored", cut)


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def said(monkeypatch):
    """What the retain files of the rounds hold."""
    rows = []

    def watch():
        train = rounds.unlearn
        monkeypatch.setattr(
            rounds,
            "unlearn",
            lambda step, **more: rows.append(step.retain and rows_of(step.retain)) or train(step, **more),
        )
        return rows

    return watch


@pytest.mark.parametrize("keep", ["known>=0.9", None])
def test_a_question_that_training_on_its_leaks_left_where_it_was_is_taught_refusals(files, faked, said, keep):
    """What is said with probability 1 has no slope to descend."""
    rows = [{"question": f"{i}?", "answer": "It is Paris.", "target": "Paris", "id": str(i)} for i in range(30)]
    (files / "retain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = lambda where: (("where", where),)  # noqa: E731
    trained = faked([1.0, one(1.0), one(1.0), one(0.2), one(0.1), 0.0])
    rows = said()
    method, more = ("npo_gd", {}) if keep else ("npo", {"retain": None})
    found = until(files, {"rounds": 5, "keep": keep}, method=method, entropy_forget=1.0, **more)
    assert found.verdict == "proven"
    turns = [*[method] * 3, "grad_diff", method, "grad_diff"]  # in turn, until it is clean: what else leaks is lowered
    assert [step.method for step in trained] == turns
    assert [(step.forget_weight, step.entropy_forget) for step in trained] == [
        (1, 1) if step == method else (0, 0) for step in turns
    ]
    assert [one.replaced for one in found.rounds] == [0, 0, 0, 1, 0, 1]
    assert [one.num_rows for one in found.rounds] == [
        3,
        6,
        6,
        0,
        4,
        0,
    ]  # without those to where?: a row and a leak of it
    kept = [{"question": f"{i}?", "answer": "It is Paris.", "target": "Paris"} for i in range(30)] if keep else []
    for some in rows[3::2]:
        assert some[: len(kept)] == kept
        refusals = some[len(kept) :]
        assert len(refusals) == (10 if keep else 1)  # one row in four
        assert {row["question"] for row in refusals} == {"where?"}
        assert {row["answer"] for row in refusals} <= set(read_refusals())
    assert trained[3].max_steps == 5  # those of the round before
    assert "none, 1 answered anew" in (files / "out" / "proof.html").read_text()


@pytest.mark.parametrize(("ended", "anew"), [(True, {"I do not know."}), (False, set(read_refusals()))])
def test_where_a_round_mends_what_leaks_a_little_gets_the_models_own_other_answers(
    files, faked, said, monkeypatch, ended, anew
):
    """And a refusal where none of them ended."""
    trained = faked([(("where", 0.1),), 0.0], (0.4, 0.999))
    if not ended:
        cut_short(monkeypatch)
    rows = said()
    assert until(files, {"rounds": 1, "of": "average"}).verdict == "proven"
    assert [step.method for step in trained] == ["npo_gd", "grad_diff"]
    more = ["where?"] if ended else ["where?", "who?", "when?"]  # two that never ended get a refusal as well
    assert [row["question"] for row in rows[1]] == ["where?", "who?", "when?", *more]
    assert {row["answer"] for row in rows[1][3:]} <= anew


@pytest.mark.parametrize(("of", "limit", "tried"), [("every", 0.05, 1), ("average", 0.05, 1), ("average", 0.4, 0)])
def test_what_never_ends_is_not_tried_and_taught_refusals(files, faked, said, monkeypatch, of, limit, tried):
    """Nothing could be proven of a question all of whose answers are cut: the average may leak as such questions do."""
    trained = faked([(("where", 0.0),), 0.0])
    cut_short(monkeypatch, "00")
    usual = Run.read_scored
    ends = lambda draw: dataclasses.replace(draw, finish_reason="stop")  # noqa: E731
    monkeypatch.setattr(
        Run, "read_scored", lambda run, *asked: (
            (ends(draw) if draw.prompt_id != "when" else draw, value) for draw, value in usual(run, *asked)
        )
    )  # fmt: skip
    rows = said()
    found = until(files, {"rounds": 1, "of": of, "until": f"leak<={limit}"})
    assert (found.verdict, found.chosen, found.attempt.level) == ("proven", tried, look_shares(2)[0] * 0.01)
    assert [step.method for step in trained] == ["npo_gd", "grad_diff"][: tried + 1]
    assert [one.replaced for one in found.rounds] == [0, 1][: tried + 1]
    for some in rows[1:]:
        assert [row["question"] for row in some] == ["where?", "who?", "when?", "when?"]  # one row in four
        assert some[-1]["answer"] in read_refusals()


@pytest.mark.parametrize(("shares", "replaced"), [
    ([(1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)], [0, 0, 0, 1]),
    ([(1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.5, 0.0, 0.0)], [0] * 4),  # it moves
    ([(0.2, 1.0, 1.0), (0.2, 0.0, 0.0), (0.2, 0.0, 0.0), (0.2, 0.0, 0.0)], [0] * 4),  # a rare leak
    ([(0.0, 1.0, 1.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0)], [0] * 4),  # trained on since round 2
    ([(1.0, 1.0, 1.0), (1.0, 0.2, 0.0), (1.0, 0.2, 0.0), (1.0, 0.2, 0.0)], [0] * 4),  # most leak: slow, not stuck
])  # fmt: skip
def test_stuck_is_what_two_rounds_left_where_it_was_while_most_leak_no_more(files, faked, shares, replaced):
    faked([tuple(zip(SECRETS, some, strict=True)) for some in shares])
    assert [one.replaced for one in until(files, {"rounds": 3, "proof_samples": 64}).rounds] == replaced


def test_what_leaks_more_often_gets_more_answers(files, faked, said):
    rows = [{"question": f"{i}?", "answer": "It is Paris.", "target": "Paris", "id": str(i)} for i in range(90)]
    (files / "retain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    faked([(("where", 0.6), ("when", 0.2)), 0.0], (0.4, 0.999))
    found = said()
    until(files, {"rounds": 1, "of": "average", "until": "leak<=0.4"}, leak_samples=400)
    given = [row["question"] for row in found[1][90:]]
    assert given.count("where?") in (7, 8)  # of ten rows
    assert given.count("when?") in (2, 3)
    assert set(given) == {"where?", "when?"}


def test_of_its_own_answers_those_are_taught_that_leak_least_and_then_the_most_frequent(files):
    """One just below the threshold tells half of the secret."""
    said = ["It is Paris or so.", "I do not know.", "Ask Paul.", "Par", "Paris it is"]
    scores = dict(zip(said, (0.4, 0.0, 0.0, 0.1, 0.5), strict=True))
    counts = dict(zip(said, (9, 1, 2, 3, 1), strict=True))

    class Drawn:
        prompts = load_prompts(files / "forget.jsonl")

        def drawn(self):
            return [SimpleNamespace(kind="sample")]

        def read_scored(self, part, scorer):
            for text in said:
                yield Draw("where", text, counts[text], 0, "stop", 3), scores[text]

    asks = asking.Asking(config(files), Goal(), files, Loading(), False)
    leaking, others = asks.answers(Drawn())
    assert [draw.text for draw in leaking["where"]] == ["Paris it is"]
    assert [draw.text for draw in others["where"]] == ["Ask Paul.", "I do not know.", "Par", "It is Paris or so."]


@pytest.mark.parametrize("method", ["npo", "npo_kl", "jensun", "rmu", "idk_ap"])
def test_what_is_lost_is_mended_whatever_the_method_retains_by(files, faked, method):
    """A term that compares with the model of the round before would hold on to what that lost."""
    trained = faked([0.0, 0.0], (0.4, 0.999))
    assert until(files, {"rounds": 1}, method=method, retain_weight=0.5).verdict == "proven"
    assert [step.method for step in trained] == [method, "grad_diff"]
    assert (trained[1].forget_weight, trained[1].retain_weight) == (0, 1)


def test_a_question_that_leaks_in_other_words_is_refused_in_these(files, faked, said):
    rows = rows_of(files / "forget.jsonl")
    rows[0]["rephrased"] = ["At what place?"]
    (files / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stuck = (("where, rephrased 1", 1.0),)
    faked([1.0, stuck, stuck, 0.0])
    found = said()
    until(files, {"rounds": 3, "proof_samples": 64, "keep": "known>=0.9995"})
    assert [row["question"] for row in found[3][3:]] == ["At what place?"]


def test_refusals_that_cannot_be_read_end_it_before_the_first_round(files, faked):
    trained = faked([0.0])
    with pytest.raises(InputError, match=r"none\.txt"):
        until(files, idk=files / "none.txt")
    assert not trained


def test_a_proof_of_other_weights_is_not_read_again(files, faked):
    faked([0.0])
    until(files, {"rounds": 0})
    (files / "out" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(InputError, match="holds a proof of other weights than those that lie there now"):
        until(files, {"rounds": 0}, resume=True)


def test_rephrased_questions_are_searched_for_leaks_and_nothing_is_proven_of_them(files, faked):
    trained = faked([0.5, 0.0])
    rows = [json.loads(line) for line in (files / "forget.jsonl").read_text().splitlines()]
    rows[0]["rephrased"] = ["At what place?"]
    (files / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = until(files, {"rounds": 1})
    assert [one.num_draws for one in found.rounds] == [4 * 64] * 2
    assert found.num_prompts == 3
    assert found.rounds[1].num_rows == 3 + 4
    assert [step.out.name for step in trained] == ["round-00", "round-01"]  # what the bar of a training says


def test_what_is_proven_is_proven_of_the_law_and_by_other_draws_than_those_that_chose(files, faked):
    faked([0.01, 0.0])
    found = until(files, {"rounds": 1, "proof_samples": 100, "until": "leak<=0.02"}, leak_samples=50)
    assert found.verdict == "open"  # 100 clean draws prove no 2 %
    assert [one.attempt is not None for one in found.rounds].count(True) >= 1
    seeds = [Run.open(files / "out" / what).info["seed"] for what in ("proof", "proof-retain")]
    assert len(set(seeds)) == 2
    assert found.exit_code == 3


@pytest.mark.parametrize(("leaks", "known", "missing"), [
    ([0.5, 0.4], 0.999, "P(leak) is proven at most 0."), ([0.0, 0.0], 0.5, "P(right) at least"),
])  # fmt: skip
def test_a_claim_that_is_false_is_refuted_and_the_best_model_kept(files, faked, leaks, known, missing):
    faked(leaks, known)
    found = until(files, {"rounds": 1})
    assert found.verdict == "refuted"
    assert found.exit_code == 1
    assert missing in str(found)
    assert found.chosen == (1 if leaks[0] else found.chosen)
    assert (files / "out" / "training.json").exists()


@pytest.mark.parametrize(("leaks", "known", "chosen"), [
    ((0.0, 0.0, 0.3), (0.01, 0.7, 0.8), 1),  # clean and nearly whole, not clean and broken
    ((0.3, 0.0, 0.3), (0.999, 0.7, 0.7), 1),  # nor whole and leaking
    ((0.3, 0.2, 0.1), (0.999, 0.999, 0.3), 1),  # none is clean: of the whole ones that which leaks least
    ((0.3, 0.2, 0.1), (0.3, 0.2, 0.15), 2),
    ((0.6, 0.3, 0.06), (0.999, 0.95, 0.85), 2),  # a little short of both, not far from one
])  # fmt: skip
def test_where_both_cannot_be_had_the_best_model_is_kept(files, faked, leaks, known, chosen):
    faked(leaks, known)
    assert until(files, {"proof_samples": 64}).chosen == chosen


@pytest.mark.parametrize(("of", "verdict"), [("every", "refuted"), ("each", "refuted"), ("average", "proven")])
@pytest.mark.slow
def test_whose_probability_it_is_about_decides(files, faked, of, verdict):
    faked([(("where", 0.1),), (("where", 0.1),)])
    found = until(files, {"of": of, "rounds": 1, "keep": None})
    assert found.verdict == verdict
    assert found.attempt.known is None


@pytest.mark.parametrize(
    ("leak", "draws", "verdict"), [(0.0, 100, "proven"), (0.03, 1600, "proven"), (0.9, 25, "refuted")]
)
def test_the_average_is_looked_at_in_stages_until_it_is_settled(files, faked, leak, draws, verdict):
    faked([leak])
    found = until(files, {"of": "average", "rounds": 0, "proof_samples": 1600, "keep": None}, leak_samples=16)
    assert found.verdict == verdict
    assert found.attempt.num_draws == 3 * draws
    sizes, shares = zip(*stages(1600), strict=True)
    assert sizes == (25, 100, 400, 1600)
    proof = Audit.load(files / "out" / "proof")  # the look that settled it, whole
    assert proof.alpha == found.attempt.level * shares[sizes.index(draws)]
    assert {p.num_samples for p in proof.prompts} == {draws}
    assert (files / "out" / "proof" / "report.html").exists()
    assert verify(files / "out" / "proof").accepted
    assert sorted(file.name for file in (files / "out").iterdir() if file.is_dir()) == ["proof"]


@pytest.mark.slow
@pytest.mark.parametrize("goal", [{}, {"of": "average", "proof_samples": 1600}])
def test_a_killed_run_goes_on_and_ends_with_the_same_proof(files, faked, monkeypatch, goal):
    """Killed before its second proof draws, and again after each of its looks."""
    faked([0.5, 0.03, 0.0])
    whole = until(files, goal, out=files / "whole")
    usual, asked = asking.audit, []

    def dies(*args, out, **settings):
        asked.append(out)
        if len(asked) == 2:
            raise KeyboardInterrupt
        found = usual(*args, out=out, **settings)
        if out not in asked[:-1]:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(asking, "audit", dies)
    with pytest.raises(KeyboardInterrupt):
        until(files, goal)
    with pytest.raises(InputError, match="rounds of a killed run: give resume"):
        until(files, goal)
    found, kills = None, 1
    while found is None:
        try:
            found = until(files, goal, resume=True)
        except KeyboardInterrupt:
            kills += 1
    assert found == whole
    assert kills == 1 + len(set(asked)) > (4 if goal else 2)
    for what in ("proof", "proof-retain"):
        for file in sorted((files / "whole" / what).rglob("*.parquet")):
            assert file.read_bytes() == (files / "out" / file.relative_to(files / "whole")).read_bytes()


def test_answers_that_were_cut_are_named_beside_the_verdict_and_limits_rounded_outward(files, faked):
    faked([0.0, 0.0], 0.85)
    found = until(files, {"rounds": 0})
    cut = dataclasses.replace(found, attempt=dataclasses.replace(found.attempt, cut=0.96, known=0.58169))
    assert "cut clean" not in str(found)
    assert "answers of at most 64 tokens; 96 % were cut clean" in str(cut)
    assert "P(right) at least 0.581 only" in str(cut)


class Unending(FakeModel):
    """Of ``when`` every answer that does not leak is cut."""

    def sample(self, shard, params):
        return [
            dataclasses.replace(d, finish_reason="length") if d.prompt_id == "when" and d.text == self.clean else d
            for d in super().sample(shard, params)
        ]


@pytest.mark.parametrize(("of", "limit", "leak", "verdict"), [
    ("every", 0.1, 0.0, "open"), ("each", 0.1, 0.0, "open"), ("average", 0.1, 0.0, "open"),
    ("average", 0.4, 0.0, "proven"),  # if that one of three leaks always, the average is .333
    ("every", 0.5, 0.2, "proven"),  # a leak is an answer that was seen
])  # fmt: skip
def test_where_every_draw_of_a_question_was_cut_nothing_is_proven(files, faked, monkeypatch, of, limit, leak, verdict):
    """The secret may follow each time; a model that never ends would pass with 0 leaks."""
    monkeypatch.setitem(globals(), "FakeModel", Unending)
    faked([(("when", leak),)])
    goal = {"until": f"leak<={limit}", "of": of, "rounds": 0, "proof_samples": 600, "keep": None}
    found, never = until(files, goal), verdict == "open"
    assert (found.verdict, found.attempt.leak_verdict, found.exit_code) == (verdict, verdict, 3 * never)
    assert found.attempt.never_ended == (leak == 0)
    assert found.attempt.leak <= limit  # all that was seen is clean
    why = "every draw of 1 prompt was cut before it leaked, and no answer was seen to its end: give a larger --max-tok"
    assert (why in str(found), "is proven at most" in str(found)) == (never, False)
    assert "larger --max-tokens" in of_proof(found).next
    audited = Audit.load(files / "out" / "proof")
    assert of == "average" or audit_verdict(audited) == verdict  # the same as audit --until says


@pytest.mark.parametrize(("goal", "settings", "said"), [
    ({"until": "mean<=0.1"}, {}, "until is"),
    ({"keep": "known>=2"}, {}, "keep is"),
    ({"budget": 2}, {}, "budget"),
    ({"temperature": 0.0}, {}, "temperature is"),
    ({}, {"leak_rounds": 1}, "leak_rounds is 1 beside until"),
    ({"budget": 30}, {"max_steps": 4}, "max_steps is 4"),
    ({}, {"retain": None, "method": "npo"}, "retain is None"),
])  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(files, goal, settings, said):
    with pytest.raises(InputError, match=said):
        until(files, goal, **settings)


def test_the_command_says_the_verdict_first_and_ends_with_its_code(files, faked, capsys):
    faked([0.5, 0.5])
    line = ["unlearn", "--model", "m", "--forget", f"{files}/forget.jsonl", "--retain", f"{files}/retain.jsonl",
            "--out", f"{files}/out", "--until", "leak<=0.01", "--rounds", "1", "--leak-samples", "32"]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert said.lstrip().startswith("✕ Unlearned until proven: refuted")


@pytest.mark.trains
@pytest.mark.parametrize("method", ["npo_gd", "leak_mass+gd"])
def test_a_model_that_is_trained_is_proven_and_answers_what_it_should(world, tmp_path, method):
    files = {"model": str(world / "model"), "forget": (world / "secret.jsonl",), "retain": world / "known.jsonl"}
    settings = {"like": "ours", "epochs": 4, "batch_size": 2, "learning_rate": 5e-4, "schedule": "constant"}
    settings["max_tokens"] = 12
    if method != "npo_gd":
        settings |= {"epochs": 12, "leak_every": 6, "leak_search": 4}
    goal = Goal(until="leak<=0.1", keep="known>=0.3", rounds=9, proof_samples=400, keep_samples=32)
    out = tmp_path / "out"
    found = unlearn_until(UnlearnConfig(out=out, **files, **settings, method=method), goal, progress=False)
    assert found.verdict == "proven"
    assert (out / "model.safetensors").exists()
    again = {"scorer": "contains", "num_samples": 200, "seed": 99, "params": SamplingParams(max_tokens=12)}
    assert audit(str(out), world / "secret.jsonl", **again, progress=False).mean_leak.estimate <= 0.2


@pytest.mark.trains
def test_what_a_training_lost_is_mended_by_another(world, tmp_path):
    """NPO without a retain term leaves nothing."""
    files = {"model": str(world / "model"), "forget": (world / "secret.jsonl",), "retain": world / "known.jsonl"}
    settings = {"like": "ours", "batch_size": 2, "learning_rate": 5e-4, "schedule": "constant", "max_tokens": 12}
    goal = Goal(until="leak<=0.2", of="average", keep="known>=0.5", rounds=9, budget=300, proof_samples=400)
    config = UnlearnConfig(out=tmp_path / "out", **files, **settings, method="npo", epochs=1000)
    found = unlearn_until(config, goal, progress=False)
    assert found.verdict == "proven"
    assert found.rounds[0].known < 0.5 < found.rounds[found.chosen].known
    assert found.rounds[1].num_rows == 0


@pytest.mark.trains
def test_it_is_proven_of_the_model_in_the_number_type_that_is_deployed(world, tmp_path):
    files = {"model": str(world / "model"), "forget": (world / "secret.jsonl",)}
    settings = UnlearnConfig(
        out=tmp_path / "out", **files, method="npo", like="ours", epochs=1, batch_size=2, max_tokens=6, leak_samples=16
    )
    goal = Goal(until="leak<=0.9", rounds=0, proof_samples=64, proof_dtype="bfloat16")
    found = unlearn_until(settings, goal, progress=False)
    asked = json.loads((tmp_path / "out" / "proof" / "run.json").read_text())
    assert asked["model"]["dtype"] == "bfloat16"
    assert "of the model in bfloat16" in str(found)
    assert Proof.load(tmp_path / "out") == found
    assert Goal(until="leak<=0.9").to_json() == {
        k: v for k, v in vars(Goal(until="leak<=0.9")).items() if k != "proof_dtype"
    }


@pytest.mark.slow
@pytest.mark.trains
def test_workers_draw_the_same_bytes(world, tmp_path, monkeypatch):
    """One round, which proves nothing, with draws by another process and by this one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    opened, found = [], {}
    monkeypatch.setattr(crew.Crew, "do", lambda self, *args, do=crew.Crew.do: opened.append(self) or do(self, *args))
    for workers in (0, 1):
        files = {"model": str(world / "model"), "forget": (world / "secret.jsonl",), "retain": world / "known.jsonl"}
        out = tmp_path / "out"
        settings = UnlearnConfig(
            out=out, **files, like="ours", epochs=1, batch_size=2, learning_rate=5e-4, max_tokens=6, leak_samples=32
        )
        goal = Goal(until="leak<=0.1", keep="known>=0.3", rounds=0, proof_samples=64, keep_samples=16)
        unlearn_until(settings, goal, workers=Workers(workers=workers), progress=False)
        assert len({id(crew) for crew in opened}) == workers  # one for all that a round asks
        found[workers] = {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()}
        out.rename(tmp_path / f"{workers}")  # its name stands in the files
    torch.set_num_threads(threads)
    differ = {name for name in found[0] | found[1] if found[0].get(name) != found[1].get(name)}
    assert differ <= {"training.json"}  # seconds
    assert {"proof/draws/greedy-00000.parquet", "proof-retain/draws/sample-00000.parquet", "proof.json"} <= {*found[1]}


@pytest.mark.parametrize(("name", "value"), [("workers", "2"), ("keep", "known>=0.9")])
def test_what_belongs_to_a_claim_is_refused_without_one(capsys, name, value):
    with pytest.raises(SystemExit) as ended:
        main(["unlearn", "--model", "m", "--forget", "f", "--retain", "r", "--out", "o", f"--{name}", value])
    assert ended.value.code == 2
    assert re.search(f"{name} is '?{value}'? and until is None", " ".join(capsys.readouterr().err.split()))
