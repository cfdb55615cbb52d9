"""The test of a stated law: its evidence is a supermartingale under every law that it calls honest."""

import math

import numpy as np
import pytest

from leakbound.bounds.attested import CAP, SLACK, AttestedLaw, Copies, most_likely, token_evidence

RNG = np.random.default_rng


def laws(rng, rows, size):
    """Random laws, some of them nearly certain."""
    p = rng.dirichlet(np.full(size, rng.choice([0.05, 0.3, 1.0])), rows) + 1e-5
    return p / p.sum(1, keepdims=True)


def at_distance(rng, p, distance):
    """Laws at a root chi-square distance of at most ``distance`` from each p, most of them at it."""
    step = rng.normal(size=p.shape) * np.sqrt(p)
    step -= p * step.sum(1, keepdims=True)
    step *= distance / np.sqrt((step**2 / np.maximum(p, 1e-300)).sum(1, keepdims=True))
    for _ in range(60):  # back into the simplex
        step *= np.where((p + step).min(1, keepdims=True) < 0, 0.7, 1.0)
    return np.maximum(p + step, 0)


@pytest.mark.parametrize("slack", [0.0, 0.05, SLACK, 0.5])
@pytest.mark.parametrize("size", [2, 3, 7, 40])
def test_the_mean_factor_is_at_most_one_under_every_honest_law(slack, size):
    rng = RNG(size)
    for _ in range(20):
        p, r = laws(rng, 200, size), laws(rng, 200, size)
        r[:50] = np.where(p[:50] > 0.2, p[:50], 0) + 1e-9
        r /= r.sum(1, keepdims=True)
        rows = np.repeat(np.arange(200), size)
        every = np.tile(np.arange(size), 200)
        factors = np.exp(token_evidence(p, r, rows, every, slack=slack)).reshape(200, size)
        for q in (p, at_distance(rng, p, slack), at_distance(rng, p, slack)):
            assert ((q * factors).sum(1) <= 1 + 1e-9).all()


def test_the_worst_honest_law_uses_the_slack_up():
    """The law that leans towards the alternative as far as it may: without the correction the mean would exceed 1."""
    p = np.array([[0.5, 0.3, 0.2]])
    r = np.array([[0.7, 0.25, 0.05]])
    f = r / p
    q = p * (1 + SLACK * (f - 1) / math.sqrt((p * f * f).sum() - 1))
    factors = np.exp(token_evidence(p, r, np.zeros(3, int), np.arange(3)))
    bare = np.exp(token_evidence(p, r, np.zeros(3, int), np.arange(3), slack=0))
    assert (q * factors).sum() <= 1
    assert (q * bare).sum() > 1.02


def test_a_factor_by_hand():
    p, r = np.array([[0.5, 0.5]]), np.array([[0.6, 0.4]])
    gain, spread = 0.04, 0.2  # of f = (1.2, 0.8)
    eta = (gain - 0.1 * spread) / (0.6 * 0.2**2 + 0.4 * 0.2**2)
    want = math.log(1 + eta * 0.2) - eta * 0.1 * spread
    assert token_evidence(p, r, np.array([0]), np.array([0]), slack=0.1)[0] == pytest.approx(want, abs=2e-6)


def test_what_is_nearer_than_the_slack_is_not_bet_on():
    p, r = np.array([[0.5, 0.5]]), np.array([[0.55, 0.45]])
    assert token_evidence(p, r, np.array([0]), np.array([0]), slack=0.2)[0] == pytest.approx(0, abs=2e-6)


def test_a_token_that_the_alternative_excludes_leaves_something():
    p, r = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    assert -5 < token_evidence(p, r, np.array([0]), np.array([1]))[0] < -1


def test_a_token_that_the_stated_law_excludes_is_capped():
    p, r = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    assert token_evidence(p, r, np.array([0]), np.array([1]))[0] <= math.log(2 * CAP)


def simulated(rng, p, q, alternatives, tokens):
    """The evidence after so many tokens from q where p is stated."""
    law = AttestedLaw(tuple(alternatives))
    drawn = rng.choice(len(q), tokens, p=q)
    rows = np.zeros(tokens, int)
    each = {k: token_evidence(p[None], r[None], rows, drawn) for k, r in alternatives.items()}
    for t in range(tokens):
        law.add({k: float(v[t]) for k, v in each.items()})
    return law


