import numpy as np
import pytest
from scipy import stats

from leakbound.bounds import mean_bound, proportion_bound, simultaneous_alpha, worst_prompt_bound
from leakbound.bounds.engines.clopper import clopper_pearson_upper
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


def test_worst_prompt_exact_coverage():
    # three prompts, n = 20: the miss probability is a product of binomial tails
    n, alpha = 20, 0.1
    upper = clopper_pearson_upper(np.arange(n + 1), n, alpha)
    for p in np.random.default_rng(0).random((300, 3)) ** 2:
        worst = p.max()
        miss = np.prod([stats.binom.cdf(np.count_nonzero(upper < worst) - 1, n, q) for q in p])
        assert miss <= alpha + 1e-12
