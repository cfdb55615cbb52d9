"""What exact probabilities say about the whole distribution, against populations that are known completely."""

import itertools
import math

import numpy as np
import pytest
from bounds_laws import most_misses

from leakbound.auditing.engines import choose_engine
from leakbound.bounds.certificates import log_wealth
from leakbound.bounds.proportion import proportion_bound
from leakbound.bounds.seen import (
    ANCHORS,
    estimated_law,
    seen_ed_bound,
    seen_ed_score,
    seen_quantile_bound,
    seen_std_bound,
    seen_survival_bound,
)
from leakbound.errors import InputError

GRID = np.arange(101) / 100
SMALL = [  # (probabilities, scores)
    ([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 0]),
    ([0.05, 0.05, 0.1, 0.3, 0.5], [1, 0.3, 1, 0, 0.6]),
    ([0.25] * 4, [1, 0.8, 0.2, 0]),
    ([0.75, 0.1, 0.08, 0.05, 0.02], [0, 0.5, 0, 1, 0.2]),
    ([0.96, 0.01, 0.01, 0.01, 0.01], [1, 0, 0, 0, 0.75]),
]


def truths(p, h):
    p, h = np.asarray(p, float), np.asarray(h, float)
    mean = p @ h
    sd = math.sqrt(p @ (h - mean) ** 2)
    return mean, sd, np.array([p[h > x].sum() for x in GRID])


def quantile(p, h, q):
    order = np.argsort(h)
    return np.asarray(h)[order][np.searchsorted(np.cumsum(np.asarray(p)[order]), q - 1e-12)]


def orders(p, t):
    """The first t of every order of the population, with their Plackett-Luce probabilities."""
    for order in itertools.permutations(range(len(p)), t):
        weight, rest = 1.0, 1.0
        for i in order:
            weight *= p[i] / rest
            rest -= p[i]
        yield list(order), weight


