"""Draws that --width needs, against the fixed-n plan of somebody who knew P(leak), and against two other ways.

Simulated prompts: draws are Bernoulli(p). The fixed-n plan is plan_width(width, true_rate=p). "Bets": look after every
15 % more draws and stop when the mixture of bets, valid at any stopping time, is as narrow. "Pilot": as many draws as
are narrow without a leak, then, without them, a fixed-n plan for the rate (k + 1/2) / (n + 1) of the pilot; that n need
not reach the width.

Usage: python benchmarks/width.py [RUNS] (default 400).
"""

import sys
import time
from collections.abc import Callable
from functools import cache

import numpy as np

from leakbound.bounds import leak_sequence_bound, plan_groups, plan_width, proportion_bound

ALPHA, BUDGET = 0.01, 1_000_000
CASES = ((0.02, 0.0), (0.02, 0.003), (0.02, 0.01), (0.02, 0.1), (0.02, 0.3), (0.02, 0.9), (0.05, 0.01), (0.05, 0.5))


def main(runs: int) -> None:
    print(f"alpha {ALPHA}, {runs} simulated prompts a row; mean draws\n")
    print(
        "| width | P(leak) | fixed n, hindsight | planned looks | ratio | missed "
        "| bets | ratio | pilot | ratio | reached |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for width, p in CASES:
        start = time.perf_counter()
        plan = plan_groups(width, alpha=ALPHA, budget=BUDGET)
        planning = time.perf_counter() - start
        rng = np.random.default_rng(round(1e6 * width + 1e4 * p))
        fixed = plan_width(width, alpha=ALPHA, true_rate=p).n
        drawn, missed = [], 0
        for _ in range(runs):
            k, n = draw_until(plan.ends, plan.sizes, p, rng)
            assert plan.reached(k, n)
            lower, upper = plan.limits(k, n, ALPHA / 2)
            missed += not lower <= p <= upper
            drawn.append(n)
        sizes = [64]
        while sizes[-1] < BUDGET:
            sizes.append(int(np.ceil(sizes[-1] * 1.15)))
        bets = [draw_until(narrow_by_bets(width), sizes, p, rng)[1] for _ in range(runs)]
        piloted = [with_pilot(width, p, rng) for _ in range(runs)]
        pilot = np.mean([n for n, _ in piloted])
        print(
            f"| {width} | {p} | {fixed:,} | {np.mean(drawn):,.0f} | {np.mean(drawn) / fixed:.2f} | {missed} "
            f"| {np.mean(bets):,.0f} | {np.mean(bets) / fixed:.2f} "
            f"| {pilot:,.0f} | {pilot / fixed:.2f} | {np.mean([reached for _, reached in piloted]):.0%} |",
            flush=True,
        )
        if planning > 0.1:
            print(f"width {width}: {len(plan.sizes)} looks planned in {planning:.1f} s", file=sys.stderr)


def draw_until(ends: Callable[[int, int], bool], sizes, p: float, rng: np.random.Generator) -> tuple[int, int]:
    """Leaks and draws where the first look ended the drawing."""
    k = n = 0
    for size in sizes:
        k, n = k + int(rng.binomial(size - n, p)), size
        if ends(k, n):
            break
    return k, n


@cache
def first_of(width: float) -> int:
    return plan_width(width, alpha=ALPHA, true_rate=0.0).n


@cache
def planned_for(width: float, k: int, n: int) -> int:
    return plan_width(width, alpha=ALPHA, true_rate=(k + 0.5) / (n + 1)).n


def with_pilot(width: float, p: float, rng: np.random.Generator) -> tuple[int, bool]:
    """Draws in all, and whether the interval of those after the pilot is as narrow."""
    pilot = first_of(width)
    n = planned_for(width, int(rng.binomial(pilot, p)), pilot)
    bound = proportion_bound(int(rng.binomial(n, p)), n, alpha=ALPHA, side="both")
    return pilot + n, bound.upper - bound.lower <= width


def narrow_by_bets(width: float) -> Callable[[int, int], bool]:
    def narrow(k: int, n: int) -> bool:
        bound = leak_sequence_bound(k, n, alpha=ALPHA, side="both")
        return bound.upper - bound.lower <= width

    return narrow


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
