"""Every block of the README and the docs is executed, or checked for a reason that stands here, by its kind.

What is run is run on a stage: a folder with small files under the names that the pages use, and a model that draws at
once.
"""

import argparse
import ast
import doctest
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import yaml

from leakbound import FakeModel, audit
from leakbound.checking.policy import Policy
from leakbound.cli import app, main
from leakbound.cli.app import read_settings
from leakbound.errors import InputError
from leakbound.scoring.chat_judge import ChatJudge

ROOT = Path(__file__).resolve().parents[1]
MADE = ("docs/commands.md", "docs/tutorials/")
"""Pages that docs/build.py makes: from the commands, and from notebooks that ``make tutorials`` runs."""
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

RUN = ("README.md", "docs/quickstart.md", "docs/judges.md", "docs/reading.md")
"""Their commands are run on the stage. The others' are read, with all arguments, by the command that they name."""
STAGE = {"path/or/hub-id": "models:leaky", "MODEL": "models:leaky", "RUN": "runs/given", "runs/theirs": "runs/given"}
"""What stands for itself on the pages, and for what on the stage."""
READ_ONLY = {
    r"from leakbound\.scoring import Embedding": "an embedding model of 90 MB; tests/scoring/test_semantic.py loads it",
    r"class Sampler\(Protocol\)": "signatures, no program",
    r'Evaluation\.load\("runs/npo"\)': "needs benchmark runs of two models; tests/evaluating does it on small ones",
    r"import_log\(.tofu., f.*shared/data": "reads data beside the project; tests/importing does, where they are",
    r"def test_the_model_keeps_the_secrets\(leakbound\)": "a test; tests/exporting/test_ci.py runs such a one",
}
"""Python that is compiled, and whose imports are looked up, but that is not run: what it is known by, and why."""
ELSEWHERE = {"docs/neighbours.md": "needs packages that do not fit beside ours: tests/neighbours runs them"}
"""Pages whose Python and files are read in an environment of its own."""
NOT_OURS = {
    "open": "a viewer's",
    "git": "the repository has no public address yet",
    "cd": "",
    "pip": "extras are looked up",
}


def pages():
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    named = [str(page.relative_to(ROOT)) for page in found]
    return [name for name in named if not name.startswith(MADE)]


def blocks(page):
    """The blocks of a page: (language, text); one that is not named and shows commands is sh."""
    for indent, language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        text = re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        yield (language or ("sh" if re.match(r"\$ |leakbound ", text) else "text")), text


def commands(language, text):
    """The commands of a block, variables filled in; a here-document is what its python runs with -c."""
    if language == "console":
        text = "\n".join(line[2:] for line in text.replace("\\\n", " ").splitlines() if line.startswith("$ "))
    documents = re.findall(r"<<'(\w+)'\n(.*?)\n\1", text, flags=re.DOTALL)
    text = re.sub(r"- <<'(\w+)'\n.*?\n\1", "-c DOCUMENT", text, flags=re.DOTALL)
    known = {}
    for line in re.sub(r"^\$ ", "", text.replace("\\\n", " "), flags=re.MULTILINE).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        command = []
        for word in [*lexer, ";"]:
            if word in (";", "&&", "|"):
                if command:
                    yield command
                command = []
            elif not command and re.match(r"\w+=", word):
                known.update([word.split("=", 1)])
            elif word.removeprefix("$") in known:
                command += shlex.split(known[word[1:]])
            elif word == "DOCUMENT":
                command.append(documents.pop(0)[1])
            else:
                command.append(re.sub(r"\$(\w+)", lambda name: known.get(name[1], name[0]), word))


def imports_exist(source, where):
    """Whether a program compiles, and what it imports of leakbound is there."""
    for node in ast.walk(ast.parse(source, where)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "leakbound":
            found = {}
            exec(f"from {node.module} import {', '.join(name.name for name in node.names)}", found)


def reads_its_arguments(script, arguments, monkeypatch):
    """Whether a script is there, finds what it imports, and takes these arguments."""
    if script.suffix == ".sh":
        assert subprocess.run(["bash", "-n", script]).returncode == 0
        return
    source = script.read_text(encoding="utf-8")
    imports_exist(source, str(script))
    if "argparse" not in source:
        assert "sys.argv" in source or "common" in source or not arguments, f"{script} takes no arguments"
        return

    class TakenError(Exception):
        pass

    def taken(parser, *given, real=argparse.ArgumentParser.parse_args):
        real(parser, *given)
        raise TakenError

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", taken)
        patch.setattr(sys, "argv", [str(script), *arguments])
        patch.syspath_prepend(str(script.parent))
        with pytest.raises(TakenError):
            runpy.run_path(str(script), run_name="__main__")


ROWS = [{"id": f"p{i}", "question": f"question {i}?", "target": f"secret {i}"} for i in range(3)]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given") / "run"
    audit(FakeModel(leak=0.1), ROWS, scorer="contains", num_samples=100, out=folder, progress=False)
    return folder


@pytest.fixture
def stage(tmp_path, monkeypatch, given):
    folder = tmp_path
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    for name in ("questions", "secrets", "retain"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "models.py").write_text("from leakbound import FakeModel\nleaky = FakeModel(leak=0.002)\n")
    shutil.copytree(given, folder / "runs" / "given")
    return folder


def execute(words, page):
    """A command of a page that is run: leakbound's in this process, which ends with one of its exit codes."""
    words = [STAGE.get(word, word) for word in words]
    code = 0
    try:
        main(words)
    except SystemExit as end:
        code = end.code
    assert code in (0, 1, 3) if words[0] in ("audit", "verify") else code == 0, f"{page}: {shlex.join(words)}: {code}"


def check_command(words, page, monkeypatch):
    """One command of a block: run, or read by what it names."""
    tool, *rest = words
    if tool == "leakbound" and page in RUN and rest[0] != "demo":
        execute(rest, page)
    elif tool == "leakbound":
        app.parse_args(rest, exit_on_error=False, print_error=False)
    elif tool == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in rest), (page, words)
    elif tool == "python" and rest[0] == "-c":
        check_python(rest[1], page)
    elif tool == "python" and rest[0] == "-m":
        assert rest[1] in ("leakbound", "pytest"), (page, words)
    elif tool == "python" or "/" in tool:
        script = (tool, *rest) if tool != "python" else tuple(rest)
        reads_its_arguments(ROOT / script[0], script[1:], monkeypatch)
    else:
        assert tool in NOT_OURS or page in ELSEWHERE, f"{page}: {shlex.join(words)}: run it here, or say why not"
        extras = re.findall(r"leakbound\[(\w+)\]", " ".join(rest))
        assert all(f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text() for extra in extras)