@pytest.mark.slow
@pytest.mark.parametrize(("p", "h"), SMALL)
@pytest.mark.parametrize("t", [1, 3])
@pytest.mark.parametrize("alpha", [0.05, 0.4])
def test_misses_at_most_alpha_by_enumeration(p, h, t, alpha):
    mean, sd, survival = truths(p, h)
    missed = dict.fromkeys(("survival", "std", "ed", "quantile"), 0.0)
    for order, weight in orders(p, t):
        q, x = np.array(p)[order], np.array(h, float)[order]
        band = seen_survival_bound(q, x, alpha=alpha, thresholds=GRID)
        missed["survival"] += weight * bool((np.array(band.upper) < survival - 1e-12).any())
        missed["std"] += weight * (seen_std_bound(q, x, alpha=alpha).upper < sd - 1e-12)
        missed["ed"] += weight * (seen_ed_bound(q, x, alpha=alpha).upper < mean + 2 * sd - 1e-12)
        wrong = any(seen_quantile_bound(q, x, c, alpha=alpha).upper < quantile(p, h, c) for c in (0.1, 0.5, 0.9))
        missed["quantile"] += weight * wrong
    assert max(missed.values()) <= alpha + 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_no_placement_of_the_unseen_mass_beats_the_bounds(seed):
    """Brute force: the unseen mass anywhere on a grid that keeps E[h] <= B; the worst placement is the bound."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(12, 0.4))
    h = np.round(rng.random(12) * (rng.random(12) < 0.6), 2)
    seen, alpha = 8, 0.3
    q, x = p[:seen], h[:seen]
    rest = 1 - q.sum()
    from leakbound.bounds.certificates import without_replacement_bound

    most = without_replacement_bound(q, x, alpha=alpha).upper - q @ x
    sds, eds = [0.0], [0.0]
    levels = np.linspace(0, 1, 21)
    for a, b in itertools.combinations(levels, 2):
        for share in np.linspace(0, 1, 41):
            added = rest * (share * a + (1 - share) * b)
            if added > most:
                continue
            mean = q @ x + added
            second = q @ x**2 + rest * (share * a**2 + (1 - share) * b**2)
            sd = math.sqrt(max(second - mean**2, 0))
            sds.append(sd)
            eds.append(mean + 2 * sd)
    std, ed = seen_std_bound(q, x, alpha=alpha), seen_ed_bound(q, x, alpha=alpha)
    assert max(sds) <= std.upper + 1e-7
    assert max(eds) <= ed.upper + 1e-7
    assert std.upper - max(sds) < 0.02 + 0.1 * rest  # the grid of placements is coarse, the bound is not
    assert ed.upper - max(eds) < 0.06 + 0.2 * rest


def test_survival_is_exact_plus_the_unseen_mass_where_bets_are_weak():
    """One completion: no bet can prove anything, the unseen mass may all lie anywhere."""
    band = seen_survival_bound([0.9], [0.4], alpha=1e-6, thresholds=[0.0, 0.3, 0.4, 0.9, 1.0])
    assert band.upper == pytest.approx((1.0, 1.0, 0.1, 0.1, 0.0), abs=1e-9)
    assert band.lower == (0, 0, 0, 0, 0)
    assert seen_std_bound([0.9], [0.4], alpha=1e-6).upper == pytest.approx(
        math.sqrt(0.46 * 0.54 - 0.9 * 0.24), abs=1e-6
    )


def test_everything_seen_is_exact():
    rng = np.random.default_rng(2)
    p, h = rng.dirichlet(np.ones(30)), rng.random(30)
    mean, sd, survival = truths(p, h)
    assert seen_survival_bound(p, h, alpha=0.01, thresholds=GRID).upper == pytest.approx(survival, abs=1e-8)
    assert seen_std_bound(p, h, alpha=0.01).upper == pytest.approx(sd, abs=1e-6)
    assert seen_std_bound(p, h, alpha=0.01).estimate == pytest.approx(sd, abs=1e-6)
    assert seen_ed_bound(p, h, alpha=0.01).upper == pytest.approx(mean + 2 * sd, abs=1e-6)
    assert seen_ed_score(p, h) == pytest.approx(mean + 2 * sd, abs=1e-6)
    for q in (0.05, 0.5, 0.95):
        assert seen_quantile_bound(p, h, q, alpha=0.01).upper == quantile(p, h, q)
    assert estimated_law(p) == pytest.approx(p, abs=1e-9)


def test_the_estimated_law_is_the_frequencies_where_nothing_is_seen():
    assert estimated_law([1e-12] * 50) == pytest.approx(np.full(50, 0.02), rel=1e-6)
    assert estimated_law([0.5, 0.2, 0.01]).sum() == pytest.approx(1)
    assert (estimated_law([0.5, 0.2, 0.01]) >= [0.5, 0.2, 0.01]).all()


def test_order_relations():
    rng = np.random.default_rng(3)
    p, h = rng.dirichlet(np.full(80, 0.3))[:40], np.round(rng.random(40), 1)
    for alpha in (0.01, 0.2):
        band = seen_survival_bound(p, h, alpha=alpha, thresholds=GRID)
        assert all(a >= b for a, b in itertools.pairwise(band.upper))
        assert all(a >= b - 1e-12 for a, b in itertools.pairwise(band.estimate))
        assert all(e <= u for e, u in zip(band.estimate, band.upper, strict=True))
        assert seen_std_bound(p, h, alpha=alpha).upper <= 0.5
        quantiles = [seen_quantile_bound(p, h, q, alpha=alpha).upper for q in (0.1, 0.5, 0.9, 0.99)]
        assert quantiles == sorted(quantiles)
    assert seen_std_bound(p, h, alpha=0.2).upper <= seen_std_bound(p, h, alpha=0.001).upper
    assert seen_ed_bound(p, h, alpha=0.2).upper <= seen_ed_bound(p, h, alpha=0.001).upper
    zeros = seen_survival_bound(p, np.zeros(40), alpha=0.01, thresholds=[0.0])
    assert 0 < zeros.upper[0] < 1


def gumbel_runs(p, h, runs, looks, rng):
    """Orders of many runs: 1 - M and L + 1 - M before each look, and the scores."""
    order = np.argsort(-(np.log(p + 1e-300) + rng.gumbel(size=(runs, p.size))), axis=1)[:, :looks]
    q, x = p[order], h[order]
    rest = 1 - (np.cumsum(q, 1) - q)
    return rest, rest + np.cumsum(q * x, 1) - q * x, x


@pytest.mark.slow
def test_the_band_over_twenty_thousand_runs():
    """All anchors at once: some e-process rejects the truth in at most alpha of the runs (false alarm < 1e-7)."""
    rng, alpha, runs = np.random.default_rng(0), 0.08, 20_000
    somewhere = 0
    for concentration in (0.05, 1.0):
        p, h = rng.dirichlet(np.full(150, concentration)), rng.beta(0.4, 1.0, 150)
        seed, missed = int(rng.integers(2**32)), np.zeros(runs, bool)
        for anchor in ANCHORS:
            over = (h > anchor).astype(float)
            rest, ceiling, x = gumbel_runs(p, over, runs, 30, np.random.default_rng(seed))
            truth = p @ over
            wealth = log_wealth(rest, np.maximum(ceiling, truth + 1e-12), x, truth)
            missed |= wealth.max(1) >= math.log(len(ANCHORS) / alpha)
        assert missed.sum() <= most_misses(runs, alpha)
        somewhere += missed.sum()
    assert somewhere > 0


def test_auto_over_twenty_thousand_runs():
    """Pilot, choice, judged draws: the bound of the chosen engine misses in at most alpha of the runs."""
    rng, alpha, runs, n = np.random.default_rng(1), 0.1, 20_000, 12
    misses, chosen = 0, {"iid": 0, "without-replacement": 0}
    p = np.sort(rng.dirichlet(np.full(40, 0.25)))[::-1]
    p = 0.35 * p + 0.65 * np.full(40, 1 / 40)  # near the border, so that both engines are chosen
    h = (rng.random(40) < 0.3).astype(float)
    truth = p @ h
    known = {k: proportion_bound(k, n, alpha=alpha).upper for k in range(n + 1)}
    rest, ceiling, x = gumbel_runs(p, h, runs, n, rng)
    rejected = log_wealth(rest, np.maximum(ceiling, truth + 1e-12), x, truth).max(1) >= math.log(1 / alpha)
    pilots, leaks = rng.choice(40, size=(runs, 8), p=p), rng.binomial(n, truth, runs)
    for i in range(runs):
        engine = choose_engine(p[pilots[i]], n, alpha)
        chosen[engine] += 1
        misses += rejected[i] if engine == "without-replacement" else known[int(leaks[i])] < truth
    assert min(chosen.values()) > 1000, chosen
    assert 0 < misses <= most_misses(runs, alpha)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="q is 1"):
        seen_quantile_bound([0.5], [0.0], 1, alpha=0.01)
    with pytest.raises(InputError, match="kappa is 0"):
        seen_ed_bound([0.5], [0.0], alpha=0.01, kappa=0)
    with pytest.raises(InputError, match="masses sum to"):
        seen_survival_bound([0.7, 0.7], [0, 0], alpha=0.01)
    with pytest.raises(InputError, match="alpha is 0"):
        seen_std_bound([0.7], [0], alpha=0)
