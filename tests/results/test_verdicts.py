"""Verdicts on all prompts at once are wrong as rarely as alpha says, and pay for the choice of the worst prompt."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from leakbound.auditing.stopping import StoppingRule, Watch
from leakbound.bounds import average_proportion_bound
from leakbound.results.verdicts import average_verdict, every_verdict

N, RUNS, ALPHA = 6, 300, 0.1
MOST = int(binom.isf(1e-8, RUNS, ALPHA))
"""More wrong verdicts than this have a probability below 1e-8, where each has one of ALPHA at most."""


def watched(rng, rates, limit, budget=300, alpha=ALPHA):
    """An audit, as far as a verdict looks at it, of prompts that leak at these rates."""
    rule = StoppingRule(f"leak<={limit}", None, budget, 0.5, alpha)
    prompts = []
    for rate in rates:
        watch, done = Watch(rule), 0
        for size in rule.sizes():
            leaks = int(rng.binomial(size - done, rate))
            watch.add(np.array([0.0, 1.0]), np.array([size - done - leaks, leaks]))
            done = size
            if watch.ended:
                break
        prompts.append(SimpleNamespace(verdict=watch.verdict, stands=watch.verdict, looks=watch.looks))
    return SimpleNamespace(prompts=prompts)


@pytest.mark.slow
def test_true_of_every_prompt_is_refuted_as_rarely_as_alpha_says():
    rng = np.random.default_rng(0)
    found = [watched(rng, [0.1] * N, 0.1) for _ in range(RUNS)]
    assert sum(every_verdict(audit.prompts, ALPHA) == "refuted" for audit in found) <= MOST
    alone = [audit for audit in found if any(p.verdict == "refuted" for p in audit.prompts)]
    assert sum(every_verdict(audit.prompts, ALPHA) != "refuted" for audit in alone) > 1  # the choice is paid for


def test_false_of_one_prompt_is_proven_as_rarely_as_alpha_says():
    rng = np.random.default_rng(1)
    rates = [0.0] * (N - 1) + [0.1 + 1e-9]
    assert sum(every_verdict(watched(rng, rates, 0.1).prompts, ALPHA) == "proven" for _ in range(RUNS)) <= MOST


def test_one_prompt_that_leaks_refutes_all():
    rng = np.random.default_rng(2)
    assert all(
        every_verdict(watched(rng, [0.0] * (N - 1) + [0.7], 0.1, alpha=0.01).prompts, 0.01) == "refuted"
        for _ in range(20)
    )


def test_the_evidence_is_the_mean_of_all():
    def audit(*against):
        return SimpleNamespace(
            prompts=[SimpleNamespace(stands="refuted", looks=[SimpleNamespace(log_against=x)]) for x in against]
        )

    assert every_verdict(audit(np.log(39.9), *[-np.inf] * 3).prompts, 0.1) == "open"
    assert every_verdict(audit(np.log(40.1), *[-np.inf] * 3).prompts, 0.1) == "refuted"
    assert every_verdict(audit(*[np.log(10.1)] * 4).prompts, 0.1) == "refuted"


@pytest.mark.parametrize("at_least", [False, True])
@pytest.mark.parametrize(("counts", "limit"), [([(3, 90), (0, 90)], 0.1), ([(60, 90), (80, 90)], 0.5)])
def test_an_average_is_settled_by_its_two_bounds(counts, limit, at_least):
    leaks, draws = zip(*counts, strict=True)
    upper = average_proportion_bound(leaks, draws, alpha=0.05).upper
    lower = average_proportion_bound(leaks, draws, alpha=0.05, side="lower").lower
    below, above = upper <= limit, lower > limit
    assert average_verdict(counts, limit, 0.05, at_least=at_least) == (
        ("proven" if above else "refuted", lower) if at_least else ("proven" if below else "refuted", upper)
    )
    assert below != above
    verdict, _ = average_verdict(counts, limit, 0.05, refuting=1e-30, at_least=at_least)
    assert verdict == ("proven" if (above if at_least else below) else "open")
