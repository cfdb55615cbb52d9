import math

import numpy as np
import pytest
from bounds_laws import LAWS, most_misses
from scipy import stats

from leakbound.bounds import quantile_bound, survival_bound
from leakbound.bounds.distribution import dkw_width, upper_rank
from leakbound.errors import InputError


@pytest.mark.parametrize(
    ("n", "side", "value"),
    [(128, "upper", 0.1341), (1024, "upper", 0.0474), (128, "both", 0.1439), (1024, "both", 0.0509)],
)
def test_widths(n, side, value):
    assert dkw_width(n, 0.01, side) == pytest.approx(value, abs=5e-5)


def test_width_at_large_alpha_keeps_to_massarts_condition():
    assert dkw_width(10, 0.9, "upper") == dkw_width(10, 0.5, "upper")
    assert dkw_width(10, 0.9, "both") == pytest.approx(math.sqrt(math.log(2 / 0.9) / 20))


def test_band_by_hand():
    band = survival_bound([0.0, 0.0, 0.4, 1.0], alpha=0.5, thresholds=[0.4, 0.2, 0.2, 1.0], method="dkw")
    eps = math.sqrt(math.log(2) / 8)
    assert band.thresholds == (0.2, 0.4, 1.0)
    assert band.estimate == (0.5, 0.25, 0.0)
    assert band.upper == pytest.approx((0.5 + eps, 0.25 + eps, 0.0))
    assert band.lower == (0.0, 0.0, 0.0)
    assert survival_bound([0.0, 0.0, 0.4, 1.0], alpha=0.5).thresholds == (0.0, 0.4, 1.0)


def test_counts_equal_repeats():
    scores = [0.1, 0.7, 0.7, 0.7, 0.2]
    assert survival_bound([0.1, 0.7, 0.2], counts=[1, 3, 1], alpha=0.05) == survival_bound(scores, alpha=0.05)
    grouped = quantile_bound([0.1, 0.7, 0.2], 0.5, counts=[1, 3, 1], alpha=0.4)
    assert grouped == quantile_bound(scores, 0.5, alpha=0.4)


def test_two_sided_is_two_one_sided_at_half():
    scores = np.linspace(0, 1, 101)
    both = survival_bound(scores, alpha=0.02, side="both")
    assert both.upper == pytest.approx(survival_bound(scores, alpha=0.01).upper)
    assert both.lower == pytest.approx(survival_bound(scores, alpha=0.01, side="lower").lower)
    assert all(low <= mid <= high for low, mid, high in zip(both.lower, both.estimate, both.upper, strict=True))


def test_thresholds_are_checked():
    with pytest.raises(InputError, match=r"thresholds\[0\] is 1.5"):
        survival_bound([0.1], alpha=0.1, thresholds=[1.5])


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("method", ["hybrid", "dkw"])
def test_band_covers_everywhere(law, method):
    rng, alpha, runs, n = np.random.default_rng(1), 0.2, 250, 40
    misses = {"upper": 0, "lower": 0, "both": 0}
    for _ in range(runs):
        scores = law.draw(rng, n)
        # S(x) is compared at each jump of the band and just before it
        x = np.unique(np.concatenate([scores, np.nextafter(scores[scores > 0], 0), [0.0]]))
        truth = law.survival(x)
        for side in misses:
            band = survival_bound(scores, alpha=alpha, side=side, thresholds=x, method=method)
            misses[side] += bool(
                (truth > np.array(band.upper) + 1e-12).any() or (truth < np.array(band.lower) - 1e-12).any()
            )
    assert max(misses.values()) <= most_misses(runs, alpha)


@pytest.mark.parametrize(("n", "q", "alpha"), [(1, 0.5, 0.01), (20, 0.9, 0.05), (100, 0.5, 0.01), (1024, 0.99, 0.01)])
def test_rank_is_the_smallest_valid_one(n, q, alpha):
    r = upper_rank(n, q, alpha)
    if r <= n:
        assert stats.binom.sf(r - 1, n, q) <= alpha
    if r > 1:
        assert stats.binom.sf(r - 2, n, q) > alpha


def test_quantile_by_hand():
    # n = 5, median: P(Bin(5, 1/2) >= 5) = 1/32, P(>= 4) = 6/32
    scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert quantile_bound(scores, 0.5, alpha=1.001 / 32).upper == 0.5
    assert quantile_bound(scores, 0.5, alpha=6.001 / 32).upper == 0.4
    assert quantile_bound(scores, 0.5, alpha=0.03).upper == 1.0
    assert quantile_bound(scores, 0.5, alpha=1.001 / 32, side="lower").lower == 0.1
    assert quantile_bound(scores, 0.5, alpha=0.03, side="lower").lower == 0.0
    both = quantile_bound(scores, 0.5, alpha=2.001 / 32, side="both")
    assert (both.lower, both.estimate, both.upper) == (0.1, 0.3, 0.5)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
@pytest.mark.slow
def test_quantile_covers(law, q):
    rng, alpha, runs, n = np.random.default_rng(2), 0.2, 2000, 30
    grid = np.unique([*np.linspace(0, 1, 20001), *(v for v, _ in law.atoms)])
    truth = grid[np.argmax(1 - law.survival(grid) >= q - 1e-12)]
    # the limits are order statistics of fixed ranks: those of all draws follow from the ranks of one sample
    ranks = quantile_bound(np.arange(1, n + 1) / (n + 1), q, alpha=alpha, side="both")
    low, high = (round(x * (n + 1)) for x in (ranks.lower, ranks.upper))
    draws = law.draw(rng, (runs, n))
    padded = np.pad(np.sort(draws), ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    for one, limits in zip(draws[:5], padded[:5], strict=True):
        bound = quantile_bound(one, q, alpha=alpha, side="both")
        assert (bound.lower, bound.upper) == (limits[low], limits[high])
    # the grid finds the true quantile to within 5e-5 from above
    misses = ((padded[:, high] < truth - 1e-4) | (padded[:, low] > truth)).sum()
    assert misses <= most_misses(runs, alpha)


def test_hybrid_band_by_hand():
    from leakbound.bounds.engines.noncrossing import band_levels

    scores = [0.0, 0.0, 0.4, 1.0]
    levels = band_levels(4, 0.05)
    band = survival_bound(scores, alpha=0.1, side="both", thresholds=[0.0, 0.4, 0.9])
    assert band.upper == pytest.approx((1 - levels[2], 1 - levels[3], 1 - levels[3]))
    assert band.lower == pytest.approx((levels[2], levels[1], levels[1]))


@pytest.mark.parametrize(("share", "narrower"), [(0.5, 0.9), (0.1, 1.18), (0.01, 2.6), (0.0, 5.4)])
def test_hybrid_band_against_dkw(share, narrower):
    # n = 1024, alpha = .01; the shares of the design page
    scores = (np.arange(1024) + 0.5) / 1024
    x = [scores[int((1 - share) * 1024) - 1]]
    hybrid, dkw = (survival_bound(scores, alpha=0.01, thresholds=x, method=m) for m in ("hybrid", "dkw"))
    assert (dkw.upper[0] - dkw.estimate[0]) / (hybrid.upper[0] - hybrid.estimate[0]) > narrower


def test_one_threshold_is_clopper_pearson():
    scores = [0.0] * 90 + [0.7] * 10
    band = survival_bound(scores, alpha=0.05, thresholds=[0.5], method="pointwise")
    assert band.upper[0] == pytest.approx(stats.beta.isf(0.05, 11, 90))
    with pytest.raises(InputError, match="give the one x fixed in advance"):
        survival_bound(scores, alpha=0.05, method="pointwise")
