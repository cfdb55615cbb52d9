"""Bounds side by side with conbo 0.1.1, the package of arXiv 2410.03523, on the same draws.

    python benchmarks/bounds.py

Prints, at alpha = 0.01: how far each bound lies above the truth (median over repetitions) and the ratio conbo /
leakbound; the draws needed to prove E[h] <= 0.05 at 90 % power; and the time for 1,000 prompts of 1,024 draws. conbo is
called as its docstrings ask when one side is wanted: alpha = 0.02 for the mean and the survival function, alpha = 0.01
for the sd.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
import warnings

import conbo
import numpy as np

from leakbound.bounds import (
    average_mean_bound,
    ed_bounds,
    mean_bounds,
    proportion_bound,
    std_bounds,
    survival_bound,
)
from leakbound.bounds.engines.betting import CUSHION, play
from leakbound.bounds.engines.games import mean_game

ALPHA = 0.01


def mixture(*parts):
    """A law from (weight, draw) parts, draw(rng, size)."""
    weights = [w for w, _ in parts]

    def draw(rng, size):
        pick, out = rng.choice(len(parts), size=size, p=weights), np.zeros(size)
        for i, (_, part) in enumerate(parts):
            out[pick == i] = part(rng, np.count_nonzero(pick == i))
        return out

    return draw


def atom(v):
    return lambda rng, size: np.full(size, v)


def beta(a, b):
    return lambda rng, size: rng.beta(a, b, size)


def bernoulli(p):
    return mixture((1 - p, atom(0.0)), (p, atom(1.0)))


# name: (draw, mean, sd, goal for the mean, goal for the sd); moments to 4 digits from the design page or by hand
ROUGE_LOW = mixture((0.6, atom(0.0)), (0.38, beta(2, 12)), (0.02, beta(8, 2)))
ROUGE_MID = mixture((0.05, atom(0.0)), (0.05, atom(1.0)), (0.1, beta(12, 3)), (0.8, beta(4, 6)))
JUDGE = mixture((0.85, atom(0.0)), (0.08, atom(0.25)), (0.04, atom(0.5)), (0.02, atom(0.75)), (0.01, atom(1.0)))


def beta_moments(a, b):
    return a / (a + b), math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))


def moments(*parts):
    """Mean and sd of a mixture of (weight, mean, sd)."""
    mean = sum(w * m for w, m, _ in parts)
    return mean, math.sqrt(sum(w * (s * s + m * m) for w, m, s in parts) - mean**2)


LAWS = {
    "Bern(.1)": (bernoulli(0.1), (0.1, 0.3), None, None),
    "Beta(.5,5)": (beta(0.5, 5), beta_moments(0.5, 5), 4, 4),
    "Beta(2,8)": (beta(2, 8), beta_moments(2, 8), None, 4),
    "ROUGE-low": (ROUGE_LOW, moments((0.6, 0, 0), (0.38, *beta_moments(2, 12)), (0.02, *beta_moments(8, 2))), 4, 4),
    "ROUGE-mid": (
        ROUGE_MID,
        moments((0.05, 0, 0), (0.05, 1, 0), (0.1, *beta_moments(12, 3)), (0.8, *beta_moments(4, 6))),
        None,
        4,
    ),
    "Judge5": (JUDGE, moments((0.85, 0, 0), (0.08, 0.25, 0), (0.04, 0.5, 0), (0.02, 0.75, 0), (0.01, 1, 0)), None, 4),
    "Bern(.01)": (bernoulli(0.01), (0.01, math.sqrt(0.0099)), None, None),
    "zero": (atom(0.0), (0.0, 0.0), None, None),
    "Bern(.5)": (bernoulli(0.5), (0.5, 0.5), None, None),
}


def verdict(ratio, goal):
    return "" if goal is None else f"  goal {goal}x {'met' if ratio >= goal else 'MISSED'}"


def conbo_std(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return conbo.std_bounds(x, alpha=ALPHA)[2]


def widths(quick):
    for n, runs in ((128, 1000), (1024, 1000), (8192, 24 if quick else 100)):
        print(f"\nMean and sd, n = {n}, median (bound - truth) over {runs} repetitions")
        print(f"{'scores':11} {'conbo mean':>10} {'ours':>8} {'ratio':>6}   {'conbo sd':>9} {'ours':>8} {'ratio':>6}")
        for name, (draw, (mean, sd), mean_goal, sd_goal) in LAWS.items():
            x = draw(np.random.default_rng(0), (runs, n))
            old = np.atleast_1d(conbo.expectation_bounds(x, alpha=2 * ALPHA)[2])
            new = np.array([b.upper for b in mean_bounds(x, alpha=ALPHA)])
            old_sd = np.atleast_1d(conbo_std(x))
            new_sd = np.array([b.upper for b in std_bounds(x, alpha=ALPHA)])
            gaps = [np.median(b) - truth for b, truth in ((old, mean), (new, mean), (old_sd, sd), (new_sd, sd))]
            ratio = gaps[0] / gaps[1]
            line = f"{name:11} {gaps[0]:10.4f} {gaps[1]:8.4f} {ratio:5.1f}x   {gaps[2]:9.4f} {gaps[3]:8.4f} "
            missed, missed_new = np.mean(old_sd < sd - 1e-9), np.mean(new_sd < sd - 1e-9)
            if missed > 5 * ALPHA:
                line += f"     -   conbo's sd bound misses in {missed:.0%} of the repetitions"
            else:
                line += f"{gaps[2] / max(gaps[3], 1e-9):5.1f}x" if gaps[3] > 1e-6 else "     -   ours is exact"
            if n == 1024:
                line += verdict(ratio, mean_goal) + ("" if missed > 5 * ALPHA else verdict(gaps[2] / gaps[3], sd_goal))
            if missed_new > 5 * ALPHA:
                line += f"  OURS MISSES {missed_new:.0%}"
            print(line)


def survival(quick):
    print("\nSurvival band, uniform scores, median (upper - S) at S")
    print(f"{'n':>6} {'S':>6} {'conbo':>8} {'ours':>8} {'ratio':>6}")
    for n in (128, 1024, 8192):
        shares = np.array([0.5, 0.1, 0.01, 0.0])
        runs, x = (40, 1 - shares)
        draws = np.random.default_rng(1).random((runs, n))
        old = np.median([conbo.survival_bounds(d, x, alpha=2 * ALPHA)[2] for d in draws], axis=0) - shares
        new = np.array([[band.upper[-1] if t == 1 else band.upper_at(t) for t in x] for band in bands(draws)])
        new = np.median(new, axis=0) - shares
        for share, a, b in zip(shares, old, new, strict=True):
            goal = 2.5 if (n, share) == (1024, 0.01) else None
            print(f"{n:6} {share or 'top':>6} {a:8.4f} {b:8.4f} {a / b:5.1f}x{verdict(a / b, goal)}")


def bands(draws):
    return [survival_bound(d, alpha=ALPHA) for d in draws]


def draws_to_certify(quick):
    limit, runs = 0.05, 60
    print(f"\nDraws that prove E[h] <= {limit} with probability 0.9 ({runs} repetitions per n, n to within 4 %)")
    print(
        f"{'scores':15} {'mean':>6} {'conbo':>7} {'Anderson':>9} {'ours':>6} {'conbo/ours':>11} {'Anderson/ours':>14}"
    )
    claims = {
        "Beta(.05,4.95)": (beta(0.05, 4.95), 0.01, 11),
        "Beta(.1,4.9)": (beta(0.1, 4.9), 0.02, 11),
        "Beta(.3,9.7)": (beta(0.3, 9.7), 0.03, 11),
        "Bern(.02)": (bernoulli(0.02), 0.02, None),
        ".3 ROUGE-low": (lambda rng, size: 0.3 * ROUGE_LOW(rng, size), 0.0211, 11),
    }

    def needed(proves):
        low, high = 0, 64
        while not proves(high):
            low, high = high, 2 * high
        while high - low > high / 25:
            middle = (low + high) // 2
            low, high = (low, middle) if proves(middle) else (middle, high)
        return high

    for name, (draw, mean, goal) in claims.items():

        def conbo_proves(n, draw=draw):
            x = draw(np.random.default_rng(n), (runs, n))
            return np.mean(conbo.expectation_bounds(x, alpha=2 * ALPHA)[2] <= limit) >= 0.9

        def ours_proves(n, draw=draw):
            x = draw(np.random.default_rng(n), (n, runs))
            wealth = play(mean_game(x), np.full(runs, limit), np.arange(runs), ALPHA)
            return np.mean(wealth >= math.log(1 / ALPHA) + CUSHION) >= 0.9

        def anderson_proves(n, draw=draw):
            x = draw(np.random.default_rng(n), (runs, n))
            return np.mean([b.upper <= limit for b in mean_bounds(x, alpha=ALPHA, method="anderson")]) >= 0.9

        a, exact, b = needed(conbo_proves), needed(anderson_proves), needed(ours_proves)
        print(f"{name:15} {mean:6.3f} {a:7} {exact:9} {b:6} {a / b:10.1f}x {exact / b:13.1f}x{verdict(a / b, goal)}")


def speed(quick):
    prompts, n = 1000, 1024
    rng = np.random.default_rng(2)
    scores = [ROUGE_LOW(rng, n) for _ in range(prompts)]
    print(f"\nSeconds for {prompts} prompts of {n} draws (ROUGE-low, nearly all scores distinct), one process")

    def clock(name, task, goal):
        start = time.perf_counter()
        task()
        spent = time.perf_counter() - start
        print(f"{name:58} {spent:7.2f}  goal {goal} s {'met' if spent < goal else 'MISSED'}")
        return spent

    both = clock("mean_bounds + std_bounds, defaults", lambda: default_pair(scores), 20)
    stacked = np.array(scores)
    start = time.perf_counter()
    conbo.expectation_bounds(stacked, alpha=2 * ALPHA)
    conbo_std(stacked)
    spent = time.perf_counter() - start
    print(f"{'  conbo, expectation_bounds + std_bounds':58} {spent:7.2f}  ratio conbo / ours {spent / both:.2f}x")
    clock("proportion_bound", lambda: [proportion_bound(3, n, alpha=ALPHA) for _ in scores], 5)
    clock("survival_bound, hybrid, all thresholds", lambda: bands(scores), 5)
    for method in ("anderson", "anderson-hybrid", "portfolio", "hoeffding-bentkus", "maurer-pontil", "paper"):
        clock(f"mean_bounds, {method}", lambda m=method: mean_bounds(scores, alpha=ALPHA, method=m), 5)
    for method in ("dkw", "maurer-pontil", "paper"):
        clock(f"std_bounds, {method}", lambda m=method: std_bounds(scores, alpha=ALPHA, method=m), 5)
    clock("average_mean_bound over all prompts", lambda: average_mean_bound(scores, alpha=ALPHA), 5)
    clock("ed_bounds", lambda: ed_bounds(scores, alpha=ALPHA), 20)


def default_pair(scores):
    mean_bounds(scores, alpha=ALPHA)
    std_bounds(scores, alpha=ALPHA)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="more repetitions at n = 8192")
    quick = not parser.parse_args().long
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, conbo {conbo.__version__}, {os.cpu_count()} CPUs"
    )
    start = time.perf_counter()
    for part in (widths, survival, draws_to_certify, speed):
        part(quick)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
