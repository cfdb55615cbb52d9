"""The product of e-processes: exact enumeration, adversaries, a slow path, and the widths that it is for."""

import functools
import itertools
import math

import numpy as np
import pytest

from leakbound.bounds import Evidence, leak_sequence_bound, product_average_bound, simultaneous_alpha
from leakbound.bounds.certificates import without_replacement_bound
from leakbound.bounds.engines import product
from leakbound.bounds.engines.evidence import NODES, Wealths, spread_out
from leakbound.bounds.engines.masses import leak_estimate
from leakbound.bounds.engines.product import KEPT, mixed, mixtures, product_upper
from leakbound.errors import InputError

BETS = 1 - KEPT


def leaks(k, n):
    return Evidence.independent([0.0, 1.0], [n - k, k])


def wealth(evidence, p, bet):
    return float(np.exp(Wealths([evidence]).at(np.array([p]), np.array([bet]))[0][0, 0]))


def by_hand(one, p, c):
    """ln e(p), draw by draw."""
    if one.masses is None:
        return sum(n * math.log(1 - c + c * (1 - h) / (1 - p)) for h, n in zip(one.scores, one.counts, strict=True))
    mass, leak = one.known
    total = 0.0
    for q, h in zip(one.masses.tolist(), one.scores.tolist(), strict=True):
        total += math.log(1 - c + c * (1 - h) * (1 - mass) / (leak + 1 - mass - p))
        mass, leak = mass + q, leak + q * h
    return total


EXAMPLES = (
    Evidence.independent([0.0, 0.25, 1.0], [5, 2, 1]),
    Evidence.independent([0.5]),
    leaks(3, 3),
    Evidence.without_replacement([0.3, 0.05, 0.2, 0.01], [0, 0.5, 0, 1]),
    Evidence.without_replacement([0.1, 0.05], [1.0, 0.25], known=(0.5, 0.2)),
)


@pytest.mark.parametrize("one", EXAMPLES)
@pytest.mark.parametrize("bet", [0.9999, 0.5, 0.01])
def test_wealth_slope_and_limits_by_hand(one, bet):
    both = Wealths([one, leaks(1, 9)])
    low, cap = both.low[0], both.cap[0]
    for share in (0.0, 0.3, 0.9):
        p = np.array([low + share * (cap - low), 0.3])
        logs, slopes = both.at(p, np.array([0.123, bet]))
        assert logs[1, 0] == pytest.approx(by_hand(one, p[0], bet), rel=1e-7, abs=1e-9)
        assert logs[0, 1] == pytest.approx(by_hand(leaks(1, 9), 0.3, 0.123), rel=1e-12)
        step = 1e-6 * (cap - p[0])
        rise = (by_hand(one, p[0] + step, bet) - by_hand(one, p[0], bet)) / step
        assert slopes[1, 0] == pytest.approx(rise, rel=1e-4, abs=1e-6)
        assert (both.size(logs, np.array([0.123, bet])) >= np.abs(logs)).all()
    if one.masses is None:
        assert (low, cap) == (0.0, 1.0)
        assert one.estimate == pytest.approx(np.average(one.scores, weights=one.counts))
    else:
        leak = one.known[1] + one.masses @ one.scores
        assert low == pytest.approx(leak, rel=1e-9)
        assert low <= leak
        assert cap == pytest.approx(leak + 1 - one.known[0] - one.masses.sum(), rel=1e-9)
        assert one.estimate == leak_estimate(one.masses, one.scores, *one.known)


def test_the_rounding_measure_counts_the_draws_that_leak():
    two = Wealths([leaks(3, 10), leaks(0, 10)])
    sizes = two.size(np.array([[-1.0, 2.0]]), np.array([0.5]))
    assert sizes[0].tolist() == pytest.approx([1 + 2 * 3 * math.log(2), 2.0])


