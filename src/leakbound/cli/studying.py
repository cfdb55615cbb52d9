"""Commands that run studies: experiments over many models."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App
from rich.console import Console

from leakbound.cli.app import app
from leakbound.cli.options import Flat
from leakbound.studies.distribution.config import DistributionConfig

study = App(name="study", help="Experiments over many models, each training kept and never repeated.")
app.command(study)


@study.command
def distribution(config: Annotated[DistributionConfig, Flat] = DistributionConfig()) -> None:  # noqa: B008 - frozen
    """How unlearning differs for examples inside and outside the training distribution: steps, exposure, price."""
    from leakbound.report.document import to_terminal
    from leakbound.studies.distribution.page import document, save
    from leakbound.studies.distribution.steps import study as run_study

    found = run_study(config)
    Console().print(to_terminal(document(found)))
    Console().print(f"report: {save(found)}", highlight=False, markup=False)
