"""The second implementation: it proves what the first one claims, nothing smaller, and sees bugs in the first."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from tiny_models import tiny_model, word_tokenizer

from leakbound.auditing.certifying import certify
from leakbound.auditing.second import average, claims, masses, tails
from leakbound.auditing.second import draws as second
from leakbound.auditing.second.tails import at_most_probability
from leakbound.auditing.steps import audit
from leakbound.auditing.verifying import _certified, _drawn, verify
from leakbound.bounds import (
    average_mean_bound,
    ed_bound,
    ed_sequence_bound,
    group_bound,
    leak_sequence_bound,
    mean_bound,
    mean_sequence_bound,
    plan_groups,
    product_average_bound,
    std_bound,
    std_sequence_bound,
    survival_bound,
)
from leakbound.bounds.certificates import importance_lower_bound
from leakbound.bounds.engines.evidence import Evidence
from leakbound.bounds.engines.noncrossing import constrained_ranks
from leakbound.errors import IncompleteRunError
from leakbound.models import FakeModel
from leakbound.models.hf import HFModel
from leakbound.records import Draw, SamplingParams
from leakbound.results.certificate import Certification
from leakbound.runs.store import Run

PROMPTS = [
    {"id": "a", "text": "where?", "target": "in the garden"},
    {"id": "b", "text": "who?", "target": "Ada Fennick", "aliases": ["Ada"]},
    {"id": "c", "text": "when?", "target": "1987"},
]
WORDS = [{"id": f"w{i}", "text": text, "target": "c d"} for i, text in enumerate(["a b", "d c a b a", "b"])]
INDEPENDENT = {
    "graded": {},
    "counted": {"scorer": "contains"},
    "paper": {"method": "paper"},
    "paper, until": {"method": "paper", "until": "mean<=0.9"},
    "until": {"until": "leak<=0.6", "scorer": "contains"},
    "until, graded": {"until": "mean<=0.9"},
    "width": {"width": 0.6, "scorer": "contains"},
}
DISTINCT = {
    "distinct": {"engine": "without-replacement"},
    "distinct, counted": {"engine": "without-replacement", "scorer": "contains"},
}
CERTIFIED = {
    "certified": {"proposal": True},
    "certified, counted": {"scorer": "contains"},
    "certified, iid": {"engine": "iid"},
}
KINDS = (*INDEPENDENT, *DISTINCT, *CERTIFIED)


def made(kind, folder):
    """A small honest folder of a kind."""
    if kind in INDEPENDENT:
        audit(FakeModel(leak=0.2), PROMPTS, num_samples=40, seed=1, out=folder, progress=False, **INDEPENDENT[kind])
        return folder
    settings = {"params": SamplingParams(max_tokens=3, temperature=0.8), "out": folder, "progress": False}
    model, other = (HFModel(tiny_model(seed=seed), word_tokenizer(), template="raw") for seed in (0, 1))
    if kind in DISTINCT:
        audit(model, WORDS, num_samples=30, **settings, **DISTINCT[kind])
    else:
        given = {**CERTIFIED[kind], **({"proposal": other} if "proposal" in CERTIFIED[kind] else {})}
        certify(model, WORDS, num_generations=30, **settings, **given)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("second")
    return {kind: made(kind, root / str(i)) for i, kind in enumerate(KINDS)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_honest_folders_are_accepted(folders, kind):
    found = verify(folders[kind])
    assert found.accepted, str(found)
    checked = {check.what: check.number for check in found.checks}
    if kind in CERTIFIED:
        assert checked["certificates a second way"] == 3 * (6 if kind == "certified" else 5) + 1
    else:
        n = len(found.checks) and checked["draws"] and 3
        wanted = {"P(leak) by exact sums": 2 * n + 1, "averages by their bets": 2}
        wanted["E[h], sd and mean + 2 sd, draw by draw"] = 3 * n
        assert {what: checked[what] for what in wanted} == wanted
        assert checked["P(h > x) by exact sums"] >= 1


def smaller(bound, share, most):
    """The bound with a limit that is tighter by a share; None where it claims nothing or next to nothing."""
    if bound.side == "lower":
        lower = bound.lower * (1 + share)
        return replace(bound, lower=lower, upper=max(lower, bound.upper)) if bound.lower > 0 else None
    if hasattr(bound, "thresholds"):
        places = [i for i, u in enumerate(bound.upper) if u < most]
        upper = tuple(u * (1 - share * (i == places[0])) for i, u in enumerate(bound.upper)) if places else ()
        return replace(bound, upper=upper) if places else None
    upper = bound.upper * (1 - share)
    return replace(bound, lower=min(bound.lower, upper), upper=upper) if bound.upper < most else None


LEAKS, MOMENTS, BANDS, AVERAGES = claims.CHECKS.values()
OF_A_PROMPT = {
    "leak": (LEAKS, 1), "leak_jointly": (LEAKS, 1), "mean": (MOMENTS, 1), "std": (MOMENTS, 0.499),
    "ed_bound": (MOMENTS, 1.6), "survival": (BANDS, 1),
}  # fmt: skip
"""Which check a claim belongs to, and from where on a limit says next to nothing."""
OF_ALL = {"worst_prompt": LEAKS, "mean_leak": AVERAGES, "mean_score": AVERAGES}


@pytest.mark.parametrize("kind", [*INDEPENDENT, *DISTINCT])
def test_it_refuses_a_claim_that_is_too_small(folders, kind):
    """Without the comparison with what is made again: the sums and bets alone refuse it."""
    given = _drawn(Run.open(folders[kind]), None)
    honest, others = given.audit, []
    for i, p in enumerate(honest.prompts):
        for field, (look, most) in OF_A_PROMPT.items():
            grid = 0.1 * (kind.startswith("paper") and look is MOMENTS)  # the sums of the paper are this coarse
            new = smaller(getattr(p, field), max(grid, 0.01), most)
            if new is None:
                continue
            prompts = [replace(q, **{field: new}) if i == j else q for j, q in enumerate(honest.prompts)]
            others.append((look, replace(honest, prompts=tuple(prompts))))
    others += [
        (look, replace(honest, **{field: new}))
        for field, look in OF_ALL.items()
        if (new := smaller(getattr(honest, field), 0.02, 1)) is not None
    ]
    for look, other in others:
        with pytest.raises(IncompleteRunError, match="do not prove"):
            claims.proven(look(replace(given, audit=other)))
    assert len(others) >= 12


@pytest.mark.parametrize("kind", CERTIFIED)
def test_it_refuses_a_certificate_that_claims_too_much(folders, kind):
    run = Run.open(folders[kind])
    honest, refused = Certification.load(run.path), 0
    for i, p in enumerate(honest.prompts):
        for field in ("leak", "mean", "limits", "verbatim", "near_verbatim", "still_leaks"):
            if getattr(p, field) is None or (new := smaller(getattr(p, field), 0.01, 1)) is None:
                continue
            prompts = [replace(q, **{field: new}) if i == j else q for j, q in enumerate(honest.prompts)]
            replace(honest, prompts=tuple(prompts)).save(run.path / "certificate.json")
            with pytest.raises(IncompleteRunError, match="do not prove"):
                claims.proven(_certified(run, None))
            refused += 1
    honest.save(run.path / "certificate.json")
    assert refused >= 9


def too_early(p, h, mass=0.0, leak=0.0):
    """1 - M and L + 1 - M with each completion counted before it was bet on."""
    rest, ceiling = np.append(1 - np.cumsum(p), 0), 1 - np.cumsum(p) + np.cumsum(p * h)
    rest[-1] = max(rest[-2], 0)
    return np.maximum(rest, 0), np.append(ceiling, ceiling[-1])


def heavier(x, **settings):
    """Importance weights that are too large."""
    return importance_lower_bound(1.3 * np.array(x), **settings)


PLANTED = {
    "graded": [
        ("bounds.distribution.band_levels", lambda n, alpha, at: (at / n) ** 1.2, "P(h > x) by exact sums"),
        ("bounds.average.portfolio_upper", lambda y, k, *_: 1.05 * float(y @ k) / k.sum(), "averages by their bets"),
    ],
    "counted": [("bounds.average.pooled_upper", lambda k, n, alpha: k / n + 1 / n, "averages by their bets")],
    "until, graded": [("bounds.average.product_upper", lambda e, alpha: 0.3, "averages by their bets")],
    "distinct": [
        ("bounds.certificates.before_each", too_early, "P(leak) by exact sums"),
        ("bounds.seen.OUTWARD", -0.01, "P(h > x) by exact sums"),
        ("bounds.engines.product.CUSHION", -2.0, "averages by their bets"),
    ],
    "certified": [
        ("bounds.certificates.BET_WEIGHTS", (3, *[0.1] * 5), "certificates a second way"),
        ("auditing.certifying.importance_lower_bound", heavier, "certificates a second way"),
    ],
}


@pytest.mark.parametrize(("kind", "place", "bug", "what"), [(k, *x) for k, some in PLANTED.items() for x in some])
@pytest.mark.slow
def test_a_bug_in_the_first_is_seen_by_the_second_alone(tmp_path, monkeypatch, kind, place, bug, what):
    """Made with the bug and made again with it, the numbers agree."""
    monkeypatch.setattr(f"leakbound.{place}", bug)
    wrong = {check.what for check in verify(made(kind, tmp_path / "run")).checks if check.wrong}
    assert what in wrong
    assert not {"audit.json made again", "certificate.json made again"} & wrong


def draws_of(x, ordered):
    places = {}
    for i, h in enumerate(x.tolist()):
        places.setdefault(h, []).append(i)
    return [(Draw("p", str(h), len(some), some[0], "stop", 1, None, tuple(some) if ordered else None), h)
            for h, some in places.items()]  # fmt: skip


LAWS = {
    "uniform": lambda rng, n: rng.random(n),
    "zeros": lambda rng, n: np.zeros(n),
    "rare": lambda rng, n: (rng.random(n) < 0.05) * rng.random(n),
    "grades": lambda rng, n: rng.choice([0, 0.2, 0.5, 1], n, p=[0.7, 0.1, 0.1, 0.1]),
    "sorted": lambda rng, n: np.sort(rng.random(n)),
    "ones": lambda rng, n: np.ones(n),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    "n", [1, 9, 99, pytest.param(100, marks=pytest.mark.slow), pytest.param(300, marks=pytest.mark.slow)]
)
def test_the_second_implementation_allows_what_the_first_says_and_no_less(law, ordered, n):
    rng = np.random.default_rng(n)
    for alpha in (0.01, 1e-5):
        x = LAWS[law](rng, n)
        given, counts = (x, None) if ordered else np.unique(x, return_counts=True)
        found = [f(given, alpha=alpha, counts=counts) for f in (mean_bound, std_bound, ed_bound)]
        limits = [b.upper for b in found]
        assert second.graded(draws_of(x, ordered), limits, alpha) == [True] * 3
        smaller = second.graded(draws_of(x, ordered), [u * (1 - 1e-3) for u in limits], alpha)
        for b, most, said in zip(found, tails.MOST, smaller, strict=True):
            if b.estimate < b.upper * (1 - 1e-3) < most * (1 - 1e-2):
                assert not said, b


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [1, 64, 100])
def test_the_same_of_a_prompt_that_stopped_whose_order_is_known(law, n):
    """No score picks the method: an order that looks sorted takes the larger of two limits."""
    x = LAWS[law](np.random.default_rng(n), n)
    make = mean_sequence_bound, std_sequence_bound, ed_sequence_bound
    found = [f(x, alpha=0.01) for f in make]
    limits = [b.upper for b in found]
    assert second.graded(draws_of(x, True), limits, 0.01, (1, 64, 100)) == [True] * 3
    smaller = second.graded(draws_of(x, True), [u * (1 - 1e-3) for u in limits], 0.01, (1, 64, 100))
    for b, most, said in zip(found, tails.MOST, smaller, strict=True):
        if b.estimate < b.upper * (1 - 1e-3) < most * (1 - 1e-2):
            assert not said, b


@pytest.mark.parametrize("n", [24, 1000])
@pytest.mark.parametrize("k", [0, 1, 3, 12, 23, 24])
def test_scores_of_0_and_1_by_sums_over_both_tails(k, n):
    x = np.repeat([0.0, 1.0], [n - k, k])
    for alpha in (0.01, 1e-5):
        found = [f(x, alpha=alpha, method="binary") for f in (mean_bound, std_bound, ed_bound)]
        assert tails.two_tails(k, n, alpha, [b.upper for b in found]) == [True] * 3
        smaller = tails.two_tails(k, n, alpha, [b.upper * (1 - 1e-3) for b in found])
        for b, most, said in zip(found, tails.MOST, smaller, strict=True):
            if b.upper < most * (1 - 1e-3):
                assert not said, b


@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_limits_at_any_time_and_of_planned_looks(k):
    for n in (30, 400):
        limit = leak_sequence_bound(k, n, alpha=0.01).upper
        assert 0.00999 < tails.against_mixture(k, n, limit * (1 - 1e-9)) <= 0.01001
        assert tails.against_mixture(k, n, limit) <= 0.01
    plan = plan_groups(0.3, alpha=0.05, budget=400)
    for n in (n for n in plan.sizes if k <= n and plan.ends(k, n)):
        limit = group_bound(plan, k, n, alpha=0.05).upper
        sizes = plan.sizes[: plan.place(n) + 1]
        assert tails.rank_probability(k, sizes, plan.low, limit) == pytest.approx(0.05, rel=1e-6)
        assert tails.rank_probability(k, sizes, plan.low, limit) <= 0.05


@pytest.mark.parametrize(("k", "n", "p"), [(0, 24, 0.1), (3, 1024, 0.004), (700, 1024, 0.7), (5, 100_000, 1e-4)])
def test_binomial_sums_are_those_of_scipy(k, n, p):
    assert float(at_most_probability(k, n, p)) == pytest.approx(binom.cdf(k, n, p), rel=1e-9)


def test_binomial_sums_at_the_ends():
    assert [at_most_probability(*x) for x in ((5, 5, 0.5), (4, 5, 1.0), (0, 5, 0.0), (5, 5, 1.0))] == [1, 0, 1, 1]
    assert float(at_most_probability(0, 10**6, 0.9)) == 0.0  # far below any float, and no error
    assert float(at_most_probability(0, 10**6, 0.9).log10()) == pytest.approx(10**6 * math.log10(0.1))


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.01), (2, 0.01), (24, 0.01), (24, 1e-10), (300, 1e-3)])
def test_bands_are_proven_and_no_smaller_ones(n, alpha):
    rng = np.random.default_rng(n)
    for x in (rng.random(n), np.zeros(n), (rng.random(n) < 0.05) * rng.random(n)):
        band = survival_bound(x, alpha=alpha, thresholds=np.arange(100) / 100)
        limits = {int((x <= at).sum()): upper for at, upper in zip(band.thresholds, band.upper, strict=True)}
        assert second.band_holds(limits, n, alpha)
        if n <= 300 and alpha > 1e-9:  # below that the first takes a union bound, and is that much larger
            assert not second.band_holds({k: u * (1 - 2e-3) for k, u in limits.items()}, n, alpha * 0.99)
        paper = survival_bound(x, alpha=alpha, method="dkw", thresholds=band.thresholds)
        limits = {int((x <= at).sum()): upper for at, upper in zip(paper.thresholds, paper.upper, strict=True)}
        assert second.everywhere_near(limits, n, alpha)
        assert all(u == 1 for u in limits.values()) or not second.everywhere_near(
            {k: u * (1 - 1e-6) for k, u in limits.items()}, n, alpha
        )


@pytest.mark.parametrize("n", [2, 7, 60])
def test_the_largest_moments_near_the_draws(n):
    """Equal to the library's own suprema, and reached by a law in the band: the worst of many is below, not by much."""
    rng, alpha = np.random.default_rng(n), 0.3
    for x in (rng.random(n), np.zeros(n), np.ones(n), np.round(rng.random(n)), rng.beta(0.1, 2, n)):
        values, counts = np.unique(x, return_counts=True)
        mean, sd = second.largest_near(values, counts, alpha)
        assert mean == pytest.approx(mean_bound(x, alpha=alpha, method="anderson").upper, abs=1e-9)
        assert sd == pytest.approx(std_bound(x, alpha=alpha, method="dkw").upper, abs=1e-9)