@pytest.mark.parametrize("one", EXAMPLES)
def test_log_wealth_is_convex_and_rises_also_mixed(one):
    some = Wealths([one])
    p = some.low[0] + (some.cap[0] - some.low[0]) * np.linspace(0, 0.98, 50)
    logs = np.stack([some.at(np.array([x]), BETS)[0][:, 0] for x in p], axis=1)
    slopes = np.stack([some.at(np.array([x]), BETS)[1][:, 0] for x in p], axis=1)
    total, rates = mixed(logs, slopes, np.full(KEPT.size, 1 / KEPT.size))
    for values, rising in ((logs, slopes), (total[None], rates[None])):
        assert (np.diff(values, axis=1) >= -1e-12).all()
        assert (np.diff(rising, axis=1) >= -1e-9 * np.abs(rising[:, 1:])).all()
        assert (values[:, 1:] >= values[:, :-1] + rising[:, :-1] * np.diff(p) - 1e-9).all()  # above its tangents
    assert total == pytest.approx(np.log(np.exp(logs).mean(axis=0)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("bet", [0.9999, 0.4])
def test_mean_of_the_wealth_is_at_most_one_by_enumeration(bet):
    law = {0.0: 0.5, 0.5: 0.3, 1.0: 0.2}
    theta = sum(h * q for h, q in law.items())
    for p in (0.0, 0.1, theta):
        mean = sum(
            math.prod(law[h] for h in draws) * wealth(Evidence.independent(list(draws)), p, bet)
            for draws in itertools.product(law, repeat=4)
        )
        assert mean <= 1 + 1e-9
    assert mean == pytest.approx(1)
    above = sum(
        math.prod(law[h] for h in draws) * wealth(Evidence.independent(list(draws)), theta + 0.05, bet)
        for draws in itertools.product(law, repeat=4)
    )
    assert above > 1


def orders(p):
    for order in itertools.permutations(range(len(p))):
        chance, rest = 1.0, 1.0
        for i in order:
            chance, rest = chance * p[i] / rest, rest - p[i]
        yield list(order), chance


def test_mean_of_the_wealth_without_replacement_by_enumeration():
    p, h = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.0, 0.5, 1.0, 0.0])
    truth = p @ h
    for drawn in (1, 2, 3):
        for claim in (truth - 0.1, truth):
            mean = 0.0
            for order, chance in orders(p):
                one = Evidence.without_replacement(p[order[:drawn]], h[order[:drawn]])
                if claim < Wealths([one]).cap[0]:
                    mean += chance * wealth(one, max(claim, 0.0), 0.7)
            assert mean <= 1 + 1e-8


def test_mixtures_are_laws_fixed_by_the_number_of_prompts():
    for prompts in (1, 2, 100, 5000):
        rows, shares = mixtures(prompts)
        assert rows.shape == (shares.size, KEPT.size)
        assert rows.sum(axis=1) == pytest.approx(1)
        assert shares.sum() == pytest.approx(1, abs=1e-15)
        assert (rows >= 0).all()
        assert (shares > 0).all()
        assert prompts * (1 - rows[0, 0]) <= 0.3 + 1e-12  # nearly all capital of nearly all prompts on "no leak"
        assert shares[0] > 0.2
        assert rows[-1] == pytest.approx(1 / KEPT.size)
        assert (rows[-2] > 0).tolist() == (KEPT > 0.5).tolist()
        assert np.bincount(rows[:-2].argmax(axis=1), minlength=KEPT.size).tolist() == [3, 0, *[2] * 9, 0]


def slow_uppers(evidence, alphas, steps=1500):
    """Two prompts: for each mixture the least m with the smallest product over a grid of allocations large enough."""
    first, second = (Wealths([one]) for one in evidence)
    rows, shares = mixtures(2)
    a, b = (w.low[0] + (w.cap[0] - w.low[0]) * np.linspace(0, 0.9999, steps) ** 2 for w in (first, second))
    logs = [Wealths([one] * steps).at(points, BETS)[0] for one, points in zip(evidence, (a, b), strict=True)]
    best = dict.fromkeys(alphas, (first.cap[0] + second.cap[0]) / 2)
    for weights, share in zip(rows, shares, strict=True):
        one, two = (mixed(x, np.zeros_like(x), weights)[0] for x in logs)
        for alpha in alphas:
            goal = math.log(1 / (share * alpha))
            # for each p_1 the least p_2 that reaches the goal; then all averages up to the largest unreached one fail
            reach = np.searchsorted(two, goal - one)
            unreached = (a + b[np.minimum(np.maximum(reach - 1, 0), steps - 1)])[reach > 0] / 2
            best[alpha] = min(best[alpha], unreached.max(initial=0.0))
    return best


@pytest.mark.parametrize(
    "evidence",
    [
        (leaks(0, 30), leaks(0, 60)),
        (leaks(0, 30), leaks(9, 60)),
        (leaks(4, 8), leaks(1, 300)),
        (leaks(5, 5), leaks(0, 100)),
        (Evidence.independent([0.1, 0.2, 0.4], [30, 10, 3]), leaks(2, 90)),
        (Evidence.without_replacement([0.5, 0.2, 0.1, 0.05], [0, 0, 0.5, 0]), leaks(0, 40)),
    ],
)
def test_equals_a_slow_path(evidence):
    for alpha, slow in slow_uppers(evidence, (0.01, 0.3)).items():
        found = product_upper(evidence, alpha)
        assert found >= slow - 2e-3  # the grid rounds down
        assert found <= slow + 4e-3


