import numpy as np
import pytest
from bounds_laws import ROUGE_LOW, bernoulli, most_misses
from scipy import stats

from leakbound.bounds import (
    average_mean_bound,
    average_proportion_bound,
    mean_bound,
    proportion_bound,
    simultaneous_alpha,
    worst_prompt_bound,
)
from leakbound.bounds.average import pooled_upper
from leakbound.bounds.proportion import clopper_pearson_upper
from leakbound.errors import InputError


def test_sidak():
    assert simultaneous_alpha(0.01, 1) == pytest.approx(0.01)
    assert (1 - simultaneous_alpha(0.01, 1000)) ** 1000 == pytest.approx(0.99, rel=1e-12)
    assert simultaneous_alpha(0.01, 1000) > 0.01 / 1000


def test_worst_prompt_is_the_largest_bound_and_says_every_prompt():
    worst = worst_prompt_bound([proportion_bound(k, 1024, alpha=0.01) for k in (0, 5, 2)])
    assert worst.upper == proportion_bound(5, 1024, alpha=0.01).upper
    assert (worst.alpha, worst.scope, worst.side, worst.lower) == (0.01, "every prompt", "upper", 0.0)
    assert str(worst).startswith("For every prompt, P(leak) <= 0.012751 with confidence 0.99")
    low = worst_prompt_bound([proportion_bound(k, 100, alpha=0.01, side="lower") for k in (90, 50)])
    assert low.lower == proportion_bound(50, 100, alpha=0.01, side="lower").lower


def test_worst_prompt_refuses_what_it_cannot_combine():
    with pytest.raises(InputError, match="bounds is empty"):
        worst_prompt_bound([])
    with pytest.raises(InputError, match="give one-sided bounds"):
        worst_prompt_bound([proportion_bound(1, 10, alpha=0.01, side="both")])
    with pytest.raises(InputError, match="give bounds of one estimand"):
        worst_prompt_bound([proportion_bound(1, 10, alpha=0.01), mean_bound([0.1], alpha=0.01)])


def poisson_binomial_cdf(p):
    pmf = np.ones(1)
    for q in p:
        pmf = np.convolve(pmf, [1 - q, q])
    return np.cumsum(pmf)


def test_worst_prompt_exact_coverage():
    # three prompts, n = 20: the miss probability is a product of binomial tails
    n, alpha = 20, 0.1
    upper = clopper_pearson_upper(np.arange(n + 1), n, alpha)
    for p in np.random.default_rng(0).random((300, 3)) ** 2:
        worst = p.max()
        miss = np.prod([stats.binom.cdf(np.count_nonzero(upper < worst) - 1, n, q) for q in p])
        assert miss <= alpha + 1e-12


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
    assert grouped.estimate == pytest.approx((1 / 32 + 4 / 64) / 2)
    with pytest.raises(InputError, match="counts has 1 entries"):
        average_mean_bound(scores, counts=counts[:1], alpha=0.01)
    with pytest.raises(InputError, match="scores is empty"):
        average_mean_bound([], alpha=0.01)


@pytest.mark.parametrize("sizes", [[16] * 12, [4, 40, 7, 90]])
@pytest.mark.parametrize("levels", ["equal", "mixed"])
def test_average_covers_unequal_prompts(sizes, levels):
    rng, alpha, runs = np.random.default_rng(3), 0.2, 250
    p = np.full(len(sizes), 0.2) if levels == "equal" else np.linspace(0, 1, len(sizes)) ** 3
    misses = graded = 0
    for _ in range(runs):
        k = rng.binomial(sizes, p)
        bound = average_proportion_bound(k, sizes, alpha=alpha, side="both")
        misses += not bound.lower <= p.mean() <= bound.upper
        scores = [bernoulli(q).draw(rng, n) for q, n in zip(p, sizes, strict=True)]
        bound = average_mean_bound(scores, alpha=alpha, side="both")
        graded += not bound.lower <= p.mean() <= bound.upper
    assert max(misses, graded) <= most_misses(runs, alpha)