@pytest.mark.slow
def test_an_honest_server_is_refuted_at_most_as_often_as_alpha_says():
    """1,000 honest runs, looked at after every token. A miss has probability at most .01, so more than 34 of 1,000
    have probability below 1e-6 (binomial tail 4e-9)."""
    rng = RNG(5)
    p = np.sort(rng.dirichlet(np.full(30, 0.5)))[::-1]
    cut = np.where(np.arange(30) < 15, p, 0)
    alternatives = {"top_k 15": cut / cut.sum(), "hotter": p**0.9 / (p**0.9).sum(), "colder": p**1.1 / (p**1.1).sum()}
    q = at_distance(rng, p[None], SLACK)[0]
    q /= q.sum()
    for law in (p, q):
        assert sum(simulated(rng, p, law, alternatives, 200).refuted(0.01) for _ in range(500)) <= 17


@pytest.mark.parametrize("fault", ["top_k 15", "hotter"])
def test_a_fault_is_found_and_named(fault):
    rng = RNG(6)
    p = np.sort(rng.dirichlet(np.full(30, 2.0)))[::-1]
    cut = np.where(np.arange(30) < 15, p, 0)
    alternatives = {"top_k 15": cut / cut.sum(), "hotter": p**0.5 / (p**0.5).sum(), "colder": p**2 / (p**2).sum()}
    found = simulated(rng, p, alternatives[fault], alternatives, 3000)
    assert found.refuted(0.01)
    assert found.nearest == fault


def test_copies_have_a_mean_factor_of_at_most_one():
    """Two answers of probability u: the j-th answer after any past, over what it may be."""
    for share in (0.1, 0.25, 0.9):
        for past in ([0], [0, 0], [0, 1], [0, 1, 1, 0, 0]):
            total = 0.0
            for answer, q in ((0, 0.4), (1, 0.6)):
                copies = Copies(share)
                for before in past:
                    copies.add("p", (before,), math.log(0.4 if before == 0 else 0.6))
                total += q * math.exp(copies.add("p", (answer,), math.log(q)))
            assert total <= 1 + 1e-12


def test_copies_of_long_answers_are_found_at_once_and_honest_ones_cost_little():
    copies = Copies()
    for i in range(8):
        copies.add("p", (i, 1, 2, 3), -40.0)
    assert copies.log_evidence == pytest.approx(7 * math.log(0.75))
    copies.add("p", (3, 1, 2, 3), -40.0)
    assert copies.log_evidence > 30
    other = Copies()
    for name in "pq":
        other.add(name, (1,), -40.0)
    assert other.log_evidence == 0  # the same answer to two prompts is no copy


def test_no_honest_law_gives_an_answer_more_often_than_most_likely_says():
    rng = RNG(7)
    p = laws(rng, 300, 6)
    q = at_distance(rng, p, 0.3)
    for t in range(6):
        assert (q[:, t] <= np.exp([most_likely(np.log(p[i : i + 1, t]), slack=0.3) for i in range(300)]) + 1e-12).all()


def test_the_largest_evidence_stays_and_the_mean_counts():
    law = AttestedLaw(("a", "b"))
    law.add({"a": 7.0})
    law.add({"a": -9.0})
    assert law.log_most == pytest.approx(math.log((math.exp(7) + 1) / 2))
    assert law.refuted(0.01)
    assert not AttestedLaw(("a", "b")).refuted(0.01)
    assert law.nearest == "b"


def test_an_alternative_that_lost_or_never_bets_gives_up():
    law = AttestedLaw(("lost", "idle", "open"))
    law.add({"lost": -11.0, "open": 0.5})
    assert not law.given_up
    law.add({"lost": -2.0})
    assert law.given_up == {"lost"}
    for _ in range(62):
        law.add({"idle": -1e-6})
    assert law.given_up == {"lost", "idle"}


def test_a_fault_is_settled_when_it_leads():
    law = AttestedLaw(("a", "b"))
    assert not law.settled
    law.add({"a": 2.9})
    assert not law.settled
    law.add({"a": 0.2})
    assert law.settled
