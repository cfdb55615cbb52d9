"""The command line's root, and how it reads options from a file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from cyclopts import App, ArgumentCollection, Parameter
from cyclopts.config import Dict
from rich.console import Console
from rich.text import Text

import leakbound
from leakbound.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from leakbound.results.audit import Audit
    from leakbound.results.base import Result

app = App(
    name="leakbound",
    help="How much can a language model still leak when it is sampled? Guaranteed bounds, and training to leak less.",
    version=leakbound.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False  # main says what is kept
app.register_install_completion_command()


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], config: Path | None = None
) -> Any:
    """Read options from a YAML file first: one mapping for each command, ``{audit: {num-samples: 4096}}``.

    :param config: YAML file with options for the commands; the command line goes before it.
    """
    given = () if config is None else (Dict(read_settings(config), source=str(config)),)
    app.config = (*given, check_whole)
    return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


def check_whole(_: App, __: tuple[str, ...], options: ArgumentCollection) -> None:
    """InputError for 8.7 where a whole number is meant: cyclopts would round it."""
    for option in options:
        if int in (option.hint, *get_args(option.hint)):
            for value in (token.value for token in option.tokens if "." in token.value):
                try:
                    whole = float(value).is_integer()
                except ValueError:
                    continue  # cyclopts says so
                if not whole:
                    raise InputError(f"{option.name.lstrip('-')} is {value}: give a whole number")


def commands() -> list[str]:
    """The names of all commands."""
    return [name for name in app if not name.startswith("-")]


def say(line: str, *, style: str = "", stderr: bool = False, wrap: bool = True) -> None:
    """Print a line as it is: what it quotes is no markup and no emoji, and paths and commands are not cut in two.

    It breaks at spaces only, and without ``wrap`` nowhere: what a reader copies is what was meant.
    """
    Console(stderr=stderr).print(
        Text(line, style), no_wrap=not wrap, overflow="ignore", crop=False, highlight=False, markup=False, emoji=False
    )


def tell(shown: RenderableType) -> None:
    """Print what is laid out for a terminal; a command in it that is longer than a line stays one line."""
    Console().print(shown, crop=False)


def show(result: Result, guess: Audit | None = None) -> None:
    """Print a result for a terminal."""
    from leakbound.report import document_of, to_terminal

    tell(to_terminal(document_of(result, guess)))


def read_settings(config: Path) -> dict[str, Any]:
    """The options of each command from a file. InputError for what is no command, and for an option given twice."""
    from leakbound.runs.files import read_yaml  # here, because pyarrow comes with it

    try:
        found = read_yaml(config, spelled=True)
    except FileNotFoundError as error:
        raise InputError(f"config is {str(config)!r}: there is no such file") from error
    for key, options in found.items():
        if key not in commands():
            close = difflib.get_close_matches(str(key), commands(), n=1, cutoff=0.75)
            remedy = f"did you mean {close[0]}?" if close else f"write audit: {{{key}: ...}}, or the command it is for"
            raise InputError(
                f"{config}: {key!r} is no command; options stand below their command ({', '.join(commands())}): "
                f"{remedy}"
            )
        for name, option in options.items() if isinstance(options, dict) else ():
            if isinstance(option, list) and any(isinstance(one, list | dict) for one in option):
                raise InputError(f"{config}: {name!r} below {key} is {option}: give a list of texts or numbers")
        names = [str(name).replace("-", "_") for name in (options if isinstance(options, dict) else ())]
        if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise InputError(f"{config}: {twice!r} stands twice below {key}, with - and with _: leave one")
    return found
