import itertools
import json
import math

import numpy as np
import pytest
from bounds_laws import BETA_LOW, JUDGE, RARE, bernoulli, most_misses
from scipy import stats

from leakbound.bounds import (
    Claim,
    Look,
    MeanEvidence,
    PlannedLooks,
    final_verdict,
    leak_look,
    leak_sequence_bound,
    look_shares,
    plan_looks,
    survival_bound,
    survival_look,
)
from leakbound.bounds.claims import decide
from leakbound.bounds.engines.steady import ABOVE, BELOW, BETS, LOWER, UPPER, log_evidence_below
from leakbound.bounds.looks import binomial_pmf
from leakbound.errors import InputError

LEAK = Claim("leak", 0.01, 0.01)


@pytest.mark.parametrize("text", ["leak<=0.01", " leak <= 1e-2 "])
def test_claims_are_read(text):
    assert Claim.parse(text, 0.01) == LEAK
    assert Claim.from_json(json.loads(json.dumps(LEAK.to_json()))) == LEAK
    assert str(LEAK) == "P(leak) <= 0.01"


@pytest.mark.parametrize("text", ["leak<0.01", "leak<=", "leaks<=0.1", "mean<=1.5", "mean<=0", "mean<=1e", "", None])
def test_claims_that_cannot_be_read(text):
    with pytest.raises(InputError, match=r"write 'leak<=0.01' or 'mean<=0.05'"):
        Claim.parse(text, 0.01)


@pytest.mark.parametrize("weights", [BELOW, ABOVE])
def test_evidence_is_a_supermartingale_and_rises(weights):
    assert weights.sum() == pytest.approx(1)
    assert log_evidence_below(0, 0, 0.3, weights) == pytest.approx(0)
    for p in (0.001, 0.01, 0.3):
        for k, n in ((0, 5), (1, 9), (7, 90)):
            now = math.exp(log_evidence_below(k, n, p, weights))
            up, down = (math.exp(log_evidence_below(k + hit, n + 1, p, weights)) for hit in (1, 0))
            for truth in (p, 1.2 * p, 0.9):
                assert truth * up + (1 - truth) * down <= now * (1 + 1e-12)
            assert log_evidence_below(k, n, p * 1.01, weights) > math.log(now)


@pytest.mark.parametrize(
    ("limit", "alpha", "n"), [pytest.param(0.01, 0.01, 3000, marks=pytest.mark.slow), (0.1, 0.05, 600), (0.5, 0.1, 300)]
)
def test_exact_probability_of_a_wrong_verdict_at_any_time(limit, alpha, n):
    # the law of k over all paths, looking after every single draw; mass that meets a verdict is taken out
    claim = Claim("leak", limit, alpha)
    for truth, wrong in ((limit, "refuted"), (limit * 1.0001, "proven")):
        law, met = np.ones(1), 0.0
        for t in range(1, n + 1):
            law = np.convolve(law, [1 - truth, truth])
            for k in np.flatnonzero(law > 1e-12):
                verdict = (
                    "open" if 0.2 < (k + 1) / (t * limit + 1) < 3 and t % 5 else leak_look(int(k), t, claim).verdict
                )
                if verdict != "open":
                    met += law[k] * (verdict == wrong)
                    law[k] = 0
        assert met <= alpha


def test_leak_claims_end_with_the_right_verdict():
    assert next(n for n in range(1, 2000) if leak_look(0, n, LEAK).verdict == "proven") == 511
    rng = np.random.default_rng(0)
    for truth, right in ((0.0, "proven"), (0.001, "proven"), (0.003, "proven"), (0.03, "refuted"), (0.5, "refuted")):
        for _ in range(20):
            k = np.cumsum(rng.random(20_000) < truth)
            looks = (leak_look(int(k[n - 1]), n, LEAK) for n in range(64, 20_001, 64))
            assert next(look.verdict for look in looks if look.verdict != "open") == right


