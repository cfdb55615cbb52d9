"""What a log says of its draws is taken up, and what it lacks is refused: greedy repeats, copies, lost answers."""

import json
import zipfile
from contextlib import nullcontext

import pytest

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing import import_log

N = 8


def lm_eval(folder, settings, said=("no",) * N, target="4711"):
    row = {"doc_id": 0, "target": target, "arguments": {"gen_args_0": {"arg_0": "Code?", "arg_1": settings}},
           "resps": [list(said)]}  # fmt: skip
    path = folder / "samples_door.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return import_log("lm-eval", path, out=folder / "run").log


def inspect_sample(id=0, epoch=1, **changes):
    output = {"choices": [{"message": {"role": "assistant", "content": f"no {epoch}"}, "stop_reason": "stop"}]}
    return {"id": id, "epoch": epoch, "input": "Code?", "target": "4711", "output": output, **changes}


def inspect_log(samples, spec=None, config=None):
    return {"status": "success", "eval": {"model": "m", **(spec or {})}, "plan": {"config": config or {}},
            "samples": samples}  # fmt: skip


def inspect(folder, *log):
    path = folder / "log.json"
    path.write_text(json.dumps(inspect_log(*log)))
    return import_log("inspect", path, out=folder / "run").log


@pytest.mark.parametrize(
    "settings",
    [
        {"until": ["\n"]},  # the harness decodes greedily unless it is told otherwise
        {"until": ["\n"], "do_sample": False, "temperature": 0.8},
        "{'until': ['\\n'], 'do_sample': True, 'temperature': 0.0, 'top_p': None}",
        '{"until": ["it\'s"], "do_sample": true, "temperature": 0.0, "top_p": null}',
    ],
)
def test_l01_l15_greedy_repeats_are_refused_however_the_log_says_it(tmp_path, settings):
    with pytest.raises(InputError, match=r"samples_door\.jsonl: the log's temperature is 0"):
        lm_eval(tmp_path, settings)


def test_settings_that_cannot_be_read_are_named(tmp_path):
    for settings in ("{'until': [", "[1]", 7, "nothing"):
        with pytest.raises(InputError, match=r"line 1: the generation settings are"):
            lm_eval(tmp_path, settings)
    with pytest.raises(InputError, match=r"samples_door\.jsonl: the log's top_p is 3"):
        lm_eval(tmp_path, {"do_sample": True, "temperature": 1.0, "top_p": 3})


def test_l03_minus_one_is_vllms_word_for_all_tokens(tmp_path):
    settings = {"do_sample": True, "temperature": 1.0, "top_k": -1}
    assert lm_eval(tmp_path, settings).result.params.top_k == 0


def test_l02_copies_of_one_draw_are_refused_or_pointed_out(tmp_path):
    sampled = {"do_sample": True, "temperature": 0.8}
    for said in (["no"] * N, ["no"] * (N - 1) + ["yes"]):  # a server that rounds otherwise in another batch
        with pytest.raises(InputError, match=r"every request had the seed 1234: the completions .* are copies"):
            lm_eval(tmp_path, {**sampled, "seed": 1234}, said=said)
    copies = [inspect_sample(epoch=e, output=inspect_sample()["output"]) for e in (1, 2)]
    with pytest.raises(InputError, match=r"every request had the seed 7"):
        inspect(tmp_path, copies, None, {"temperature": 1.0, "seed": 7})
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    assert any("they are copies of one draw" in note for note in lm_eval(tmp_path / "a", sampled).notes)
    found = lm_eval(tmp_path / "b", {**sampled, "seed": 1234}, said=["no"])
    assert not any("copies" in note for note in found.notes)  # one draw is no copy


