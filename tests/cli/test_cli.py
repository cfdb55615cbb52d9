"""The command line as a user meets it: in processes of its own, on a tiny model in a folder."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from tiny_models import tiny_model, word_tokenizer

from leakbound import FakeModel, audit
from leakbound.cli import app, main
from leakbound.cli.app import read_settings
from leakbound.errors import InputError
from leakbound.models.hf import HFModel
from leakbound.reading.prompts import load_prompts
from leakbound.records import Prompt, SamplingParams
from leakbound.runs.store import Run

ROWS = [
    {"id": "one", "text": "a b", "target": "c"},
    {"id": "two", "text": "b a c", "target": "d a", "aliases": ["d"]},
    {"id": "three", "text": "c c", "target": "b"},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    tiny_model(scale=2.0).save_pretrained(folder / "model")
    word_tokenizer().save_pretrained(folder / "model")
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def command_line(*arguments):
    return [sys.executable, "-m", "leakbound", *map(str, arguments)]


def leakbound(*arguments, **options):
    return subprocess.run(command_line(*arguments), capture_output=True, text=True, timeout=250, **options)


def within(capsys, *arguments):
    """The same in this process, which has imported everything: exit code, output, errors."""
    try:
        code = main([*map(str, arguments)]) or 0
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, code, said.out, said.err)


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.slow
def test_audit_and_its_steps_agree(world, tmp_path, capsys):
    here = partial(within, capsys)
    options = ["--prompts", world / "prompts.jsonl", "--scorer", "contains", "--num-samples", 200, "--max-tokens", 5]
    whole = here("audit", world / "model", *options, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert "one" in whole.stdout
    for run, step in (
        (here, ["sample", world / "model", *options, "--out", tmp_path / "steps"]),
        (leakbound, ["score", tmp_path / "steps"]),
        (here, ["bound", tmp_path / "steps"]),
        (here, ["report", tmp_path / "steps"]),
    ):
        done = run(*step)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "whole") == contents(tmp_path / "steps")
    assert "sample-00000.parquet" in str(list(contents(tmp_path / "whole")))
    markdown = here("report", tmp_path / "whole", "--markdown", "--guess", tmp_path / "steps")
    assert markdown.returncode == 0, markdown.stderr
    assert "|" in markdown.stdout


@pytest.mark.slow
def test_kill_9_in_the_middle_leaves_nothing_lost_or_counted_twice(world, tmp_path, capsys):
    options = ["--prompts", world / "prompts.jsonl", "--num-samples", 11_200, "--draws-per-shard", 400]
    options += ["--max-tokens", 2]
    whole = within(capsys, "sample", world / "model", *options, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    command = ["sample", world / "model", *options, "--out", tmp_path / "cut"]
    for kill in (1, 2):
        if (child := os.fork()) == 0:  # it has loaded all there is to load
            within(capsys, *command)
            os._exit(0)
        while len(list((tmp_path / "cut").glob("draws/*.parquet"))) < 10 * kill:
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    done = within(capsys, *command)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut")


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(world, tmp_path, capsys, monkeypatch):
    out = tmp_path / "a run"
    command = ["sample", world / "model", "--prompts", world / "prompts.jsonl", "--num-samples", 50, "--max-tokens", 3]
    command += ["--memory", "100GB", "--out", out]
    real, calls = HFModel.sample_more, []

    def failing(self, *rest):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(HFModel, "sample_more", failing)
        done = within(capsys, *command)
    assert done.returncode == 130
    again = shlex.join(["leakbound", *map(str, command)])
    assert done.stderr.splitlines()[-1] == f"interrupted: 3 of 153 draws are kept in {out}. To go on: {again}"
    done = within(capsys, *shlex.split(again)[1:])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nowhere/at/all"}, "no such folder"),
        ({"model": "pickled"}, "pickle files"),
        ({"--scorer": "rogue_l"}, "Did you mean rouge_l"),
        ({"--prompts": "empty.jsonl"}, "there are no prompts"),
        ({"--prompts": "no_target.jsonl"}, "line 2: the row has no 'target'"),
        ({"--prompts": "duplicate.jsonl"}, "id 'one' was used before"),
        ({"--prompts": "broken.jsonl"}, "line 7: broken JSON"),
        ({"--alpha": "0"}, "alpha is 0"),
        ({"--alpha": "1"}, "alpha is 1"),
        ({"--alpha": "half"}, "alpha"),
        ({"--num-samples": "0"}, "num_samples is 0"),
        ({"--out": "another"}, "holds a run with other settings"),
        ({"--temperature": "-1"}, "temperature is -1"),
        ({"--memory": "3"}, "memory is '3': give a number with its unit, such as 1.5GB"),
        ({"--memory": "1MB"}, "memory is 1MB, and leaves 0KB to sample in: the weights take"),
        ({"--no-such-option": "1"}, "no-such-option"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(world, tmp_path, monkeypatch, capsys, change, message):
    good = json.dumps(ROWS[0]) + "\n"
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "no_target.jsonl").write_text(good + '{"text": "a"}\n')
    (tmp_path / "duplicate.jsonl").write_text(good + good)
    six = "".join(json.dumps({**row, "id": f"{row['id']}{i}"}) + "\n" for i in range(2) for row in ROWS)
    (tmp_path / "broken.jsonl").write_text(six + "{oops\n")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    other = {"params": SamplingParams().to_json(), "num_samples": 3, "seed": 5}
    Run.start(tmp_path / "another", other, load_prompts(world / "prompts.jsonl"))
    settings = {"--prompts": world / "prompts.jsonl", "--num-samples": "5", "--out": tmp_path / "run"}
    settings |= {k: v for k, v in change.items() if k != "model"}
    before = contents(tmp_path)
    flat = [str(x) for pair in settings.items() for x in pair]
    monkeypatch.chdir(tmp_path)
    done = within(capsys, "audit", change.get("model", world / "model"), *flat)
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip() and "Loading weights" not in line]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert "Traceback" not in done.stderr
    assert contents(tmp_path) == before, "something was half-written"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("raised", [ZeroDivisionError("x"), AssertionError(), ModuleNotFoundError("y", name="y")])
def test_a_mistake_of_ours_is_no_verdict(raised, tmp_path, capsys, monkeypatch):
    def fails(*_, **__):
        raise raised

    monkeypatch.setattr("leakbound.results.audit.Audit.load", fails)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path)])
    assert ended.value.code == 70
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert f"in fails\n    raise raised\n{type(raised).__name__}" in said
    assert "error: a mistake of leakbound" in " ".join(said.split())
    check = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    assert "70: a mistake of leakbound" in check


def test_help_is_quick_and_names_every_command():
    start = time.perf_counter()
    done = leakbound("--help")
    assert done.returncode == 0
    for name in ("demo", "audit", "sample", "score", "bound", "report", "finetune", "unlearn"):
        assert name in done.stdout
    print(f"help took {time.perf_counter() - start:.2f} s")


def test_options_may_come_from_a_file(world, tmp_path):
    (tmp_path / "run.yaml").write_text("audit:\n  num-samples: 0\n")
    done = leakbound("--config", tmp_path / "run.yaml", "audit", world / "model", "--prompts", world / "prompts.jsonl")
    assert done.returncode == 2
    assert "num_samples is 0" in done.stderr


def settled(tmp_path, capsys, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(tmp_path / "c.yaml"), "audit", "nowhere", "--prompts", "none.jsonl"])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_samples: 32\nmax_tokens: 4\nscorer: contains\n", "'num_samples' is no command; options stand below"),
        ("adit:\n  num_samples: 32\n", "did you mean audit?"),
        ("audit:\n  num_sampels: 32\n", "num_sampels"),
        ("audit: [1]\n", "must be a mapping"),
        ("- audit\n", "must be a mapping; it holds a list"),
        ("audit: {alpha: 0.1, alpha: 0.2}\n", "line 1: no YAML 1.2: found duplicate key"),
        ("audit: {num-samples: 1, num_samples: 2}\n", "'num_samples' stands twice below audit"),
        ("audit: {alpha: 0.1}\naudit: {seed: 2}\n", "found duplicate key"),
        ("audit: [\n", "no YAML 1.2"),
    ],
)
def test_y07_p21_keys_of_a_config_are_known_and_stand_once(tmp_path, capsys, monkeypatch, text, said):
    monkeypatch.setattr(app, "config", ())
    assert said in " ".join(settled(tmp_path, capsys, text).split())


def test_y03_a_config_is_yaml_1_2(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "config", ())
    file = tmp_path / "c.yaml"
    file.write_text("audit:\n  stop: [no, off, true, 1e3, 0o17, ~]\n  seed: 010\n  until: null\n")
    stop = ["no", "off", "true", "1e3", "0o17", None]  # as they stand there
    assert read_settings(file) == {"audit": {"stop": stop, "seed": "010", "until": None}}
    file.write_text("audit:\n  stop: [[a, b]]\n")
    with pytest.raises(InputError, match=r"'stop' below audit is \[\['a', 'b'\]\]: give a list of texts"):
        read_settings(file)
    file.write_text("audit:\n  stop: [no, off]\n  seed: 010\n")
    main(["--config", str(file), "plan", "leak<=0.1"])
    file.write_text("plan: {stop: [no, off], alpha: 0.05}\n")
    main(["--config", str(file), "plan", "leak<=0.1"])


@pytest.mark.parametrize("out", ["n" * 300, "file/below", "a\0b"])
@pytest.mark.parametrize("command", ["audit", "model", "finetune", "unlearn", "study"])
def test_x5_a_path_that_cannot_be_is_one_line(tmp_path, capsys, monkeypatch, command, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file")
    (tmp_path / "p.jsonl").write_text('{"text": "q?", "target": "secret"}\n')
    (tmp_path / "rows.jsonl").write_text('{"question": "q?", "answer": "secret"}\n')
    rows = str(tmp_path / "rows.jsonl")
    given = {
        "audit": ["audit", "leakbound.models.fake:FakeModel", "--prompts", "p.jsonl", "--scorer", "contains"],
        "model": ["audit", out, "--prompts", "p.jsonl", "--scorer", "contains"],
        "finetune": ["finetune", "--data", rows, "--from-scratch", "tiny"],
        "unlearn": ["unlearn", "--model", "m", "--forget", rows, "--retain", rows],
        "study": ["study", "distribution"],
    }[command]
    if command == "model" and "\0" in out:
        return  # no shell gives one
    with pytest.raises(SystemExit) as ended:
        main([*given, "--out", "runs" if command == "model" else out])
    assert ended.value.code in (2, 4, 5)
    said = capsys.readouterr().err
    assert "error: " in said
    assert "Traceback" not in said
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "p.jsonl", "rows.jsonl"]


@pytest.mark.parametrize("value", ["8.7", "-0.5", "0.55e1", "1.5e-3", "1.e-1"])
@pytest.mark.parametrize("option", ["num-samples", "seed", "top-k", "max-tokens", "draws-per-shard"])
def test_a_part_of_a_draw_is_refused_and_not_rounded(tmp_path, capsys, monkeypatch, option, value):
    monkeypatch.setattr(app, "config", ())
    given = ["audit", "leakbound.models.fake:FakeModel", "--prompts", str(tmp_path / "p.jsonl")]
    (tmp_path / "c.yaml").write_text(f"audit: {{{option}: {value}}}\n")
    for arguments in ([*given, f"--{option}", value], ["--config", str(tmp_path / "c.yaml"), *given]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert f"{option} is {value}: give a whole number" in capsys.readouterr().err


@pytest.mark.slow
def test_a_missing_extra_is_one_line_that_names_it(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    code = (
        "import contextlib, io, json, sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'transformers'):\n"
        "            raise ModuleNotFoundError(f'No module named {name}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from leakbound.cli import main\n"
        "for command in json.load(sys.stdin):\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        try:\n"
        "            code = main(command)\n"
        "        except SystemExit as end:\n"
        "            code = end.code\n"
        "    print(json.dumps([code, said.getvalue()]))\n"
    )
    rows, out = tmp_path / "rows.jsonl", ["--out", tmp_path / "out"]
    commands = [
        ["unlearn", "--model", tmp_path, "--forget", rows, *out],
        ["finetune", "--model", tmp_path, "--data", rows, *out],
        ["audit", tmp_path, "--prompts", rows, *out],
        ["certify", tmp_path, "--prompts", rows, *out],
        ["benchmark", "own", "--model", tmp_path, "--data", rows, *out],
        ["demo", *out],
        ["study", "distribution", *out],
    ]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(commands, default=str), capture_output=True, text=True,
        timeout=250, cwd=tmp_path, check=True,
    )  # fmt: skip
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(commands)
    for command, (code, error) in zip(commands, said, strict=True):
        assert (code, error.count("\n")) == (2, 1), (command, error)
        assert "pip install 'leakbound[hf]'" in error


def test_hostile_names_reach_the_terminal_as_text(tmp_path):
    done = leakbound("audit", "x", "--prompts", tmp_path / "\x1b[31mred\x07.jsonl", env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 2
    assert "\x07" not in done.stderr
    assert "\x1b[31m" not in done.stderr
    assert "[31mred" in done.stderr


def test_defaults_that_follow_from_the_method_pass_also_where_pydantic_is_loaded(tmp_path, capsys):
    """cyclopts lets pydantic check every value, defaults too, once anybody has imported it."""
    import pydantic  # noqa: F401 - by its presence

    given = [
        "--model",
        "m",
        "--forget",
        str(tmp_path / "f"),
        "--retain",
        str(tmp_path / "r"),
        "--out",
        str(tmp_path / "o"),
    ]
    for command in (["unlearn", *given, "--method", "PMC"], ["unlearn", *given, "--until", "leak<=0.1"]):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 2
        assert "there is no such file" in capsys.readouterr().err


@pytest.fixture
def audited(tmp_path):
    """A run folder with a long name, one part of which would be an emoji."""
    out = tmp_path / f"after:x:{'long' * 20}"
    audit(
        FakeModel(leak=0.5), [Prompt("p", "q?", "secret")], scorer="contains", num_samples=50, out=out, progress=False
    )
    return out


def test_paths_and_commands_are_printed_whole(audited, capsys):
    assert within(capsys, "report", audited).stdout == f"report: {audited / 'report.html'}\n"
    assert "NEW_MODEL" in within(capsys, "bound", audited).stdout.partition("leakbound unlearn")[2].partition("\n")[0]


def test_errors_and_the_way_to_go_on_quote_without_emoji(world, audited, capsys, monkeypatch):
    assert "model 'a:b:c': " in within(capsys, "audit", "a:b:c", "--prompts", world / "prompts.jsonl").stderr

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("leakbound.auditing.steps.bound", stopped)
    done = within(capsys, "bound", audited, "--scorer", "after:x:contains")
    assert done.returncode == 130
    said = f"interrupted: what was complete is kept. To go on: leakbound bound {audited} --scorer after:x:contains\n"
    assert done.stderr == said


@pytest.mark.parametrize(
    "command", [["plan", "leak<=0.01"], ["--help"], ["report", None, "--markdown"], ["bound", None], ["report", "none"]]
)
def test_a_reader_who_leaves_gets_no_verdict(audited, command):
    """1 would say that a claim is refuted, 5 that a disk is full."""
    arguments = [audited if word is None else word for word in command]
    with subprocess.Popen(command_line(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        child.stdout.close()
        assert child.wait(250) == 141


def test_signs_that_an_output_cannot_show_become_codes(audited):
    done = leakbound("bound", audited, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "P(leak) \\u2264 0." in done.stdout
