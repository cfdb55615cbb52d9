"""Plans for a width: coverage summed over all paths in fractions, the order behind it, and what plans promise."""

import itertools
import json
import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from scipy import stats

from leakbound.bounds import GroupPlan, group_bound, plan_groups, proportion_bound
from leakbound.bounds.groups import at_most, binomial, expit, upper_limit, window
from leakbound.errors import InputError

TINY = (
    GroupPlan(0.5, 0.1, (2, 5, 7), (0, 1)),
    GroupPlan(0.5, 0.1, (3, 6, 9), (-1, 2)),
    GroupPlan(0.5, 0.1, (1, 4, 5, 8), (0, 1, 1)),
    GroupPlan(0.5, 0.1, (4, 8), (1,)),
    GroupPlan(0.5, 0.1, (6,), ()),
)


@lru_cache
def ends(plan):
    """Every (leaks, draws) at which the plan ends with its number of paths, lowest rank first; by walking all paths."""
    paths = {}
    for draws in itertools.product((0, 1), repeat=plan.sizes[-1]):
        for j, n in enumerate(plan.sizes):
            k = sum(draws[:n])
            if j == len(plan.low) or k <= plan.low[j] or n - k <= plan.low[j]:
                side = 0 if j == len(plan.low) else -1 if k <= plan.low[j] else 1
                rank = (side, j * -side, k)  # the later a low stop, the higher; the later a high stop, the lower
                paths[rank, k, n] = paths.get((rank, k, n), 0) + Fraction(1, 2 ** (plan.sizes[-1] - n))
                break
    return [(k, n, int(count)) for (_, k, n), count in sorted(paths.items())]


def law(plan, p):
    """The exact probability of each of ``ends``."""
    return [count * p**k * (1 - p) ** (n - k) for k, n, count in ends(plan)]


@pytest.mark.parametrize("plan", TINY)
def test_limits_miss_with_probability_alpha_at_most(plan):
    """Exact sums over all paths, on 400 probabilities and at every limit and just beside it."""
    states = ends(plan)
    for alpha in (0.3, 0.05, 1e-4):
        bounds = [group_bound(plan, k, n, alpha=alpha, side="both") for k, n, _ in states]
        one_sided = [group_bound(plan, k, n, alpha=alpha / 2, side="lower").lower for k, n, _ in states]
        assert [b.lower for b in bounds] == one_sided
        grid, beside = {Fraction(i, 400) for i in range(401)}, Fraction(1, 10**12)
        for b in bounds:
            for limit in (b.lower, b.upper):
                grid |= {min(max(Fraction(limit) + d, Fraction(0)), Fraction(1)) for d in (0, beside, -beside)}
        nearest = 0
        for p in grid:
            chances = law(plan, p)
            assert sum(chances) == 1
            above = sum(c for c, b in zip(chances, bounds, strict=True) if b.upper < p)
            below = sum(c for c, b in zip(chances, bounds, strict=True) if b.lower > p)
            assert max(above, below) <= Fraction(alpha) / 2
            nearest = max(nearest, above, below)
        assert nearest > 0.9999 * Fraction(alpha) / 2  # just beside a limit: no limit is wider than it must be


@pytest.mark.parametrize("plan", TINY)
def test_limits_solve_the_tail_of_the_order(plan):
    states = ends(plan)
    for share in (0.2, 1e-3, 1e-7):
        before = 0.0
        for i, (k, n, _) in enumerate(states):
            bound = group_bound(plan, k, n, alpha=share)
            assert (bound.lower, bound.alpha, bound.side, bound.n) == (0.0, share, "upper", n)
            tail = float(sum(law(plan, Fraction(bound.upper))[: i + 1]))
            assert tail == (1.0 if i == len(states) - 1 else pytest.approx(share, rel=1e-7))
            assert bound.upper > before  # the limit rises with the rank
            before = bound.upper
            mirrored = group_bound(plan, n - k, n, alpha=share, side="lower")
            assert mirrored.lower == pytest.approx(1 - bound.upper, abs=1e-15)
            assert (mirrored.upper, mirrored.estimate) == (1.0, (n - k) / n)


@pytest.mark.parametrize("plan", TINY)
def test_one_more_leak_never_lowers_the_rank(plan):
    place = {(k, n): i for i, (k, n, _) in enumerate(ends(plan))}

    def rank(draws):
        return next(place[sum(draws[:n]), n] for n in plan.sizes if plan.ends(sum(draws[:n]), n))

    for draws in itertools.product((0, 1), repeat=plan.sizes[-1]):
        for i in range(len(draws)):
            more = (*draws[:i], 1, *draws[i + 1 :])
            assert rank(draws) <= rank(more)