def test_looks_are_kept_and_the_first_verdict_stands():
    looks = [leak_look(k, n, LEAK) for k, n in ((0, 200), (0, 600), (50, 700))]
    assert [look.verdict for look in looks] == ["open", "proven", "refuted"]
    assert final_verdict(looks) == "proven"
    assert final_verdict([]) == "open"
    assert [Look.from_json(json.loads(json.dumps(look.to_json()))) for look in looks] == looks
    with pytest.raises(InputError, match="k is 11"):
        leak_look(11, 10, LEAK)
    with pytest.raises(InputError, match="give a claim about 'leak'"):
        leak_look(0, 10, Claim("mean", 0.1, 0.01))


@pytest.mark.slow
def test_leak_sequence_covers_at_all_times():
    rng, alpha, runs = np.random.default_rng(1), 0.2, 60
    for p in (0.0, 0.02, 0.3):
        missed = 0
        for _ in range(runs):
            k = np.cumsum(rng.random(400) < p)
            bounds = [leak_sequence_bound(int(k[n - 1]), n, alpha=alpha, side="both") for n in (20, 50, 100, 200, 400)]
            missed += any(not b.lower <= p <= b.upper for b in bounds)
        assert missed <= most_misses(runs, alpha)
    assert "any stopping time" in str(leak_sequence_bound(0, 10, alpha=0.01))
    fixed = stats.beta.isf(0.01, 1, 1024)
    assert fixed < leak_sequence_bound(0, 1024, alpha=0.01).upper < 1.3 * fixed


def test_mean_evidence_is_a_martingale_on_every_path_and_rises():
    points, weights = np.array([0.0, 0.1, 1.0]), np.array([0.6, 0.3, 0.1])
    mean = float(points @ weights)
    for shift in (0.0, 0.02, -0.02):
        claim = Claim("mean", mean + shift, 0.1)
        total_for = total_against = 0.0
        for path in itertools.product(range(3), repeat=5):
            look = MeanEvidence(claim).add(points[list(path)]).look()
            probability = weights[list(path)].prod()
            total_for += probability * math.exp(look.log_for)
            total_against += probability * math.exp(look.log_against)
        if shift == 0:
            assert total_for == pytest.approx(1)
            assert total_against == pytest.approx(1)
        else:  # a limit above the mean can be proven, one below it refuted, neither the other way round
            assert total_for == pytest.approx(max(total_for, 1)) if shift > 0 else total_for < 1
            assert total_against < 1 if shift > 0 else total_against > 1


def test_mean_evidence_by_its_formula():
    x, m = np.array([0.2, 0.2, 0.9, 0.0]), 0.3
    look = MeanEvidence(Claim("mean", m, 0.01)).add(x).look()
    wealth_for = np.prod([1 + BETS * (m - h) / (1 - m) for h in x], axis=0)
    wealth_against = np.prod([1 + BETS * (h - m) / m for h in x], axis=0)
    assert look.log_for == pytest.approx(math.log(wealth_for @ UPPER))
    assert look.log_against == pytest.approx(math.log(wealth_against @ LOWER))
    assert (look.n, look.estimate, look.verdict) == (4, pytest.approx(0.325), "open")


def test_mean_evidence_needs_no_order_and_resumes_from_json():
    x = np.random.default_rng(2).beta(0.3, 9.7, 300)
    claim = Claim("mean", 0.06, 0.01)
    whole = MeanEvidence(claim).add(x)
    assert MeanEvidence(claim).add(x[::-1]) == whole
    parts = MeanEvidence(claim).add(x[77:])
    parts = MeanEvidence.from_json(json.loads(json.dumps(parts.to_json()))).add(x[:77])
    assert (parts.n, parts.total) == (300, pytest.approx(whole.total))
    assert parts.log_for == pytest.approx(whole.log_for)
    assert parts.log_against == pytest.approx(whole.log_against)
    assert MeanEvidence(claim).add([0.0, 0.5], [9, 2]) == MeanEvidence(claim).add([0.5, 0.5] + [0.0] * 9)
    assert len(whole.log_for) == len(whole.log_against) == BETS.size


