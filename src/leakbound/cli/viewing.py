"""The command that shows run folders in the browser."""

from pathlib import Path


def view(*runs: Path, port: int = 0, open: bool = True, guess: Path | None = None) -> None:
    """Show runs in the browser, on this machine only: prompts, completions, what leaked; side by side for two.

    Ctrl-C ends it. It writes nothing.

    :param runs: Run folders; a folder that is none stands for all runs in it.
    :param port: The port, by default a free one.
    :param open: Open the browser; --no-open only prints the address.
    :param guess: Run folder of a model that never saw the secrets.
    """
    from leakbound.viewing.serving import view as show_runs

    show_runs(*runs, port=port, open=open, guess=guess)
