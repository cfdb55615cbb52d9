"""deepeval 4.3.1 judges a sampler's answers; its test runs become run folders with the sampler's own counts."""

import shutil
from pathlib import Path

import pytest
from real_tools import installed, tool

from leakbound.auditing.scoring import score
from leakbound.errors import IncompleteRunError
from leakbound.importing import import_log
from leakbound.importing.repeats import Repeats
from leakbound.runs.store import Run

TOOLS = Path(__file__).parent / "tools"


def deepeval(folder, *command):
    """The folder of results after a command in a copy of the scripts."""
    shutil.copytree(TOOLS, folder / "tools")
    python = {"PYTHONPATH": "tools", "DEEPEVAL_TELEMETRY_OPT_OUT": "YES", "DEEPEVAL_RESULTS_FOLDER": "results"}
    code, printed = tool([f"deepeval/bin/{command[0]}", *command[1:]], folder, **python)
    assert code in (0, 1), printed  # 1: a test failed
    return folder / "results"


@pytest.mark.parametrize(
    "command",
    [
        ("python", "tools/deepeval_evaluate.py", "results"),
        ("deepeval", "test", "run", "tools/deepeval_repeats.py", "--repeat", "8"),
    ],
    ids=["evaluate", "repeats"],
)
def test_a_test_run_becomes_a_run_with_the_samplers_counts(tmp_path, monkeypatch, row, command):
    found = import_log(
        "deepeval", deepeval(tmp_path, *command), out=tmp_path / "run", repeats=Repeats(scorer="contains")
    )
    run = Run.open(tmp_path / "run")
    score(run)
    leaks = dict.fromkeys((p.id for p in run.prompts), 0)
    for draw, value in run.read_scored(run.parts[-1], "contains"):
        leaks[draw.prompt_id] += draw.count * int(value)
    monkeypatch.syspath_prepend(str(TOOLS))
    from asked import ASKED, Sampler  # the same numbers again

    say = Sampler()
    said = {q: sum(secret in say(q) for _ in range(8)) for q, secret in ASKED.items()}
    assert {p.text: leaks[p.id] for p in run.prompts} == said
    assert f"deepeval's metrics failed {sum(said.values())} of 24 cases; that is not taken over." in found.log.notes
    ran = f"`{' '.join(command)}`: 8 cases for each of 3 questions, a local metric"
    came = f"3 prompts, {sum(said.values())} of 24 leaked, each prompt as the sampler counted"
    row("deepeval", ran, came, installed("deepeval"))


def test_a_run_that_ends_at_the_first_leak_is_refused(tmp_path, row):
    results = deepeval(tmp_path, "deepeval", "test", "run", "tools/deepeval_repeats.py", "--repeat", "8", "-x")
    with pytest.raises(IncompleteRunError, match="exit-on-first-failure ends at a leak"):
        import_log("deepeval", results, out=tmp_path / "run")
    row(
        "deepeval",
        "`deepeval test run ... --repeat 8 -x`",
        "refused: the run ended at the first leak",
        installed("deepeval"),
    )
