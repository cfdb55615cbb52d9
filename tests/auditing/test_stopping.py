"""Drawing until a claim is proven or refuted: validity over simulated audits, resume, and honest verdicts."""

import json
import math

import numpy as np
import pytest

from leakbound.auditing import steps
from leakbound.auditing.steps import audit
from leakbound.auditing.stopping import StoppingRule, Watch, clean_look
from leakbound.auditing.verifying import verify
from leakbound.bounds import Claim, Look, MeanEvidence, group_bound, leak_look, leak_sequence_bound
from leakbound.errors import IncompleteRunError, InputError
from leakbound.models import FakeModel
from leakbound.records import Prompt
from leakbound.results.audit import Audit
from leakbound.runs.store import Run

PROMPTS = tuple(Prompt(f"p{i}", f"What is secret {i}?", f"alpha beta {i}") for i in range(5))
LEAKS = (("p0", 0.0), ("p1", 0.5), ("p2", 0.03), ("p3", 0.001), ("p4", 0.01))


def rule(until="leak<=0.01", width=None, budget=4096, alpha=0.01):
    return StoppingRule(until, width, budget, 0.5, alpha)


def run_audit(tmp_path, name="run", model=None, **changes):
    settings = {"num_samples": 1200, "scorer": "contains", "out": tmp_path / name, "until": "leak<=0.01", **changes}
    return audit(model or FakeModel(leaks=LEAKS), PROMPTS, progress=False, **settings)


@pytest.mark.slow
def test_rounds_are_fixed_ascend_and_end_with_the_budget():
    for r in (rule(), rule(budget=100), rule(until="mean<=0.05"), rule(until=None, width=0.02), rule(budget=1)):
        sizes = r.sizes()
        assert sizes == r.sizes()
        assert list(sizes) == sorted(set(sizes))
        assert sizes[-1] == (r.budget if r.width is None else r.plan.sizes[-1])
        assert sizes[0] >= 1
    # the first look at which nothing but clean draws proves the claim wastes at most 2%
    for text in ("leak<=0.01", "mean<=0.05"):
        claim, sizes = Claim.parse(text, 0.01), rule(text).sizes()
        needed = next(n for n in range(64, 700) if clean_look(n, claim).verdict == "proven")
        first = next(n for n in sizes if clean_look(n, claim).verdict == "proven")
        assert needed <= first <= needed * 1.02 + 2
        after = [n for n in sizes if n >= first]
        assert all(b == math.ceil(first * 1.15**i) for i, b in enumerate(after[:-1]))
        assert after[-2] < 4096 <= after[-2] * 1.16
        early = [n for n in sizes if n < first]
        assert early == ([32, 128] if text == "leak<=0.01" else [math.ceil(64 * 1.15**i) for i in range(len(early))])
        assert not early[-1:] or early[-1] * 1.16 >= first or text == "leak<=0.01"
    assert rule(budget=100).sizes() == (32, 100)
    assert rule(budget=32).sizes() == (32,)
    assert rule(budget=700).sizes() == (32, 128, 511, 588, 676, 700)
    assert rule("mean<=0.05", budget=140).sizes() == (64, 74, 85, 98, 112, 119, 137, 140)
    assert rule("mean<=0.05", budget=64).sizes() == (64,)
    assert rule("mean<=0.9").sizes()[0] == 64


def test_clean_draws():
    assert clean_look(700, Claim("leak", 0.01, 0.01)) == leak_look(0, 700, Claim("leak", 0.01, 0.01))
    claim = Claim("mean", 0.05, 0.01)
    assert clean_look(90, claim) == MeanEvidence(claim).add([0.0] * 90).look()


@pytest.mark.slow
def test_a_claim_that_is_false_is_proven_less_often_than_alpha():
    """2,000 simulated audits; P(more than 48 wrong | alpha = 0.01) = 1.2e-8."""
    p, r, rng, wrong = 0.0101, rule(budget=1024), np.random.default_rng(1), 0
    sizes = r.sizes()
    for _ in range(2000):
        watched, n = Watch(r), 0
        for end in sizes:
            leaks = int(rng.binomial(end - n, p))
            watched.add(np.array([1.0, 0.0]), np.array([leaks, end - n - leaks]))
            n = end
            if watched.verdict != "open":
                break
        wrong += watched.verdict == "proven"
    assert wrong <= 48