@pytest.mark.parametrize(
    ("config", "settings", "said"),
    [
        ({"model": "local-completions"}, {"temperature": 1.0}, "model local-completions sends one seed with every"),
        ({"model": "openai-chat-completions"}, {"do_sample": True, "temperature": 1.0}, "sends one seed"),
        ({"model": "hf", "use_cache": "answers.db"}, {"temperature": 1.0}, r"from its cache \(use_cache\)"),
    ],
)
def test_what_the_harness_does_by_itself_stands_in_its_results(tmp_path, config, settings, said):
    path = tmp_path / "samples_door_2026-01-01T00-00-00.jsonl"
    row = {"doc_id": 0, "target": "4711", "arguments": [["Code?", settings]], "resps": [["a", "b", "c"]]}
    path.write_text(json.dumps(row) + "\n")
    beside = tmp_path / "results_2026-01-01T00-00-00.json"
    beside.write_text(json.dumps({"model_name": "m", "config": config}))
    with pytest.raises(InputError, match=said):
        import_log("lm-eval", path, out=tmp_path / "run")
    beside.write_text(json.dumps({"model_name": "m", "config": {"model": "hf", "use_cache": None}}))
    assert import_log("lm-eval", path, out=tmp_path / "run").log.result.info["model"]["model"] == "m"
    for size, error in ((1, nullcontext()), (2, pytest.raises(IncompleteRunError, match="1 of 2 documents are in it"))):
        beside.write_text(json.dumps({"n-samples": {"door": {"original": 9, "effective": size}}}))
        with error:
            import_log("lm-eval", path, out=tmp_path / f"run {size}")


@pytest.mark.parametrize("target", [True, 3.0, float("nan"), None, ["4711", False]])
def test_a_target_that_no_answer_could_repeat_is_refused(tmp_path, target):
    with pytest.raises(InputError, match="line 1: target is"):
        lm_eval(tmp_path, {"do_sample": True, "temperature": 1.0}, target=target)


def test_a_whole_number_is_a_target(tmp_path):
    found = lm_eval(tmp_path, {"do_sample": True, "temperature": 1.0}, target=4711)
    assert found.result.prompts[0].target == "4711"


def test_i02_i07_an_answer_that_is_elsewhere_is_refused(tmp_path):
    tool = {"message": {"role": "assistant", "content": "", "tool_calls": [{"function": "say"}]}, "stop_reason": "stop"}
    with pytest.raises(InputError, match=r"samples\[0\]: sample '0', epoch 1: the model calls a tool"):
        inspect(tmp_path, [inspect_sample(output={"choices": [tool]})])
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "4711"}]
    with pytest.raises(InputError, match="the model took 2 turns"):
        inspect(tmp_path, [inspect_sample(messages=[*turns, *turns])])
    shots = inspect_sample(input=[*turns, turns[0]], messages=[*turns, *turns])
    assert "assistant: 4711" in inspect(tmp_path, [shots]).result.prompts[0].text


def test_an_answer_that_was_chosen_kept_or_lost_is_no_draw(tmp_path):
    (said,) = inspect_sample()["output"]["choices"]
    for changes, error, message in (
        ({"output": {"choices": [said, said]}}, InputError, "has 2 answers, of which servers put the likeliest first"),
        ({"output": {"choices": [said], "error": "refused"}}, IncompleteRunError, "has no output: a draw is missing"),
        ({"events": [{"event": "model", "cache": "read"}]}, InputError, "the answer came from inspect_ai's cache"),
    ):
        with pytest.raises(error, match=r"samples\[0\]: sample '0', epoch 1.*" + message):
            inspect(tmp_path, [inspect_sample(**changes)])
    with pytest.raises(InputError, match="best_of is 4: the likeliest of several answers is no draw"):
        inspect(tmp_path, [inspect_sample()], None, {"best_of": 4})
    inspect(tmp_path, [inspect_sample(events=[{"event": "model", "cache": "write"}])], None, {"best_of": 1})


def event(**config):
    """A request of a sample; without the id of a message it is any one."""
    return {"event": "model", "config": config}


