"""Bounds by constant bets: supermartingales on all paths, no planned n, coverage at all looks, and their formulas."""

import itertools
import math

import numpy as np
import pytest
from bounds_laws import BETA_LOW, COIN, ONE, RARE, ROUGE_LOW, ZERO, most_misses
from scipy import optimize

from leakbound.bounds import (
    Claim,
    MeanEvidence,
    ed_bound,
    ed_sequence_bound,
    mean_bound,
    mean_sequence_bound,
    std_bound,
    std_sequence_bound,
)
from leakbound.bounds.engines.games import squares_about_past
from leakbound.bounds.engines.steady import (
    BETS,
    CHUNK,
    LOWER,
    UPPER,
    log_mix,
    log_wealths,
    spread_steps,
    square_steps,
    steady_upper,
    variance_without_order,
)
from leakbound.errors import InputError

POINTS, WEIGHTS = np.array([0.0, 0.4, 1.0]), np.array([0.6, 0.3, 0.1])
MEAN = float(POINTS @ WEIGHTS)
VARIANCE = float((POINTS - MEAN) ** 2 @ WEIGHTS)
ALPHA = 0.2


def test_bets_and_their_weights():
    assert (BETS.size, UPPER.size, LOWER.size) == (18, 18, 18)
    assert BETS[0] == 0.999
    assert BETS[:-1] / BETS[1:] == pytest.approx(1.6)
    assert UPPER[0] == 0.25
    assert UPPER[2:] / UPPER[1:-1] == pytest.approx(0.8)
    for weights in (UPPER, LOWER):
        assert weights.min() > 0
        assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert log_mix(np.log([2.0, 5.0]), np.array([0.25, 0.75])) == pytest.approx(math.log(0.5 + 3.75))
    assert log_mix(np.array([-math.inf, 800.0]), np.array([0.5, 0.5])) == pytest.approx(800 - math.log(2))


def wealth(y, top, s, weights):
    """The mixture by its definition, one draw after another."""
    parts = np.ones(BETS.size)
    for value, most in zip(y, np.broadcast_to(top, len(y)), strict=True):
        parts *= 1 + BETS * (s - value) / (most - s)
    return float(parts @ weights)


@pytest.mark.parametrize("kind", ["mean", "variance", "spread"])
def test_wealth_is_a_supermartingale_on_every_path(kind):
    """At the true value and above; all paths of up to 7 draws of a three-point law (3 steps that are bet on)."""
    theta = {"mean": MEAN, "variance": VARIANCE, "spread": MEAN + 2 * math.sqrt(VARIANCE)}[kind]

    def steps(x):
        if kind == "mean":
            return x, np.ones(x.size)
        return square_steps(x) if kind == "variance" else spread_steps(x, 2.0, ALPHA)

    length = 5 if kind == "mean" else 7
    totals = np.zeros(length + 1)
    for path in itertools.product(range(3), repeat=length):
        x, chance = POINTS[list(path)], WEIGHTS[list(path)].prod()
        y, top = steps(x)
        assert np.all(y <= top)
        logs = np.array([log_wealths((theta - y[:t]) / (top[:t] - theta), np.ones(t, int)) for t in range(y.size + 1)])
        totals[: y.size + 1] += [chance * math.exp(log_mix(each, UPPER)) for each in logs]
        assert math.exp(log_mix(logs[-1], UPPER)) == pytest.approx(wealth(y, top, theta, UPPER))
    used = totals[totals > 0]
    assert used[0] == pytest.approx(1)
    assert np.all(np.diff(used) <= 1e-12)
    if kind == "mean":
        assert used == pytest.approx(np.ones(used.size))


