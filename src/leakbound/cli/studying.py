"""Commands that run studies: experiments over many models."""

from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import App

from leakbound.cli.app import say, tell
from leakbound.cli.options import Flat
from leakbound.studies import STUDIES, run_study
from leakbound.workers import Workers

study = App(name="study")


def command_of(name: str, settings: type[Any]) -> Callable[..., None]:
    """The command of a study: its options are its settings, its help is theirs."""

    def command(config: Any = settings(), *, workers: Annotated[Workers, Flat] = Workers()) -> None:  # noqa: B008
        from leakbound.report.document import to_terminal

        document, page = run_study(name, config, workers)
        tell(to_terminal(document))
        say(f"report: {page}")

    command.__annotations__["config"] = Annotated[settings, Flat]
    command.__doc__ = settings.__doc__
    return command


for _name, _settings in STUDIES.items():
    study.command(command_of(_name, _settings), name=_name)
