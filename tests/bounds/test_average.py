"""The average over fixed prompts: exact sums, simulated misses, and which of two bounds is taken."""

import numpy as np
import pytest
from bounds_laws import ROUGE_LOW, bernoulli, most_misses
from scipy import stats

from leakbound.bounds import Evidence, average_mean_bound, average_proportion_bound, proportion_bound
from leakbound.bounds.average import either_upper, pooled_upper, stratified_upper
from leakbound.bounds.engines.clopper import clopper_pearson_upper
from leakbound.bounds.engines.portfolio import portfolio_upper
from leakbound.bounds.engines.product import product_upper
from leakbound.bounds.gate import check_scores
from leakbound.errors import InputError


def poisson_binomial_cdf(p):
    pmf = np.ones(1)
    for q in p:
        pmf = np.convolve(pmf, [1 - q, q])
    return np.cumsum(pmf)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5, 0.9])
def test_pooled_clopper_pearson_exact_coverage(alpha):
    rng = np.random.default_rng(1)
    for _ in range(200):
        prompts, n = rng.integers(1, 6), rng.integers(1, 6)
        p = rng.random(prompts) ** rng.choice([0.2, 1, 5])
        if rng.random() < 0.3:
            p = np.round(p)  # sure leaks beside sure refusals: the extreme case of unequal prompts
        total = int(prompts * n)
        upper = np.array([pooled_upper(k, total, alpha) for k in range(total + 1)])
        miss = (upper < p.mean() - 1e-12) @ np.diff(poisson_binomial_cdf(np.repeat(p, n)), prepend=0)
        assert miss <= alpha + 1e-12


def test_average_proportion():
    bound = average_proportion_bound([0, 5, 9], 1024, alpha=0.01)
    assert bound.upper == pytest.approx(proportion_bound(14, 3072, alpha=0.01).upper)
    assert (bound.scope, bound.n, bound.estimate) == ("the average prompt", 3072, pytest.approx(14 / 3072))
    assert bound == average_proportion_bound(np.array([0, 5, 9]), [1024] * 3, alpha=0.01)
    both = average_proportion_bound([0, 5, 9], 1024, alpha=0.02, side="both")
    assert both.upper == bound.upper
    assert both.lower == pytest.approx(proportion_bound(14, 3072, alpha=0.01, side="lower").lower, abs=1e-9)


def test_average_proportion_refuses():
    with pytest.raises(InputError, match="successes has 2 entries and n has 3"):
        average_proportion_bound([0, 1], [10, 10, 10], alpha=0.01)
    with pytest.raises(InputError, match="successes is 11, more than n"):
        average_proportion_bound([0, 11], 10, alpha=0.01)


def test_average_mean_by_hand():
    # one draw, score 0, one bet c = .999: (1 - c) + c / (1 - m) = 1 / alpha
    m = average_mean_bound([[0.0]], alpha=0.5).upper
    assert 0.001 + 0.999 / (1 - m) == pytest.approx(2, rel=1e-6)


def test_average_mean_is_mirrored_and_ordered():
    rng = np.random.default_rng(2)
    scores = [ROUGE_LOW.draw(rng, 64) for _ in range(10)]
    both = average_mean_bound(scores, alpha=0.02, side="both")
    assert both.lower < both.estimate < both.upper
    assert both.upper == average_mean_bound(scores, alpha=0.01).upper
    mirrored = average_mean_bound([1 - s for s in scores], alpha=0.02, side="both")
    assert mirrored.upper == pytest.approx(1 - both.lower, abs=1e-8)


def test_average_mean_takes_counts():
    scores, counts = [[0.0, 0.5], [0.0, 1.0]], [[30, 2], [60, 4]]
    grouped = average_mean_bound(scores, counts=counts, alpha=0.01)
    repeated = average_mean_bound([np.repeat(s, c) for s, c in zip(scores, counts, strict=True)], alpha=0.01)
    assert grouped == repeated
    assert grouped.n == 96
    assert grouped.estimate == pytest.approx((1 / 32 + 4 / 64) / 2)
    with pytest.raises(InputError, match="counts has 1 entries"):
        average_mean_bound(scores, counts=counts[:1], alpha=0.01)
    with pytest.raises(InputError, match="scores is empty"):
        average_mean_bound([], alpha=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[16] * 12, [4, 40, 7, 90]])
@pytest.mark.parametrize("levels", ["equal", "mixed"])
def test_average_covers_unequal_prompts(sizes, levels):
    # false alarm below 1e-6: most_misses; the product's own misses are in test_product.py
    rng, alpha, runs = np.random.default_rng(3), 0.2, 250
    p = np.full(len(sizes), 0.2) if levels == "equal" else np.linspace(0, 1, len(sizes)) ** 3
    pooled = portfolio = below = 0
    for _ in range(runs):
        strata = [check_scores(bernoulli(q).draw(rng, n)) for q, n in zip(p, sizes, strict=True)]
        portfolio += stratified_upper(strata, alpha) < p.mean()
        below += 1 - stratified_upper([(1 - v, w) for v, w in strata], alpha) > p.mean()
        if len(set(sizes)) == 1:
            k = [int(v @ w) for v, w in strata]
            bound = average_proportion_bound(k, sizes, alpha=alpha, side="both")
            pooled += not bound.lower <= p.mean() <= bound.upper
    assert max(pooled, portfolio, below) <= most_misses(runs, alpha)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(5, 5), (3, 8)])
