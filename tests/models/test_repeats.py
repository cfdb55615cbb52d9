"""Answers of a server that independent draws would not give are refused; honest ones, sorted or not, are not."""

import math
import random
from itertools import product

import pytest
from chat_server import chat_server, choice, like_vllm, uniform

from leakbound.errors import IncompleteRunError
from leakbound.models import repeats
from leakbound.models.openai import OpenAIModel
from leakbound.models.repeats import check_within
from leakbound.records import Prompt, SamplingParams, Shard

PROMPTS = tuple(Prompt(f"p{i}", f"question {i}", "Paris") for i in range(12))


def drawn(law, requests, size, rng, arrange=list):
    return [tuple(arrange(rng.choices(range(len(law)), law, k=size))) for _ in range(requests)]


def refused(found):
    try:
        check_within(found)
    except IncompleteRunError:
        return True
    return False


def test_by_chance_an_honest_server_is_refused_as_seldom_as_promised(monkeypatch):
    """At level .05 in place of 1e-15: of 1,500 honest servers, more than 125 with probability < 1e-7 at .05 each."""
    monkeypatch.setattr(repeats, "_CHANCE", math.log(0.05))
    rng, wrong = random.Random(0), 0
    for _ in range(1500):
        laws = [[1, 1], [0.9, 0.1], [0.98, 0.02], [1] * 6]
        arrange = rng.choice([list, sorted, lambda some: sorted(some, key=some.count)])  # as some servers do
        wrong += refused({f"p{i}": drawn(rng.choice(laws), 4, 16, rng, arrange) for i in range(3)})
    assert 0 < wrong <= 125


def test_the_law_of_what_is_equal_within_requests_is_the_hypergeometric():
    for within, across in product(range(6), repeat=2):
        for equal in range(within + across + 1):
            every = math.comb(within + across, equal)
            law = [math.comb(within, k) * math.comb(across, equal - k) / every for k in range(min(within, equal) + 1)]
            assert repeats._hypergeometric(within, across, equal) == pytest.approx(law, abs=1e-12)


def repeating(share):
    """A server whose choices repeat the request's first one with probability ``share``, among a thousand answers."""

    def reply(payload):
        first, said = payload["seed"], []
        for j in range(payload["n"]):
            seed = first if uniform("again", first, j) < share else first + j
            said.append(choice(f"answer {int(1000 * uniform(payload['messages'][-1]['content'], seed))}"))
        return said

    return reply


@pytest.mark.parametrize(
    ("prompts", "n", "share"), [(1, 128, 1), (12, 32, 1), (12, 16, 1), (12, 64, 0.5), (1, 512, 0.7)]
)
def test_a_completion_that_is_repeated_within_a_request_is_refused(prompts, n, share):
    with chat_server(repeating(share)) as (url, _):
        with pytest.raises(IncompleteRunError, match=r"equal, and .* the server repeats a completion") as raised:
            OpenAIModel(url, "little").sample(Shard(PROMPTS[:prompts], 0, n, 0), SamplingParams())
        assert raised.value.of_answer
        alone = OpenAIModel(url, "little", per_request=1)
        assert sum(d.count for d in alone.sample(Shard(PROMPTS[:1], 0, 64, 0), SamplingParams())) == 64


@pytest.mark.parametrize("leak", [0.0, 0.02, 0.5, 1.0])
def test_an_honest_server_with_few_answers_is_believed(leak):
    with chat_server(like_vllm(leak)) as (url, _):
        draws = OpenAIModel(url, "little").sample(Shard(PROMPTS, 0, 128, 0), SamplingParams())
    assert sum(d.count for d in draws) == 12 * 128


def test_what_cannot_be_told_apart_is_not_refused():
    assert not refused({})
    assert not refused({"p": []})
    assert not refused({"p": [("x",), ("y",)]})
    assert not refused({"p": [("x",) * 32, ("x",) * 32]})
    assert not refused({"p": [("x",) * 32]})