@pytest.mark.parametrize(
    ("law", "limit", "right"),
    [(BETA_LOW, 0.12, "proven"), (BETA_LOW, 0.06, "refuted"), (RARE, 0.03, "proven"), (JUDGE, 0.04, "refuted")],
)
def test_mean_claims_end_with_the_right_verdict(law, limit, right):
    rng = np.random.default_rng(3)
    for _ in range(12):
        state = MeanEvidence(Claim("mean", limit, 0.01))
        while state.n < 6000:
            state = state.add(law.draw(rng, 64))
            if state.look().verdict != "open":
                break
        assert state.look().verdict == right


def test_mean_evidence_seldom_errs_at_the_limit():
    rng, alpha, runs, wrong = np.random.default_rng(4), 0.2, 120, 0
    for _ in range(runs):
        state, met = MeanEvidence(Claim("mean", 0.1, alpha)), False
        for _ in range(8):
            state = state.add(bernoulli(0.1).draw(rng, 25))
            met |= state.look().verdict == "refuted"
        wrong += met
    assert wrong <= most_misses(runs, alpha)
    with pytest.raises(InputError, match="add at least one round"):
        MeanEvidence(Claim("mean", 0.1, 0.1)).look()
    with pytest.raises(InputError, match="give a claim about 'mean'"):
        MeanEvidence(LEAK)


def test_shares_of_looks():
    for count in (1, 2, 10, 31, 200):
        shares = look_shares(count)
        assert len(shares) == count
        assert 1 - 1e-9 < sum(shares) <= 1
        assert list(shares) == sorted(shares, reverse=True)
        assert shares[0] >= (1 - 1e-9) / count
        for r, share in enumerate(shares, 1):
            assert share == pytest.approx(12 * (count + 12) / (count * (r + 11) * (r + 12)))
            assert share >= 0.5 / count or count > 13
            more = look_shares(10 * count)[r - 1]
            assert more >= share * count / (count + 12)  # most of it stays however many looks are added
    with pytest.raises(InputError, match="num_looks is 0"):
        look_shares(0)


def test_planned_looks_of_the_design_page():
    plan = plan_looks(0.01, alpha=0.01)
    assert plan.sizes == (528, 785, 1001, 1384, 1889)
    assert plan.allowed == (0, 1, 2, 4, 7)
    assert PlannedLooks.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert (plan.next_size(0), plan.next_size(528), plan.next_size(1889)) == (528, 785, None)
    assert (plan.proven(0, 528), plan.proven(1, 528), plan.proven(7, 1889)) == (True, False, True)
    with pytest.raises(InputError, match="n is 600: look at the planned sizes only, which are 528, 785"):
        plan.proven(0, 600)


@pytest.mark.parametrize(("limit", "alpha"), [(0.01, 0.01), (0.1, 0.05), (0.4, 0.2)])
def test_planned_looks_spend_alpha_exactly(limit, alpha):
    plan = plan_looks(limit, alpha=alpha)
    for truth in (limit, limit * 1.1, 0.6):
        waiting, done, passed = np.ones(1), 0, 0.0
        for n, most in zip(plan.sizes, plan.allowed, strict=True):
            more = n - done
            waiting = np.convolve(waiting, stats.binom.pmf(np.arange(more + 1), more, truth))
            passed += waiting[: most + 1].sum()
            waiting[: most + 1] = 0
            done = n
        assert passed <= alpha
        if truth == limit:
            assert passed > 0.4 * alpha


@pytest.mark.parametrize(
    ("allowed", "shares"),
    [
        ((1, 1), (0.5, 0.5)),
        ((0, 1), (0.5,)),
        ((0,), (1.5,)),
        ((-1,), (1,)),
        ((-1, 1), (0.5, 0.5)),
        ((0, 2, 1), (0.5, 0.3, 0.2)),
    ],
)
def test_plans_are_checked(allowed, shares):
    with pytest.raises(InputError, match=r"allowed is|shares is"):
        plan_looks(0.1, alpha=0.1, allowed=allowed, shares=shares)