def slow_at_most(plan, k, n, p):
    """P_p(rank <= that of (k, n)) for larger plans: the law of every count, without windows and without skipping."""
    alive, total, done = np.ones(1), 0.0, 0
    for j, size in enumerate(plan.sizes):
        alive = np.convolve(alive, stats.binom.pmf(np.arange(size - done + 1), size - done, p))
        counts, done = np.arange(size + 1), size
        if size == n:
            return total + alive[: k + 1].sum()
        total += alive[counts <= plan.low[j]].sum()
        alive[np.minimum(counts, size - counts) <= plan.low[j]] = 0
    raise AssertionError(n)


@pytest.fixture(scope="module")
def wide():
    return plan_groups(0.1, alpha=0.01, budget=10_000)


def test_laws_without_windows_agree(wide):
    rng = np.random.default_rng(7)
    low = (-1, 3, 10, 10, 40)
    odd = GroupPlan(0.1, 0.01, (10, 40, 41, 200, 450, 900), low)  # jumps, and looks that stop nobody or hardly anybody
    for plan in (wide, odd):
        for _ in range(60):
            p = float(rng.choice([rng.uniform(0, 1), rng.uniform(0, 0.1), rng.uniform(0.93, 1)]))
            j = int(rng.integers(len(plan.sizes)))
            n = plan.sizes[j]
            k = int(rng.binomial(n, p))
            exact = slow_at_most(plan, k, n, p)
            for share in (0.01, 1e-7):
                found = at_most(plan.sizes[: j + 1], plan.low[:j], k, p, share)
                assert exact * (1 - 1e-11) <= found <= exact * (1 + 1e-10) + 1e-9 * share


@pytest.mark.slow
def test_limits_of_a_whole_plan_miss_with_probability_alpha_at_most(wide):
    for p in (0.004, 0.1, 0.48, 0.9):
        alive, low, high, done = np.ones(1), 0.0, 0.0, 0
        for n in wide.sizes:
            alive, done = np.convolve(alive, stats.binom.pmf(np.arange(n - done + 1), n - done, p)), n
            for k in np.flatnonzero(alive > 1e-12):
                if wide.ends(int(k), n):
                    lower, upper = wide.limits(int(k), n, 0.005)
                    low, high = low + alive[k] * (upper < p), high + alive[k] * (lower > p)
                    alive[k] = 0
        assert max(low, high) <= 0.005
        assert low + high > (0.006 if 0.05 < p < 0.95 else 0.0)  # and not far less


def test_windows_hold_all_but_tiny():
    for n, p in ((1, 0.5), (50, 0.02), (50, 0.97), (4000, 0.3), (4000, 1e-9)):
        for tiny in (0.1, 1e-6, 1e-20):
            first, last = window(n, p, tiny)
            assert stats.binom.cdf(first - 1, n, p) + stats.binom.sf(last, n, p) <= tiny
            assert 0 <= first <= last <= n
            start, found = binomial(n, p, tiny)
            assert start == first
            exact = stats.binom.pmf(np.arange(first, last + 1), n, p)
            assert np.all(found >= exact * (1 - 1e-11))  # never smaller: what is left out is shared among the rest
            assert found == pytest.approx(exact / exact.sum(), rel=1e-10)
    first, last = window(4000, 0.3, 1e-6)
    assert last - first < 14 * math.sqrt(4000 * 0.3 * 0.7)


@pytest.mark.parametrize("share", [0.4, 0.01, 1e-9, 1e-30])
def test_one_look_is_clopper_and_pearson(share):
    plan = GroupPlan(0.1, 0.01, (37,), ())
    for k in (0, 1, 20, 36, 37):
        bound = group_bound(plan, k, 37, alpha=share)
        other = proportion_bound(k, 37, alpha=share)
        assert other.upper * (1 - 1e-11) <= bound.upper <= other.upper * (1 + 2e-9)
        lower = group_bound(plan, k, 37, alpha=share, side="lower").lower
        assert lower == pytest.approx(proportion_bound(k, 37, alpha=share, side="lower").lower, rel=1e-8, abs=1e-13)
    assert upper_limit((1,), (), 0, 1e-17) == 1.0  # nearer to 1 than can be told
    assert "exact for looks planned in advance" in str(bound)
    assert group_bound(plan, 3, 37, alpha=0.1, estimand="P(h >= 0.5)").estimand == "P(h >= 0.5)"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "alpha", "budget"), [(0.1, 0.01, 10_000), (0.3, 0.2, 500), (0.4, 1e-6, 5_000)])
