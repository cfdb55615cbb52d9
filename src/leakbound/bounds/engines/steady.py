"""Constant bets: limits of E[h], sd(h) and mean + kappa sd that hold for all n at once, without any planned number.

Let Y_1, Y_2, ... have conditional means >= theta given the past and Y_t <= top_t with top_t known before draw t. For a
candidate s <= theta and a bet c in (0, 1), the wealth prod_t (1 + c (s - Y_t) / (top_t - s)) is a nonnegative
supermartingale, and so is a weighted mean over bets; the probability that it ever reaches 1/alpha is at most alpha
(Ville). It rises with s, so the s at which it is 1/alpha bounds theta, at whatever n one looks and for whatever reason
one stopped. The bets need no number of draws; for E[h] not even their order. Proof in docs/methods.md.

With the n of its last draw known beforehand, STaR betting (betting.py) is 1.0 to 1.6 times narrower.
"""

import math

import numpy as np

from leakbound.bounds.engines.games import OUTWARD, squares_about_past
from leakbound.bounds.engines.portfolio import least_rejected, squares_upper
from leakbound.bounds.gate import Floats, Ints, Side, check_scores

BETS: Floats = 0.999 * 1.6 ** -np.arange(18.0)
"""Bets as shares of the largest that is allowed, down to 1/3000: what suits some 10^6 draws of a coin."""

UPPER: Floats = np.array([0.25, *(0.75 * 0.8 ** np.arange(17.0) / np.sum(0.8 ** np.arange(17.0)))])
"""Weights of the bets for an upper limit: a quarter on the largest, which is best where nothing leaked."""

LOWER: Floats = np.full(18, 1 / 18)
"""Weights for a lower limit."""

FED_ONLY = 4
"""First draws that only feed the centre of the squares."""

CENTRES: Floats = np.linspace(0.0, 1.0, 65)
"""Centres of the squares where the order of the draws is in doubt; no number of draws decides them."""

SHRINK = np.array([0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, *(1 - 0.5 ** np.arange(2, 13))])
"""Alternatives q = c p to a tested p."""

BELOW = np.array([0.4, 0.12, 0.12, 0.12, 0.1, 0.04, 0.02, *[0.08 / 9] * 9])
"""Weights for "p is below": half-way to "no leak was seen"."""

ABOVE = np.array([0.02] * 5 + [0.9 / 11] * 11)
"""Weights for "p is above", where c shrinks 1 - p."""

CHUNK = 2**15
"""Draws whose gains are computed together."""


def log_mix(logs: Floats, weights: Floats) -> float:
    """ln of the sum of weights exp(logs)."""
    best = float(logs.max())
    return best + math.log(float(np.dot(weights, np.exp(logs - best))))


def log_wealths(gain: Floats, counts: Ints) -> Floats:
    """ln of prod_t (1 + c gain_t) for each bet c, gain_t = (s - y_t) / (top_t - s) drawn ``counts`` times."""
    total = np.zeros(BETS.size)
    for low in range(0, gain.size, CHUNK):
        part = slice(low, low + CHUNK)
        total += np.log1p(BETS[:, None] * gain[part]) @ counts[part]
    return total


def steady_upper(y: Floats, top: Floats, counts: Ints, end: float, alpha: float, weights: Floats) -> float:
    """The least s at which the mixture of bets reaches 1/alpha, rounded up; at most ``end`` and the smallest top."""
    most = float(min(end, top.min(initial=end)))
    if not y.size:
        return most
    low = min(float(np.dot(y, counts) / counts.sum()), most)
    return least_rejected(low, most, lambda s: log_mix(log_wealths((s - y) / (top - s), counts), weights), alpha)


def unit_limits(y: Floats, counts: Ints, alpha: float, side: Side) -> tuple[float, float]:
    """Lower and upper limit of the mean of draws in [0, 1]; the one that is not claimed is 0 or 1."""
    share, top = alpha / 2 if side == "both" else alpha, np.ones(1)
    upper = 1.0 if side == "lower" else steady_upper(y, top, counts, 1.0, share, UPPER)
    lower = 0.0 if side == "upper" else 1 - steady_upper(1 - y, top, counts, 1.0, share, LOWER) - 1e-14
    return max(lower, 0.0), upper


def square_steps(x: Floats) -> tuple[Floats, Floats]:
    """Y_t = (x_t - c_t)^2 and top_t = max(c_t, 1 - c_t)^2 from draw 5 on; E[Y_t | past] >= variance."""
    squares, centre = (found[FED_ONLY:, 0] for found in squares_about_past(x[:, None]))
    return squares, np.maximum(centre, 1 - centre) ** 2 * OUTWARD


def spread_steps(x: Floats, kappa: float, alpha: float) -> tuple[Floats, Floats]:
    """Y_t = x_t + kappa (s_t / 2 + (x_t - c_t)^2 / (2 s_t)) and its top, from draw 5 on.

    E[Y_t | past] >= mean + kappa sd. s_t^2 is the mean of the past squares and one 1/4, plus ln(1/alpha) / (8 t), at
    most 1/4. Y is convex in x_t.
    """
    squares, centre = (found[:, 0] for found in squares_about_past(x[:, None]))
    number = np.arange(1.0, x.size + 1)
    scale = np.sqrt(np.minimum((0.25 + np.cumsum(squares) - squares + -math.log(alpha) / 8) / number, 0.25))
    y, at_zero, at_one = (h + kappa * (scale / 2 + (h - centre) ** 2 / (2 * scale)) for h in (x, 0.0, 1.0))
    return y[FED_ONLY:], np.maximum(at_zero, at_one)[FED_ONLY:] * OUTWARD


def variance_without_order(x: Floats, alpha: float) -> float:
    """Upper limit on the variance at any stopping time that needs no order: constant bets on squares about CENTRES."""
    values, counts = check_scores(x)

    def wealth(y: Floats, v: float, top: float) -> float:
        return log_mix(log_wealths((v - y) / (top - v), counts), UPPER)

    return squares_upper(values, counts, alpha, CENTRES, wealth)


def log_evidence_below(k: int, n: int, p: float, weights: Floats = BELOW) -> float:
    """ln of sum_j w_j (q_j/p)^k ((1 - q_j)/(1 - p))^(n-k), q_j = c_j p < p: evidence against a probability >= p.

    Each term is a supermartingale for every probability >= p: its one-step mean is linear in the probability, falls,
    and is 1 at p. The sum rises with p, because each term does.
    """
    with np.errstate(divide="ignore"):
        log_c = np.log(SHRINK)
    hits = k * log_c if k else np.zeros_like(log_c)
    return log_mix(hits + (n - k) * (np.log1p(-SHRINK * p) - math.log1p(-p)), weights)
