"""Miss rates at the laws that are hardest to bound, through the public functions and their default order of draws."""

import numpy as np
import pytest
from bounds_laws import COIN, JUDGE, LAWS, NEAR_ZERO, ONE, ROUGE_LOW, ROUGE_MID, Law, bernoulli, most_misses

from leakbound.bounds import (
    bounds_of_binary,
    ed_bound,
    ed_bounds,
    ed_score,
    ed_sequence_bound,
    group_bound,
    leak_at_k_bound,
    leak_sequence_bound,
    mean_bound,
    mean_bounds,
    plan_groups,
    proportion_bound,
    quantile_bound,
    std_bound,
    std_bounds,
)
from leakbound.bounds.engines import noncrossing, portfolio
from leakbound.bounds.engines.betting import star_upper
from leakbound.bounds.engines.clopper import clopper_pearson_upper
from leakbound.bounds.engines.games import mean_game, pair_squares, upper_spread_game
from leakbound.bounds.engines.order import looks_arranged
from leakbound.bounds.seen import seen_ed_bound
from leakbound.errors import InputError

ALPHA, DRAWS = 0.1, 64
TRAPS = (
    bernoulli(1 - ALPHA ** (1 / DRAWS)),  # no leak in all draws with probability exactly alpha
    bernoulli(0.9),
    Law("{0, .999, 1}", ((0.0, 0.5), (0.999, 0.4), (1.0, 0.1))),
    Law("{.5, .5+}", ((0.5, 0.5), (0.5000001, 0.5))),
    Law("Beta(.05,.05)", betas=((0.05, 0.05, 1.0),)),
    Law("tiny and rare", ((0.0, 0.9), (1e-6, 0.08), (1.0, 0.02))),
    ONE,
)


@pytest.mark.parametrize(
    "law", [*(pytest.param(w, marks=pytest.mark.slow) for w in LAWS), *TRAPS], ids=lambda w: w.name
)
@pytest.mark.slow
def test_default_bounds_miss_no_more_than_alpha(law):
    rng, alpha, runs = np.random.default_rng(0), ALPHA, 700
    samples = law.draw(rng, (runs, DRAWS))
    allowed = most_misses(runs, alpha)
    means = mean_bounds(samples, alpha=alpha)
    assert sum(b.upper < law.mean - 1e-12 for b in means) <= allowed
    assert sum(b.lower > law.mean + 1e-12 for b in mean_bounds(samples, alpha=alpha, side="lower")) <= allowed
    assert sum(b.upper < law.sd - 1e-12 for b in std_bounds(samples, alpha=alpha)) <= allowed
    twice = 1 - star_upper(mean_game(1 - pair_squares(samples.T)), alpha)  # of draws that do not look arranged
    below = np.sqrt(np.maximum(twice, 0) / 2) * [not looks_arranged(x) for x in samples]
    first = [b.lower for b in std_bounds(samples[:20], alpha=alpha, side="lower")]
    assert first == pytest.approx(np.minimum(below[:20], samples[:20].std(axis=1)), abs=1e-7)
    assert (below > law.sd + 1e-12).sum() <= allowed
    together = star_upper(upper_spread_game(samples.T, 2.0, alpha), alpha)
    assert (together < law.mean + 2 * law.sd - 1e-12).sum() <= allowed


def test_the_bounds_are_not_idle():
    # where the bet is nearly fair the miss rate comes close to alpha; a bound that never misses would be too wide
    rng, alpha, runs = np.random.default_rng(1), 0.1, 2000
    misses = sum(b.upper < COIN.mean for b in mean_bounds(COIN.draw(rng, (runs, 256)), alpha=alpha))
    assert 0.04 * runs < misses <= most_misses(runs, alpha)


def test_just_below_a_jump_of_clopper_pearson():
    n, alpha = 64, 0.1
    for k in (0, 3, 40):
        p = float(clopper_pearson_upper(k, n, alpha)) * (1 + 1e-9)
        hits = np.random.default_rng(2).binomial(n, p, 5000)
        assert {j for j in range(n) if proportion_bound(j, n, alpha=alpha).upper < p} == set(range(k + 1))
        assert (hits <= k).sum() <= most_misses(5000, alpha)


@pytest.mark.parametrize("scores", [[0.0], [1.0], [0.3], [0.0, 1.0], [1.0, 1.0], [0.0] * 7])
def test_one_or_two_draws(scores):
    for bound in (mean_bound(scores, alpha=0.01, side="both"), std_bound(scores, alpha=0.01, side="both")):
        assert 0 <= bound.lower <= bound.estimate <= bound.upper <= 1
    assert mean_bound(scores, alpha=0.01).upper > 0.4
    assert ed_bound(scores, alpha=0.01).upper >= ed_score(scores)


