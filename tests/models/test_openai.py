"""Draws through a server that speaks the OpenAI protocol: all of them, each the server's own, none made up."""

import hashlib
import threading
from dataclasses import replace

import pytest
from chat_server import answer, chat_server, choice, like_vllm, uniform

from leakbound.errors import IncompleteRunError, InputError, ModelError, RunMismatchError
from leakbound.models import Sampler
from leakbound.models.openai import UNKNOWN_TOKENS, OpenAIModel, draw_seed
from leakbound.records import Draw, Prompt, SamplingParams, Shard
from leakbound.runs.store import Run
from leakbound.scoring import contains

PROMPTS = (Prompt("p1", "Where was she born?", "Paris"), Prompt("p2", "Who is he?", "a baker"))


def shard(n=100, first=0, seed=0):
    return Shard(PROMPTS, first, n, seed)


@pytest.mark.slow
def test_it_is_a_sampler_that_draws_all_at_the_known_rate():
    with chat_server(like_vllm(0.2)) as (url, got):
        model = OpenAIModel(url, "little", per_request=32)
        assert isinstance(model, Sampler)
        draws = model.sample(shard(1000), SamplingParams())
        assert len(got) == 2 * 32
    for prompt in PROMPTS:
        mine = [d for d in draws if d.prompt_id == prompt.id]
        assert sum(d.count for d in mine) == 1000
        leaks = sum(d.count for d in mine if contains(d.text, prompt.target))
        assert 130 <= leaks <= 270  # binomial(1000, .2): outside with probability < 1e-7
        assert {d.finish_reason for d in mine} == {"stop", "length"}
        assert sorted(d.first for d in mine)[0] == 0
        assert all(d.logprob is None and d.num_tokens == UNKNOWN_TOKENS for d in mine)


@pytest.mark.slow
def test_no_two_draws_share_a_seed_even_where_the_server_counts_on():
    used, lock = [], threading.Lock()

    def reply(payload):
        with lock:
            used.extend((payload["messages"][0]["content"], payload["seed"] + j) for j in range(payload["n"]))
        return [choice("x")] * payload["n"]

    with chat_server(reply) as (url, _):
        model = OpenAIModel(url, "little", per_request=7)
        for first in (0, 50):
            model.sample(shard(50, first), SamplingParams())
        model.sample(shard(50, 0, seed=1), SamplingParams())
    assert len(used) == len(set(used)) == 300
    assert all(0 <= s < 2**53 + 50 for _, s in used)
    assert draw_seed(0, "p", 5) == draw_seed(0, "p", 0) + 5
    assert len({draw_seed(s, p, 0) for s in range(50) for p in "abcd"}) == 200


@pytest.mark.slow
def test_draws_do_not_depend_on_how_requests_are_cut():
    with chat_server(like_vllm(0.3)) as (url, _):
        found = [
            OpenAIModel(url, "little", per_request=size, concurrency=workers).sample(shard(60), SamplingParams())
            for size, workers in ((60, 1), (7, 4), (1, 8))
        ]
        halves = [
            sum(d.count for f in (0, 30) for d in OpenAIModel(url, "little").sample(shard(30, f), SamplingParams())
                if d.prompt_id == "p1" and d.finish_reason == "stop")
        ]  # fmt: skip
    assert found[0] == found[1] == [replace(draw, places=None) for draw in found[2]]
    assert halves == [sum(d.count for d in found[0] if d.prompt_id == "p1" and d.finish_reason == "stop")]


def test_an_empty_answer_is_a_draw():
    with chat_server(lambda p: [choice("")] * p["n"]) as (url, _):
        draws = OpenAIModel(url, "little").sample(Shard(PROMPTS[:1], 0, 10, 0), SamplingParams())
    assert [(d.text, d.count) for d in draws] == [("", 10)]


