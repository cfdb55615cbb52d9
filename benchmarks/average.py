"""The average prompt: product of e-processes against what was printed before, against pooling, and its misses.

Run: python benchmarks/average.py            (some minutes)
"""

import functools
import itertools
import time

import numpy as np

from leakbound.auditing.stopping import StoppingRule
from leakbound.bounds import (
    Evidence,
    average_proportion_bound,
    leak_look,
    leak_sequence_bound,
    product_average_bound,
    simultaneous_alpha,
)
from leakbound.bounds.average import PORTFOLIO, pooled_upper, stratified_upper
from leakbound.bounds.certificates import without_replacement_bound
from leakbound.bounds.engines.product import product_upper
from leakbound.bounds.gate import check_scores

ALPHA = 0.01
RULE = StoppingRule("leak<=0.01", None, 20_000, 0.5, ALPHA)


def leaks(k, n):
    return Evidence.independent([0.0, 1.0], [n - k, k])


@functools.cache
def sizes_of(rule):
    return rule.sizes()


def stopped(rng, p, rule=RULE):
    """Leaks and draws of a prompt that is drawn until the claim of ``rule`` is proven or refuted."""
    k = n = 0
    for size in sizes_of(rule):
        k, n = k + int(rng.binomial(size - n, p)), size
        if leak_look(k, n, rule.claim).verdict != "open":
            break
    return k, n


def unlike(prompts, share, p):
    return np.where(np.arange(prompts) < round(share * prompts), p, 0.0)


def stopped_prompts():
    print("stopped prompts (until leak<=0.01): joint bounds averaged, product, goal; medians of 5 runs")
    laws = {
        "100 clean": (np.zeros(100), 0.00011),
        "100 at .0005": (np.full(100, 0.0005), 0.00133),
        "400 at .001": (np.full(400, 0.001), 0.00164),
        "90 clean, 10 at .3": (unlike(100, 0.1, 0.3), 0.0408),
        "90 clean, 10 at 1": (unlike(100, 0.1, 1.0), None),
        "100 at .01": (np.full(100, 0.01), None),
        "100 at .1": (np.full(100, 0.1), None),
        "100 spread over (0, 1)": ((np.arange(100) + 0.5) / 100, None),
        "10 clean": (np.zeros(10), None),
        "10 at .05": (np.full(10, 0.05), None),
    }
    for name, (theta, goal) in laws.items():
        rows = []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            counts = [stopped(rng, p) for p in theta]
            joint = simultaneous_alpha(ALPHA, theta.size)
            before = np.mean([leak_sequence_bound(k, n, alpha=joint).upper for k, n in counts])
            rows.append((before, product_upper([leaks(k, n) for k, n in counts], ALPHA)))
        before, product = np.median(rows, axis=0)
        print(f"{name:24s} truth {theta.mean():.5f}  {before:.5f} -> {product:.6f}  goal {goal or '-'}")


def without_replacement():
    population = np.arange(1, 20_001) ** -1.5
    population /= population.sum()
    rng, evidence = np.random.default_rng(0), []
    for _ in range(100):
        order = np.argsort(-np.log(population) - rng.gumbel(size=population.size))[:256]
        evidence.append(Evidence.without_replacement(population[order], np.zeros(256)))
    joint = simultaneous_alpha(ALPHA, 100)
    before = np.mean([without_replacement_bound(e.masses, e.scores, alpha=joint).upper for e in evidence])
    seen = np.mean([e.masses.sum() for e in evidence])
    product = product_average_bound(evidence, alpha=ALPHA).upper
    print(f"100 x 256 distinct, no leak, seen mass {seen:.3f}: {before:.2e} -> {product:.2e}  goal 2.0e-05")


LAWS = {
    "clean": lambda n: np.zeros(n),
    ".0005": lambda n: np.full(n, 0.0005),
    "10% at .3": lambda n: unlike(n, 0.1, 0.3),
    "10% at 1": lambda n: unlike(n, 0.1, 1.0),
    "spread": lambda n: (np.arange(n) + 0.5) / n,
}


