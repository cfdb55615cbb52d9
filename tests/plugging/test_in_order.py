"""Whatever order scores come in, no look sees a law of its own: verdicts are wrong as rarely as alpha says."""

import heapq
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from leakbound import bounds
from leakbound.auditing.stopping import StoppingRule, Watch
from leakbound.errors import InputError
from leakbound.plugging.in_order import InOrder, summary

LIMIT, ALPHA, BUDGET = 0.1, 0.05, 80
RULE = StoppingRule(f"leak<={LIMIT}", None, BUDGET, 0.5, ALPHA)
DELAYS = {
    "in order": lambda leak, number: 0.0,
    "clean ones first": lambda leak, number: 1000.0 * leak,
    "leaks first": lambda leak, number: 1000.0 * (1 - leak),
    "backwards": lambda leak, number: -2.0 * number,
}
"""How long a draw takes that leaks or does not."""


class ByArrival(Watch):
    """The mistake: looks at whatever is there."""

    def put(self, number, score):
        if not self.ended:
            self.seen = [*getattr(self, "seen", []), score]
            if len(self.seen) + self.n in RULE.sizes():
                self.add(np.array(self.seen), np.ones(len(self.seen), dtype=np.int64))
                self.seen = []


def drawn(watch, leaks, delay, beside):
    """Draws of one prompt, some beside each other; a new one begins where one came back and the rule goes on."""
    running, now = [], 0.0
    for number, leak in enumerate(leaks):
        if len(running) == beside:
            now, done = heapq.heappop(running)
            watch.put(done, float(leaks[done]))
        if watch.ended:
            break
        heapq.heappush(running, (now + 1 + delay(leak, number), number))
    while running:  # what has begun is waited for
        _, done = heapq.heappop(running)
        watch.put(done, float(leaks[done]))
    return watch


@pytest.fixture(autouse=True)
def looks_known(monkeypatch):
    """Few leaks and draws are looked at again and again."""
    monkeypatch.setattr(bounds, "leak_look", cache(bounds.leak_look))


@pytest.mark.slow
@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("rate", [LIMIT, LIMIT + 1e-9])
def test_a_verdict_is_wrong_as_rarely_as_alpha_says_in_whatever_order_draws_come_back(delay, rate):
    runs, wrong = 1_250, "refuted" if rate <= LIMIT else "proven"
    rng = np.random.default_rng(1)
    found = [drawn(InOrder(RULE), rng.random(BUDGET) < rate, DELAYS[delay], 40).verdict for _ in range(runs)]
    assert found.count(wrong) <= binom.isf(1e-8, runs, ALPHA)
    assert len(set(found)) > 1  # some verdicts fall


@pytest.mark.slow
def test_looks_at_what_came_back_would_be_wrong():
    rng = np.random.default_rng(2)
    runs = 500
    found = [
        drawn(ByArrival(RULE), rng.random(BUDGET) < 0.15, DELAYS["clean ones first"], 75).verdict for _ in range(runs)
    ]
    right = [
        drawn(InOrder(RULE), rng.random(BUDGET) < 0.15, DELAYS["clean ones first"], 75).verdict for _ in range(runs)
    ]
    assert found.count("proven") > binom.isf(1e-8, runs, ALPHA) >= right.count("proven")


def test_the_verdict_is_that_of_the_draws_in_their_order():
    rng = np.random.default_rng(3)
    for rate in (0.02, 0.1, 0.5):
        leaks = (rng.random(BUDGET) < rate).astype(float)
        plain, buffered = InOrder(RULE), InOrder(RULE)
        for number in range(BUDGET):
            plain.put(number, leaks[number])
        for number in rng.permutation(BUDGET):
            buffered.put(int(number), leaks[number])
        assert plain.looks == buffered.looks
        assert plain.verdict == buffered.verdict


def test_a_score_that_never_comes_leaves_the_prompt_open():
    watch = InOrder(RULE)
    for number in range(BUDGET):
        if number != 3:
            watch.put(number, 0.0)
    assert (watch.verdict, watch.n, watch.ended) == ("open", 0, False)
    watch.put(3, 0.0)
    assert watch.verdict == "proven"


def test_a_number_counts_once():
    watch = InOrder(RULE)
    watch.put(5, 0.0)
    with pytest.raises(InputError, match="number is 5"):
        watch.put(5, 1.0)
    for number in [0, 1, 2, 3, 4, *range(6, 32)]:
        watch.put(number, 0.0)
    assert watch.n == 32
    with pytest.raises(InputError, match="number is 0"):
        watch.put(0, 0.0)


@pytest.mark.parametrize(("ends", "leaks", "said"), [(0, 0, "open"), (1, 0, "proven"), (0, 1, "proven")])
def test_draws_that_were_all_cut_before_they_leaked_prove_nothing(ends, leaks, said):
    """The secret may follow each time; one answer that ended, or leaked before the cut, was seen."""
    one, other = InOrder(RULE), InOrder(RULE)
    for number in range(BUDGET):
        for watch, cut in ((one, number >= ends), (other, False)):
            if not watch.ended:
                watch.put(number, float(number < leaks), cut=cut)
    found = summary(RULE, "contains", {"one": one, "other": other})
    assert [watch.verdict for watch in (one, other)] == ["proven", "proven"]  # by their leaks alone
    assert [found["every"], *(p["verdict"] for p in found["prompts"].values())] == [said, said, "proven"]
