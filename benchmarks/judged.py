"""What the fixed split of alpha costs the bound of a judge that errs: its width against that of the best split.

The best split is chosen for each size and law with hindsight, so nobody could use it. Run: python benchmarks/judged.py
"""

import itertools

import numpy as np

from leakbound.bounds.engines.clopper import clopper_pearson_lower, clopper_pearson_upper
from leakbound.bounds.judged import WEIGHT, leak_upper

ALPHA, GRID = 0.01, 20
SPLITS = np.array([(i, j, GRID - i - j) for i in range(1, GRID) for j in range(1, GRID - i)]) / GRID
FIXED = np.array([WEIGHT, 1, 1]) / (WEIGHT + 2)
DRAWS, LABELS = (100, 300, 1000, 10000), (50, 100, 500, 1000)
LEAKS, SENSITIVITIES, SPECIFICITIES = (0, 0.05, 0.3), (0.8, 0.9, 0.95), (0.9, 0.95, 0.99)


def upper(counts, splits):
    (k, n), (k1, m1), (k0, m0) = counts
    a, b, c = ALPHA * np.atleast_2d(splits).T
    flagged, specificity = clopper_pearson_upper(k, n, a), clopper_pearson_upper(k0, m0, c)
    return leak_upper(flagged, clopper_pearson_lower(k1, m1, b), specificity)


def main():
    for n in DRAWS:
        ratios = []
        for m1, m0, theta, q1, q0 in itertools.product(LABELS, LABELS, LEAKS, SENSITIVITIES, SPECIFICITIES):
            flagged = round((theta * q1 + (1 - theta) * (1 - q0)) * n)
            counts = (flagged, n), (round(q1 * m1), m1), (round(q0 * m0), m0)
            ratios.append(float(upper(counts, FIXED)[0] / upper(counts, SPLITS).min()))
        print(f"{n:6d} draws, {len(ratios)} cases: median ratio {np.median(ratios):.3f}, largest {max(ratios):.3f}")


if __name__ == "__main__":
    main()