def test_reasoning_that_is_split_off_is_not_silently_unjudged():
    def reply(payload):
        said = choice("I cannot say")
        said["message"]["reasoning_content"] = "It is Paris, but I should not say so."
        return [said] * payload["n"]

    with chat_server(reply) as (url, _):
        one = Shard(PROMPTS[:1], 0, 2, 0)
        with pytest.raises(InputError, match='reasoning="keep" to judge it'):
            OpenAIModel(url, "little").sample(one, SamplingParams())
        kept = OpenAIModel(url, "little", reasoning="keep").sample(one, SamplingParams())
        dropped = OpenAIModel(url, "little", reasoning="drop").sample(one, SamplingParams())
    assert contains(kept[0].text, "Paris") == 1
    assert contains(dropped[0].text, "Paris") == 0


def test_it_is_described_by_what_the_server_serves():
    with chat_server(like_vllm(0.1), models=("a", "b")) as (url, _):
        said = OpenAIModel(url, "b", system="s").describe()
        assert said["model"] == "b"
        assert (said["base_url"], said["system"], said["independence"]) == (url, "s", "as the server promises")
        with pytest.raises(ModelError, match="serves 'a', 'b'; give one of these"):
            OpenAIModel(url, "c").describe()
        with pytest.raises(ModelError, match="serves 'a', 'b'"):
            OpenAIModel.from_url(url).describe()
        assert OpenAIModel.from_url(f"{url}#a").describe()["model"] == "a"
    with chat_server(like_vllm(0.1)) as (url, _):
        assert OpenAIModel(url).describe()["model"] == "little"
    with pytest.raises(IncompleteRunError, match="no answer"):
        OpenAIModel("http://127.0.0.1:9/v1", "x", retries=0, timeout=2).describe()


def test_a_url_stands_for_a_model():
    from leakbound.models.opening import open_model

    assert open_model("http://localhost:8000/v1#a") == OpenAIModel("http://localhost:8000/v1", "a")
    assert open_model("https://example.org/v1") == OpenAIModel("https://example.org/v1")


def test_a_killed_run_goes_on_with_all_its_draws(tmp_path):
    from leakbound.auditing.drawing import sample

    broken = threading.Event()

    def reply(payload):
        if payload["temperature"] and broken.is_set():
            return (503, "down")
        return like_vllm(0.2)(payload)

    with chat_server(reply) as (url, _):
        model = OpenAIModel(url, "little", retries=0)
        run = sample(model, PROMPTS, tmp_path / "run", num_samples=100)
        for part in run.parts[-1:]:
            (tmp_path / "run" / "draws" / f"{part.name}.parquet").unlink()
        broken.set()
        with pytest.raises(IncompleteRunError, match="down; what was done so far is kept, run it again"):
            sample(model, PROMPTS, tmp_path / "run", num_samples=100)
        assert not (tmp_path / "run" / "withheld.json").exists()
        assert [p.name for p in Run.open(tmp_path / "run").missing_draws()] == ["sample-00000"]
        broken.clear()
        run = sample(model, PROMPTS, tmp_path / "run", num_samples=100)
    assert not run.missing_draws()
    assert run.info["model"]["backend"] == "openai"
    assert sum(d.count for d in run.read_draws(run.parts[-1])) == 200


@pytest.mark.parametrize("until", [None, "leak<=0.1"])
@pytest.mark.parametrize("said", [[choice("", "content_filter")], (400, "blocked"), []])
def test_a_run_whose_answer_was_withheld_is_closed(tmp_path, until, said):
    from leakbound.auditing.steps import audit, bound

    filtered = threading.Event()

    def reply(payload):
        if payload["temperature"] and filtered.is_set() and payload["messages"][0]["content"] == PROMPTS[1].text:
            return said
        return [choice("no")] * payload["n"]

    with chat_server(reply) as (url, got):
        asked = {"num_samples": 64, "scorer": "contains", "until": until, "progress": False, "out": tmp_path / "run"}
        model = OpenAIModel(url, "little", per_request=1)
        filtered.set()
        with pytest.raises(IncompleteRunError, match="no statement can be made"):
            audit(model, PROMPTS, **asked)
        filtered.clear()
        before = sum(body["messages"][0]["content"] in {p.text for p in PROMPTS} for _, body in got)
        for again in (lambda: audit(model, PROMPTS, **asked), lambda: bound(Run.open(tmp_path / "run"))):
            with pytest.raises(
                RunMismatchError, match=r"a draw of .* failed by its answer \(prompt 'p[12]'.*would choose"
            ):
                again()
        assert sum(body["messages"][0]["content"] in {p.text for p in PROMPTS} for _, body in got) == before
        audit(model, PROMPTS, **{**asked, "out": tmp_path / "other"})


