"""k-th worst prompt, Holm, e-Holm, population, two models, ranking."""

import itertools

import numpy as np
import pytest
from bounds_laws import ROUGE_LOW, bernoulli, most_misses
from scipy import stats

from leakbound.bounds import (
    difference_bound,
    e_holm,
    holm,
    kth_worst_bound,
    leak_p_value,
    population_mean_bound,
    population_share_bound,
    proportion_bound,
    rank_models,
    worst_prompt_bound,
)
from leakbound.bounds.comparison import log_evidence_less, strata_of
from leakbound.bounds.engines.clopper import clopper_pearson_upper
from leakbound.errors import InputError


def test_first_worst_is_the_worst():
    bounds = [proportion_bound(k, 100, alpha=0.01) for k in (0, 7, 3)]
    first = kth_worst_bound(bounds, 1, alpha=0.01)
    assert first.upper == worst_prompt_bound(bounds).upper
    assert first.estimand == "the 1st largest P(leak) of the 3 prompts"
    assert str(first).startswith("For these prompts together, the 1st largest P(leak) of the 3 prompts <= ")


def test_kth_worst_takes_coarse_levels():
    bounds = [proportion_bound(k, 100, alpha=0.3) for k in range(40)]
    # P(Bin(10, .3) >= 7) = .0106, P(>= 8) = .0016: s = 10 - 8 + 1
    assert kth_worst_bound(bounds, 10, alpha=0.01).upper == sorted((b.upper for b in bounds), reverse=True)[2]
    with pytest.raises(InputError, match=r"too large for k = 1 at alpha 0.01: give a larger k"):
        kth_worst_bound(bounds, 1, alpha=0.01)
    with pytest.raises(InputError, match="give upper bounds"):
        kth_worst_bound([proportion_bound(1, 9, alpha=0.01, side="lower")], 1, alpha=0.01)


def test_kth_worst_covers():
    rng, runs, alpha, n = np.random.default_rng(0), 2000, 0.1, 30
    for p in (np.full(20, 0.2), np.linspace(0, 0.5, 20)):
        for gamma, k in ((0.3, 8), (0.1, 3), (0.1, 1)):
            limits = clopper_pearson_upper(np.arange(n + 1), n, gamma)
            # the rank s that the function uses, read off from distinct bounds
            marks = [proportion_bound(j, n, alpha=gamma) for j in range(20)]
            used = kth_worst_bound(marks, k, alpha=alpha).upper
            s = sorted((b.upper for b in marks), reverse=True).index(used)
            uppers = np.sort(limits[rng.binomial(n, p, (runs, 20))], axis=1)[:, ::-1]
            assert (uppers[:, s] < np.sort(p)[::-1][k - 1]).sum() <= most_misses(runs, alpha)


def test_leak_p_value_and_bound_agree():
    for k, n in ((0, 100), (3, 500), (9, 1000)):
        limit = proportion_bound(k, n, alpha=0.01).upper
        assert leak_p_value(k, n, limit) == pytest.approx(0.01)
    with pytest.raises(InputError, match="limit is 1"):
        leak_p_value(0, 10, 1)


def test_holm_by_hand():
    assert holm([0.001, 0.02, 0.004, 0.5], alpha=0.01) == (True, False, False, False)
    assert holm([0.001, 0.003, 0.004, 0.01], alpha=0.01) == (True, True, True, True)
    assert holm([], alpha=0.01) == ()
    with pytest.raises(InputError, match=r"p_values is 1.5"):
        holm([1.5], alpha=0.01)


def closed_test(e, alpha):
    size = len(e)
    subsets = [s for r in range(1, size + 1) for s in itertools.combinations(range(size), r)]
    return tuple(all(np.mean([e[j] for j in s]) >= 1 / alpha for s in subsets if i in s) for i in range(size))


def test_e_holm_is_the_closed_test():
    rng = np.random.default_rng(1)
    for _ in range(200):
        e = np.exp(rng.normal(1, 3, rng.integers(1, 7)))
        assert e_holm(np.log(e), alpha=0.1) == closed_test(e, 0.1)
    assert e_holm([2000.0, -np.inf], alpha=0.01) == (True, False)
    with pytest.raises(InputError, match="NaN"):
        e_holm([np.nan], alpha=0.01)