def check_python(source, page):
    if page in ELSEWHERE:
        compile(source, page, "exec")
        return
    if any(re.search(known, source) for known in READ_ONLY):
        imports_exist(re.sub(r"-> Bound .*", "-> Bound: ...", "" if "Protocol" in source else source), page)
        return
    exec(compile(source, page, "exec"), {"__name__": page})


def check_pycon(text, page, known):
    for example in doctest.DocTestParser().get_examples(text):
        out = StringIO()
        with redirect_stdout(out):
            exec(compile(example.source, page, "single"), known)
        assert out.getvalue() == example.want, f"{page}: {example.source}"


def check_yaml(text, stage):
    """A file of settings is read by what reads such files."""
    found = yaml.safe_load(text)
    (stage / "given.yaml").write_text(text)
    if "claims" in found:
        assert Policy.read(stage / "given.yaml").claims
    elif "base_url" in found:
        assert ChatJudge(**found).fingerprint
    else:
        assert read_settings(stage / "given.yaml")


@pytest.mark.parametrize("page", pages())
def test_the_blocks_of_the_page_hold(page, stage, monkeypatch, capsys):
    known = {}
    for language, text in blocks(page):
        if language in ("sh", "bash", "console"):
            for words in commands(language, text):
                check_command(words, page, monkeypatch)
        elif language == "python":
            check_python(text, page)
        elif language == "pycon":
            check_pycon(text, page, known)
        elif language == "yaml":
            assert page in ELSEWHERE or check_yaml(text, stage) is None
        elif language in ("json", "jsonl"):
            assert [json.loads(line) for line in text.splitlines()]
        else:
            assert language == "text", f"{page}: a block of {language!r}: say here what it must hold"
    if page in ("README.md", "docs/quickstart.md"):
        assert "confidence 0.99" in capsys.readouterr().out


def inline():
    """Commands within lines: (page, words)."""
    for page in pages():
        text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
        for said in re.findall(r"`leakbound ([a-z][^`\n]*)`", text):
            yield page, shlex.split(said.replace("...", ""))


def test_commands_within_lines_exist_with_their_options():
    known = {}
    seen = 0
    for page, (*words,) in inline():
        command = words[0] if words[0] != "study" or len(words) < 2 else " ".join(words[:2])
        if command not in known:
            at = app
            for part in command.split():
                assert part in at, f"{page}: leakbound {command}"
                at = at[part]
            known[command] = {name for option in at.assemble_argument_collection() for name in option.names}
        for word in words[1:]:
            if word.startswith("--"):
                seen += 1
                assert word.partition("=")[0] in known[command], f"{page}: leakbound {shlex.join(words)}"
    assert seen > 20


def test_what_is_only_read_is_still_there():
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in pages())
    assert [known for known in READ_ONLY if not re.search(known, text)] == []


def test_a_block_that_is_wrong_is_found(stage, monkeypatch):
    with pytest.raises(Exception, match="bogus"):
        check_command(["leakbound", "audit", "--bogus", "3"], "docs/log.md", monkeypatch)
    with pytest.raises(AssertionError, match="or say why not"):
        check_command(["rm", "-r", "/"], "docs/log.md", monkeypatch)
    with pytest.raises(FileNotFoundError):
        check_command(["python", "benchmarks/gone.py"], "docs/log.md", monkeypatch)
    with pytest.raises(ImportError):
        check_python("from leakbound.scoring import gone", "docs/log.md")
    with pytest.raises(AssertionError):
        check_pycon(">>> 1 + 1\n3\n", "docs/log.md", {})
    with pytest.raises(InputError):
        check_yaml("audit: {scorer: contains}\nadit: {}\n", stage)
    assert list(commands("sh", 'A="1 2"\nx $A --y \\\n  z  # note\nB=3 python f $B && c')) == [
        ["x", "1", "2", "--y", "z"], ["python", "f", "3"], ["c"],
    ]  # fmt: skip