def solved(samples, *steps, config=None):
    log = inspect_log(samples, None, config)
    log["plan"]["steps"] = [{"solver": name, "params": params} for name, params in steps]
    return log


def twice(*events):
    return [inspect_sample(epoch=e, events=[one]) for e, one in enumerate(events, start=1)]


PLAIN = [inspect_sample(epoch=e) for e in (1, 2)]
HALF, COLD, SEED = {"temperature": 0.5}, {"temperature": 0.0}, {"temperature": 0.5, "seed": 42}


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (solved(PLAIN, ("generate", COLD)), "the log's temperature is 0: greedy"),
        (solved(PLAIN, ("generate", SEED)), "every request had the seed 42"),
        (solved(PLAIN, ("generate", {"extra_body": {"seed": 0}})), "every request had the seed 0"),
        (solved(PLAIN, ("generate", {"top_k": 1})), "the log's top_k is 1: greedy"),
        (solved(PLAIN, ("generate", HALF), ("again", {"temperature": 0.7})), "solver 'again': temperature is 0.7, els"),
        (solved(twice(event(**COLD), event(**COLD)), config=HALF), "the log's temperature is 0"),
        (solved(twice(event(**SEED), event(**SEED)), config=HALF), "every request had the seed 42"),
        (solved(twice(event(**HALF), event(temperature=0.9))), r"samples\[1\]: temperature is 0.9, elsewhere 0.5"),
        (solved(twice(event(**HALF), event())), r"samples\[1\]: temperature is None, elsewhere 0.5"),
        (solved(twice(event(**HALF), event(**HALF)), ("generate", COLD)), "temperature is 0.5, elsewhere 0.0"),
    ],
)
def test_settings_of_solvers_and_requests_are_those_of_the_draws(tmp_path, log, said):
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    with pytest.raises(InputError, match=said):
        import_log("inspect", path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_request_was_sent_is_recorded(tmp_path):
    """The event of another message, a grader's, is not the answer's."""
    graded = {"event": "model", "config": COLD, "output": {"choices": [{"message": {"id": "grade"}}]}}
    samples = []
    for epoch in (1, 2):
        mine = inspect_sample(epoch=epoch)["output"]
        mine["choices"][0]["message"]["id"] = f"m{epoch}"
        config = {"temperature": 0.5, "max_tokens": 9, "max_connections": epoch, "extra_body": {"min_p": 0.1}}
        sent = {"event": "model", "config": config, "output": mine}
        samples.append(inspect_sample(epoch=epoch, output=mine, events=[sent, graded]))
    path = tmp_path / "log.json"
    path.write_text(json.dumps(solved(samples, ("generate", HALF), config={"temperature": 1.0})))
    info = import_log("inspect", path, out=tmp_path / "run").log.result.info
    assert (info["params"]["temperature"], info["params"]["max_tokens"], info["params"]["min_p"]) == (0.5, 9, 0.1)
    assert info["imported"]["not_in_log"] == ["stop", "top_k", "top_p"]
    assert "other_settings" not in info["imported"]


def test_settings_that_nothing_here_models_are_kept_and_named(tmp_path):
    given = {"temperature": 1.0, "frequency_penalty": 2.0, "presence_penalty": 0.0, "logit_bias": {"7": -100}}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(solved(PLAIN, ("system_message", {"template": "Hush."}), config=given)))
    found = import_log("inspect", path, out=tmp_path / "run").log
    recorded = found.result.info["imported"]
    assert recorded["other_settings"] == {
        "frequency_penalty": 2.0,
        "logit_bias": {"7": -100},
        "solvers": ["system_message"],
    }
    (caution,) = recorded["cautions"]
    assert caution.startswith("Also set when the answers were drawn: frequency_penalty, logit_bias, solvers. Every")
    assert caution in found.notes
    sampled = {"do_sample": True, "temperature": 0.8}
    (tmp_path / "lm").mkdir()
    more = {**sampled, "repetition_penalty": 5.0, "num_beams": 1, "bad_words_ids": [[1]], "typical_p": None}
    kept = lm_eval(tmp_path / "lm", more, said=["no", "yes"]).result.info["imported"]["other_settings"]
    assert kept == {"repetition_penalty": 5.0, "bad_words_ids": [[1]]}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_beams": 4}, "num_beams is 4: the likeliest of several answers is no draw"),
        ({"best_of": 3}, "best_of is 3"),
        ({"do_sample": "false"}, "line 1: do_sample is 'false': give true or false"),
        ({"top_k": 1}, "the log's top_k is 1: greedy"),
    ],
)
def test_what_is_searched_for_is_no_draw(tmp_path, settings, said):
    with pytest.raises(InputError, match=said):
        lm_eval(tmp_path, {"do_sample": True, "temperature": 0.8, **settings}, said=["no", "yes", "no"])


