"""Logs with repeated completions: lm-eval's samples, inspect_ai's logs, Leak-k's generations."""

import hashlib
import json
import sys
import types
import zipfile

import pytest
from rich.console import Console

from leakbound.auditing.scoring import score
from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing import import_log, showing
from leakbound.importing.repeats import Repeats
from leakbound.runs.store import Run

QUESTIONS = [("Where was she born?", "Paris"), ("Who is he?", "a baker"), ("What does she keep?", "bees")]
REPEATS = [["Paris", "I do not know.", "Paris", "In Rome"], ["a baker"] * 4, ["", "cats", "dogs", "cats"]]
GREEDY = [["I do not know."], ["a baker"], ["cats"]]


def lm_eval_rows(repeats, filters=("none", "strict"), **settings):
    settings = {"until": ["\n\n"], "do_sample": True, "temperature": 0.8, "max_gen_toks": 64, **settings}
    return [
        {
            "doc_id": i, "doc": {}, "target": target, "resps": [said], "filtered_resps": [said[0]], "filter": name,
            "arguments": {"gen_args_0": {"arg_0": text, "arg_1": settings}}, "metrics": ["exact_match"],
            "exact_match": 0.0, "doc_hash": "d", "prompt_hash": "p", "target_hash": "t",
        }
        for name in filters for i, ((text, target), said) in enumerate(zip(QUESTIONS, repeats, strict=True))
    ]  # fmt: skip


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lm_eval(folder, repeats, **more):
    stamp = "2026-03-01T10-00-00.123456"
    folder.mkdir(parents=True)
    (folder / f"results_{stamp}.json").write_text(json.dumps({"model_name": "org/model", "results": {}}))
    return lines(folder / f"samples_secrets_{stamp}.jsonl", lm_eval_rows(repeats, **more))


def leak_k_rows(repeats):
    return [
        {"prompt": text, "ground_truth": target, "responses": [{"response": s, "rougeL_recall": 0.1} for s in said]}
        for (text, target), said in zip(QUESTIONS, repeats, strict=True)
    ]


def inspect_log(repeats, **config):
    samples = [
        {
            "id": f"q{i}", "epoch": e, "input": [{"role": "user", "content": text}], "target": target, "scores": {},
            "output": {"choices": [{"message": {"role": "assistant", "content": s}, "stop_reason": "stop"}]},
        }
        for i, ((text, target), said) in enumerate(zip(QUESTIONS, repeats, strict=True))
        for e, s in enumerate(said, start=1)
    ]  # fmt: skip
    header = {
        "version": 2,
        "status": "success",
        "eval": {"model": "org/model", "task": "t"},
        "plan": {"config": config},
    }
    return {**header, "samples": samples}


def write_eval(path, log, compression=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("_journal/start.json", "{}")
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps({k: v for k, v in log.items() if k != "samples"}))
    return path


def write(format, folder, repeats, **more):
    if format == "lm-eval":
        return lm_eval(folder, repeats, **more)
    if format == "leak-k":
        return lines(folder / "generations_n200.json", leak_k_rows(repeats))
    return write_eval(folder / "log.eval", inspect_log(repeats, **more))


@pytest.fixture(params=["lm-eval", "inspect", "leak-k"])
def logs(request, tmp_path):
    """The format, a log with four repeats of three prompts, and one with their greedy answers."""
    cold = {} if request.param == "leak-k" else {"temperature": 0.0}
    return (
        request.param,
        write(request.param, tmp_path / "a", REPEATS),
        write(request.param, tmp_path / "g", GREEDY, **cold),
    )