@pytest.mark.parametrize(
    ("evidence", "alpha", "limit"),
    [
        ([leaks(0, 64)] * 3 + [leaks(1, 40)], 0.05, 0.054875948539),
        ([leaks(30, 60), leaks(2, 50), leaks(0, 30)], 0.01, 0.332330633993),
        ([leaks(0, 125), leaks(50, 68)], 0.05, 0.453987766566),  # as long as it gains by the distance to the estimate
        ([Evidence.independent([0.1, 0.2, 0.4], [30, 10, 3]), leaks(2, 90)], 0.1, 0.153249835726),
        ([Evidence.without_replacement([0.5, 0.2, 0.1, 0.05], [0, 0, 0.5, 0]), leaks(0, 40)], 0.05, 0.124741876118),
    ],
)
def test_the_search_ends_where_it_did(evidence, alpha, limit):
    """Within the slow path's tolerance many ends of the search are valid; this one is what audits have printed."""
    assert product_upper(evidence, alpha) == pytest.approx(limit, rel=1e-9)


def test_the_cushion_asks_for_more(monkeypatch):
    evidence = [leaks(0, 64), leaks(1, 40)]
    wanted = product_upper(evidence, 0.05 * math.exp(-0.01))
    monkeypatch.setattr(product, "CUSHION", 0.01)
    assert product_upper(evidence, 0.05) == pytest.approx(wanted, rel=1e-7)


def test_alike_clean_prompts_in_closed_form():
    # by convexity the smallest product has equal arguments; nearly all of each mixture is on "no leak"
    prompts, n, alpha = 50, 200, 0.01
    rows, shares = mixtures(prompts)

    def reached(m, s):
        logs = n * np.log1p(BETS * (1 / (1 - m) - 1))
        return prompts * np.log(rows[s] @ np.exp(logs)) >= math.log(1 / (shares[s] * alpha))

    best = 1.0
    for s in range(len(rows)):
        low, high = 0.0, 0.9
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle, s) else (middle, high)
        best = min(best, high)
    found = product_upper([leaks(0, n)] * prompts, alpha)
    assert best <= found <= best * (1 + 1e-5)


# --- validity: an adversary who sees everything decides which prompt to draw from, and when to stop


@functools.cache
def bound_of(state, alpha, side):
    return product_average_bound([leaks(k, n) for k, n in state], alpha=alpha, side=side)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["upper", "lower"])
def test_no_adversary_can_make_it_miss_more_often_than_alpha(side):
    alpha, most, rejected = 0.5, 3, 0

    def value(state, theta, truth):
        """The probability that the best adversary reaches a state whose bound is wrong."""
        if min(n for _, n in state) > 0:
            bound = bound_of(tuple(sorted(state)), alpha, side)
            if bound.upper < truth - 1e-12 or bound.lower > truth + 1e-12:
                return 1.0
        best = 0.0
        for i, (k, n) in enumerate(state):
            if n < most:
                after = [tuple(s if j != i else (k + leak, n + 1) for j, s in enumerate(state)) for leak in (0, 1)]
                clean, leaked = (seen(one, theta, truth) for one in after)
                best = max(best, (1 - theta[i]) * clean + theta[i] * leaked)
        return best

    seen = functools.cache(value)
    grid = (0.02, 0.2, 0.5, 0.8, 0.98) if side == "upper" else (0.02, 0.5, 0.98)
    for theta in itertools.combinations_with_replacement(grid, 2):
        miss = seen(((0, 0), (0, 0)), theta, sum(theta) / 2)
        assert miss <= alpha
        rejected = max(rejected, miss)
    assert rejected > 0.05  # it does reject


@pytest.mark.slow
def test_no_look_misses_without_replacement_by_enumeration():
    alpha = 0.4
    one, two = (np.array([0.6, 0.3, 0.1]), np.array([0.0, 1.0, 0.0])), (np.array([0.55, 0.45]), np.array([0.0, 1.0]))
    truth = (one[0] @ one[1] + two[0] @ two[1]) / 2
    missed = 0.0
    for (first, p), (second, q) in itertools.product(orders(one[0]), orders(two[0])):
        bounds = [
            product_average_bound(
                [
                    Evidence.without_replacement(one[0][first[:s]], one[1][first[:s]]),
                    Evidence.without_replacement(two[0][second[:t]], two[1][second[:t]]),
                ],
                alpha=alpha,
                side="both",
            )
            for s, t in ((1, 1), (2, 1), (2, 2), (3, 2))
        ]
        missed += p * q * any(b.upper < truth - 1e-9 or b.lower > truth + 1e-9 for b in bounds)
        assert bounds[-1].upper - bounds[-1].lower < 1e-8  # everything was seen
        assert bounds[-1].estimate == pytest.approx(truth)
    assert missed <= alpha