def test_wherever_a_plan_stops_the_width_is_reached(width, alpha, budget):
    plan, before = plan_groups(width, alpha=alpha, budget=budget), -1
    assert plan.sizes[-1] < budget
    for j, n in enumerate(plan.sizes):
        most = (*plan.low, n // 2)[j]
        counts = range(before + 1, most + 1)
        assert all(plan.reached(k, n) and plan.ends(k, n) and plan.ends(n - k, n) for k in counts)
        if j < len(plan.low):
            assert not plan.ends(most + 1, n)
            # the count after the last one that stops is too wide, or was too wide in the simpler interval
            wider = GroupPlan(width, alpha, plan.sizes[: j + 1], plan.low[:j])
            both = proportion_bound(most + 1, n, alpha=alpha, side="both")
            assert not wider.reached(most + 1, n) or both.upper - both.lower > width
        before = most
    for k, n in ((0, plan.sizes[0]), (plan.sizes[-1] // 2, plan.sizes[-1])):
        both = group_bound(plan, k, n, alpha=alpha, side="both")
        assert plan.reached(k, n) == (both.upper - both.lower <= width) is True


def test_sizes_of_plans(wide):
    for plan in (wide, plan_groups(0.05, alpha=0.01, budget=1200)):
        ratios = np.divide(plan.sizes[1:], plan.sizes[:-1])
        assert ratios[:-1].min() >= 1.08
        assert ratios[-1] > 1.02
        assert list(plan.low) == sorted(set(plan.low))
        assert plan.low[0] == 0
        assert GroupPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert wide == plan_groups(0.1, alpha=0.01, budget=20_000)
    # the first look comes 4 % after the first that can stop; a half of leaks is narrow 0.2 % before the last
    first = next(n for n in range(1, 200) if proportion_bound(0, n, alpha=0.01, side="both").upper <= 0.1)
    assert wide.sizes[0] == math.ceil(first * 1.04)
    half = next(n for n in range(400, 900) if width_of(n // 2, n) <= 0.1)
    assert wide.sizes[-1] == math.ceil(half * 1.002)
    assert not wide.low[-1] * 2 + 2 >= wide.sizes[-2]
    assert plan_groups(0.05, alpha=0.01, budget=1200).sizes[-1] == 1200
    assert plan_groups(0.001, alpha=0.01, budget=50) == GroupPlan(0.001, 0.01, (50,), ())
    assert plan_groups(0.9, alpha=0.3, budget=1) == GroupPlan(0.9, 0.3, (1,), ())


def test_plans_stay_what_they_are(wide):
    """They stand in run.json: the looks of a run that is planned again, to be bounded, are those it was drawn by."""
    few = plan_groups(0.3, alpha=0.2, budget=500)
    assert (few.sizes, few.low) == ((8, 12, 15, 17, 19, 21, 23, 25), (0, 1, 2, 3, 4, 6, 10))
    cut = plan_groups(0.2, alpha=0.05, budget=150)
    assert cut.sizes == (18, 29, 37, 41, 45, 49, 53, 58, 63, 69, 75, 81, 88, 96, 105)
    assert cut.low == (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 26, 34)
    steep = plan_groups(0.35, alpha=0.1, budget=30)
    assert (steep.sizes, steep.low) == ((8, 13, 16, 18, 20, 22, 24, 26, 27), (0, 1, 2, 3, 4, 6, 8, 12))
    assert wide.sizes[:8] == (54, 78, 106, 117, 127, 138, 150, 162)
    assert wide.low[-8:] == (63, 76, 92, 112, 136, 168, 211, 283)


def test_a_window_by_hand():
    # ln 200 = 5.298: 1.766 + sqrt(1.766^2 + 2 * 5.298 * 21) = 16.79 around 30
    assert window(100, 0.3, 0.01) == (13, 47)
    # ln 2e6 = 14.51: 4.84 + sqrt(4.84^2 + 2 * 14.51 * 0.95) = 11.97 around 1
    assert window(20, 0.05, 1e-6) == (0, 13)


@pytest.mark.parametrize("plan", TINY[:3])
def test_limits_lie_a_billionth_of_log_odds_above_the_root(plan):
    for k, n, _ in ends(plan)[:-1]:
        j, p = plan.place(n), plan.upper(k, n, 0.05)
        x = math.log(p) - math.log1p(-p)
        above, below = (at_most(plan.sizes[: j + 1], plan.low[:j], k, expit(x - d), 0.05) for d in (5e-10, 1.5e-9))
        assert above <= 0.05 < below


def width_of(k, n):
    bound = proportion_bound(k, n, alpha=0.01, side="both")
    return bound.upper - bound.lower


def expected_draws(plan, p):
    """E[draws], summed."""
    alive, total, done = np.ones(1), 0.0, 0
    for j, n in enumerate(plan.sizes):
        alive = np.convolve(alive, stats.binom.pmf(np.arange(n - done + 1), n - done, p))
        total, done = total + (n - done) * total_of(alive), n
        counts = np.arange(n + 1)
        if j < len(plan.low):
            alive[np.minimum(counts, n - counts) <= plan.low[j]] = 0
    return total


def total_of(x):
    return float(x.sum())


def test_a_plan_needs_hardly_more_draws_than_one_that_knew_the_rate(wide):
    from leakbound.bounds import plan_width

    for p in (0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9):
        assert expected_draws(wide, p) <= 1.13 * plan_width(0.1, alpha=0.01, true_rate=p).n


@pytest.mark.parametrize(
    ("sizes", "low", "message"),
    [
        ((), (), "sizes is"),
        ((0, 3), (0,), "sizes is"),
        ((3, 3), (0,), "sizes is"),
        ((3, 5), (), "low is"),
        ((3, 5), (0, 1), "low is"),
        ((4, 5), (2,), "low is"),
        ((4, 5), (-2,), "low is"),
    ],
)
def test_plans_that_make_no_sense(sizes, low, message):
    with pytest.raises(InputError, match=message):
        GroupPlan(0.1, 0.01, sizes, low)


def test_counts_at_which_a_plan_does_not_end():
    plan = GroupPlan(0.5, 0.1, (5, 9), (1,))
    assert GroupPlan(0.5, 0.1, (5, 9), (2,)).ends(2, 5)
    assert [plan.ends(k, 5) for k in range(6)] == [True, True, False, False, True, True]
    assert plan.ends(4, 9)
    with pytest.raises(InputError, match="k is 2 at n = 5, where the drawing goes on"):
        group_bound(plan, 2, 5, alpha=0.1)
    with pytest.raises(InputError, match="n is 6: look at the planned sizes only, which are 5, 9"):
        group_bound(plan, 0, 6, alpha=0.1)
    with pytest.raises(InputError, match="n is 0: give a whole number >= 1"):
        group_bound(plan, 0, 0, alpha=0.1)
    with pytest.raises(InputError, match="k is 10"):
        group_bound(plan, 10, 9, alpha=0.1)
    for change in ({"width": 0}, {"width": 1.0}, {"alpha": 0}, {"budget": 0}):
        with pytest.raises(InputError, match=f"{next(iter(change))} is"):
            plan_groups(**{"width": 0.1, "alpha": 0.1, "budget": 9, **change})


def test_the_share_that_was_seen_lies_between_the_limits():
    """One leak, in the first ten draws: rare where none are rare among the many that follow."""
    plan = GroupPlan(0.5, 0.1, (10, 5000), (0,))
    assert plan.limits(1, 5000, 0.05)[0] > 1 / 5000
    bound = group_bound(plan, 1, 5000, alpha=0.1, side="both")
    assert bound.lower == bound.estimate == 1 / 5000
    assert bound.upper == plan.limits(1, 5000, 0.05)[1]
    mirrored = group_bound(plan, 4999, 5000, alpha=0.1, side="both")
    assert mirrored.upper == mirrored.estimate == 4999 / 5000
    assert mirrored.lower == plan.limits(4999, 5000, 0.05)[0]


def test_a_root_on_the_wrong_side_is_not_taken(monkeypatch):
    from scipy import optimize

    plan, solve = GroupPlan(0.5, 0.1, (20, 300), (1,)), optimize.brentq
    right = {k: plan.upper(k, 300, 0.0123) for k in (3, 150, 290)}
    upper_limit.cache_clear()
    monkeypatch.setattr(optimize, "brentq", lambda *a, **b: solve(*a, **b) - 2e-8)
    for k, limit in right.items():
        found = plan.upper(k, 300, 0.0123)
        assert limit * (1 - 1e-8) <= found <= limit * (1 + 1e-8)
        assert slow_at_most(plan, k, 300, found) <= 0.0123 * (1 + 1e-11)
    upper_limit.cache_clear()


def test_what_windows_leave_out_is_added():
    assert at_most((1000,), (), 0, 0.9, 0.01) == pytest.approx(3 * 0.01 * 1e-12, rel=1e-9, abs=0)
    assert at_most((500, 1000), (-1,), 0, 0.9, 0.02) == pytest.approx(6 * 0.02 * 1e-12, rel=1e-9, abs=0)
