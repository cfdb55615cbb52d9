"""Constant bets, valid at any stopping time, beside STaR bets for a number of draws that is known beforehand.

First: mean draws until a claim about E[h] is settled (rounds of +15 %), and the least fixed n (to 5 %) at which STaR
bets settle it in nine runs of ten, which nobody knows beforehand. Then: bounds after n draws, relative to STaR's at
alpha: STaR at alpha / 15 and alpha / 31 (as many looks), at the share of look 3 of 31 (look_shares), and constant bets.

Usage: python benchmarks/steady.py [RUNS] (default 200).
"""

import sys

import numpy as np

from leakbound.bounds import (
    Claim,
    MeanEvidence,
    ed_bounds,
    ed_sequence_bound,
    look_shares,
    mean_bounds,
    mean_sequence_bound,
    std_bounds,
    std_sequence_bound,
)

ALPHA = 0.01
LAWS = {
    "0": lambda rng, n: np.zeros(n),
    "Bern(.003)": lambda rng, n: (rng.random(n) < 0.003).astype(float),
    "Bern(.02)": lambda rng, n: (rng.random(n) < 0.02).astype(float),
    "Bern(.1)": lambda rng, n: (rng.random(n) < 0.1).astype(float),
    "Beta(.3,9.7)": lambda rng, n: rng.beta(0.3, 9.7, n),
    "Beta(2,8)": lambda rng, n: rng.beta(2, 8, n),
    ".3 or 1": lambda rng, n: np.where(rng.random(n) < 0.97, 0.3, 1.0),
    "ROUGE-like": lambda rng, n: np.choose(
        rng.choice(3, n, p=(0.6, 0.38, 0.02)), (np.zeros(n), rng.beta(2, 12, n), rng.beta(8, 2, n))
    ),
}
CLAIMS = (
    ("0", 0.05), ("0", 0.01), ("Bern(.003)", 0.01), ("Bern(.02)", 0.05), ("Bern(.1)", 0.05), ("Beta(.3,9.7)", 0.05),
    ("Beta(.3,9.7)", 0.025), ("Beta(2,8)", 0.22), ("Beta(2,8)", 0.15), (".3 or 1", 0.35), ("ROUGE-like", 0.1),
    ("ROUGE-like", 0.05),
)  # fmt: skip


def settled_after(law, limit: float, rng: np.random.Generator) -> tuple[int, str]:
    state, end = MeanEvidence(Claim("mean", limit, ALPHA)), 64
    while True:
        state = state.add(law(rng, end - state.n))
        if (verdict := state.look().verdict) != "open":
            return state.n, verdict
        end = int(np.ceil(end * 1.15))


def fixed_n(law, limit: float, verdict: str, rng: np.random.Generator) -> int:
    side, runs = ("upper" if verdict == "proven" else "lower"), 100

    def enough(n: int) -> bool:
        bounds = mean_bounds([law(rng, n) for _ in range(runs)], alpha=ALPHA, side=side)
        return np.mean([b.upper <= limit if side == "upper" else b.lower > limit for b in bounds]) >= 0.9

    low, high = 0, 16
    while not enough(high):
        low, high = high, 2 * high
    while high - low > max(1, high // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def main(runs: int) -> None:
    print(f"alpha {ALPHA}\n\n| law | claim | verdict | draws, mean of {runs} | wrong | fixed n, hindsight | ratio |")
    print("|---|---|---|---|---|---|---|")
    for i, (name, limit) in enumerate(CLAIMS):
        rng, law = np.random.default_rng(i), LAWS[name]
        found = [settled_after(law, limit, rng) for _ in range(runs)]
        usual = max({v for _, v in found}, key=[v for _, v in found].count)
        n, fixed = np.mean([n for n, _ in found]), fixed_n(law, limit, usual, rng)
        wrong = sum(v != usual for _, v in found)
        print(f"| {name} | E[h] <= {limit} | {usual} | {n:,.0f} | {wrong} | {fixed:,} | {n / fixed:.2f} |", flush=True)
    share = look_shares(31)[2]
    print(f"\n| bound | law | n | STaR | at alpha / 15 | at alpha / 31 | at {share:.3f} alpha | constant bets |")
    print("|---|---|---|---|---|---|---|---|")
    kinds = {
        "E[h]": (mean_bounds, mean_sequence_bound),
        "sd": (std_bounds, std_sequence_bound),
        "E[h] + 2 sd": (ed_bounds, ed_sequence_bound),
    }
    for kind, (many, one) in kinds.items():
        for name in ("0", "Beta(.3,9.7)", "Beta(2,8)", ".3 or 1", "ROUGE-like"):
            for n in (128, 521, 2048):
                rng = np.random.default_rng(n)
                x = [LAWS[name](rng, n) for _ in range(20)]
                star, *others = (
                    np.mean([b.upper for b in many(x, alpha=ALPHA * s)]) for s in (1, 1 / 15, 1 / 31, share)
                )
                steady = np.mean([one(some, alpha=ALPHA).upper for some in x])
                cells = " | ".join(f"{value / star:.2f}" for value in (*others, steady))
                print(f"| {kind} | {name} | {n} | {star:.4f} | {cells} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