def fixed_sizes():
    print("independent draws, equal n: product / pooled Clopper-Pearson, both at alpha; medians of 3 runs")
    print(f"{'N x n':>12s}", *(f"{name:>10s}" for name in LAWS))
    for prompts, n in itertools.product((10, 100, 400), (16, 64, 256, 1024)):
        ratios = []
        for law in LAWS.values():
            found, rng = [], np.random.default_rng(0)
            for _ in range(3):
                k = rng.binomial(n, law(prompts))
                product = product_upper([leaks(int(x), n) for x in k], ALPHA)
                found.append(product / pooled_upper(int(k.sum()), prompts * n, ALPHA))
            ratios.append(np.median(found))
        print(f"{prompts:>5d} x {n:<4d}", *(f"{r:10.2f}" for r in ratios))


def unequal_sizes():
    print("independent draws, unequal n fixed beforehand: portfolio at alpha, then the bound now over it")
    for prompts, (name, draws) in itertools.product(
        (10, 100), {"1000 | 1024": (1000, 1024), "64 | 256": (64, 256), "16 | 1024": (16, 1024)}.items()
    ):
        sizes, ratios = np.where(np.arange(prompts) % 2, *draws), []
        for law in LAWS.values():
            rng = np.random.default_rng(0)
            k = rng.binomial(sizes, rng.permutation(law(prompts)))
            strata = [check_scores([0.0, 1.0], [m - x, x]) for x, m in zip(k, sizes, strict=True)]
            before = stratified_upper(strata, ALPHA)
            ratios.append(average_proportion_bound(k, sizes, alpha=ALPHA).upper / before)
        print(f"{prompts:>5d} of {name:12s}", *(f"{law} {r:.2f}" for law, r in zip(LAWS, ratios, strict=True)))


def graded():
    print(f"graded scores, equal n: excess over the mean of the smaller of both (portfolio {PORTFOLIO:g} alpha), over")
    print("that of the portfolio at alpha")
    laws = {
        "all 0": lambda rng, share, n: np.zeros(n),
        "Beta(.3, 5)": lambda rng, share, n: rng.beta(0.3, 5, n),
        "Beta(4, 6)": lambda rng, share, n: rng.beta(4, 6, n),
        "10% Beta(4, 6), else 0": lambda rng, share, n: rng.beta(4, 6, n) * (share < 0.1),
        "narrow, spread over (0, 1)": lambda rng, share, n: rng.beta(100 * share + 0.1, 100 * (1 - share) + 0.1, n),
    }
    for prompts, n in itertools.product((10, 100), (16, 64, 256, 1024)):
        ratios = []
        for law in laws.values():
            rng = np.random.default_rng(0)
            strata = [check_scores(law(rng, (i + 0.5) / prompts, n)) for i in range(prompts)]
            mean = np.mean([v @ w / n for v, w in strata])
            before = stratified_upper(strata, ALPHA)
            product = product_upper([Evidence.independent(v, w) for v, w in strata], (1 - PORTFOLIO) * ALPHA)
            ratios.append((min(product, stratified_upper(strata, PORTFOLIO * ALPHA)) - mean) / (before - mean))
        print(f"{prompts:>5d} x {n:<4d}", *(f"{law} {r:.2f};" for law, r in zip(laws, ratios, strict=True)))


def misses(runs=300, alpha=0.05):
    print(f"misses of the product at alpha {alpha}, {runs} runs each")
    rule = StoppingRule("leak<=0.05", None, 1000, 0.5, alpha)
    for name, theta in {
        "20 at .05": np.full(20, 0.05),
        "10 clean, 10 at .3": unlike(20, 0.5, 0.3),
        "20 spread": (np.arange(20) + 0.5) / 20,
    }.items():
        rng, missed = np.random.default_rng(0), 0
        for _ in range(runs):
            evidence = [leaks(*stopped(rng, p, rule)) for p in theta]
            missed += product_upper(evidence, alpha) < theta.mean()
        print(f"{name:24s} {missed}")


def speed():
    rng = np.random.default_rng(0)
    evidence = [Evidence.independent(rng.beta(0.3, 5, 1000)) for _ in range(400)]
    start = time.perf_counter()
    product_upper(evidence, ALPHA)
    print(f"400 prompts x 1,000 distinct scores: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    for part in (stopped_prompts, without_replacement, fixed_sizes, unequal_sizes, graded, misses, speed):
        part()
        print()
