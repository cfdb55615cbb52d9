"""Classical bounds on a mean, for reference: Hoeffding-Bentkus and Maurer-Pontil."""

import math
from fractions import Fraction

import numpy as np

from leakbound.bounds.engines.binomial import deviance, exact_excess
from leakbound.bounds.engines.clopper import clopper_pearson
from leakbound.bounds.engines.search import least
from leakbound.bounds.gate import Floats, Ints


def log_hoeffding(total: float, n: int, m: float) -> float:
    """-n kl(total / n, m) for total <= n m: ln of Hoeffding's limit of P(a sum of n draws of mean >= m is <= total)."""
    x, size, share = np.array([total, n - total]), np.full(2, float(n)), np.array([m, 1 - m])
    excess = exact_excess(x[:1], size[:1], share[:1])
    return -float(deviance(x, np.concatenate([excess, -excess]), size * share).sum())


def hoeffding_bentkus_upper(values: Floats, weights: Ints, alpha: float) -> float:
    """The root m of min(exp(-n kl(xbar, m)), e P(Bin(n, m) <= ceil(n xbar))) = alpha, from above.

    Both terms are p-values for E >= m that depend on the draws through their sum alone and rise with it, so the smaller
    one is a p-value too. Hoeffding 1963; Bentkus 2004; Bates et al. 2021.
    """
    n = int(weights.sum())
    total = math.fsum(values * weights)
    whole = math.ceil(total)
    if abs(total - round(total)) < 1e-6:  # a rounded sum may have crossed a whole number: count exactly
        whole = math.ceil(sum(Fraction(v) * w for v, w in zip(values.tolist(), weights.tolist(), strict=True)))
    total = min(total * (1 + 1e-13), float(n))
    mean, wanted = total / n, math.log(alpha) - 1e-9
    high = least(lambda m: log_hoeffding(total, n, m) <= wanted, mean, 1.0)
    # both p-values fall in m, so the smaller one reaches alpha where the first of them does
    return min(high, clopper_pearson(whole, n, alpha / math.e * (1 - 1e-9), "upper"))


def maurer_pontil_upper(values: Floats, weights: Ints, alpha: float) -> float:
    """xbar + sqrt(2 V ln(2/alpha) / n) + 7 ln(2/alpha) / (3 (n - 1)), V with divisor n - 1. Maurer and Pontil 2009."""
    n = int(weights.sum())
    if n < 2:
        return 1.0
    mean = math.fsum(values * weights) / n
    variance = float(np.sum((values - mean) ** 2 * weights)) / (n - 1)
    log_term = math.log(2 / alpha)
    return min(1.0, mean + math.sqrt(2 * variance * log_term / n) + 7 * log_term / (3 * (n - 1)) + 1e-14)