@pytest.mark.slow
def test_misses_of_stopped_prompts_of_many_kinds():
    """Three prompts, each stopped at its first leak or after five draws: the exact probability of a miss."""
    alpha, most, grid = 0.2, 5, (0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 1.0)
    ends = [(1, n) for n in range(1, most + 1)] + [(0, most)]
    chances = {p: np.array([p * (1 - p) ** (n - 1) for n in range(1, most + 1)] + [(1 - p) ** most]) for p in grid}
    upper = np.empty((len(ends),) * 3)
    for state in itertools.combinations_with_replacement(range(len(ends)), 3):
        found = product_upper([leaks(*ends[i]) for i in state], alpha)
        for same in set(itertools.permutations(state)):
            upper[same] = found
    missed = {
        theta: np.einsum("ijk,i,j,k", upper < np.mean(theta) - 1e-12, *(chances[p] for p in theta))
        for theta in itertools.combinations_with_replacement(grid, 3)
    }
    assert 0.01 < max(missed.values()) <= alpha


# --- what it is for


def test_a_hundred_clean_stopped_prompts():
    # today's average of joint bounds: .0191; the prototype .00011
    evidence = [leaks(0, 511)] * 100
    joint = simultaneous_alpha(0.01, 100)
    assert leak_sequence_bound(0, 511, alpha=joint).upper > 0.019
    bound = product_average_bound(evidence, alpha=0.01, estimand="P(leak)")
    assert bound.upper == pytest.approx(0.000117, rel=0.02)
    assert bound.lower == 0
    assert (bound.n, bound.scope, bound.unit, bound.estimate) == (51100, "the average prompt", "draws", 0.0)
    assert str(bound).endswith("product of e-processes over 100 prompts, valid at any stopping time)")


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ([(95, (0, 511)), (5, (1, 588))], 0.0005),
        ([(90, (0, 511)), (10, (10, 32))], 0.0408 * 1.5),
        ([(90, (0, 511)), (10, (32, 32))], 0.102),
    ],
)
def test_few_leaks_and_few_leaking_prompts(kinds, wanted):
    evidence = [leaks(k, n) for times, (k, n) in kinds for _ in range(times)]
    mean = np.mean([one.estimate for one in evidence])
    upper = product_upper(evidence, 0.01)
    assert mean < upper < wanted
    joint = simultaneous_alpha(0.01, 100)
    today = np.mean([leak_sequence_bound(int(o.counts @ o.scores), o.n, alpha=joint).upper for o in evidence])
    assert upper < today / 1.1


@pytest.mark.slow
def test_a_hundred_prompts_without_replacement():
    rng, population = np.random.default_rng(0), np.arange(1, 20001) ** -1.5
    population /= population.sum()
    evidence = []
    for _ in range(100):
        order = np.argsort(-np.log(population) - rng.gumbel(size=population.size))[:256]
        evidence.append(Evidence.without_replacement(population[order], np.zeros(256)))
    assert np.mean([one.masses.sum() for one in evidence]) == pytest.approx(0.937, abs=0.003)
    joint = simultaneous_alpha(0.01, 100)
    today = np.mean([without_replacement_bound(o.masses, o.scores, alpha=joint).upper for o in evidence[:10]])
    assert today == pytest.approx(3.6e-3, rel=0.03)
    bound = product_average_bound(evidence, alpha=0.01)
    assert bound.upper < 1.5 * 2.0e-5
    assert bound.unit == "distinct generations"
    half = product_average_bound(evidence[:50] + [leaks(0, 511)] * 50, alpha=0.01)
    assert bound.upper < half.upper < product_upper([leaks(0, 511)] * 50, 0.01)
    assert half.unit == "draws, some without replacement"


def test_graded_scores_with_many_values():
    rng = np.random.default_rng(1)
    scores = [rng.beta(2, 8, 1000) for _ in range(20)]
    evidence = [Evidence.independent(x) for x in scores]
    mean = np.mean(scores)
    upper = product_upper(evidence, 0.01)
    assert mean + 0.002 < upper < mean + 0.01
    few = [Evidence.independent(np.ceil(x * 100) / 100) for x in scores]  # rounded up: no smaller
    assert product_upper(few, 0.01) > upper