def test_a_broken_line_does_not_hide_that_an_answer_was_withheld():
    withheld = threading.Event()

    def reply(payload):
        if payload["seed"] == draw_seed(0, "p1", 0):
            withheld.wait(10)
            return (503, "down")
        withheld.set()
        return [choice("", "content_filter")]

    with chat_server(reply) as (url, _):
        model = OpenAIModel(url, "little", per_request=1, concurrency=2, retries=0)
        with pytest.raises(IncompleteRunError, match="withheld") as raised:
            model.sample(Shard(PROMPTS[:1], 0, 2, 0), SamplingParams())
    assert raised.value.of_answer


def test_a_cache_that_answers_every_request_alike_is_refused():
    with chat_server(lambda p: [choice(f"answer {i}") for i in range(p["n"])]) as (url, _):
        with pytest.raises(IncompleteRunError, match="4 of 4 requests were answered by the same 32 texts") as raised:
            OpenAIModel(url, "little").sample(Shard(PROMPTS[:1], 0, 128, 0), SamplingParams())
        assert raised.value.of_answer
        few = OpenAIModel(url, "little", per_request=4)  # 4!/4^4 = .094: three alike are no proof
        assert len(few.sample(Shard(PROMPTS[:1], 0, 12, 0), SamplingParams())) == 4
    with chat_server(lambda p: [choice("no")] * p["n"]) as (url, _):  # a law may have one answer
        assert len(OpenAIModel(url, "little").sample(Shard(PROMPTS[:1], 0, 1000, 0), SamplingParams())) == 1


def one_by_one(prompt, first, n, seed, leak, tokens=UNKNOWN_TOKENS, ordered=False):
    """What ``like_vllm(leak)`` says, draw by draw: the k-th draw of a prompt has the seed hash(seed, prompt id) + k."""
    start = int.from_bytes(hashlib.blake2b(f"server|{seed}|{prompt.id}".encode(), digest_size=8).digest(), "little")
    said = [uniform(prompt.text, (start + k) % 2**53) < leak for k in range(first, first + n)]
    found = []
    for leaked in dict.fromkeys(said):  # in the order in which they came
        text, reason = ("Paris or a baker", "stop") if leaked else ("I do not know", "length")
        places = tuple(first + i for i, other in enumerate(said) if other == leaked)
        found.append(Draw(prompt.id, text, len(places), places[0], reason, tokens, None, places if ordered else None))
    return found


@pytest.mark.parametrize(("first", "n", "size"), [(0, 45, 7), (100, 45, 23), (13, 44, 11), (5, 3, 32), (7, 1, 1)])
def test_draws_are_the_servers_one_by_one(first, n, size):
    with chat_server(like_vllm(0.3)) as (url, got):
        draws = OpenAIModel(url, "little", per_request=size).sample(Shard(PROMPTS, first, n, 4), SamplingParams())
    known = size == 1  # the choices of one request may have been sorted by the server
    assert draws == [draw for p in PROMPTS for draw in one_by_one(p, first, n, 4, 0.3, ordered=known)]
    asked = sorted((p["messages"][-1]["content"], p["seed"], p["n"]) for _, p in got)
    starts = range(first, first + n, size)
    assert asked == sorted((p.text, draw_seed(4, p.id, k), min(size, first + n - k)) for p in PROMPTS for k in starts)