def test_survival_looks_share_alpha():
    x = np.random.default_rng(6).beta(2, 8, 512)
    for j, n in enumerate((128, 256, 512)):
        band = survival_look(x[:n], alpha=0.05, first=128)
        same = survival_bound(x[:n], alpha=0.05 / ((j + 1) * (j + 2)))
        assert (band.upper, band.alpha) == (same.upper, 0.05)
    with pytest.raises(InputError, match="hold 300 draws: look at 128 times a power of two, next at 512"):
        survival_look(x[:300], alpha=0.05, first=128)


@pytest.mark.parametrize(("limit", "alpha"), [(0.01, 0.01), (0.3, 0.2), (0.7, 0.4)])
def test_planned_looks_are_the_smallest(limit, alpha):
    """Each size passes with at most its share; with one draw less it would not."""
    shares, plan = (0.5, 0.2, 0.12, 0.1, 0.08), plan_looks(limit, alpha=alpha)
    waiting, done = np.ones(1), 0

    def after(n):
        return np.convolve(waiting, stats.binom.pmf(np.arange(n - done + 1), n - done, limit))

    for n, most, share in zip(plan.sizes, plan.allowed, shares, strict=True):
        assert after(n)[: most + 1].sum() <= share * alpha
        assert n == done + 1 or after(n - 1)[: most + 1].sum() > share * alpha * (1 - 2e-9)
        waiting, done = after(n), n
        waiting[: most + 1] = 0


def test_binomial_probabilities_up_to_some_count():
    for n, p, most in ((3, 0.2, 6), (0, 0.4, 2), (50, 0.01, 7), (9, 0.9, 9)):
        assert binomial_pmf(n, p, most) == pytest.approx(stats.binom.pmf(np.arange(most + 1), n, p), rel=1e-11)


def test_evidence_must_be_beyond_rounding():
    wanted = math.log(100)
    assert decide(wanted, wanted, 0.01) == "open"
    assert decide(wanted + 2e-9, wanted, 0.01) == "proven"
    assert decide(wanted, wanted + 2e-9, 0.01) == "refuted"


def test_looks_at_p_leak_by_their_formula():
    look, claim = leak_look(3, 40, Claim("leak", 0.1, 0.01)), 0.1
    c = np.array([0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, *(1 - 0.5 ** np.arange(2, 13))])

    def mixture(k, n, p, weights):
        return float(np.sum(weights * c**k * ((1 - c * p) / (1 - p)) ** (n - k)))

    assert look.log_for == pytest.approx(math.log(mixture(3, 40, claim, BELOW)))
    assert look.log_against == pytest.approx(math.log(mixture(37, 40, 1 - claim, ABOVE)))
    assert (look.n, look.estimate, look.verdict) == (40, 0.075, "open")
    for side, share in (("upper", 0.02), ("lower", 0.02), ("both", 0.01)):
        for k, n in ((3, 40), (0, 40), (40, 40), (200, 300)):
            bound = leak_sequence_bound(k, n, alpha=0.02, side=side)
            assert bound.estimate == k / n
            if side == "lower" or k == n:
                assert bound.upper == 1
            else:
                assert mixture(k, n, bound.upper, BELOW) == pytest.approx(1 / share, rel=1e-6)
                assert mixture(k, n, bound.upper, BELOW) >= 1 / share
            if side == "upper" or k == 0:
                assert bound.lower == pytest.approx(0, abs=1e-12)
            else:
                assert mixture(n - k, n, 1 - bound.lower, ABOVE) == pytest.approx(1 / share, rel=1e-6)
                assert mixture(n - k, n, 1 - bound.lower, ABOVE) >= 1 / share
            assert (bound.alpha, bound.side, bound.n) == (0.02, side, n)


def test_claims_and_looks_are_checked():
    for limit in (0, 1, 1.2):
        with pytest.raises(InputError, match="limit is"):
            Claim("leak", limit, 0.01)
    with pytest.raises(InputError, match="quantity is 'sd'"):
        Claim("sd", 0.1, 0.01)
    with pytest.raises(InputError, match="first is 0"):
        survival_look([0.1], alpha=0.05, first=0)
    with pytest.raises(InputError, match="n is 0"):
        leak_look(0, 0, LEAK)
    assert survival_look([0.1] * 6, alpha=0.05, first=3).method.endswith("valid at 3, 6, ... draws at once")
