"""Do draws come from the stated law, and independently? Test martingales against named faults, valid at any time.

**Null hypothesis.** Token t of an answer, given what stands before it, has a law q_t near the stated law p_t:
sum_v (q_t(v) - p_t(v))^2 / p_t(v) <= d_t^2, where the d_t are at most ``slack`` on average (the average weighted by
the bets below; so in particular where every d_t is). No two engines compute the same numbers; ``slack`` is how far an
honest one may be. Answers are independent given their prompts.

**Evidence.** An alternative r_t (the law of a server that truncates, say) is turned into f = min(r_t / p_t, CAP),
divided by its mean under p_t. For every q_t of the null, by Cauchy and Schwarz, E_q f <= 1 + d_t sd_p(f). With a share
eta_t chosen before the token is seen, the product over tokens of (1 + eta_t (f - 1)) exp(-eta_t slack sd_p(f)) is at
most a nonnegative supermartingale that starts at 1 (1 + x <= exp(x)). The mean of the alternatives' products is one as
well, so by Ville's inequality it ever reaches 1 / alpha with probability at most alpha, whenever one looks and however
many answers there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from leakbound.bounds.gate import Floats, Ints, check_alpha

SLACK = 0.15
"""The root chi-square distance per token that an honest engine is allowed."""
CAP = 20.0
"""The largest ratio that an alternative bets on."""
GIVEN_UP = -12.0
"""Log evidence below which an alternative that costs much may stop betting."""
PATIENCE, IDLE = 64, 0.01
"""Answers after which one may stop as well whose log evidence is still this near to 0."""
LEAD = 3.0
"""By how much log evidence an alternative must lead before it names the fault."""
BOLDEST = 0.98
"""The largest share: below 1, so that no single token ends a bet."""


def token_evidence(p: Floats, r: Floats, law: Ints, tokens: Ints, *, slack: float = SLACK) -> Floats:
    """The logarithm of one alternative's factor for each token, (tokens,).

    ``p``, ``r``: the stated law and the alternative's, (laws, vocabulary), rows that sum to 1; ``law``: the row of each
    token; ``tokens``: which token came. A token that the stated law excludes counts as ``CAP``, which is on the safe
    side only where p covers it: give a stated law that is positive wherever an honest engine may go.

    The share eta is the one that grows fastest, to second order, under the alternative; it uses p and r only.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        f = np.where(r > 0, np.minimum(r / p, CAP), 0.0)
        f /= np.einsum("ij,ij->i", p, f)[:, None]
        square = f * f
        spread = np.sqrt(np.maximum(np.einsum("ij,ij->i", p, square) - 1, 0))
        gain = np.einsum("ij,ij->i", r, f) - 1
        risk = np.einsum("ij,ij->i", r, square) - 2 * (gain + 1) + 1
        eta = np.nan_to_num(np.clip((gain - slack * spread) / risk, 0, BOLDEST))
    found: Floats = np.log1p(eta[law] * (f[law, tokens] - 1)) - eta[law] * slack * spread[law] - ROUNDING
    return found


ROUNDING = 1e-6
"""Taken off each factor: more than float32 laws lose in a sum over any vocabulary."""


def most_likely(logprobs: Floats, *, slack: float = SLACK) -> float:
    """log of the largest probability of one answer under the null, from its tokens' log-probabilities, (T,).

    |q(v) - p(v)| <= d sqrt(p(v) (1 - p(v))) for one token of a law at distance d.
    """
    p = np.exp(np.minimum(logprobs, 0.0))
    return float(np.log(np.minimum(p + slack * np.sqrt(p * (1 - p)), 1.0)).sum())


@dataclass
class Copies:
    """Evidence that answers are copies of earlier answers to the same prompt.

    Under the null the j-th answer is y with probability at most u(y) (:func:`most_likely`). The alternative copies one
    of the j - 1 answers before with probability ``share``. Factor: 1 - share, and for an answer that was seen c times
    share * c / ((j - 1) u(y)) more; its mean under the null is at most 1.
    """

    share: float = 0.25
    log_evidence: float = 0.0
    seen: dict[str, dict[tuple[int, ...], int]] = field(default_factory=dict)

    def add(self, prompt: str, answer: tuple[int, ...], log_most: float) -> float:
        """One more answer; returns the logarithm of its factor."""
        seen = self.seen.setdefault(prompt, {})
        before, count = sum(seen.values()), seen.get(answer, 0)
        factor = 0.0
        if before:
            copied = math.log(self.share * count / before) - log_most if count else -math.inf
            factor = float(np.logaddexp(math.log1p(-self.share), copied))
        seen[answer] = count + 1
        self.log_evidence += factor
        return factor


@dataclass
class AttestedLaw:
    """The evidence of all alternatives, answer by answer; each has the same weight.

    ``log_evidence``: of each alternative; ``log_most``: the largest logarithm that their mean ever had.
    """

    names: tuple[str, ...]
    log_evidence: dict[str, float] = field(init=False)
    log_most: float = 0.0
    answers: int = 0

    def __post_init__(self) -> None:
        self.log_evidence = dict.fromkeys(self.names, 0.0)

    def add(self, factors: Mapping[str, float]) -> None:
        """The logarithms of one answer's factors; an alternative that is not named bets nothing on it."""
        for name, value in factors.items():
            self.log_evidence[name] += value
        self.answers += 1
        self.log_most = max(self.log_most, self.log_now)

    @property
    def log_now(self) -> float:
        """The logarithm of the mean of the alternatives' evidence."""
        values: NDArray[np.float64] = np.array(list(self.log_evidence.values()))
        return float(np.logaddexp.reduce(values) - math.log(len(values)))

    @property
    def given_up(self) -> frozenset[str]:
        """The alternatives that have lost so much, or never bet, that they may as well bet nothing more: that saves
        reading answers."""
        idle = IDLE if self.answers >= PATIENCE else 0.0
        return frozenset(name for name, value in self.log_evidence.items() if value < GIVEN_UP or abs(value) < idle)

    @property
    def settled(self) -> bool:
        """Whether one alternative has e^LEAD times the evidence of every other: then it names the fault."""
        first, *rest = sorted(self.log_evidence.values(), reverse=True)
        return not rest or first - rest[0] >= LEAD

    def refuted(self, alpha: float) -> bool:
        """Whether the stated law is refuted with confidence 1 - alpha: false with probability at most alpha."""
        check_alpha(alpha)
        return self.log_most >= math.log(1 / alpha)

    @property
    def nearest(self) -> str:
        """The alternative with the most evidence: what the fault looks like, without a guarantee of its own."""
        return max(self.names, key=lambda name: self.log_evidence[name])