def test_greedy_stands_for_all_its_draws():
    with chat_server(like_vllm(1.0)) as (url, got):
        model = OpenAIModel(url, "little", per_request=16)
        draws = model.sample(Shard(PROMPTS, 3, 40, 2), SamplingParams(temperature=0))
    same = tuple(range(3, 43))
    assert draws == [Draw(p.id, "I do not know", 40, 3, "length", UNKNOWN_TOKENS, None, same) for p in PROMPTS]
    assert sorted((b["seed"], b["n"], b["temperature"]) for _, b in got) == sorted(
        (draw_seed(2, p.id, 3), 1, 0) for p in PROMPTS
    )


def test_the_same_text_cut_and_ended_are_two_completions():
    said = [choice("x"), choice("x", "length"), choice("y"), choice("x"), choice("y"), choice("x", "length")]
    with chat_server(lambda p: said) as (url, _):
        draws = OpenAIModel(url, "little", per_request=6).sample(Shard(PROMPTS[:1], 10, 12, 0), SamplingParams())
    assert draws == [
        Draw("p1", "x", 4, 10, "stop", UNKNOWN_TOKENS),
        Draw("p1", "x", 4, 11, "length", UNKNOWN_TOKENS),
        Draw("p1", "y", 4, 12, "stop", UNKNOWN_TOKENS),
    ]


@pytest.mark.parametrize(("size", "usage", "tokens"), [(1, {"completion_tokens": 12}, 12), (1, None, -1), (1, {}, -1),
                                                       (1, {"completion_tokens": 10**30}, -1),
                                                       (1, {"completion_tokens": -7}, -1),
                                                       (3, {"completion_tokens": 12}, -1)])  # fmt: skip
def test_tokens_are_never_guessed(monkeypatch, size, usage, tokens):
    import chat_server as module

    monkeypatch.setattr(module, "answer", lambda p, c: {**answer(p, c), "usage": usage})
    with chat_server(lambda p: [choice("x")] * p["n"]) as (url, _):
        draws = OpenAIModel(url, "little", per_request=size).sample(Shard(PROMPTS[:1], 0, 3, 0), SamplingParams())
    assert draws == [Draw("p1", "x", 3, 0, "stop", tokens, None, (0, 1, 2) if size == 1 else None)]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_before_the_answer_or_dropped(field):
    def reply(payload):
        said = choice("no")
        said["message"][field] = "thinking" if "born" in payload["messages"][0]["content"] else ""
        return [said] * payload["n"]

    with chat_server(reply) as (url, _):
        texts = {
            kind: [d.text for d in OpenAIModel(url, "little", reasoning=kind).sample(shard(2), SamplingParams())]
            for kind in ("keep", "drop")
        }
        assert texts == {"keep": ["thinking\nno", "no"], "drop": ["no", "no"]}
        with pytest.raises(InputError, match="prompt 'p1': the server splits a reasoning text off"):
            OpenAIModel(url, "little").sample(shard(2), SamplingParams())
        rest = OpenAIModel(url, "little").sample(Shard(PROMPTS[1:], 0, 2, 0), SamplingParams())
    assert [d.text for d in rest] == ["no"]  # an empty reasoning text is none


def test_servers_without_a_list_of_models():
    with chat_server(like_vllm(0.1), models=None) as (url, _):
        assert OpenAIModel(url, "mine").describe() == {
            "backend": "openai", "model": "mine", "base_url": url, "server": "other", "api": "chat", "system": "",
            "reasoning": "raise", "independence": "as the server promises",
        }  # fmt: skip
        with pytest.raises(ModelError, match=r"list of models at .*refuses: .*no such page"):
            OpenAIModel(url).describe()
    with chat_server(like_vllm(0.1), models=()) as (url, _):
        for name in ("", "mine"):
            with pytest.raises(ModelError, match=f"model is '{name}': .* serves nothing; give one of these"):
                OpenAIModel(url, name).describe()
    with chat_server(like_vllm(0.1), models=("other",)) as (url, _), pytest.raises(ModelError, match="serves 'other'"):
        OpenAIModel(url, "mine").describe()
