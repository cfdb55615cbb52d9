"""The command that tests a server's law."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from leakbound.cli.app import show
from leakbound.cli.options import Flat, Out
from leakbound.models.opening import Loading
from leakbound.records import SamplingParams


def attest(
    url: str,
    weights: str,
    prompts: str,
    *,
    num_samples: int = 64,
    params: Annotated[SamplingParams, Flat] = SamplingParams(),  # noqa: B008 - frozen
    alpha: float = 0.01,
    slack: float = 0.15,
    seed: int = 0,
    template: str = "auto",
    loading: Annotated[Loading, Flat] = Loading(),  # noqa: B008 - frozen
    out: Out = Path("runs/attest"),
) -> None:
    """Test that a server draws from the stated law of these weights. Exit code 1 where that is refuted.

    :param url: The server's address, http://HOST/v1#MODEL.
    :param weights: Folder or hub id of the weights that it is said to serve.
    :param prompts: As for audit.
    :param num_samples: The most answers to each prompt; they stop when the law is refuted and one fault
        leads.
    :param alpha: The probability that an honest server is refuted is at most this.
    :param slack: The root chi-square distance of a token's law from the stated one that an honest engine is
        allowed.
    :param seed: Seed of the requests.
    :param template: How a question becomes a prompt: auto, chat, raw, qa, or a text with {text}.
    :param out: Folder for attestation.json.
    """
    from leakbound.auditing.attesting import attest as run_attest

    found = run_attest(
        url, weights, prompts, num_samples=num_samples, params=params, alpha=alpha, slack=slack, seed=seed,
        template=template, loading=loading, out=out,
    )  # fmt: skip
    show(found)
    if found.refuted or found.contradictions:
        raise SystemExit(1)