def test_crossings_by_all_orders():
    """P(a crossing) of two and three draws by hand, and the ranks of long runs."""
    b1, b2 = 0.1, 0.4
    assert second.crossing([1, 2], [b1, b2], 2, 0.0) == pytest.approx(1 - (1 - b1) ** 2 + (b2 - b1) ** 2, rel=1e-12)
    assert second.crossing([2], [b2], 3, 0.0) == pytest.approx(binom.sf(1, 3, b2), rel=1e-12)
    assert second.crossing([1, 2], [0.0, b2], 3, 0.0) == pytest.approx(binom.sf(1, 3, b2), rel=1e-12)
    for n in (1, 2000, 2001, 30_000, 300_000, 10**11):
        assert second.ranks_of(n) == constrained_ranks(n).tolist()


def average_of(rng, kind, n):
    """The evidence of one prompt, for the first implementation and for the second."""
    h = np.round(rng.random(n) * rng.random(), 2) if kind == "graded" else (rng.random(n) < 0.1).astype(float)
    if kind == "distinct":
        p = 0.97 * np.sort(rng.dirichlet(np.full(n, 0.3)))[::-1]
        return Evidence.without_replacement(p, h), (tuple(h), tuple(p), True)
    values, counts = np.unique(h, return_counts=True)
    return Evidence.independent(values, counts), (tuple(values), tuple(counts.astype(float)), False)


