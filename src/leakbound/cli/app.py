"""The command line's root, and how it reads options from a file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.config import Dict

import leakbound
from leakbound.errors import InputError
from leakbound.runs.files import read_yaml

app = App(
    name="leakbound",
    help="How much can a language model still leak when it is sampled? Guaranteed bounds, and training to leak less.",
    version=leakbound.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False  # main says what is kept


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], config: Path | None = None
) -> Any:
    """Read options from a YAML file first: one mapping for each command, ``{audit: {num-samples: 4096}}``.

    Parameters
    ----------
    config
        YAML file with options for the commands; the command line goes before it.
    """
    if config is not None:
        app.config = Dict(read_settings(config), source=str(config))
    return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


def read_settings(config: Path) -> dict[str, Any]:
    """The options of each command from a file. InputError for what is no command, and for an option given twice."""
    try:
        found = read_yaml(config)
    except FileNotFoundError as error:
        raise InputError(f"config is {str(config)!r}: there is no such file") from error
    commands = [name for name in app if not name.startswith("-")]
    for key, options in found.items():
        if key not in commands:
            close = difflib.get_close_matches(str(key), commands, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"write audit: {{{key}: ...}}, or the command it is for"
            raise InputError(
                f"{config}: {key!r} is no command; options stand below their command ({', '.join(commands)}): {remedy}"
            )
        names = [str(name).replace("-", "_") for name in (options if isinstance(options, dict) else ())]
        if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise InputError(f"{config}: {twice!r} stands twice below {key}, with - and with _: leave one")
    return found
