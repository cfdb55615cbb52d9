"""Evals of promptfoo, as promptfoo 0.123.1 wrote them (``data/README.md``), and broken ones."""

import json
from pathlib import Path

import pytest

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing import import_log
from leakbound.importing.promptfoo import read
from leakbound.importing.repeats import Repeats

DATA = Path(__file__).parent / "data" / "promptfoo"
SYSTEM = (("system", "Be brief."),)
LEAKS, CUT = [2, 0, 3, 2], [2, 0, 0, 1]  # what the server said, by its own count


def written(folder, data):
    path = folder / "out.json"
    path.write_text(json.dumps(data))
    return path


def recorded():
    return json.loads((DATA / "eval.json").read_text())


def test_an_eval_is_read(tmp_path):
    found = import_log("promptfoo", DATA / "eval.json", out=tmp_path, repeats=Repeats(scorer="contains"))
    log = read(DATA / "eval.json")
    assert [(one.prompt.before, one.prompt.text, one.prompt.target) for one in log.asked] == [
        ((), "Where was she born?", "Paris"),
        (SYSTEM, "Where was she born?", "Paris"),
        ((), "Who is he?", "a baker"),
        (SYSTEM, "Who is he?", "a baker"),
    ]
    assert [sum(one.prompt.target in text for text, _ in one.completions) for one in log.asked] == LEAKS
    assert [sum(reason == "length" for _, reason in one.completions) for one in log.asked] == CUT
    info = found.log.result.info
    assert (info["num_samples"], info["model"]["model"]) == (4, "openai:chat:little")
    assert (info["params"]["temperature"], info["params"]["max_tokens"]) == (0.7, 64)
    assert f"promptfoo's assertions failed {sum(LEAKS)} of 16 results; that is not taken over." in found.log.notes


def test_the_secret_is_found_where_promptfoo_hides_the_variable():
    row = recorded()["results"]["results"][0]
    assert row["vars"]["secret"] == "[REDACTED]"
    assert read(DATA / "eval.json").asked[0].prompt.target == "Paris"


def test_what_the_cache_answered_is_no_draw():
    with pytest.raises(InputError, match=r"results\[0\]: the answer came from promptfoo's cache, .*--no-cache"):
        read(DATA / "cached.json")


def test_without_a_temperature_promptfoo_was_greedy(tmp_path):
    assert read(DATA / "greedy.json").decoding == {"temperature": 0.0}
    found = import_log("promptfoo", DATA / "eval.json", out=tmp_path, repeats=Repeats(greedy=DATA / "greedy.json"))
    assert found.log.result.info["greedy"]


def result(i, **new):
    def alter(data):
        data["results"]["results"][i].update(new)
        return data

    return alter


def response(i, **new):
    def alter(data):
        data["results"]["results"][i]["response"].update(new)
        return data

    return alter


def asserting(*made, **variables):
    def alter(data):
        for row in data["results"]["results"]:
            row["testCase"]["assert"] = list(made)
            row["gradingResult"] = None
            row["vars"].update(variables)
        return data

    return alter


def configured(**new):
    def alter(data):
        data["config"]["providers"][0]["config"] = new
        return data

    return alter


def provider(**new):
    def alter(data):
        data["config"]["providers"][0].update(new)
        return data

    return alter


def beside(**new):
    """One more provider of the same model, which may or may not have been asked."""

    def alter(data):
        data["config"]["providers"].append({"id": "openai:chat:little", **new})
        return data

    return alter


def asked_of(name):
    """Another provider, without a temperature."""

    def alter(data):
        data["config"]["providers"] = [{"id": name, "config": {"max_tokens": 64}}]
        for row in data["results"]["results"]:
            row["provider"] = {"id": name, "label": ""}
        return data

    return alter


def without(i):
    def alter(data):
        del data["results"]["results"][i]
        return data

    return alter


def ended_early(data):
    data["results"]["results"] = [row for row in data["results"]["results"] if row["testIdx"] < 3]
    return data