@pytest.mark.slow
def test_ed_bound():
    rng = np.random.default_rng(3)
    for law in (ROUGE_LOW, ROUGE_MID, JUDGE, NEAR_ZERO):
        x = law.draw(rng, 1024)
        bound = ed_bound(x, alpha=0.01)
        assert ed_score(x) <= bound.upper
        values, counts = np.unique(x, return_counts=True)
        assert bound.upper < ed_bound(values, counts=counts, alpha=0.01).upper  # without an order it is wider
        split = mean_bound(x, alpha=0.005).upper + 2 * std_bound(x, alpha=0.005).upper
        assert bound.upper < split * 1.02
    assert bound.estimand == "E[h] + 2 sd(h)"
    several = [JUDGE.draw(rng, n) for n in (40, 7, 40)]
    assert ed_bounds(several, alpha=0.05) == [
        ed_bound(
            s,
            alpha=0.05,
        )
        for s in several
    ]
    assert ed_bound([0.0, 1.0], counts=[600, 424], kappa=1, alpha=0.01).upper < (1 + np.sqrt(2)) / 2
    for kappa in (0, -1, float("nan"), "2", True):
        with pytest.raises(InputError, match="kappa is"):
            ed_bound([0.1], kappa=kappa, alpha=0.01)


def test_a_bound_falls_as_alpha_grows():
    x = ROUGE_LOW.draw(np.random.default_rng(4), 200)
    for bound in (mean_bound, std_bound, ed_bound):
        uppers = [bound(x, alpha=alpha).upper for alpha in (1e-6, 1e-3, 0.01, 0.1, 0.3)]
        assert uppers == sorted(uppers, reverse=True)


def test_numbers_that_no_float_keeps_are_refused_by_name():
    many = [i / 3000 for i in range(3000)]
    plan = plan_groups(0.3, alpha=0.05, budget=400)
    for wrong, message in (
        (lambda: mean_bound(many, counts=[2**53 - 1] * 3000, alpha=0.01), "counts sum to 2.70.*e.19: give at most"),
        (lambda: mean_bound([0.0, 1.0], counts=[2**53 - 1, 3], alpha=0.01), "counts sum to 9007199254740994: give"),
        (lambda: leak_sequence_bound(0, 10**400, alpha=0.01), "n has 401 digits: give a whole number >= 1, at most"),
        (lambda: leak_at_k_bound(proportion_bound(0, 9, alpha=0.1), 10**400), "k has 401 digits"),
        (lambda: plan_groups(0.3, alpha=1e-300, budget=2000), "alpha is 1e-300: give at least 1e-290"),
        (lambda: group_bound(plan, 0, plan.sizes[0], alpha=1e-300), "alpha is 1e-300: give at least 1e-290"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()


@pytest.mark.parametrize("q", [1e-300, 1e-17, 1e-16])
def test_a_quantile_next_to_the_end_has_its_limits(q):
    bound = quantile_bound([0.25, 0.5, 1.0], q, alpha=0.3, side="both")
    assert (bound.lower, bound.upper) == (0.0, 0.25)


def test_what_a_bound_is_on_is_named_in_full():
    """Rounded to six digits these were the 1-quantile, and mean + 2 sd."""
    x = [0.0, 0.5] * 100
    assert quantile_bound(x, 0.9999999, alpha=0.01).estimand == "the 0.9999999-quantile of h"
    kappa = 1.9999999
    for bound in (
        ed_bound(x, alpha=0.01, kappa=kappa),
        ed_sequence_bound(x, alpha=0.01, kappa=kappa),
        bounds_of_binary(proportion_bound(0, 9, alpha=0.1), kappa=kappa)[2],
        seen_ed_bound([0.1, 0.2], [0.0, 0.5], alpha=0.01, kappa=kappa),
    ):
        assert bound.estimand == "E[h] + 1.9999999 sd(h)"
    assert ed_bound(x, alpha=0.01).estimand == "E[h] + 2 sd(h)"


def test_very_many_draws_take_few_steps(monkeypatch):
    ranks = noncrossing.constrained_ranks(2**53)
    assert ranks.size < 3e6  # there were 2^28
    assert ranks[-1] > 2**53 - 3
    monkeypatch.setattr(portfolio, "MOST_CENTRES", 16)
    found = std_bound([0.0, 0.25], counts=[2**51, 2**51], alpha=0.01)
    assert 0.125 < found.upper < 0.14