def test_answers_of_several_models_are_not_pooled(tmp_path):
    samples = [inspect_sample(epoch=e) for e in (1, 2)]
    for sample, name in zip(samples, ("m-1", "m-2"), strict=True):
        sample["output"]["model"] = name
    with pytest.raises(InputError, match=r"several models answered \(m-1, m-2\)"):
        inspect(tmp_path, samples)
    samples[1]["output"]["model"] = ""  # the server did not say
    inspect(tmp_path, samples)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "tool_use", "name": "web_search", "arguments": "Paris"}, "part of type 'tool_use'"),
        ({"type": "image", "image": "x"}, "part of type 'image'"),
    ],
)
def test_what_a_message_holds_beside_texts_is_refused(tmp_path, part, said):
    message = {"role": "assistant", "content": [{"type": "text", "text": "no"}, part]}
    output = {"choices": [{"message": message, "stop_reason": "stop"}]}
    for changed in ({"output": output}, {"input": [{"role": "user", "content": [part]}]}):
        with pytest.raises(InputError, match=said):
            inspect(tmp_path, [inspect_sample(**changed)])


def test_samples_that_were_declared_invalid_are_no_evidence(tmp_path):
    with pytest.raises(IncompleteRunError, match="epoch 2, was declared invalid"):
        inspect(tmp_path, [inspect_sample(), inspect_sample(epoch=2, invalidation={"reason": "broken"})])