def test_no_wrong_claim_in_2000_simulated_audits_at_a_small_alpha():
    """Truths on both sides of the limit, alpha = 1e-9 each: one wrong verdict is an error, not chance (2e-6)."""
    r, rng = rule(until="leak<=0.03", alpha=1e-9, budget=1024), np.random.default_rng(2)
    sizes = r.sizes()
    for i in range(2000):
        p = (0.0, 0.003, 0.015, 0.033, 0.09, 0.5)[i % 6]
        watched, n = Watch(r), 0
        for end in sizes:
            leaks = int(rng.binomial(end - n, p))
            watched.add(np.array([1.0, 0.0]), np.array([leaks, end - n - leaks]))
            n = end
            if watched.verdict != "open":
                break
        assert watched.verdict != ("refuted" if p <= 0.03 else "proven")


def watch_draws(r, p, rng):
    """A prompt with P(leak) = p under the rule, until it ends."""
    watched, n = Watch(r), 0
    for end in r.sizes():
        leaks = int(rng.binomial(end - n, p))
        watched.add(
            np.array([0.7, 0.5, 0.4999, 0.0]), np.array([leaks // 2, leaks - leaks // 2, 1, end - n - leaks - 1])
        )
        n = end
        if watched.ended:
            break
    return watched


@pytest.mark.slow
def test_a_width_is_reached_and_its_limits_hold():
    """2,000 prompts at alpha 0.05: P(more than 163 misses) <= 9.5e-10; 10 at alpha 1e-9: one is an error (1e-8)."""
    rng, r, missed = np.random.default_rng(3), rule(None, 0.1, 5000, 0.05), 0
    for i in range(2000):
        p = (0.003, 0.02, 0.2, 0.5, 0.93)[i % 5]
        watched = watch_draws(r, p, rng)
        assert watched.verdict == "proven"
        assert [look.verdict for look in watched.looks[:-1]] == ["open"] * (len(watched.looks) - 1)
        assert watched.looks[-1] == Look(watched.n, watched.leaks / watched.n, 0.0, 0.0, "proven")
        bound = r.leak_bound(watched.leaks, watched.n, alpha=0.05, side="both")
        assert bound.upper - bound.lower <= 0.1
        assert bound == group_bound(r.plan, watched.leaks, watched.n, alpha=0.05, side="both")
        missed += not bound.lower <= p <= bound.upper
        if i < 10:
            small = r.leak_bound(watched.leaks, watched.n, alpha=1e-9, side="both", estimand="P(h >= 0.5)")
            assert small.lower <= p <= small.upper
            assert small.claim.count("P(h >= 0.5)") == 1
    assert 0 < missed <= 163


def test_a_width_that_the_budget_does_not_reach_stays_open():
    r = rule(None, 0.01, 700)
    assert (r.sizes()[-1], r.plan.sizes) == (700, r.sizes())
    watched = watch_draws(r, 0.3, np.random.default_rng(4))
    assert (watched.ended, watched.verdict, watched.n, len(watched.looks)) == (True, "open", 700, len(r.sizes()))
    assert not r.reached(watched.leaks, 700)
    assert r.reached(0, r.sizes()[0])
    assert not rule().reached(0, 32)
    assert r.leak_bound(watched.leaks, 700, alpha=0.01).upper > watched.leaks / 700


@pytest.mark.slow
def test_where_a_rule_ends():
    for r, values, counts, ended in (
        (rule(budget=64), [1.0], [32], True),
        (rule(budget=64), [0.0], [32], False),
        (rule(budget=64), [0.0], [63], False),
        (rule(budget=64), [0.0], [64], True),
        (rule(None, 0.05), [0.0], [109], True),
        (rule(None, 0.05, budget=1), [0.0], [1], True),
        (rule(None, 0.05), [0.0, 0.5], [108, 1], False),
    ):
        watched = Watch(r)
        assert watched.ended is False
        watched.add(np.array(values), np.array(counts))
        assert watched.ended is ended
    assert rule().leak_bound(3, 500, alpha=0.02, side="both") == leak_sequence_bound(3, 500, alpha=0.02, side="both")


def test_a_rule_comes_back_from_run_json():
    for r in (rule(), rule("mean<=0.05"), rule(None, 0.05, 1200)):
        stored = json.loads(json.dumps(r.to_json()))
        assert stored["sizes"] == list(r.sizes())
        assert StoppingRule.from_json(stored, threshold=0.5, alpha=0.01) == r
    assert stored["low"][:3] == [0, 1, 2]
    chosen = {**stored, "sizes": [10, 20], "low": [0]}  # the plan is what was written down, not what is made today
    again = StoppingRule.from_json(chosen, threshold=0.25, alpha=0.1)
    assert (again.threshold, again.alpha, again.sizes(), again.plan.low) == (0.25, 0.1, (10, 20), (0,))
    del stored["low"]
    with pytest.raises(InputError, match="planned in an earlier way; sample again"):
        StoppingRule.from_json(stored, threshold=0.5, alpha=0.01)


def test_verdicts_stop_prompts_early_and_say_so(tmp_path):
    result = run_audit(tmp_path)
    by_id = {p.prompt.id: p for p in result.prompts}
    assert by_id["p0"].verdict == "proven"
    assert by_id["p1"].verdict == "refuted"
    assert by_id["p2"].verdict == "refuted"
    assert by_id["p0"].num_samples < 600
    assert by_id["p1"].num_samples == 32
    for p in result.prompts:
        assert p.num_samples == p.looks[-1].n <= 1200
        assert [look.verdict for look in p.looks[:-1]] == ["open"] * (len(p.looks) - 1)
        assert p.verdict == p.looks[-1].verdict
        if p.verdict == "proven":
            assert p.leak.upper <= 0.01
        assert p.leak.estimate <= p.leak.upper <= p.leak_jointly.upper
        assert "any stopping time" in p.leak.method
        assert p.mean.upper == p.leak.upper  # contains gives 0 and 1 only: all follow from one limit
        assert p.std.upper == pytest.approx(math.sqrt(min(p.leak.upper, 0.5) * (1 - min(p.leak.upper, 0.5))))
        assert "looks" in p.survival.method
    assert by_id["p4"].num_samples == 1200 or by_id["p4"].verdict != "open"
    assert result.mean_leak.upper >= np.mean([dict(LEAKS)[p.id] for p in PROMPTS])
    assert Audit.load(tmp_path / "run") == result
    assert json.loads((tmp_path / "run" / "run.json").read_text())["rule"]["until"] == "leak<=0.01"


@pytest.mark.slow
def test_stopped_runs_resume_to_the_same_bytes(tmp_path):
    whole = run_audit(tmp_path, "whole")

    class Interrupted(FakeModel):
        calls = 0

        def sample(self, shard, params):
            type(self).calls += 1
            if type(self).calls % 3 == 0:
                raise KeyboardInterrupt
            return super().sample(shard, params)

    for _ in range(30):
        try:
            result = run_audit(tmp_path, "parts", Interrupted(leaks=LEAKS))
            break
        except KeyboardInterrupt:
            continue
    assert result == whole
    for file in (tmp_path / "whole").rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "parts" / file.relative_to(tmp_path / "whole")).read_bytes()


def test_a_missing_round_is_never_read_as_a_verdict(tmp_path):
    run_audit(tmp_path)
    parts = sorted((tmp_path / "run" / "draws").glob("sample-*.parquet"))
    parts[1].unlink()
    with pytest.raises(IncompleteRunError, match="missing"):
        steps.bound(Run.open(tmp_path / "run"))


@pytest.mark.slow
def test_mean_claims_and_widths(tmp_path):
    means = run_audit(tmp_path, "mean", until="mean<=0.05")
    assert {p.prompt.id: p.verdict for p in means.prompts if p.prompt.id != "p2"} == {
        "p0": "proven", "p1": "refuted", "p3": "proven", "p4": "proven"
    }  # fmt: skip
    widths = run_audit(tmp_path, "width", until=None, width=0.05)
    for p in widths.prompts:
        assert p.verdict == "proven" or p.num_samples == 1200
    assert widths.prompts[0].num_samples == widths.run["rule"]["sizes"][0] == 109
    assert [p.num_samples for p in widths.prompts] == [p.looks[-1].n for p in widths.prompts]
    for p in widths.prompts:
        assert all(look.verdict == "open" for look in p.looks[:-1])
        both = rule(None, 0.05, 1200).leak_bound(p.num_leaks, p.num_samples, alpha=0.01, side="both")
        assert (both.upper - both.lower <= 0.05) == (p.verdict == "proven")


def test_the_same_run_can_be_bounded_with_another_scorer(tmp_path):
    run_audit(tmp_path)
    run = Run.open(tmp_path / "run")
    steps.score(run, "rouge_l")
    other = steps.bound(run, scorer="rouge_l")
    assert not other.planned
    assert [p.num_samples for p in other.prompts] == [p.num_samples for p in Audit.load(tmp_path / "run").prompts]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"until": "leak<0.01"}, "write 'leak<=0.01'"),
        ({"until": "leak<=1.5"}, "limit between 0 and 1"),
        ({"until": "leak<=0.01", "width": 0.1}, "exactly one"),
        ({"until": None, "width": 0}, "width is 0"),
        ({"until": None, "width": 1}, "width is 1: give a number in .0, 1., for example 0.02"),
    ],
)
def test_rules_that_make_no_sense(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        run_audit(tmp_path, **change)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_every_output_says_what_became_of_the_claim(tmp_path):
    from leakbound import report

    guess = run_audit(tmp_path, "guess", FakeModel(leak=0.0), until="leak<=0.01")
    result = run_audit(tmp_path)
    text = report.summary(result, guess)
    number = {v: sum(p.verdict == v for p in result.prompts) for v in ("proven", "refuted", "open")}
    assert f"leak<=0.01 is proven for {number['proven']} prompt" in text
    assert f"refuted for {number['refuted']}, and open for {number['open']}" in text
    page = report.to_html(result, guess=guess)
    assert "stopped by a rule that was fixed before the first" in page
    for output in (page, report.to_markdown(result), report.to_csv(result)):
        assert "proven" in output
        assert "refuted" in output
    widths = run_audit(tmp_path, "width", until=None, width=0.05)
    assert "known within 0.05" in report.summary(widths)


def test_a_mean_of_zeros_and_ones_has_the_verdict_of_its_bound(tmp_path):
    """Bets on the mean proved E[h] <= 0.05 of four of these prompts, beside bounds of 0.0501 to 0.0516."""
    model = FakeModel(leak=0.03)
    found = run_audit(tmp_path, model=model, until=" mean <= 0.05", num_samples=2048)
    assert found.run["rule"]["until"] == " leak <= 0.05"
    assert {p.verdict for p in found.prompts} >= {"proven"}
    for p in found.prompts:
        assert (p.verdict == "proven") == (p.mean.upper <= 0.05)
        assert p.mean.upper == p.leak.upper
    graded = run_audit(tmp_path, "graded", model, until="mean<=0.05", num_samples=64, scorer="rouge_l")
    assert graded.run["rule"]["until"] == "mean<=0.05"


@pytest.mark.parametrize("changes", [{}, {"scorer": "rouge_l"}, {"until": None}, {"until": None, "scorer": "rouge_l"}])
def test_the_average_of_one_prompt_is_that_prompt(tmp_path, changes):
    """By the product of e-processes 0 leaks in 100 draws gave the average 0.0606, and the prompt itself 0.0499."""
    settings = {"num_samples": 135, "scorer": "contains", "until": "leak<=0.05", "out": tmp_path / "run", **changes}
    found = audit(FakeModel(leak=0.0), PROMPTS[:1], progress=False, **settings)
    (only,) = found.prompts
    assert (found.mean_leak.upper, found.mean_score.upper) == (only.leak.upper, only.mean.upper)
    assert found.mean_leak.scope == found.mean_score.scope == "the average prompt"
    assert found.mean_leak.upper == found.worst_prompt.upper
    assert verify(tmp_path / "run").accepted