def test_e_holm_is_at_least_as_strong_as_holm():
    rng = np.random.default_rng(2)
    for _ in range(200):
        logs = rng.normal(3, 3, 6)
        weak = holm(np.minimum(np.exp(-logs), 1), alpha=0.05)
        assert all(strong >= w for strong, w in zip(e_holm(logs, alpha=0.05), weak, strict=True))


def test_population_share():
    bounds = [proportion_bound(k, 200, alpha=0.05) for k in [0] * 95 + [40] * 5]
    share = population_share_bound(bounds, 0.1, alpha=0.01)
    assert share.upper == pytest.approx(proportion_bound(5, 100, alpha=0.01).upper / 0.95)
    assert (share.n, share.unit, share.estimate) == (100, "prompts", 0.05)
    assert str(share).startswith("For the population of prompts, the share of prompts with P(leak) > 0.1 <= ")


def test_population_share_covers():
    rng, runs, alpha, n, prompts = np.random.default_rng(3), 2000, 0.1, 25, 40
    for gamma in (0.05, 0.3):
        limits = clopper_pearson_upper(np.arange(n + 1), n, gamma)
        p = rng.beta(0.5, 5, (runs, prompts))
        flags = (limits[rng.binomial(n, p)] > 0.2).sum(axis=1)
        missed = clopper_pearson_upper(flags, prompts, alpha) / (1 - gamma) < stats.beta.sf(0.2, 0.5, 5)
        assert missed.sum() <= most_misses(runs, alpha)


def test_population_mean_counts_prompts():
    means = np.random.default_rng(4).beta(0.5, 5, 100)
    bound = population_mean_bound(means, alpha=0.01)
    assert (bound.n, bound.unit) == (100, "prompts")
    assert str(bound).startswith("For a future prompt, on average, E[h] <= ")


def draws(rng, law, prompts, n):
    return [law.draw(rng, n) for _ in range(prompts)]


def test_difference_is_antisymmetric_and_ordered():
    rng = np.random.default_rng(5)
    a, b = draws(rng, bernoulli(0.05), 10, 60), draws(rng, ROUGE_LOW, 10, 60)
    ab, ba = difference_bound(a, b, alpha=0.05), difference_bound(b, a, alpha=0.05)
    assert -1 <= ab.lower < ab.estimate < ab.upper <= 1
    assert ab.estimate == pytest.approx(-ba.estimate)
    assert ab.estimate == pytest.approx(np.mean(a) - np.mean(b))
    same = difference_bound(a, [a[0]] * 10, alpha=0.05)
    assert same.lower < 0 < same.upper


def test_difference_refuses_unequal_designs():
    with pytest.raises(InputError, match="the models have 1 and 2 prompts"):
        difference_bound([[0.1]], [[0.1], [0.2]], alpha=0.05)
    with pytest.raises(InputError, match="prompt 0 has 1 and 2 draws"):
        difference_bound([[0.1]], [[0.1, 0.2]], alpha=0.05)


@pytest.mark.slow
def test_difference_covers_unequal_prompts():
    rng, runs, alpha, missed = np.random.default_rng(6), 12, 0.2, 0
    pa, pb = np.linspace(0, 1, 6) ** 2, np.linspace(0, 1, 6) ** 3
    for _ in range(runs):
        a = [bernoulli(p).draw(rng, 20) for p in pa]
        b = [bernoulli(p).draw(rng, 20) for p in pb]
        bound = difference_bound(a, b, alpha=alpha)
        missed += not bound.lower <= (pa - pb).mean() <= bound.upper
    assert missed <= most_misses(runs, alpha)


def test_difference_of_counts_needs_no_pairs_and_is_wider():
    counts = [[30, 2], [31, 1]]
    scores = [[0.0, 1.0], [0.0, 0.5]]
    grouped = difference_bound(scores, scores, counts_a=counts, counts_b=counts, alpha=0.1)
    assert "no order known" in grouped.method
    assert (grouped.unit, grouped.n) == ("draws of both", 128)
    assert grouped.estimate == pytest.approx(0.0, abs=1e-12)
    assert grouped.lower == pytest.approx(-grouped.upper, abs=1e-9)
    rng = np.random.default_rng(8)
    drawn = [rng.permutation(np.repeat(s, c)) for s, c in zip(scores, counts, strict=True)]
    paired = difference_bound(drawn, drawn[::-1][::-1], alpha=0.1)
    assert (paired.unit, paired.n) == ("pairs", 64)
    assert paired.upper < grouped.upper
    # sorted draws may have lost their order: the wider of the two
    both = [np.sort(x) for x in drawn]
    assert difference_bound(both, both, alpha=0.1).upper >= grouped.upper - 1e-12