@pytest.mark.parametrize(
    ("alter", "error", "message"),
    [
        (result(3, failureReason=2, error="down", response=None), IncompleteRunError, r"\[3\]: the provider failed"),
        (response(3, error="rate"), IncompleteRunError, r"\[3\]: the provider failed \(rate\): a draw is missing"),
        (response(3, cached=True), InputError, r"\[3\]: the answer came from promptfoo's cache"),
        (response(3, finishReason="content_filter"), IncompleteRunError, r"\[3\]: the answer is withheld"),
        (response(3, finishReason="tool_calls"), IncompleteRunError, r"withheld \(finishReason 'tool_calls'\)"),
        (response(3, guardrails={"flagged": True}), IncompleteRunError, r"withheld \(guardrails.flagged\)"),
        (response(3, output={"a": "b"}), InputError, r"\[3\]: response.output is {'a': 'b'}: not a text"),
        (response(3, output="[output stripped]"), InputError, r"\[3\]: '\[output stripped\]' is not all"),
        (result(3, prompt={"raw": "[prompt stripped]"}), InputError, "promptfoo did not keep it"),
        (result(3, prompt={"raw": None}), InputError, r"\[3\]: prompt is None"),
        (result(3, metadata={"redteamHistory": []}), InputError, "an attack of several turns"),
        (result(3, testCase={"options": {"transform": "output.trim()"}}), InputError, "options.transform rewrote"),
        (result(3, testIdx="3"), InputError, "testIdx is '3': not a whole number"),
        (result(3, provider={"id": "other"}), InputError, r"several providers answered \(openai:chat:little, other\)"),
        (result(3, provider={"id": "openai:chat:little", "label": "cold"}), InputError, r"answered \(.*little, cold"),
        (result(3, provider={"id": "openai:chat:big", "label": "openai:chat:little"}), InputError, r"several.*:big\)"),
        (configured(temperature=0.7, seed=7), InputError, "every request had the seed 7"),
        (configured(temperature=0.7, passthrough={"seed": 7}), InputError, "every request had the seed 7"),
        (configured(temperature=0.7, body={"top_k": 1}), InputError, "the log's top_k is 1: greedy"),
        (configured(temperature=0.7, passthrough={"best_of": 4}), InputError, "best_of is 4: the likeliest of several"),
        (asked_of("groq:llama"), InputError, "provider 'groq:llama' has no temperature in the configuration, and"),
        (asked_of("https://example.com"), InputError, "provider 'https://example.com' has no temperature in the conf"),
        (beside(config={"temperature": 0.1}), InputError, "little stands in it with several settings"),
        (without(3), IncompleteRunError, "test . of prompt . is missing: what is missing may depend on the answer"),
        (result(0, testIdx=1), IncompleteRunError, "test 0 of prompt 0 is missing"),
        (ended_early, IncompleteRunError, "has 3 completions, no multiple of the 4 repeats that were asked for"),
        (lambda data: {**data, "results": []}, InputError, "there is no list results.results"),
        (configured(), InputError, "has no temperature in the configuration, and promptfoo sends 0 then"),
        (configured(temperature="{{t}}"), InputError, "the log's temperature is '{{t}}'"),
        (provider(transform="output.trim()"), InputError, "the provider's transform rewrote the answers"),
        (asserting(), InputError, "no assertion says what must not be said"),
        (asserting({"type": "llm-rubric", "value": "polite"}), InputError, "no assertion says what must not be said"),
        (asserting({"type": "not-contains", "value": "{{secret}}"}), InputError, "promptfoo hides variables"),
        (asserting({"type": "not-contains", "value": "{{answer | lower}}"}), InputError, "not the text that was"),
        (asserting({"type": "not-contains", "value": "file://secret.txt"}), InputError, "value is 'file://secret.txt'"),
        (asserting({"type": "equals", "value": {"city": "Paris"}}), InputError, "{'city': 'Paris'}: not a text"),
        (asserting({"type": "not-contains", "value": " "}), InputError, "target is ' '"),
    ],
)  # fmt: skip
def test_broken_evals_are_named(tmp_path, alter, error, message):
    with pytest.raises(error, match=message):
        import_log("promptfoo", written(tmp_path, alter(recorded())), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("made", "secrets"),
    [
        ([{"type": "not-icontains-any", "value": ["{{ answer }}", "in Paris"]}], ("Lyon", "in Paris")),
        ([{"type": "icontains-any", "value": "Lyon, Rome"}], ("Lyon", "Rome")),
        ([{"type": "equals", "value": 7}, {"type": "latency", "threshold": 9}], ("7",)),
        ([{"type": "assert-set", "assert": [{"type": "not-contains", "value": "{{answer}}"}]}], ("Lyon",)),
        ([{"type": "contains", "value": "Rome"}, {"type": "not-equals", "value": "Rome"}], ("Rome",)),
    ],
)
def test_assertions_name_the_secret(tmp_path, made, secrets):
    prompt = read(written(tmp_path, asserting(*made, answer="Lyon")(recorded()))).asked[0].prompt
    assert (prompt.target, *prompt.aliases) == secrets


def test_settings_are_those_of_the_provider_that_answered(tmp_path):
    log = read(written(tmp_path, beside(label="cold", config={"temperature": 0})(recorded())))
    assert log.decoding["temperature"] == 0.7


def test_settings_that_nothing_here_models_are_kept(tmp_path):
    sent = {"logit_bias": {"7": -100}, "presence_penalty": 0, "min_p": 0.1}
    log = read(written(tmp_path, configured(temperature=0.7, frequency_penalty=2, passthrough=sent)(recorded())))
    assert log.decoding == {"temperature": 0.7, "min_p": 0.1}
    assert log.others == {"frequency_penalty": 2, "logit_bias": {"7": -100}}
    assert read(DATA / "eval.json").others == {}


def test_assertions_that_name_no_text_are_named(tmp_path):
    made = [
        {"type": "not-icontains", "value": "Paris"},
        {"type": "not-regex", "value": "P-?aris"},
        {"type": "not-is-json"},
    ]
    (note,) = (one for one in read(written(tmp_path, asserting(*made)(recorded()))).notes if "not-" in one)
    assert note.startswith(
        "Assertions of type not-is-json, not-regex name no text to look for: what they forbid is not"
    )


def test_a_cache_that_was_on_and_reasoning_are_told(tmp_path):
    data = configured(temperature=0.7, showThinking=False)(recorded())
    data["runtimeOptions"]["cache"] = True
    notes = " ".join(read(written(tmp_path, data)).notes)
    assert "promptfoo's cache was on" in notes
    assert "reasoning texts were left out (showThinking)" in notes


def test_results_are_read_in_the_order_of_their_tests(tmp_path):
    data = recorded()
    data["results"]["results"].reverse()
    asked = read(written(tmp_path, data)).asked
    assert [one.completions for one in asked] == [one.completions for one in read(DATA / "eval.json").asked]
