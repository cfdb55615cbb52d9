"""Does a server draw from the law that it was asked for, and independently? Tested with the weights at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leakbound.auditing.drawing import Prompts, open_prompts
from leakbound.bounds.attested import SLACK
from leakbound.bounds.gate import check_alpha
from leakbound.errors import InputError
from leakbound.models.base import check_asked
from leakbound.models.openai import OpenAIModel, ServedAnswer
from leakbound.models.opening import SERVING, WEIGHTS, Loading, open_model
from leakbound.models.witness import Witness
from leakbound.records import Prompt, SamplingParams, check_count
from leakbound.results.attestation import Attestation, Fault
from leakbound.runs.progress import Progress


def attest(
    server: str | OpenAIModel,
    weights: Any,
    prompts: Prompts,
    *,
    num_samples: int = 64,
    params: SamplingParams | None = None,
    alpha: float = 0.01,
    slack: float = SLACK,
    seed: int = 0,
    tokenizer: Any = None,
    template: str = "auto",
    loading: Loading | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Attestation:
    """Test that a server's answers come from the stated law of these weights and are independent of each other.

    ``server``: its address, ``http://HOST/v1#MODEL``, or an OpenAIModel; ``weights``: a folder or hub id, or a model of
    transformers. Up to ``num_samples`` fresh answers to each prompt are asked for, until the law is refuted and one
    fault leads. The evidence is a test martingale (:mod:`leakbound.bounds.attested`): a server whose tokens' laws are
    within ``slack`` of the stated ones is refuted with probability at most ``alpha``, however often one looks.

    With ``out`` the record is saved there as attestation.json. Raises InputError where the weights show no laws, and
    where the server does not tell the tokens of its answers: other tokens can spell the same text.
    """
    check_alpha(alpha)
    check_count("num_samples", num_samples, least=2)
    params = params or SamplingParams()
    if params.greedy or params.adaptive_temperature:
        raise InputError("temperature is 0 or adaptive: only sampling at a fixed temperature has a law to test")
    if params.stop:
        raise InputError(f"stop is {params.stop!r}: a server does not tell the tokens that it cuts off; leave it out")
    asked, loading = open_prompts(prompts), loading or Loading()
    loading.check_here("attest")
    served = server if isinstance(server, OpenAIModel) else open_model(server, loading=loading.only(SERVING))
    if not isinstance(served, OpenAIModel):
        raise InputError(f"server is {server!r}: give the address of a server, http://HOST/v1#MODEL")
    known: Any = open_model(weights, tokenizer=tokenizer, template=template, loading=loading.only(WEIGHTS))
    if not hasattr(known, "attested"):
        raise InputError(f"weights is a {type(known).__name__}, which shows no laws: give a folder of weights")
    check_asked(served, asked, params)
    witness, contradictions = Witness(known, params, slack), []
    with Progress("attest", len(asked) * num_samples, unit="answers", show=progress) as bar:
        for prompt, some in _answers(served, asked, num_samples, params, seed):
            wrong = [_contradiction(prompt, answer, params, known.vocabulary) for answer in some]
            contradictions += [said for said in wrong if said]
            plain = [_tokens(x, known, served) for x, said in zip(some, wrong, strict=True) if not said]
            witness.add(prompt, [tokens for tokens in plain if tokens])
            bar.advance(len(some))
            if contradictions or (witness.law.refuted(alpha) and witness.law.settled):
                break
    law = witness.law
    if not law.names and not contradictions:
        raise InputError("prompts: every answer of the server was empty, so that there is nothing to test")
    order = sorted(law.names, key=lambda name: (-law.log_evidence[name], name))
    found = Attestation(
        served.describe(), known.describe(), {**asdict(params), "stop": list(params.stop)}, alpha, slack,
        law.answers, witness.tokens, law.refuted(alpha), law.log_most,
        tuple(Fault(name, law.log_evidence[name]) for name in order), tuple(contradictions),
    )  # fmt: skip
    if out is not None:
        found.save(out)
    return found


def _answers(
    served: OpenAIModel, prompts: tuple[Prompt, ...], num_samples: int, params: SamplingParams, seed: int
) -> Iterator[tuple[Prompt, list[ServedAnswer]]]:
    """Requests in turns over the prompts, so that a fault is met early whichever prompt shows it."""
    for first in range(0, num_samples, served.per_request):
        for prompt in prompts:
            yield prompt, served.answers(seed, prompt, first, min(served.per_request, num_samples - first), params)


def _tokens(answer: ServedAnswer, known: Any, served: OpenAIModel) -> tuple[int, ...]:
    """The tokens of an answer, its end token included where it ended by itself."""
    if answer.tokens is None:
        raise InputError(
            f"server is {served.base_url!r}: it gives no token numbers beside the log-probabilities, and other tokens "
            "can spell the same text; give --server llama.cpp or vllm, if it is one"
        )
    ended: tuple[int, ...] = known.with_end(answer.tokens) if answer.finish_reason == "stop" else answer.tokens
    return ended


def _contradiction(prompt: Prompt, answer: ServedAnswer, params: SamplingParams, vocabulary: int) -> str:
    """What one answer says against the request, without statistics; empty if nothing."""
    tokens = answer.tokens or ()
    if (largest := max(tokens, default=0)) >= vocabulary:
        return f"prompt {prompt.id!r}: an answer holds token {largest}, the weights have {vocabulary}: another model's"
    if answer.finish_reason == "length" and answer.tokens is not None and len(tokens) != params.max_tokens:
        return (
            f"prompt {prompt.id!r}: an answer was cut after {len(tokens)} tokens where max_tokens is "
            f"{params.max_tokens}"
        )
    return ""
