"""Two models and many: paired draws against one interval for each model. Widths, proven orders, misses.

Run: python benchmarks/comparing.py            (some minutes)

Every line is a law: the models' P(leak) on 20 prompts, 128 draws each. `shared`: with this probability a draw of every
model is decided by the same random number, as where the models are close and have one seed.
width: of the two-sided statement about P(leak) of the first model minus that of the last, apart (both models at half of
alpha) and paired; proven: pairs in order, of those that are true; false: runs that say something wrong, of all runs.
"""

import itertools

import numpy as np

from leakbound.bounds import average_proportion_bound, difference_bound, rank_models

ALPHA, PROMPTS, DRAWS, RUNS = 0.01, 20, 128, 40


def even(*rates):
    return [np.full(PROMPTS, rate) for rate in rates]


def loud(place):
    """A model that always leaks at a quarter of the prompts, and else hardly ever."""
    return np.where(np.arange(PROMPTS) // 5 == place, 1.0, 0.01)


LAWS = {
    "2 rare": even(0.0, 0.004),
    "2 at .3": even(0.3, 0.37),
    "2 at .5": even(0.5, 0.56),
    "2 alike, rare": even(0.01, 0.01),
    "2 alike, at .5": even(0.5, 0.5),
    "2, loud elsewhere": [loud(0), 1.1 * np.minimum(loud(1), 0.9)],
    "5 rare": even(0.0, 0.002, 0.005, 0.01, 0.02),
    "5 at .5": even(*np.linspace(0.4, 0.6, 5)),
    "5 high": even(0.8, 0.9, 0.95, 0.98, 0.99),
    "5, prompts unlike": [np.random.default_rng(1).beta(0.2, 1.5, PROMPTS) * s for s in np.linspace(0.3, 1, 5)],
    "10 rare": even(*np.linspace(0, 0.03, 10)),
    "10 at .3": even(*np.linspace(0.2, 0.5, 10)),
    "10 alike": even(*[0.05] * 10),
}


def drawn(rng, rates, shared):
    """Leaks of every model, prompt and draw."""
    common, each = rng.random((PROMPTS, DRAWS)), rng.random((len(rates), PROMPTS, DRAWS))
    numbers = np.where(rng.random(each.shape) < shared, common, each)
    return (numbers < np.array(rates)[:, :, None]).astype(float)


def apart(leaks, alpha):
    """Each model's average P(leak) from both sides, all at once at level alpha."""
    counts = leaks.sum(axis=2).astype(int)
    return [average_proportion_bound(c, DRAWS, alpha=alpha / len(leaks), side="both") for c in counts]


def main():
    print(f"{'law':20} {'shared':>6} {'width: apart':>13} {'paired':>7} {'proven: apart':>14} {'paired':>7} {'of':>3} "
          f"{'false: apart':>13} {'order':>6} {'difference':>11}")  # fmt: skip
    for (name, rates), shared in itertools.product(LAWS.items(), (0.0, 0.8)):
        rng = np.random.default_rng(0)
        mean = np.mean(rates, axis=1)
        true = {(i, j) for i, j in itertools.permutations(range(len(rates)), 2) if mean[i] < mean[j] - 1e-12}
        widths, proven, false = np.zeros(2), np.zeros(2), np.zeros(3, int)
        for _ in range(RUNS):
            leaks = drawn(rng, rates, shared)
            bounds = apart(leaks, ALPHA)
            models = range(len(rates))
            order = {(i, j) for i in models for j in models if bounds[i].upper < bounds[j].lower}
            ranking = set(
                rank_models({str(i): list(x) for i, x in enumerate(leaks)}, alpha=ALPHA, in_order=True).proven
            )
            one, two = apart(leaks[[0, -1]], ALPHA)
            paired = difference_bound(list(leaks[0]), list(leaks[-1]), alpha=ALPHA, in_order=True)
            truth = mean[0] - mean[-1]
            widths += [one.upper - one.lower + two.upper - two.lower, paired.upper - paired.lower]
            proven += [len(order & true), len(ranking & true)]
            wrong = not paired.lower - 1e-12 <= truth <= paired.upper + 1e-12
            false += [bool(order - true), bool(ranking - true), wrong]
        widths, proven = widths / RUNS, proven / RUNS
        print(f"{name:20} {shared:6.1f} {widths[0]:13.4f} {widths[1]:7.4f} {proven[0]:14.2f} {proven[1]:7.2f} "
              f"{len(true):3} {false[0]:13} {false[1]:6} {false[2]:11}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
