"""The command line. Each command calls one public function; bad input ends with one line and exit code 2."""

import ast
import io
import os
import shlex
import sys
import traceback
from importlib.resources import files
from typing import NoReturn

from cyclopts import CycloptsError

from leakbound.cli.app import app, commands, say
from leakbound.errors import Interrupted, LeakboundError, StorageError

__all__ = ["app", "main"]

COMMANDS = {
    "attesting": ("attest",),
    "auditing": ("audit", "sample", "score", "bound", "verify", "report", "plan", "certify", "calibrate"),
    "benchmarking": ("benchmark", "benchmark_table"),
    "checking": ("check",),
    "exporting": ("export", "card"),
    "importing": ("import_",),
    "judging": ("judge_errors",),
    "training": ("demo", "finetune", "unlearn", "compare"),
    "viewing": ("view",),
}
"""Module -> its commands; it is imported when one of them is asked for."""
for _module, _names in COMMANDS.items():
    for _name in _names:
        app.command(f"{__name__}.{_module}:{_name}")
app.command(f"{__name__}.studying:study", help="Experiments over many models, each training kept and never repeated.")


def _tell() -> None:
    """For a list of all commands: what each says of itself, read from its source, since importing all takes long."""
    for module, names in COMMANDS.items():
        source = files(__name__).joinpath(f"{module}.py").read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name in names:
                said = (ast.get_docstring(node) or "").partition("\n:param")[0]
                del app[app.name_transform(node.name)]
                app.command(f"{__name__}.{module}:{node.name}", help=said)


EXTRAS = {
    **dict.fromkeys(
        ("accelerate", "datasets", "peft", "safetensors", "tokenizers", "torch", "transformers"), "hf"
    ),
    "sentence_transformers": "semantic", "openai": "openai", "sacrebleu": "study",
}  # fmt: skip
"""The extra that brings a package."""
CLOSED = 141
"""The exit code where nobody reads standard output any more, as in a pipe to ``head``: a shell's for SIGPIPE."""
OURS = 70
"""The exit code of a mistake of ours (EX_SOFTWARE): Python's own, 1, says that a claim is refuted."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line, whatever may read what it says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a sign that it cannot write becomes its code, no traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        _run(argv)
        print(end="", flush=True)
    except SystemExit as end:  # rich makes 1 of a closed pipe, which would say that a claim is refuted
        if isinstance(end.__context__, BrokenPipeError):
            _end_unread()
        raise
    except BrokenPipeError:
        _end_unread()


def _run(argv: list[str] | None) -> None:
    """Errors that are somebody's input end with one line on standard error."""
    try:
        if not {*(sys.argv[1:] if argv is None else argv)} & {*commands(), "--version"}:
            _tell()
        app.meta(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except (LeakboundError, CycloptsError) as error:
        _end(str(error), getattr(error, "exit_code", 2))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            _end_by_mistake()
        _end(f"{error.name} is not installed, which this needs: pip install 'leakbound[{extra}]'", 2)
    except BrokenPipeError:
        raise
    except OSError as error:  # a path that cannot be, wherever it was given
        place = f"{error.filename}: " if error.filename else ""
        _end(f"{place}{error.strerror or error}: give another path, or make room", StorageError.exit_code)
    except KeyboardInterrupt as stop:
        stopped = stop if isinstance(stop, Interrupted) else Interrupted("what was complete is kept")
        again = shlex.join(["leakbound", *(sys.argv[1:] if argv is None else argv), *stopped.more.split()])
        say(f"interrupted: {stopped.kept}. To go on: {again}", stderr=True, wrap=False)
        sys.exit(130)
    except Exception:
        _end_by_mistake()


def _end_unread() -> NoReturn:
    """Without a word; what is still to be written when Python ends goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(CLOSED)


def _end_by_mistake() -> NoReturn:
    """The traceback whole, then whose fault it is."""
    traceback.print_exc()
    where = "https://github.com/leakbound/leakbound/issues"
    _end(f"a mistake of leakbound or of code that it was told to run, and no verdict: please report it, {where}", OURS)


def _end(said: str, code: int) -> NoReturn:
    line = " ".join(said.split())
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    say(f"error: {shown}", style="red", stderr=True, wrap=False)
    sys.exit(code)