@pytest.mark.parametrize(
    "kinds",
    [["graded"], *(pytest.param(k, marks=pytest.mark.slow) for k in (["rare"], ["distinct"], ["rare", "distinct"]))],
)
def test_products_are_proven_and_no_smaller_ones(kinds):
    rng = np.random.default_rng(7)
    first, drawn = zip(*[average_of(rng, kinds[i % len(kinds)], 20 + 3 * i) for i in range(4)], strict=True)
    for alpha in (0.01, 1e-6):
        upper = product_average_bound(first, alpha=alpha).upper
        assert average.product_holds(drawn, upper, alpha)
        assert not average.product_holds(drawn, upper * 0.98, alpha)
    assert average.product_holds(drawn, 1.0, alpha)
    assert not average.product_holds(drawn, 0.0, alpha)


def test_averages_of_planned_draws():
    rng = np.random.default_rng(3)
    for spread in (0.0, 1.0):  # the portfolio is smaller for prompts alike, the product for others
        x = [np.round((i % 2 * spread + (1 - spread)) * rng.random(200) / 2, 2) for i in range(6)]
        drawn = [(tuple(v), tuple(k.astype(float)), False) for v, k in (np.unique(y, return_counts=True) for y in x)]
        upper = average_mean_bound(x, alpha=0.01).upper
        assert average.either_holds(drawn, upper, 0.01)
        assert not average.either_holds(drawn, upper * 0.98, 0.01)
    assert average.either_holds(drawn[:1], average_mean_bound(x[:1], alpha=0.01).upper, 0.01)
    assert average.pooled_holds(9, 10, 1.0, 0.01)
    assert not average.pooled_holds(8, 10, 0.89, 0.99)  # (k + 1) / n, whatever alpha


def test_weighted_draws():
    x, counts = [0.0, 1.9, 1e-4], [60, 3, 20]
    lower = importance_lower_bound(x, alpha=0.01, counts=counts).lower
    assert 0 < lower < 0.1
    assert masses.weighted_holds(x, counts, lower, 0.01)
    assert not masses.weighted_holds(x, counts, lower * 1.001, 0.01)
    assert masses.weighted_holds(x, counts, 0.0, 0.01)


@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
def test_many_equal_draws_leave_every_mixture_of_bets_a_number(score):
    """10^4 draws: bets that a mixture has no share of may be e^8000 times those that it has."""
    prompts = average.Prompts(((score,), (10_000.0,), False), 1)
    for weights in average.mixtures(2)[0]:
        for p in (0.01, 0.5, 0.99):
            assert all(math.isfinite(x) for x in prompts.at(p, weights))
