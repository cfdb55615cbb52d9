"""The deployed law of one next token: logits, filtered as transformers' generate does, then normalised once.

Draws are made from, and log-probabilities are read off, the same numbers: what is stored is exact for the law that was
sampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from leakbound.records import SamplingParams

NORMALISED = 1e-3
"""By how much float32 probabilities may miss a sum of 1: far more than rounding does over any vocabulary."""


@dataclass(frozen=True)
class NextToken:
    """The laws of the next tokens of some rows.

    ``probs``: (rows, vocabulary), float32 and not quite normalised; ``cdf``: their running sums in float64; the law is
    ``probs / cdf[:, -1]``. ``broken``: (rows,), where that is no law, for the logits hold NaN or plus infinity, or
    overflow when temperature and filters are applied.
    """

    probs: torch.Tensor
    cdf: torch.Tensor
    broken: torch.Tensor

    @classmethod
    def from_logits(
        cls, logits: torch.Tensor, params: SamplingParams, sure: NDArray[np.bool_] | None = None
    ) -> NextToken:
        """The laws after temperature and filters; at temperature 0 all mass is on the first likeliest token.

        ``sure``: rows that are at temperature 0 whatever the parameters say.
        """
        if params.greedy:
            probs = _likeliest(logits)
        else:
            probs = torch.softmax(warp(logits, params), -1)
            if sure is not None and sure.any():
                rows = torch.from_numpy(np.flatnonzero(sure)).to(logits.device)
                probs[rows] = _likeliest(logits[rows])
        if probs.device.type == "mps":  # no float64 there
            probs = probs.cpu()
        cdf = probs.double().cumsum(-1)  # with dtype=float64 instead: the same bits, five times as slow
        finite = torch.isfinite(logits.amax(-1)).to(cdf.device)  # NaN is larger than every number
        return cls(probs, cdf, ~(finite & ((cdf[:, -1] - 1).abs() < NORMALISED)))

    def pick(self, u: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """Inverse-CDF sampling: for draw i the token t of row owner[i] with CDF(t - 1) <= u[i] < CDF(t).

        ``u``, ``owner``: (draws,). Tokens of probability 0 are never picked. One search serves all rows: row r's CDF is
        shifted to [r, r + 1], which costs at most 2^-43 in u.
        """
        rows, size = self.probs.shape
        shift = torch.arange(rows, dtype=torch.float64, device=self.cdf.device)
        own = owner.to(self.cdf.device)
        stairs = (self.cdf / self.cdf[:, -1:]).add_(shift[:, None]).flatten()
        flat = torch.searchsorted(stairs, u.to(self.cdf.device) + shift[own], right=True)
        token = (flat - own * size).clamp(0, size - 1)
        beyond = self.probs[own, token] == 0  # rounding of the stairs: take the last token that can be drawn
        if beyond.any():
            row = own[beyond]
            token[beyond] = size - 1 - (self.probs[row] > 0).flip(-1).to(torch.int8).argmax(-1)
        return token

    def logprob(self, rows: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """log P(token) in nats, float64, for pairs of row and token."""
        return self.probs[rows, tokens].double().log() - self.cdf[rows, -1].log()

    def logprobs(self) -> torch.Tensor:
        """log P of every token, (rows, vocabulary) in float64; minus infinity where it cannot be drawn."""
        return self.probs.double().log() - self.cdf[:, -1:].log()


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)


def certainty(logits: torch.Tensor) -> NDArray[np.float64]:
    """The probability of the likeliest token at temperature 1 without filters, (rows,)."""
    return np.asarray(torch.softmax(logits, -1).amax(-1).double().cpu().numpy())


def is_sure(total: NDArray[np.float64], places: NDArray[np.int64], params: SamplingParams) -> NDArray[np.bool_]:
    """Where the mean of ``places`` certainties with this sum reaches the threshold, in mode token is above it.

    Rounded to 6 decimals, so that batching does not decide. Infinity stands for "was sure before".
    """
    means, threshold = np.round(total / places, 6), params.adaptive_temperature
    return np.asarray(means > threshold if params.adaptive_mode == "token" else means >= threshold)


def warp(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Temperature, top-k, top-p and min-p in this order, by transformers' own warpers."""
    warpers = LogitsProcessorList()
    if params.temperature != 1:
        warpers.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        warpers.append(TopKLogitsWarper(min(params.top_k, logits.shape[-1])))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p > 0:
        warpers.append(MinPLogitsWarper(params.min_p))
    warped: torch.Tensor = warpers(None, logits)
    return warped
