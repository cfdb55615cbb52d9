"""The command line. Each command calls one public function; bad input ends with one line and exit code 2."""

import ast
import shlex
import sys
import traceback
from importlib.resources import files
from typing import NoReturn

from cyclopts import CycloptsError
from rich.console import Console

from leakbound.cli.app import app, commands
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
OURS = 70
"""The exit code of a mistake of ours (EX_SOFTWARE): Python's own, 1, says that a claim is refuted."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; errors that are somebody's input end with one line on standard error."""
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
    except OSError as error:  # a path that cannot be, wherever it was given
        place = f"{error.filename}: " if error.filename else ""
        _end(f"{place}{error.strerror or error}: give another path, or make room", StorageError.exit_code)
    except KeyboardInterrupt as stop:
        if isinstance(stop, Interrupted):
            again = shlex.join(["leakbound", *(sys.argv[1:] if argv is None else argv), *stop.more.split()])
            said = f"interrupted: {stop.kept}. To go on: {again}"
            Console(stderr=True).print(said, markup=False, highlight=False, soft_wrap=True)
        sys.exit(130)
    except Exception:
        _end_by_mistake()


def _end_by_mistake() -> NoReturn:
    """The traceback whole, then whose fault it is."""
    traceback.print_exc()
    where = "https://github.com/leakbound/leakbound/issues"
    _end(f"a mistake of leakbound or of code that it was told to run, and no verdict: please report it, {where}", OURS)


def _end(said: str, code: int) -> NoReturn:
    line = " ".join(said.split())
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    Console(stderr=True).print(f"error: {shown}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
