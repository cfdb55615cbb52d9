"""The command that shows run folders in the browser."""

from pathlib import Path


def view(
    *runs: Path, retain: list[Path] | None = None, port: int = 0, open: bool = True, guess: Path | None = None
) -> None:
    """Show runs in the browser, on this machine only: prompts, completions, what leaked; side by side for two.

    Ctrl-C ends it. It writes nothing.

    :param runs: Run folders; a folder that is none stands for all runs in it.
    :param retain: More run folders, on questions that the model should still answer: there a leak reads right.
    :param port: The port, by default a free one.
    :param open: Open the browser; --no-open only prints the address.
    :param guess: Run folder of a model that never saw the secrets.
    """
    from leakbound.viewing.serving import view as show_runs

    show_runs(*runs, retain=retain or (), port=port, open=open, guess=guess)
