"""Bounds for numbers that you have already: no model, no files."""

import numpy as np

from leakbound import ed_score, mean_bound, proportion_bound, std_bound, survival_bound

print(proportion_bound(5, 1024, alpha=0.01))  # 5 leaks in 1,024 samples

scores = np.array([0.0, 0.1, 0.25, 0.5, 1.0])  # ROUGE-L recall of the distinct completions
counts = np.array([900, 80, 30, 10, 4])  # and how often each was drawn
print(mean_bound(scores, counts=counts, alpha=0.01))
print(std_bound(scores, counts=counts, alpha=0.01))
print(survival_bound(scores, counts=counts, alpha=0.01, thresholds=[0.25, 0.5, 0.9]))
print(f"ED score (no guarantee): {ed_score(scores, counts=counts):.4f}")
