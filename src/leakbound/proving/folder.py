"""The folders of a run of rounds: settled when it begins, and read again where it goes on or has ended."""

import shutil
from pathlib import Path

from leakbound.errors import InputError, RunMismatchError
from leakbound.proving.goal import Goal
from leakbound.reading.prompts import load_prompts
from leakbound.records import Prompt
from leakbound.results.proof import Proof
from leakbound.runs.cache import read, settle
from leakbound.runs.files import file_sum, num_processes
from leakbound.runs.store import Run
from leakbound.unlearning.config import UnlearnConfig
from leakbound.unlearning.folders import NOT_COMPARED, of_one
from leakbound.unlearning.running import RECORD, plain

WEIGHTS = "weights"
"""Where training.json has the checksums of the files that were proven."""


def begin(config: UnlearnConfig, goal: Goal, work: Path) -> Proof | None:
    """The folder of the rounds, settled; where the run had ended, its proof."""
    file = config.out / Proof.FILE
    if config.out.exists() and not (config.resume and file.exists()):
        raise InputError(f"out is {str(config.out)!r}, which exists already: give a new folder, or resume")
    if work.exists() and not config.resume:
        raise InputError(f"out is {str(config.out)!r}: {work} holds rounds of a killed run: give resume, or remove it")
    mine = {name: value for name, value in plain(config).items() if name not in NOT_COMPARED}
    settings = {**of_one(mine, num_processes()), "until": goal.to_json()}
    if file.exists():
        settle(config.out / "until.json", settings)
        for what, asked in (("proof", load_prompts(config.forget[0])), ("proof-retain", retained(config, goal))):
            if asked and Run.open(config.out / what).prompts != asked:
                raise RunMismatchError(
                    f"resume: {config.out} holds a proof about other questions than those of forget and retain today: "
                    "give a new folder"
                )
        if (proven := read(config.out / RECORD).get(WEIGHTS)) not in (None, sums_of(config.out)):
            raise RunMismatchError(
                f"resume: {config.out} holds a proof of other weights than those that lie there now "
                f"({', '.join(proven)}): give a new folder"
            )
        shutil.rmtree(work, ignore_errors=True)
        return Proof.load(config.out)
    work.mkdir(parents=True, exist_ok=True)
    settle(work / "until.json", settings)
    return None


def retained(config: UnlearnConfig, goal: Goal) -> tuple[Prompt, ...]:
    """The retain questions that shall still be answered."""
    return load_prompts(config.retain)[: goal.keep_questions] if goal.keep and config.retain else ()


def sums_of(model: Path) -> dict[str, str]:
    """SHA-256 of each file of a model's weights."""
    return {file.name: file_sum(file) for file in sorted(model.glob("*.safetensors"))}