@pytest.mark.slow
def test_difference_of_counts_covers_unequal_prompts():
    rng, runs, alpha, missed = np.random.default_rng(9), 12, 0.2, 0
    pa, pb, n = np.linspace(0, 1, 6) ** 2, np.linspace(0, 1, 6) ** 3, 20
    for _ in range(runs):
        ka, kb = rng.binomial(n, pa), rng.binomial(n, pb)
        counts = [np.stack([n - k, k], axis=1).tolist() for k in (ka, kb)]
        zeros_and_ones = [[0.0, 1.0]] * 6
        bound = difference_bound(zeros_and_ones, zeros_and_ones, counts_a=counts[0], counts_b=counts[1], alpha=alpha)
        assert bound.estimate == pytest.approx((ka - kb).mean() / n)
        missed += not bound.lower <= (pa - pb).mean() <= bound.upper
    assert missed <= most_misses(runs, alpha)


@pytest.mark.slow
def test_pairs_may_hold_dependent_draws_and_are_narrower_where_they_agree():
    """One random number decides draw i of both models: the difference's law is that of the pair, and it is covered."""
    rng, alpha, runs, missed = np.random.default_rng(10), 0.2, 10, 0
    pa, pb = np.array([0.02, 0.3, 0.9]), np.array([0.05, 0.4, 0.9])
    for _ in range(runs):
        u = rng.random((3, 40))
        bound = difference_bound(list(u < pa[:, None]), list(u < pb[:, None]), alpha=alpha, in_order=True)
        missed += not bound.lower <= (pa - pb).mean() <= bound.upper
    assert missed <= most_misses(runs, alpha)
    alone = difference_bound(list(u < pa[:, None]), list(rng.random((3, 40)) < pb[:, None]), alpha=alpha, in_order=True)
    assert bound.upper - bound.lower < 0.8 * (alone.upper - alone.lower)


def test_draws_whose_order_is_known_are_not_doubted():
    a, b = [[0.0, 0.0, 0.0, 1.0]] * 3, [[0.0, 1.0, 0.0, 1.0]] * 3  # the first looks sorted
    assert len(strata_of(a, b, None, None)) == 2
    assert len(strata_of(a, b, None, None, in_order=True)) == 1
    doubted, sure = difference_bound(a, b, alpha=0.1), difference_bound(a, b, alpha=0.1, in_order=True)
    assert doubted.upper > sure.upper
    scores = {"a": [np.repeat([0.0, 1.0], [95, 5])] * 5, "b": [np.repeat([0.0, 1.0], [70, 30])] * 5}
    assert rank_models(scores, alpha=0.01, in_order=True).proven == ((0, 1),)


def test_evidence_of_order_is_an_e_value():
    # two prompts with one pair of draws each, all outcomes, average of E[z] exactly 1/2
    pa, pb = (0.1, 0.6), (0.5, 0.2)
    total = np.zeros(2)

    def in_order(a, b):
        return strata_of(a, b, None, None)[0]

    def with_counts(a, b):
        return strata_of(a, b, [[1], [1]], [[1], [1]])[0]

    for outcome in itertools.product((0.0, 1.0), repeat=4):
        a, b = [[outcome[0]], [outcome[1]]], [[outcome[2]], [outcome[3]]]
        weight = np.prod([p if x else 1 - p for x, p in zip(outcome, (*pa, *pb), strict=True)])
        total += weight * np.array([np.exp(log_evidence_less(way(a, b), 0.01)) for way in (in_order, with_counts)])
    assert (total <= 1 + 1e-12).all()


def test_ranking():
    rng = np.random.default_rng(7)
    scores = {name: draws(rng, bernoulli(p), 10, 150) for name, p in (("a", 0.02), ("b", 0.3), ("c", 0.31))}
    ranking = rank_models(scores, alpha=0.01)
    assert ranking.proven == ((0, 1), (0, 2))
    assert (ranking.best_rank, ranking.worst_rank) == ((1, 2, 2), (1, 3, 3))
    assert str(ranking).startswith(
        "For the average prompt, ranks by E[h] (1 leaks least), all at once with confidence 0.99"
    )
    with pytest.raises(InputError, match="give at least two"):
        rank_models({"a": scores["a"]}, alpha=0.01)