def test_the_smaller_one_covers(sizes):
    """Two prompts: the exact probability of a miss, over all counts, at many pairs of rates."""
    alpha, rates = 0.3, np.linspace(0, 1, 41)
    first, second = (stats.binom.pmf(np.arange(n + 1), n, rates[:, None]) for n in sizes)
    uppers = np.empty([n + 1 for n in sizes])
    for counts in np.ndindex(*uppers.shape):
        scores = [np.repeat([1.0, 0.0], [k, n - k]) for k, n in zip(counts, sizes, strict=True)]
        uppers[counts] = average_mean_bound(scores, alpha=alpha).upper
    truths = (rates[:, None] + rates) / 2
    missed = uppers < truths[..., None, None] - 1e-12
    assert 0.1 * alpha < np.einsum("ai,bj,abij->ab", first, second, missed).max() <= alpha


def strata_of(*scores):
    return [check_scores(x) for x in scores]


def test_the_shares_of_alpha_and_which_is_smaller():
    rng = np.random.default_rng(5)
    unlike = strata_of(*(rng.beta(200 * m, 200 * (1 - m), 200) for m in (0.1, 0.5, 0.9)))
    alike = strata_of(*(bernoulli(0.1).draw(rng, 200) for _ in range(3)))
    uneven = strata_of(np.zeros(10), *(np.zeros(400) for _ in range(3)))
    for strata, product_wins in ((unlike, True), (alike, False), (uneven, True)):
        portfolio = stratified_upper(strata, 0.85 * 0.01)
        product = product_upper([Evidence.independent(v, w) for v, w in strata], 0.15 * 0.01)
        assert (product < portfolio) == product_wins
        assert either_upper(strata, 0.01) == pytest.approx(min(portfolio, product), rel=1e-9)
        assert min(portfolio, product) <= 1.03 * stratified_upper(strata, 0.01)
    assert either_upper(unlike[:1], 0.01) == stratified_upper(unlike[:1], 0.01)


def test_methods_say_what_was_chosen_by_size_alone():
    said = "portfolio of constant bets at 0.85 of alpha, or product of e-processes at the rest, over 2 prompts"
    assert average_proportion_bound([0, 1], 10, alpha=0.01).method == "pooled Clopper-Pearson over 2 prompts"
    unequal = average_proportion_bound([0, 1], [10, 20], alpha=0.01, side="both")
    assert unequal.method == said
    assert unequal.estimate == pytest.approx(0.025)
    assert (unequal.n, unequal.scope) == (30, "the average prompt")
    mean = average_mean_bound([[0.0, 1.0], [0.5]], alpha=0.01)
    assert mean.method == said
    assert (mean.scope, mean.lower, mean.estimand) == ("the average prompt", 0.0, "E[h]")
    assert average_mean_bound([[0.5]], alpha=0.01).method == "portfolio of constant bets over 1 prompts"
    lower = average_proportion_bound([9, 30], [10, 30], alpha=0.01, side="lower")
    mirror = average_proportion_bound([1, 0], [10, 30], alpha=0.01)
    assert lower.lower == pytest.approx(1 - mirror.upper, abs=1e-12)
    assert lower.upper == 1.0
    clean = strata_of([0.0] * 9 + [1.0], [0.0] * 30)  # the draws without a leak, counted as leaks; rounded down
    assert lower.lower == 1.0 - either_upper(clean, 0.01) - 1e-15
    scores = [[0.2, 0.9], [0.5, 0.7, 1.0]]
    mirrored = either_upper(strata_of(*(1 - np.array(x) for x in scores)), 0.3)
    below = average_mean_bound(scores, alpha=0.3, side="lower")
    assert (below.lower, below.upper) == (1.0 - mirrored - 1e-15, 1.0)


def test_reweighted_strata_by_hand():
    # one clean draw and two: a = (3/2, 3/4), so that a miss in both costs the same; the largest value is 3/2
    strata = strata_of([0.0], [0.0, 0.0])
    assert stratified_upper(strata, 0.5) == min(1.0, portfolio_upper(np.zeros(1), np.array([3]), 0.5, 1.5))
    strata = strata_of([1.0], [0.0, 1.0, 1.0])
    again = portfolio_upper(np.array([0.0, 2 / 3, 2.0]), np.array([1, 2, 1]), 0.9, 2.0)
    assert stratified_upper(strata, 0.9) == pytest.approx(min(1.0, again))


def test_pooled_upper_is_never_below_one_more_leak():
    assert pooled_upper(0, 10, 0.01) == clopper_pearson_upper(0, 10, 0.01)
    assert pooled_upper(9, 10, 0.5) == 1.0
    assert pooled_upper(8, 10, 0.9) == pytest.approx(0.9, rel=1e-12)
    assert pooled_upper(8, 10, 0.9) >= 0.9
    assert pooled_upper(10, 10, 0.01) == 1.0