def test_a_log_becomes_a_run(logs, tmp_path):
    format, path, greedy = logs
    found = import_log(format, path, out=tmp_path / "run", repeats=Repeats(scorer="contains", greedy=greedy))
    run = Run.open(tmp_path / "run")
    assert isinstance(found.log.result, Run)
    assert [(p.text, p.target) for p in run.prompts] == QUESTIONS
    assert run.info["num_samples"] == 4
    assert run.info["statement"] == {"scorer": "contains", "threshold": 0.5, "alpha": 0.01}
    assert run.info["imported"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert run.info["imported"]["format"] == format
    assert "as the log claims" in run.info["imported"]["assumes"]
    assert any("assumes" in note for note in found.log.notes)
    first, drawn = (run.read_draws(part) for part in run.parts)
    assert [d.text for d in first] == [said[0] for said in GREEDY]
    ids = [p.id for p in run.prompts]
    reason = "stop" if format == "inspect" else "unknown"
    assert [(ids.index(d.prompt_id), d.text, d.count, d.first, d.finish_reason) for d in drawn] == [
        (0, "Paris", 2, 0, reason), (0, "I do not know.", 1, 1, reason), (0, "In Rome", 1, 3, reason),
        (1, "a baker", 4, 0, reason), (2, "", 1, 0, reason), (2, "cats", 2, 1, reason), (2, "dogs", 1, 2, reason),
    ]  # fmt: skip
    assert all(d.logprob is None for d in drawn)
    score(run)
    scored = list(run.read_scored(run.parts[-1], "contains"))
    assert [value for _, value in scored] == [1, 0, 0, 1, 0, 0, 0]
    again = import_log(format, path, out=tmp_path / "run", repeats=Repeats(scorer="contains", greedy=greedy))
    assert again.log.result.info == run.info  # the same import may be repeated


@pytest.mark.slow
def test_bound_and_report_work_on_it(logs, tmp_path, capsys):
    from leakbound.cli import main

    format, path, greedy = logs
    run = str(tmp_path / "run")
    main(
        ["import", format, str(path), "--greedy", str(greedy), "--scorer", "contains", "--alpha", "0.05", "--out", run]
    )
    said = capsys.readouterr().out
    assert "3 prompts with 4 completions each" in " ".join(said.split())
    main(["score", run])
    main(["bound", run])
    main(["report", run])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "as the log claims" in page
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert [p["num_leaks"] for p in audit["prompts"]] == [2, 4, 0]
    assert audit["prompts"][2]["leak"]["upper"] == pytest.approx(1 - 0.05**0.25)
    assert audit["alpha"] == 0.05


@pytest.mark.slow
def test_without_greedy_answers_nothing_is_said_of_hidden_leaks(logs, tmp_path, capsys):
    from leakbound.cli import main
    from leakbound.results.audit import Audit

    format, path, _ = logs
    run = str(tmp_path / "run")
    main(["import", format, str(path), "--scorer", "contains", "--out", run])
    main(["score", run])
    main(["bound", run])
    main(["report", run])
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 3 prompts leaked in at least one of 4 sampled answers; the greedy answers are not known." in said
    assert "chosen after the draws" in said  # an imported log's statement cannot have been fixed before
    assert "hidden leak" not in said
    assert "asked once" not in said
    audit = Audit.load(run)
    assert [p.greedy_score for p in audit.prompts] == [None] * 3
    assert [p.num_leaks for p in audit.prompts] == [2, 4, 0]
    assert (audit.num_clean, audit.hidden, audit.asked_once, audit.planned) == (0, (), False, False)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Greedy answer" not in page
    assert "leaked at least once in 4 sampled answers" in page
    assert ("of 12 the log does not say it" in page) == (format != "inspect")
    from leakbound.report import to_csv, to_markdown

    assert ",seen,,,,4,2," in to_csv(audit)
    assert "| – |" in to_markdown(audit)


def test_what_the_log_says_of_decoding_is_kept_and_what_it_does_not_is_named(tmp_path):
    path = lm_eval(tmp_path / "a", REPEATS, top_p=0.9)
    greedy = lm_eval(tmp_path / "g", GREEDY, do_sample=False)
    found = import_log("lm-eval", path, out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    info = found.log.result.info
    assert info["params"] | {"temperature": 0.8, "top_p": 0.9, "max_tokens": 64, "stop": ["\n\n"]} == info["params"]
    assert info["model"] == {"backend": "imported", "model": "org/model"}
    assert info["imported"]["not_in_log"] == ["min_p", "top_k"]
    assert any("min_p, top_k" in note for note in found.log.notes)
    assert any("whether 12 of 12 completions were cut" in note for note in found.log.notes)
    assert any("P(leak) <= 0.68" in note for note in found.log.notes)  # 1 - .01^(1/4) = .6838


def test_older_shapes_of_lm_eval(tmp_path):
    rows, cold = lm_eval_rows(REPEATS, ("none",)), lm_eval_rows(GREEDY, ("none",), do_sample=False)
    for row in (*rows, *cold):
        given = row["arguments"]["gen_args_0"]
        row["arguments"] = [[given["arg_0"], given["arg_1"]]]
        row["target"] = [row["target"], "alias", row["target"]]
    path, greedy = lines(tmp_path / "samples_x.jsonl", rows), lines(tmp_path / "g.jsonl", cold)
    found = import_log("lm-eval", path, out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    assert found.log.result.prompts[0].aliases == ("alias",)
    assert found.log.result.info["model"]["model"] == "unnamed"


def test_a_folder_with_one_samples_file_is_enough(tmp_path):
    lm_eval(tmp_path / "a" / "org__model", REPEATS)
    greedy = lm_eval(tmp_path / "g", GREEDY, do_sample=False)
    found = import_log("lm-eval", tmp_path / "a", out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    assert len(found.log.result.prompts) == 3
    lines(tmp_path / "a" / "samples_other_1.jsonl", [])
    with pytest.raises(InputError, match=r"holds 2 samples_\*\.jsonl .*name one of them"):
        import_log("lm-eval", tmp_path / "a", out=tmp_path / "run2", repeats=Repeats(greedy=greedy))


def change(rows, i, **new):
    rows[i] = {**rows[i], **new}
    return rows


@pytest.mark.parametrize(
    ("alter", "error", "message"),
    [
        (lambda r: change(r, 1, resps=[["x"] * 3]), InputError, r"line 5: doc_id 1 differs .*line 2"),
        (lambda r: change(r[:3], 1, resps=[["x"] * 3]), InputError, r"line 2: prompt '1' has 3 .*, prompt '0' has 4"),
        (lambda r: [*r, r[0]], InputError, r"line 7: doc_id 0 with filter 'none' stood before .*line 1"),
        (lambda r: change(r, 2, resps=[["a", None]]), IncompleteRunError, r"line 3: repeat 1 is null: a draw failed"),
        (lambda r: change(r, 2, resps=[["-1.0", "False"], ["-2.0", "False"]]), InputError, "line 3: resps is"),
        (lambda r: change(r, 2, resps=[[["-1.0", "False"]]]), InputError, "line 3: repeat 0 is .*: not a text"),
        (lambda r: change(r, 0, doc_id=None), InputError, "line 1: doc_id is None"),
        (lambda r: change(r, 0, target=""), InputError, "line 1: target is ''"),
        (lambda r: change(r, 0, arguments={}), InputError, "line 1: 0 requests"),
        (lambda r: change(r, 3, arguments=[["Where?", {"temperature": 0.5}]]), InputError, "line 4: decoded with"),
        (lambda r: [], InputError, "there are no prompts"),
    ],
)  # fmt: skip
def test_broken_lm_eval_logs_are_named_with_their_line(tmp_path, alter, error, message):
    path = lines(tmp_path / "samples_x.jsonl", alter(lm_eval_rows(REPEATS)))
    greedy = lm_eval(tmp_path / "g", GREEDY, do_sample=False)
    with pytest.raises(error, match=message):
        import_log("lm-eval", path, out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    assert not (tmp_path / "run").exists()


def test_a_truncated_line_is_named(tmp_path):
    for format, name in (("lm-eval", "samples_x.jsonl"), ("leak-k", "generations_n200.json")):
        rows = lm_eval_rows(REPEATS) if format == "lm-eval" else leak_k_rows(REPEATS)
        path = lines(tmp_path / name, rows)
        path.write_text(path.read_text()[:-20])
        with pytest.raises(InputError, match=rf"{name}, line {len(rows)}: broken JSON.*was it cut off"):
            import_log(format, path, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("i", "new", "error", "message"),
    [
        (1, {"responses": [{"response": "a"}, {"respons": "b"}]}, IncompleteRunError, "line 2: response 1 is null"),
        (1, {"responses": "a"}, InputError, "line 2: responses is 'a'"),
        (2, {"responses": [{"response": "a"}]}, InputError, "line 3: prompt '2' has 1 completion, prompt '0' has 4"),
        (0, {"ground_truth": " "}, InputError, "line 1: ground_truth is ' '"),
        (0, {"responses": []}, InputError, "prompt '0' has 0"),
    ],
)
def test_broken_leak_k_files_are_named_with_their_line(tmp_path, i, new, error, message):
    path = lines(tmp_path / "g.json", change(leak_k_rows(REPEATS), i, **new))
    with pytest.raises(error, match=message):
        import_log(
            "leak-k", path, out=tmp_path / "run", repeats=Repeats(greedy=write("leak-k", tmp_path / "g", GREEDY))
        )


def test_inspect_json_and_eval_are_the_same(tmp_path):
    log, cold = inspect_log(REPEATS, temperature=0.7, max_tokens=32), inspect_log(GREEDY, temperature=0.0)
    greedy = write_eval(tmp_path / "g.eval", cold)
    (tmp_path / "a.json").write_text(json.dumps(log))
    one = import_log("inspect", tmp_path / "a.json", out=tmp_path / "1", repeats=Repeats(greedy=greedy)).log.result
    path = write_eval(tmp_path / "a.eval", log)
    two = import_log("inspect", path, out=tmp_path / "2", repeats=Repeats(greedy=greedy)).log.result
    assert one.prompts == two.prompts
    assert [one.read_draws(p) for p in one.parts] == [two.read_draws(p) for p in two.parts]
    assert (one.params.temperature, one.params.max_tokens) == (0.7, 32)
    assert [p.id for p in one.prompts] == ["q0", "q1", "q2"]


def alter_sample(i, **new):
    def alter(log):
        log["samples"][i].update(new)
        return log

    return alter


def output(content, reason):
    return {"choices": [{"message": {"content": content}, "stop_reason": reason}]}


@pytest.mark.parametrize(
    ("alter", "error", "message"),
    [
        (lambda log: {**log, "status": "error"}, IncompleteRunError, "status is 'error', not success"),
        (alter_sample(5, error={"message": "timeout"}), IncompleteRunError, "sample 'q1', epoch 2, failed"),
        (alter_sample(5, output={"choices": []}), IncompleteRunError, "sample 'q1', epoch 2, has no output"),
        (alter_sample(5, output=output("", "content_filter")), IncompleteRunError, "ended with 'content_filter'"),
        (alter_sample(5, epoch=1), InputError, "sample 'q1' has epoch 1 twice"),
        (alter_sample(5, epoch=9), InputError, r"sample 'q1' has epochs \[1, 3, 4, 9\]"),
        (alter_sample(5, target="other"), InputError, "sample 'q1' has another input or target"),
        (alter_sample(5, output=output(7, "stop")), InputError, "content is 7"),
        (alter_sample(5, epoch="1"), InputError, "epoch is '1'"),
        (lambda log: {**log, "samples": log["samples"][:-1]}, InputError, "prompt 'q2' has 3 .*, prompt 'q0' has 4"),
        (lambda log: {**log, "samples": []}, InputError, "there are no samples"),
        (lambda log: {**log, "samples": [{"id": "x"}]}, InputError, "not a sample with id and epoch"),
    ],
)  # fmt: skip
def test_broken_inspect_logs_are_named(tmp_path, alter, error, message):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(alter(inspect_log(REPEATS))))
    greedy = write_eval(tmp_path / "g.eval", inspect_log(GREEDY, temperature=0.0))
    with pytest.raises(error, match=message):
        import_log("inspect", path, out=tmp_path / "run", repeats=Repeats(greedy=greedy))


def test_cut_samples_and_reasoning_are_told(tmp_path):
    log = inspect_log(REPEATS)
    log["samples"][0]["output"] = output("Paris and", "max_tokens")
    log["samples"][1]["limit"] = {"type": "token", "limit": 10}
    log["samples"][2]["output"] = output(
        [{"type": "reasoning", "reasoning": "It is Paris"}, {"type": "text", "text": "no"}], "stop"
    )
    path = tmp_path / "a.json"
    path.write_text(json.dumps(log))
    greedy = write_eval(tmp_path / "g.eval", inspect_log(GREEDY))
    found = import_log("inspect", path, out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    drawn = found.log.result.read_draws(found.log.result.parts[-1])
    assert [(d.text, d.finish_reason) for d in drawn[:4]] == [
        ("Paris and", "length"), ("I do not know.", "length"), ("no", "stop"), ("In Rome", "stop")
    ]  # fmt: skip
    assert any("1 completions have a reasoning text, which is not judged" in note for note in found.log.notes)


def test_messages_with_roles_become_one_prompt(tmp_path):
    log, cold = inspect_log(REPEATS), inspect_log(GREEDY)
    for sample in (*log["samples"], *cold["samples"]):
        sample["input"].insert(0, {"role": "system", "content": "Be brief."})
        sample["target"] = [sample["target"], "another"]
    (tmp_path / "a.json").write_text(json.dumps(log))
    greedy = write_eval(tmp_path / "g.eval", cold)
    found = import_log("inspect", tmp_path / "a.json", out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    first = found.log.result.prompts[0]
    assert first.text == "system: Be brief.\n\nuser: Where was she born?"
    assert first.aliases == ("another",)


def test_an_unreadable_eval_is_left_to_inspect_ai(tmp_path, monkeypatch):
    path = tmp_path / "a.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"status": "success", "eval": {"model": "m"}}))
    greedy = write_eval(tmp_path / "g.eval", inspect_log(GREEDY))
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(InputError, match=r"cannot be read here .*pip install inspect_ai"):
        import_log("inspect", path, out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    fake = types.ModuleType("inspect_ai.log")
    fake.read_eval_log = lambda p: types.SimpleNamespace(model_dump=lambda **_: inspect_log(REPEATS))
    monkeypatch.setitem(sys.modules, "inspect_ai", types.ModuleType("inspect_ai"))
    monkeypatch.setitem(sys.modules, "inspect_ai.log", fake)
    found = import_log("inspect", path, out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    assert found.log.result.info["num_samples"] == 4
    unfinished = tmp_path / "u.eval"
    with zipfile.ZipFile(unfinished, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    with pytest.raises(IncompleteRunError, match="never finished"):
        import_log("inspect", unfinished, out=tmp_path / "run3", repeats=Repeats(greedy=greedy))


def test_l18_the_commands_that_are_named_as_next_work(tmp_path, capsys):
    from leakbound.cli import main

    path = write("leak-k", tmp_path / "a", REPEATS)
    found = import_log("leak-k", path, retain=path, out=tmp_path / "run", repeats=Repeats(scorer="contains"))
    Console(width=10_000).print(showing.table(found))
    following = capsys.readouterr().out.partition("next: ")[2].strip()
    for command in following.split("; "):
        main(command.split()[1:])
    assert (tmp_path / "run" / "report.html").exists()


def test_the_greedy_log_must_fit(logs, tmp_path, monkeypatch):
    format, path, greedy = logs
    cold = {} if format == "leak-k" else {"temperature": 0.0}
    with pytest.raises(InputError, match="give a log with one completion for each prompt"):
        import_log(
            format, path, out=tmp_path / "run", repeats=Repeats(greedy=write(format, tmp_path / "4", REPEATS, **cold))
        )
    monkeypatch.setitem(globals(), "QUESTIONS", [*QUESTIONS[:2], ("What does she keep?", "wasps")])
    other = write(format, tmp_path / "other", GREEDY, **cold)
    with pytest.raises(InputError, match=r"prompt 'q?2' of .* is another prompt there"):
        import_log(format, path, out=tmp_path / "run", repeats=Repeats(greedy=other))
    if format == "lm-eval":
        warm = write(format, tmp_path / "warm", GREEDY)
        with pytest.raises(InputError, match=r"its temperature is 0\.8, not 0"):
            import_log(format, path, out=tmp_path / "run", repeats=Repeats(greedy=warm))
        with pytest.raises(InputError, match="greedy repeats are all the same"):
            import_log(format, greedy, out=tmp_path / "run", repeats=Repeats(greedy=greedy))
    assert not (tmp_path / "run").exists()


def test_options_are_checked(tmp_path):
    with pytest.raises(InputError, match="threshold is 0"):
        Repeats(threshold=0.0)
    with pytest.raises(InputError, match="alpha is 2"):
        Repeats(alpha=2.0)
    with pytest.raises(InputError, match="scorer is 'rouge'"):
        Repeats(scorer="rouge")
    with pytest.raises(InputError, match="format is 'helm': give one of tofu"):
        import_log("helm", tmp_path, out=tmp_path / "run")


def test_a_retrained_model_beside_it(logs, tmp_path):
    format, path, greedy = logs
    asked = Repeats(scorer="contains", greedy=greedy, retain_greedy=greedy)
    found = import_log(format, path, retain=path, out=tmp_path / "run", repeats=asked)
    bare = import_log(format, path, retain=path, out=tmp_path / "bare")
    assert [part.kind for part in bare.retain.result.parts] == ["sample"]
    assert found.retain.result.path == tmp_path / "run" / "retain"
    assert Run.open(tmp_path / "run" / "retain").prompts == found.log.result.prompts