def test_steps_know_only_the_past_and_no_number_of_draws():
    x = ROUGE_LOW.draw(np.random.default_rng(1), 40)
    for steps in (square_steps, lambda x: spread_steps(x, 2.0, 0.01)):
        whole, tops = steps(x)
        assert whole.size == tops.size == 36
        for n in (0, 4, 5, 17, 40):
            y, top = steps(x[:n])
            assert np.array_equal(y, whole[: max(n - 4, 0)])
            assert np.array_equal(top, tops[: max(n - 4, 0)])
        changed, new_tops = steps(np.append(x[:30], 1 - x[30:]))
        assert np.array_equal(new_tops[:27], tops[:27])  # the top of draw 31 is known after 30 draws
        assert np.array_equal(changed[:26], whole[:26])


def test_steps_by_their_formulas():
    x, alpha, kappa = np.array([0.2, 0.9, 0.0, 0.4, 0.7, 0.1, 1.0]), 0.05, 1.5
    y, top = square_steps(x)
    spreads, most = spread_steps(x, kappa, alpha)
    for i, t in enumerate((5, 6, 7)):
        c = (0.5 + x[: t - 1].sum()) / t
        assert y[i] == pytest.approx((x[t - 1] - c) ** 2)
        assert top[i] == pytest.approx(max(c, 1 - c) ** 2, rel=1e-11)
        squares = squares_about_past(x[:, None])[0][: t - 1, 0]
        s = math.sqrt(min((0.25 + squares.sum()) / t + math.log(1 / alpha) / (8 * t), 0.25))
        each = [h + kappa * (s / 2 + (h - c) ** 2 / (2 * s)) for h in (x[t - 1], 0, 1)]
        assert spreads[i] == pytest.approx(each[0])
        assert most[i] == pytest.approx(max(each[1:]), rel=1e-11)
        assert top[i] >= max(c, 1 - c) ** 2
        assert most[i] >= max(each[1:])


def root(y, top, share, weights, end):
    """The s at which the wealth is 1 / share, by another solver; the end where it is not reached."""

    def missing(s):
        with np.errstate(over="ignore"):
            return math.log(min(wealth(y, top, s, weights), 1e300) * share)

    most = min(end, np.min(top)) - 1e-12
    return (
        optimize.brentq(missing, min(y.mean(), most), most, xtol=1e-13) if missing(most) > 0 else min(end, np.min(top))
    )