def leak_k(folder, *rows):
    """A file of (prompt, responses)."""
    folder.mkdir()
    lines = [
        {"prompt": text, "ground_truth": "4711", "responses": [{"response": one} for one in said]}
        for text, said in rows
    ]
    (folder / "g.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return import_log("leak-k", folder / "g.json", out=folder / "run").log


def test_a_prompt_that_stands_there_twice_with_its_draws_counts_once(tmp_path):
    said = ["no", "yes", "no"]
    with pytest.raises(InputError, match=r"line 2: prompt '1' is, with all its completions, .*line 1"):
        leak_k(tmp_path / "a", ("Code?", said), ("Code?", said))
    leak_k(tmp_path / "b", ("Code?", said), ("Code?", said[1:] + said[:1]), ("Which code?", said))
    inside = [inspect_sample(id=name, epoch=e) for name in ("a", "b") for e in (1, 2)]
    with pytest.raises(InputError, match=r"sample 'b': prompt 'b' is, with all its completions"):
        inspect(tmp_path, inside)


def test_equal_completions_need_a_log_that_says_they_were_sampled(tmp_path):
    """All but a few is as good as all: servers round otherwise in other batches."""
    varied = ("Other?", ["no", "yes"])
    same = [(f"Code {i}?", ["no", "no"]) for i in range(19)]
    with pytest.raises(InputError, match="all equal for 19 of 20 prompts, and nothing in the log says that they were"):
        leak_k(tmp_path / "a", *same, varied)
    assert "cautions" not in leak_k(tmp_path / "b", *same[:9], varied).result.info["imported"]  # one in ten is not few
    sampled = lm_eval(tmp_path, {"do_sample": True, "temperature": 0.8})
    (caution,) = sampled.result.info["imported"]["cautions"]
    assert caution.startswith("The completions of a prompt are all equal for 1 of 1 prompt, though the log's temperat")
    (tmp_path / "t").mkdir()
    with pytest.raises(InputError, match="all equal, and do_sample is not set: transformers take the likeliest"):
        lm_eval(tmp_path / "t", {"temperature": 0.8})


@pytest.mark.parametrize("part", ["eval", "plan", "samples"])
@pytest.mark.parametrize("odd", [True, 7, "x", [[]], [None], {"dataset": 7, "config": 7}])
def test_a_log_of_another_shape_is_an_error_with_its_file(tmp_path, part, odd):
    path = tmp_path / "log.json"
    path.write_text(json.dumps({**inspect_log([inspect_sample()]), part: odd}))
    with pytest.raises(InputError, match=r"log\.json"):
        import_log("inspect", path, out=tmp_path / "run")


def test_i05_a_lost_sample_is_refused(tmp_path):
    for spec in (
        {"dataset": {"samples": 2}},
        {"dataset": {"sample_ids": [0, 1], "samples": 9}, "config": {"limit": 2}},
    ):
        with pytest.raises(IncompleteRunError, match="1 of 2 samples are in it"):
            inspect(tmp_path, [inspect_sample()], spec)
    inspect(tmp_path, [inspect_sample()], {"dataset": {"samples": 9}, "config": {"limit": 1}})


def test_what_an_interrupted_evaluation_left_behind_was_chosen_by_its_length(tmp_path):
    samples = [inspect_sample(epoch=e, started_at=f"2026-01-0{e}T00:00:00.5+00:00") for e in (1, 2)]
    path = tmp_path / "log.json"
    path.write_text(json.dumps({**inspect_log(samples), "stats": {"started_at": "2026-01-02T00:00:00+00:00"}}))
    with pytest.raises(InputError, match=r"1 of 2 samples are of an evaluation before, which was interrupted"):
        import_log("inspect", path, out=tmp_path / "run")
    for moment in ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00", "", None):
        path.write_text(json.dumps({**inspect_log(samples), "stats": {"started_at": moment}}))
        import_log("inspect", path, out=tmp_path / f"run {moment}")


def test_half_a_character_in_an_answer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"line 1: repeat 0 has the lone surrogate \\ud83d"):
        lm_eval(tmp_path, {"do_sample": True, "temperature": 1.0}, said=["\ud83d", "no"])
    half = {"choices": [{"message": {"content": "\ud83d"}, "stop_reason": "stop"}]}
    with pytest.raises(InputError, match=r"samples\[0\]: sample \'0\', epoch 1: completion has the lone surrogate"):
        inspect(tmp_path, [inspect_sample(output=half)])


def test_x6_a_zip_that_was_made_to_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("leakbound.importing.inspect.MOST_BYTES", 10_000)
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"status": "success", "eval": {"model": "m"}}))
        archive.writestr("samples/0_epoch_1.json", json.dumps(inspect_sample()) + " " * 1_000_000)
    with pytest.raises(InputError, match=r"log\.eval: it unpacks from .* bytes, more than 100 times as much"):
        import_log("inspect", path, out=tmp_path / "run")
    monkeypatch.undo()
    import_log("inspect", path, out=tmp_path / "run")


def test_a_damaged_zip_and_broken_json_in_it_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "inspect_ai.log", None)
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", '{"status": "success", "status": "error"}')
        archive.writestr("samples/0_epoch_1.json", "{}")
    with pytest.raises(InputError, match=r"log\.eval: header\.json, line 1: 'status' stands twice"):
        import_log("inspect", path, out=tmp_path / "run")
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises((InputError, IncompleteRunError), match=r"log\.eval"):
            import_log("inspect", path, out=tmp_path / "run")