def test_spreading_values_keeps_the_mean_and_lowers_the_wealth():
    rng = np.random.default_rng(2)
    values = np.sort(rng.beta(0.5, 3, 1000))
    counts = rng.integers(1, 4, 1000).astype(float)
    nodes, split = spread_out(values, counts)
    assert nodes.size == NODES
    assert (nodes[0], nodes[-1]) == (values[0], values[-1])
    assert split.min() >= 0
    assert split.sum() == pytest.approx(counts.sum())
    assert split @ nodes == pytest.approx(counts @ values)
    assert counts @ values**2 < split @ nodes**2 < counts @ values**2 + 0.01 * counts.sum() * values.var()
    for p, c in ((0.05, 0.999), (0.3, 0.5), (0.9, 0.01)):
        whole = counts @ np.log(1 - c + c * (1 - values) / (1 - p))
        assert split @ np.log(1 - c + c * (1 - nodes) / (1 - p)) <= whole + 1e-9
    assert spread_out(values[:NODES], counts[:NODES])[0] is not nodes
    assert spread_out(values[:NODES], counts[:NODES])[1].tolist() == counts[:NODES].tolist()


def test_mirrored_and_both_sides():
    rng = np.random.default_rng(3)
    evidence = [Evidence.independent(rng.beta(2, 2, 300)), leaks(3, 10)]
    evidence.append(Evidence.without_replacement([0.3, 0.2, 0.1], [0, 1, 0.5], known=(0.2, 0.1)))
    both = product_average_bound(evidence, alpha=0.02, side="both")
    assert both.upper == product_average_bound(evidence, alpha=0.01).upper
    below = product_average_bound(evidence, alpha=0.01, side="lower")
    assert (both.lower, 1.0) == (below.lower, below.upper)
    assert 0 < both.lower < both.estimate < both.upper < 1
    assert both.estimate == pytest.approx(np.mean([one.estimate for one in evidence]))
    mirror = product_average_bound([one.mirrored() for one in evidence], alpha=0.02, side="both")
    assert mirror.upper == pytest.approx(1 - both.lower, abs=1e-9)
    assert mirror.lower == pytest.approx(1 - both.upper, abs=1e-9)
    back = evidence[0].mirrored().mirrored()
    assert back.scores == pytest.approx(evidence[0].scores)
    assert (np.diff(evidence[0].mirrored().scores) > 0).all()
    assert evidence[2].mirrored().known == (0.2, 0.1)
    assert evidence[2].mirrored().scores.tolist() == [1.0, 0.0, 0.5]
    assert leaks(3, 10).mirrored().counts.tolist() == [3, 7]


def test_order_relations():
    assert product_upper([leaks(0, 50), leaks(2, 50)], 0.01) < product_upper([leaks(0, 50), leaks(3, 50)], 0.01)
    assert product_upper([leaks(0, 50), leaks(2, 50)], 0.01) > product_upper([leaks(0, 50), leaks(2, 80)], 0.01)
    uppers = [product_upper([leaks(0, 50), leaks(2, 50)], alpha) for alpha in (1e-300, 1e-12, 0.01, 0.3, 0.99)]
    assert uppers == sorted(uppers, reverse=True)
    assert uppers[0] <= 1.0
    assert product_upper([leaks(4, 4), leaks(2, 2)], 0.01) == 1.0  # nothing but leaks
    assert product_upper([leaks(0, 4)], 0.0) == 1.0
    assert product_average_bound([leaks(0, 4)], alpha=5e-324, side="both").upper == 1.0


def test_everything_seen_is_certain():
    seen = Evidence.without_replacement([0.7, 0.2, 0.1], [0, 1, 0])
    bound = product_average_bound([seen, seen], alpha=0.01, side="both")
    assert bound.lower == pytest.approx(0.2, abs=1e-9)
    assert bound.upper == pytest.approx(0.2, abs=1e-9)
    assert bound.lower <= 0.2 <= bound.upper


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="evidence is empty"):
        product_average_bound([], alpha=0.01)
    with pytest.raises(InputError, match="alpha is 0"):
        product_average_bound([leaks(0, 4)], alpha=0)
    with pytest.raises(InputError, match="side is 'left'"):
        product_average_bound([leaks(0, 4)], alpha=0.1, side="left")
    with pytest.raises(InputError, match="masses sum to"):
        Evidence.without_replacement([0.6, 0.6], [0, 1])
    for known in ((0.1, 0.2), (0.95, 0.0)):
        with pytest.raises(InputError, match=r"known is \(0"):
            Evidence.without_replacement([0.1], [0], known=known)
    with pytest.raises(InputError, match=r"scores\[1\] is 2"):
        Evidence.independent([0, 2])