@pytest.mark.parametrize("side", ["upper", "lower", "both"])
@pytest.mark.parametrize(("law", "n"), [(ROUGE_LOW, 60), (COIN, 25), (RARE, 300), (BETA_LOW, 91)])
def test_limits_are_roots(side, law, n):
    alpha = 0.03
    share = alpha / 2 if side == "both" else alpha
    x = law.draw(np.random.default_rng(2), n)
    bound = mean_sequence_bound(x, alpha=alpha, side=side)
    assert bound.upper == (1.0 if side == "lower" else pytest.approx(root(x, 1.0, share, UPPER, 1), rel=1e-7))
    assert bound.lower == (
        0.0 if side == "upper" else pytest.approx(1 - root(1 - x, 1.0, share, LOWER, 1), rel=1e-6, abs=1e-7)
    )
    assert (bound.alpha, bound.side, bound.n, bound.estimand) == (alpha, side, n, "E[h]")
    assert bound.estimate == pytest.approx(x.mean())
    values, counts = np.unique(x, return_counts=True)
    assert mean_sequence_bound(values, counts=counts, alpha=alpha, side=side) == bound
    assert mean_sequence_bound(x[::-1], alpha=alpha, side=side) == bound

    spread = std_sequence_bound(x, alpha=alpha, side=side)
    variance = root(*square_steps(x), share, UPPER, 0.25)
    assert spread.upper == (0.5 if side == "lower" else pytest.approx(math.sqrt(variance), rel=1e-7))
    pairs = (x[1 : n // 2 * 2 : 2] - x[: n // 2 * 2 : 2]) ** 2
    twice = max(1 - root(1 - pairs, 1.0, share, LOWER, 1), 0.0)
    assert spread.lower == (0.0 if side == "upper" else pytest.approx(math.sqrt(twice / 2), rel=1e-6, abs=2e-4))
    assert spread.lower > 0 or side == "upper" or law is RARE
    assert (spread.alpha, spread.side, spread.n, spread.estimand) == (alpha, side, n, "sd(h)")
    assert spread.estimate == pytest.approx(x.std())


def test_mean_and_spread_in_one_limit():
    for law, n in ((ROUGE_LOW, 60), (COIN, 25), (RARE, 300)):
        x = law.draw(np.random.default_rng(2), n)
        both = ed_sequence_bound(x, alpha=0.03, kappa=1.5)
        most = (1 + math.sqrt(3.25)) / 2
        assert both.upper == pytest.approx(root(*spread_steps(x, 1.5, 0.03), 0.03, UPPER, most), rel=1e-7)
        assert (both.alpha, both.side, both.n, both.lower) == (0.03, "upper", n, 0.0)
        assert both.estimand == "E[h] + 1.5 sd(h)"
        assert both.estimate == pytest.approx(x.mean() + 1.5 * x.std())
        assert "any stopping time" in both.method


def test_gains_are_added_in_chunks():
    gain = np.random.default_rng(8).uniform(-1, 1, 2 * CHUNK + 77)
    counts = np.arange(gain.size) % 3
    slow = [float(np.dot(np.log1p(c * gain), counts)) for c in BETS]
    assert log_wealths(gain, counts) == pytest.approx(slow)


def test_a_rejecting_end_is_returned():
    x = ROUGE_LOW.draw(np.random.default_rng(3), 80)
    for alpha in (0.3, 0.01, 1e-6):
        m = mean_sequence_bound(x, alpha=alpha).upper
        assert wealth(x, 1.0, m, UPPER) >= 1 / alpha
        assert wealth(x, 1.0, m - 1e-8, UPPER) < 1 / alpha


def test_a_claim_is_proven_where_the_bound_is_at_most_its_limit():
    rng = np.random.default_rng(4)
    for limit in (0.05, 0.3):
        seen = set()
        for law in (ZERO, BETA_LOW, ROUGE_LOW):
            state, x = MeanEvidence(Claim("mean", limit, 0.01)), np.zeros(0)
            for _ in range(16):
                new = law.draw(rng, 10)
                state, x = state.add(new), np.append(x, new)
                bound = mean_sequence_bound(x, alpha=0.01)
                look = state.look()
                assert (look.verdict == "proven") == (bound.upper <= limit)
                assert (look.verdict == "refuted") == (mean_sequence_bound(x, alpha=0.01, side="lower").lower > limit)
                seen.add(look.verdict)
        assert seen >= {"proven", "open"}


def test_nothing_leaked():
    for n in (20, 500):
        bound = mean_sequence_bound([0.0], counts=[n], alpha=0.01)
        assert float(UPPER @ (1 + BETS * bound.upper / (1 - bound.upper)) ** n) == pytest.approx(100, rel=1e-5)
        assert bound.upper < 1.35 * (1 - 0.01 ** (1 / n))  # 1.35 times the least possible
    assert mean_sequence_bound([1.0] * 9, alpha=0.1).upper == 1.0
    assert mean_sequence_bound([0.0] * 9, alpha=0.1, side="both").lower == 0.0
    for n in (1, 4):
        assert std_sequence_bound([0.3] * n, alpha=0.1).upper == 0.5
        assert ed_sequence_bound([0.3] * n, alpha=0.1).upper == (1 + math.sqrt(5)) / 2
    assert std_sequence_bound([0.3], alpha=0.1, side="both").lower == 0.0
    assert ed_sequence_bound([0.0, 1.0] * 300, alpha=0.1).upper <= (1 + math.sqrt(5)) / 2
    assert std_sequence_bound([0.0, 1.0] * 300, alpha=0.1).upper == 0.5
    assert std_sequence_bound([0.3] * 9, alpha=0.1).upper < 0.5
    y = np.zeros(0)
    assert steady_upper(y, y, np.zeros(0, int), 0.7, 0.1, UPPER) == 0.7


@pytest.mark.slow
def test_bounds_cover_at_all_looks():
    """Any miss at any of three looks counts; the tolerance has a false-alarm rate below 1e-6."""
    rng, runs, alpha = np.random.default_rng(5), 50, 0.2
    for law in (ONE, RARE, COIN, BETA_LOW, ROUGE_LOW):
        missed = np.zeros(3)
        for _ in range(runs):
            x, met = law.draw(rng, 160), np.zeros(3, bool)
            for n in (15, 50, 160):
                mean = mean_sequence_bound(x[:n], alpha=alpha, side="both")
                std = std_sequence_bound(x[:n], alpha=alpha, side="both")
                met[0] |= not mean.lower <= law.mean <= mean.upper
                met[1] |= not std.lower <= law.sd + 1e-12 <= std.upper + 2e-12
                met[2] |= ed_sequence_bound(x[:n], alpha=alpha).upper < law.mean + 2 * law.sd - 1e-12
            missed += met
        assert missed.max() <= most_misses(runs, alpha)


def test_arranged_draws_get_limits_that_need_no_order():
    """Grouped draws: misses within alpha, the larger of two limits, and nothing below."""
    rng, runs, alpha, n = np.random.default_rng(7), 10, 0.05, 128
    points, weights = np.array([0.0, 1.0, 0.3]), np.array([0.4, 0.3, 0.3])
    mean = float(points @ weights)
    sd, missed = math.sqrt(points**2 @ weights - mean**2), np.zeros(2)
    for counts in rng.multinomial(n, weights, size=runs):
        x = np.repeat(points, counts)
        std, ed = std_sequence_bound(x, alpha=alpha, side="both"), ed_sequence_bound(x, alpha=alpha)
        assert std.lower == 0
        missed += [std.upper < sd - 1e-9, ed.upper < mean + 2 * sd - 1e-9]
    assert missed.max() <= most_misses(runs, alpha)
    x, alpha = np.repeat([0.0, 1.0, 0.3], [40, 30, 30]), 0.05
    mixed = rng.permutation(x)
    free = variance_without_order(x, alpha)
    assert free == variance_without_order(mixed, alpha)
    assert std_sequence_bound(x, alpha=alpha).upper >= math.sqrt(free)
    mean = mean_sequence_bound(x, alpha=alpha / 2).upper
    apart = mean + 2 * math.sqrt(variance_without_order(x, alpha / 2))
    assert ed_sequence_bound(x, alpha=alpha).upper >= apart - 1e-12
    assert std_sequence_bound(mixed, alpha=alpha, side="both").lower > 0


def test_the_limit_without_order_is_a_root_of_its_definition():
    x, alpha = ROUGE_LOW.draw(np.random.default_rng(8), 40), 0.1
    v = variance_without_order(x, alpha)

    def evidence(v):
        centres = np.arange(65) / 64
        return np.mean([wealth((x - c) ** 2, max(c, 1 - c) ** 2, v, UPPER) for c in centres])

    assert evidence(v + 1e-7) >= 1 / alpha > evidence(v - 1e-7)


def test_the_price_of_not_knowing_n():
    """Against bounds for an n that was known: never below 0.98 of them here, and never far above."""
    rng = np.random.default_rng(6)
    for law in (ZERO, BETA_LOW, ROUGE_LOW):
        x = law.draw(rng, 600)
        for one, other, most in (
            (mean_sequence_bound, mean_bound, 1.35),
            (std_sequence_bound, std_bound, 1.2),
            (ed_sequence_bound, ed_bound, 1.35),
        ):
            assert 0.98 < one(x, alpha=0.01).upper / other(x, alpha=0.01).upper < most


def test_what_cannot_be_bounded():
    for make in (mean_sequence_bound, std_sequence_bound, ed_sequence_bound):
        with pytest.raises(InputError, match="scores is empty"):
            make([], alpha=0.1)
        with pytest.raises(InputError, match="alpha is 0"):
            make([0.1], alpha=0)
    with pytest.raises(InputError, match="kappa is 0"):
        ed_sequence_bound([0.1], alpha=0.1, kappa=0)
    with pytest.raises(InputError, match="side is 'under'"):
        std_sequence_bound([0.1], alpha=0.1, side="under")
